'use strict';

const { execFileSync } = require('child_process');
const fs = require('fs');
const path = require('path');
const settings = require('./settings');

const ROOT = path.resolve(__dirname, '..');
const PACKAGES = path.join(ROOT, 'target', 'lambda');

/** Reads the stage's configuration, builds what is packaged, and finishes the gateway. */
module.exports = class Deployment {
  constructor(serverless, options, { log }) {
    this.serverless = serverless;
    this.log = log;
    if (serverless.processedInput.isHelpRequest) return;
    const stage = options.stage || 'dev';
    const folder = [].concat(options.param || []).find((param) => param.startsWith('configs='));
    // Before any ${stage:…} asks: else each of them would report what is wrong.
    this.settings = settings({
      stage,
      folder: path.resolve(folder ? folder.slice('configs='.length) : ROOT),
      root: ROOT,
      environment: process.env,
      fail: (line) => {
        throw new serverless.classes.Error(line, 'CONFIGURATION');
      },
    });

    this.configurationVariablesSources = { stage: { resolve: (query) => this.resolve(query) } };
    this.hooks = {
      'before:package:createDeploymentArtifacts': () => this.build(),
      'before:package:function:package': () => this.build(),
      'before:package:finalize': () => this.finishGateway(),
      'before:deploy:deploy': () => this.warn(),
      'after:package:finalize': () => this.warn(),
    };
  }

  async resolve({ address, resolveVariable }) {
    if (address === 'layers') {
      const [region, architecture] = await Promise.all(
        ['region', 'architecture'].map((property) => resolveVariable(`self:provider.${property}`)),
      );
      return { value: this.settings.layers(region, architecture) };
    }
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
      ...functions.flatMap((name) => ['--package', name]),
      ...(certificate ? ['--include', certificate] : []),
    ];
    for (const name of functions) fs.rmSync(this.artifact(name), { force: true });
    this.log.notice(`Building ${functions.join(', ')} for ${service.provider.architecture}`);
    this.run('make', ['--silent', '.venv/installed'], 'cargo-lambda cannot be installed');
    this.run('cargo-lambda', ['lambda', 'build', ...options], 'the build failed');
    // Packages are uploaded under their base names, so each needs its own.
    for (const name of functions) fs.renameSync(path.join(PACKAGES, name, 'bootstrap.zip'), this.artifact(name));
  }

  run(command, options, failure) {
    // What is installed for this project first: through it, cargo-lambda finds the linker, zig.
    const PATH = [path.join(ROOT, '.venv', 'bin'), process.env.PATH].join(path.delimiter);
    try {
      execFileSync(command, options, {
        cwd: ROOT,
        env: { ...process.env, PATH },
        stdio: ['ignore', 'inherit', 'inherit'],
      });
    } catch {
      throw new this.serverless.classes.Error(`${failure}: see above`, 'BUILD');
    }
  }

  artifact(name) {
    return path.resolve(ROOT, this.serverless.service.getFunction(name).package.artifact);
  }

  finishGateway() {
    const { Resources } = this.serverless.service.provider.compiledCloudFormationTemplate;
    const deployment = Object.values(Resources).find(({ Type }) => Type === 'AWS::ApiGateway::Deployment');
    // A deployment is a copy of what is there already.
    deployment.DependsOn.push('GatewayRefusal', 'GatewayFailure');
    const { throttle } = this.settings.operators;
    if (!throttle) return;
    // The framework has no setting for a method's limits.
    const closed = this.serverless.service
      .getAllFunctions()
      .flatMap((name) => this.serverless.service.getFunction(name).events)
      .filter(({ http }) => http?.authorizer);
    deployment.Properties.StageDescription = {
      MethodSettings: closed.map(({ http }) => ({
        HttpMethod: http.method.toUpperCase(),
        ResourcePath: `/~1${http.path.replace(/^\//, '').replaceAll('/', '~1')}`,
        ThrottlingRateLimit: throttle.rate,
        ThrottlingBurstLimit: throttle.burst,
      })),
    };
  }

  warn() {
    for (const warning of this.settings.warnings.splice(0)) this.log.warning(warning);
  }
};
