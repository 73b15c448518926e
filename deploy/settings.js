'use strict';

const fs = require('fs');
const net = require('net');
const path = require('path');
const Ajv = require('ajv');
const schema = require('./config.schema.json');
const layers = require('./secrets-extension.json');
const timeZones = require('./time-zones.json');
const billRun = require('./bill-run');
const { stageFunctions } = require('./functions');
const { checkPlatform, stageOf, weaknesses } = require('./stage');

const MODEL = 'model_config.json';
const RDS_BUNDLE = 'https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem';
/** Requests per second of each route, so that the shop's page cannot use up what the account leaves the operators. */
const LIMITS = { rate_limit: 100, burst_limit: 200 };
/** Of each of the operators' routes where they are closed: 180,000 charges an hour, and no flood. */
const OPERATORS_LIMITS = { rate_limit: 50, burst_limit: 100 };

const isReference = (value) => value.startsWith('arn:');

/** The keys that the schema does not have. Where it allows no others, check() has refused them. */
function unread(block, { properties = {} }, parents = []) {
  return Object.entries(block).flatMap(([key, value]) => {
    const path = [...parents, key];
    if (!(key in properties)) return [path.join('.')];
    return properties[key].properties ? unread(value, properties[key], path) : [];
  });
}

/**
 * The settings of a deployment, from `<stage>_config.json`. The functions read the same file in crates/core/src/config.rs,
 * Alembic in migrations/env.py.
 *
 * @param functions those of functions.yml
 * @param fail takes one line for the person who deploys, and throws
 */
module.exports = function settings({ stage, region, architecture, folder, root, environment, functions, fail }) {
  const name = `${stage}_config.json`;
  const config = read(folder, name);
  if (!config) {
    const files = fs.existsSync(folder) ? fs.readdirSync(folder).sort() : [];
    const others = files.filter((file) => file.endsWith('_config.json') && file !== MODEL);
    const there = others.length ? ` (there is ${others.join(', ')})` : '';
    fail(`${name} is missing${there}: copy ${MODEL} to it and fill in \`database\``);
  }
  check(config, name);
  const chosen = stageOf({ stage, config, name, fail });
  const warnings = unread(config, schema).map((key) => `nothing reads \`${key}\` of ${name}`);

  const { database, vpc, alarms, operators = {}, customers = {} } = config;
  const ecommerce = platform();
  /** The functions' login: their own, or else Alembic's. */
  const [user, password] = database.functions_user
    ? [database.functions_user, database.functions_password]
    : [database.db_user, database.db_password];
  const databaseSecrets = [password || ''].filter(isReference);
  const platformSecrets = [ecommerce.ECOMMERCE_API_KEY, ecommerce.ECOMMERCE_API_SECRET].filter(isReference);
  for (const arn of [...databaseSecrets, ...platformSecrets, alarms?.topic_arn, config.web_acl_arn]) {
    if (arn && arn.split(':')[3] !== region) fail(`${name} has an ARN of ${arn.split(':')[3]}, and this is ${region}`);
  }
  const ofOperators = chosen.operators === 'none' ? null : chosen.operators;
  const origin = config.cors_allow_origin || '*';
  const topic = alarms?.topic_arn || { Ref: 'AlarmTopic' };
  const authenticated = customersAuthorizer();
  const ofCustomers = authenticated || (chosen.customers === 'aws_iam' ? 'aws_iam' : null);
  if (config.access_log?.subject && !authenticated) {
    fail(`${name}: \`access_log.subject\` is only for \`customers.authorization\` cognito or lambda`);
  }

  const limited = { ...LIMITS, ...config.throttle };

  const found = {
    warnings,
    environment: {
      DATABASE_URL: databaseUrl(),
      ...(database.idle_timeout_ms === undefined ? {} : { DATABASE_IDLE_TIMEOUT_MS: String(database.idle_timeout_ms) }),
      CORS_ALLOW_ORIGIN: origin,
      BILLING_TIMEZONE: timezone(),
    },
    environments: { charge: ecommerce, status: { CHANGES_PER_DAY: String(chosen.changes_per_day) } },
    cors: { origin, headers: ['content-type', ...(authenticated ? ['authorization'] : [])], maxAge: 3600 },
    vpc: vpc && { securityGroupIds: vpc.security_group_ids, subnetIds: vpc.subnet_ids },
    concurrency: config.concurrency,
    operators: {
      authorizer: ofOperators,
      throttle: ofOperators && limits(operators, OPERATORS_LIMITS),
    },
    bill_run: billRun(config.bill_run, {
      timezone: timezone(),
      limit: (ofOperators ? limits(operators, OPERATORS_LIMITS) : limits(limited)).rate,
      topic: alarms && topic,
    }),
    customers: {
      authorizer: ofCustomers,
      environment: authenticated ? { CUSTOMER_CLAIM: customers.claim || 'sub' } : {},
      throttle: customers.rate_limit || customers.burst_limit ? limits(customers, limited) : null,
    },
    throttle: limits(limited),
    access_log: config.access_log,
    web_acl_arn: config.web_acl_arn,
    alarms: {
      enabled: Boolean(alarms),
      resources: alarms ? '${file(deploy/alarms.yml)}' : {},
      own_topic: alarms?.email ? '${file(deploy/alarm-topic.yml)}' : {},
      topic,
      email: alarms?.email,
    },
    /** The root certificate to package with the binaries, or null. */
    certificate: certificate(),
    statements: { database: statements(databaseSecrets), charge: statements([...databaseSecrets, ...platformSecrets]) },
    layers: { database: extension(databaseSecrets), charge: extension([...databaseSecrets, ...platformSecrets]) },
  };
  found.functions = stageFunctions(functions, found);
  warnings.push(...weaknesses({ stage, chosen, config, name, functions: found.functions, ecommerce }));
  return found;

  /** Of a user pool, or of a function that reads tokens; null if customers are not authenticated. */
  function customersAuthorizer() {
    const { arn, claim } = customers;
    const service = { cognito: 'cognito-idp', lambda: 'lambda' }[chosen.customers];
    if (!service) {
      const [key] = Object.entries({ arn, claim }).find(([, value]) => value) || [];
      if (key) fail(`${name}: \`customers.${key}\` is only for \`customers.authorization\` cognito or lambda`);
      return null;
    }
    if (arn?.split(':')[2] !== service) {
      const what = { cognito: 'a user pool', lambda: 'a Lambda function' }[chosen.customers];
      fail(`${name}: \`customers.arn\` must be the ARN of ${what}`);
    }
    return { name: 'customers', type: chosen.customers === 'cognito' ? 'COGNITO_USER_POOLS' : 'TOKEN', arn };
  }

  function limits(chosen, usual) {
    const { rate_limit: rate, burst_limit: burst } = { ...usual, ...chosen };
    return { rate, burst };
  }

  function read(from, file) {
    let content;
    try {
      content = fs.readFileSync(path.join(from, file), 'utf8');
    } catch (error) {
      if (error.code === 'ENOENT') return null;
      fail(`${file} cannot be read: ${error.message}`);
    }
    try {
      return JSON.parse(content);
    } catch {
      // The text may be a password, so it is not repeated.
      return fail(`${file} is not JSON`);
    }
  }

  function check(value, file) {
    // The framework would look for variables in what it is given.
    if (JSON.stringify(value).includes('${')) fail(`${file}: no value may have \${ in it`);
    const valid = new Ajv({ verbose: true }).compile(schema);
    if (valid(value)) return;
    const [error] = valid.errors.slice(-1);
    const parts = error.instancePath.split('/').slice(1);
    const { missingProperty, additionalProperty } = error.params;
    const key = [...parts, missingProperty || additionalProperty].filter(Boolean).join('.');
    if (missingProperty || error.keyword === 'minLength') fail(`${file} has no \`${key}\`: see ${MODEL}`);
    if (additionalProperty) fail(`${file}: there is no such setting as \`${key}\``);
    const wrong = key ? `\`${key}\`` : 'it';
    const { description = 'an object' } = error.parentSchema;
    fail(`${file}: ${wrong} must be ${description}`);
  }

  function databaseUrl() {
    const { db_host, db_port, db_name, sslrootcert } = database;
    const secret = password ? `:${encodeURIComponent(password)}` : '';
    if (net.isIPv6(db_host) && db_host.includes('%')) fail(`${name}: \`database.db_host\` cannot have a zone`);
    const host = net.isIPv6(db_host) ? `[${db_host}]` : encodeURIComponent(db_host);
    const server = `${host}:${db_port || 5432}/${encodeURIComponent(db_name)}`;
    const { sslmode } = chosen;
    if (sslmode === 'verify-ca' && !sslrootcert) {
      fail(`${name}: \`database.sslmode\` verify-ca needs \`database.sslrootcert\`; verify-full does not`);
    }
    if (sslmode !== 'verify-full' && sslrootcert === 'system') {
      fail(`${name}: \`database.sslmode\` must be verify-full if \`database.sslrootcert\` is system`);
    }
    const authorities = sslrootcert ? `&sslrootcert=${encodeURIComponent(sslrootcert)}` : '';
    return `postgresql://${encodeURIComponent(user)}${secret}@${server}?sslmode=${sslmode}${authorities}`;
  }

  /** It goes into the package under the path that it has here, so that path serves Alembic and the functions. */
  function certificate() {
    const file = database.sslrootcert;
    if (!file || file === 'system') return null;
    let content;
    try {
      content = fs.readFileSync(path.join(root, file), 'utf8');
    } catch {
      fail(`${name}: there is no ${file} (\`database.sslrootcert\`); RDS's is ${RDS_BUNDLE}`);
    }
    if (!content.includes('-----BEGIN CERTIFICATE-----')) {
      fail(`${name}: ${file} (\`database.sslrootcert\`) is not a certificate in PEM`);
    }
    return file;
  }

  /** The environment first, else the file's block, else the model's. */
  function platform() {
    const [file, block] = config.ecommerce ? [name, config.ecommerce] : [MODEL, read(root, MODEL)?.ecommerce || {}];
    const found = {};
    for (const key of ['base_url', 'api_key', 'api_secret', 'timeout_ms']) {
      const variable = `ECOMMERCE_${key.toUpperCase()}`;
      if (environment[variable]) warnings.push(`${variable} is taken from the environment`);
      const value = environment[variable] || block[key];
      if (value) found[variable] = String(value);
      else if (key !== 'timeout_ms') fail(`${variable} is not set, and ${file} has no \`ecommerce.${key}\``);
      if (/secret|key/.test(key) && /[^\t\x20-\x7e]/.test(value))
        fail(`${variable} must be the value of an HTTP header`);
    }
    const { ECOMMERCE_BASE_URL: base_url, ECOMMERCE_API_KEY: api_key, ECOMMERCE_API_SECRET: api_secret } = found;
    const timeout_ms = Number(found.ECOMMERCE_TIMEOUT_MS || 1);
    check(
      { database, ecommerce: { base_url, api_key, api_secret, timeout_ms } },
      'the environment, or the configuration',
    );
    const setting = environment.ECOMMERCE_BASE_URL ? 'ECOMMERCE_BASE_URL' : `\`ecommerce.base_url\` of ${file}`;
    checkPlatform(base_url, chosen, setting, fail);
    return found;
  }

  /** The functions know each zone by its exact name only. */
  function timezone() {
    const timeZone = config.billing_timezone || 'UTC';
    if (timeZones.includes(timeZone)) return timeZone;
    const meant = timeZones.find((zone) => zone.toLowerCase() === timeZone.toLowerCase());
    const expected = meant || schema.properties.billing_timezone.description;
    return fail(`${name}: \`billing_timezone\` must be ${expected}`);
  }

  function statements(references) {
    if (!references.length) return null;
    const allow = (Action, Resource) => ({ Effect: 'Allow', Action: [Action], Resource: [...new Set(Resource)] });
    const isParameter = (arn) => arn.split(':')[2] === 'ssm';
    const parameters = references.filter(isParameter);
    // A secret's ARN has seven parts; what follows selects in it.
    const secrets = references.filter((arn) => !isParameter(arn)).map((arn) => arn.split(':').slice(0, 7).join(':'));
    return [
      ...(parameters.length ? [allow('ssm:GetParameter', parameters)] : []),
      ...(secrets.length ? [allow('secretsmanager:GetSecretValue', secrets)] : []),
      ...(config.secrets_kms_key_arn ? [allow('kms:Decrypt', [config.secrets_kms_key_arn])] : []),
    ];
  }

  function extension(references) {
    if (!references.length) return null;
    const layer = config.secrets_extension_arn || layers[region]?.[architecture];
    if (!layer) {
      fail(`the layer that reads secrets is not known for ${region}: ${name} needs \`secrets_extension_arn\``);
    }
    return [layer];
  }
};
