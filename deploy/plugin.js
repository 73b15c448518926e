'use strict';

const { execFileSync } = require('child_process');
const fs = require('fs');
const path = require('path');
const accessLog = require('./access-log');
const gatewayResponses = require('./gateway-responses');
const longestName = require('./names');
const roles = require('./roles');
const settings = require('./settings');

const ROOT = path.resolve(__dirname, '..');
const PACKAGES = path.join(ROOT, 'target', 'lambda');

/** Reads the stage's configuration, builds what is packaged, and finishes the template. */
module.exports = class Deployment {
  constructor(serverless, options, { log }) {
    this.serverless = serverless;
    this.log = log;
    // Serverless Framework 3 has only the option.
    if (serverless.processedInput.isHelpRequest || options.help) return;
    const params = Object.fromEntries([].concat(options.param || []).map((param) => param.split(/=(.*)/s, 2)));
    // Read before any ${stage:…} is resolved, so that a mistake is reported once.
    this.settings = settings({
      stage: options.stage || 'dev',
      // As in serverless.yml, which may not ask us for these two.
      region: options.region || process.env.AWS_REGION || 'us-east-1',
      architecture: params.architecture || 'arm64',
      folder: path.resolve(params.configs || ROOT),
      root: ROOT,
      environment: process.env,
      functions: serverless.configurationInput.functions[0],
      fail: (line) => this.fail(line),
    });
    serverless.extendConfiguration(['functions', '0'], this.settings.functions);

    this.configurationVariablesSources = { stage: { resolve: (query) => this.resolve(query) } };
    this.hooks = {
      'before:package:createDeploymentArtifacts': () => this.build(),
      'before:package:function:package': () => this.build(),
      'before:package:finalize': () => this.finish(),
      'after:aws:package:finalize:mergeCustomProviderResources': () => this.checkNames(),
      'before:deploy:deploy': () => this.warn(),
      'after:package:finalize': () => this.warn(),
    };
  }

  resolve({ address }) {
    const value = address.split('.').reduce((parent, key) => parent?.[key], this.settings);
    return { value: value ?? null };
  }

  /** Always, so that what is deployed is what the sources say. */
  build() {
    const { service } = this.serverless;
    const functions = service.getAllFunctions();
    const certificate = this.settings.certificate;
    const options = [
      ...['--release', '--locked', '--output-format', 'zip', '--lambda-dir', PACKAGES],
      service.provider.architecture === 'x86_64' ? '--x86-64' : '--arm64',
      ...(certificate ? ['--include', certificate] : []),
    ];
    for (const name of functions) fs.rmSync(this.artifact(name), { force: true });
    this.log.notice(`Building ${functions.join(', ')} for ${service.provider.architecture}`);
    this.run('make', ['--silent', '.venv/installed'], 'cargo-lambda cannot be installed');
    for (const group of this.buildsOf(functions)) {
      const packages = group.flatMap((name) => ['--package', name]);
      this.run('cargo-lambda', ['lambda', 'build', ...options, ...packages], 'the build failed');
    }
    // Packages are uploaded under their base names, so each needs its own.
    for (const name of functions) fs.renameSync(path.join(PACKAGES, name, 'bootstrap.zip'), this.artifact(name));
  }

  /**
   * Those of functions.yml together, the others each alone. Cargo builds a dependency with the features that all packages
   * of one build need, so the functions of the API are the same with a bill run as without.
   */
  buildsOf(functions) {
    const isOfApi = (name) => name in this.settings.functions;
    return [functions.filter(isOfApi), ...functions.filter((name) => !isOfApi(name)).map((name) => [name])];
  }

  run(command, options, failure) {
    // The project's own programs come first: there, cargo-lambda finds the linker, zig.
    const PATH = [path.join(ROOT, '.venv', 'bin'), process.env.PATH].join(path.delimiter);
    try {
      execFileSync(command, options, {
        cwd: ROOT,
        env: { ...process.env, PATH },
        stdio: ['ignore', 'inherit', 'inherit'],
      });
    } catch (error) {
      const reason = error.code === 'ENOENT' ? `${command} is not installed` : 'see above';
      throw new this.serverless.classes.Error(`${failure}: ${reason}`, 'BUILD');
    }
  }

  artifact(name) {
    return path.resolve(ROOT, this.serverless.service.getFunction(name).package.artifact);
  }

  /** Everything that the framework has no settings for. */
  finish() {
    const { Resources } = this.serverless.service.provider.compiledCloudFormationTemplate;
    this.finishGateway(Resources);
    roles(this.serverless, Resources, this.settings.statements);
    this.separateBillRun(Resources);
  }

  /** Its own answers, and a stage apart: CloudFormation refuses settings of one that a deployment makes, the second time. */
  finishGateway(resources) {
    const [id, deployment] = Object.entries(resources).find(([, { Type }]) => Type === 'AWS::ApiGateway::Deployment');
    const { RestApiId, StageName } = deployment.Properties;
    delete deployment.Properties.StageName;
    const { cors, throttle, customers, operators, access_log, web_acl_arn } = this.settings;
    const signed = [customers, operators].some(({ authorizer }) => authorizer === 'aws_iam');
    const responses = gatewayResponses({ RestApiId, origin: cors.origin, signed });
    Object.assign(resources, responses);
    // A deployment is a copy of what is there already.
    deployment.DependsOn.push(...Object.keys(responses));
    const limited = this.serverless.service
      .getAllFunctions()
      .flatMap((name) => this.serverless.service.getFunction(name).events)
      .flatMap(({ http }) => (http ? [http] : []))
      // Routes that a page may call are the customers'.
      .map((http) => ({ http, limits: (http.cors ? customers : operators).throttle }))
      .filter(({ limits }) => limits);
    const limit = (HttpMethod, ResourcePath, { rate, burst }) => ({
      HttpMethod,
      ResourcePath,
      ThrottlingRateLimit: rate,
      ThrottlingBurstLimit: burst,
    });
    resources.ApiGatewayStage = {
      Type: 'AWS::ApiGateway::Stage',
      Properties: {
        RestApiId,
        StageName,
        DeploymentId: { Ref: id },
        TracingEnabled: true,
        MethodSettings: [
          limit('*', '/*', throttle),
          ...limited.map(({ http, limits }) => {
            const path = `/~1${http.path.replace(/^\//, '').replaceAll('/', '~1')}`;
            return limit(http.method.toUpperCase(), path, limits);
          }),
        ],
      },
    };
    if (access_log) {
      const log = accessLog(resources.ApiGatewayStage, this.serverless.service, access_log, customers.authorizer);
      Object.assign(resources, log);
    }
    if (web_acl_arn) {
      const stage = 'arn:${AWS::Partition}:apigateway:${AWS::Region}::/restapis/${Api}/stages/${ApiGatewayStage}';
      resources.WebAclAssociation = {
        Type: 'AWS::WAFv2::WebACLAssociation',
        Properties: { ResourceArn: { 'Fn::Sub': [stage, { Api: RestApiId }] }, WebACLArn: web_acl_arn },
      };
    }
  }

  /** It speaks HTTP only, and is told nothing of the database. */
  separateBillRun({ BillDashrunLambdaFunction: made }) {
    if (!made) return;
    for (const name of Object.keys(this.settings.environment)) delete made.Properties.Environment.Variables[name];
  }

  /** Checks every name, so that CloudFormation refuses none half-way through a deployment. */
  checkNames() {
    const { provider } = this.serverless.service;
    const tooLong = longestName(provider.compiledCloudFormationTemplate.Resources, provider.region);
    if (!tooLong) return;
    const { kind, name, limit, excess } = tooLong;
    const shorter = `the stage's must be ${excess} characters shorter`;
    this.fail(`the name ${name} of ${kind} may have ${limit} characters: ${shorter}`);
  }

  fail(line) {
    throw new this.serverless.classes.Error(line, 'CONFIGURATION');
  }

  warn() {
    for (const warning of this.settings.warnings.splice(0)) this.log.warning(warning);
  }
};
