'use strict';

/** What `<stage>_config.json` says about a deployment, checked. The functions read the same file in crates/core/src/config.rs,
 * Alembic in migrations/env.py. */

const fs = require('fs');
const path = require('path');
const layers = require('./secrets-extension.json');
const attention = require('./attention-event.json');

const MODEL = 'model_config.json';
const FUNCTIONS = ['subscribe', 'status', 'eligible', 'charge'];
const SSL_MODES = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'];
const RDS_BUNDLE = 'https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem';
/** Where the operators' routes are closed: a year's charges of a big club in an hour, and no flood. Requests per second. */
const RATE_LIMIT = 50;
const BURST_LIMIT = 100;

/** An SSM parameter or a Secrets Manager secret in a value's place, as ECS writes it in `valueFrom`; what is secret stays there. */
const REFERENCE =
  /^arn:aws[a-z-]*:(?:ssm:[^:]+:\d+:parameter\/[^:]+|secretsmanager:[^:]+:\d+:secret:[^:]+(?::[^:]*){0,3})$/;

const isReference = (value) => typeof value === 'string' && value.startsWith('arn:');

/** @param fail takes one line for the person who deploys, and throws */
module.exports = function settings({ stage, folder, root, environment, fail }) {
  const name = `${stage}_config.json`;
  const config = read(path.join(folder, name));
  if (!config) {
    const others = fs.readdirSync(folder).filter((file) => file.endsWith('_config.json') && file !== MODEL);
    const there = others.length ? ` (there is ${others.sort().join(', ')})` : '';
    fail(`${name} is missing${there}: copy ${MODEL} to it and fill in \`database\``);
  }
  const production = stage === 'prod';
  const warnings = [];

  const database = block(config, 'database');
  if (!database) fail(`${name} has no \`database\`: see ${MODEL}`);
  for (const key of ['db_user', 'db_host', 'db_name']) {
    if (!text(database, 'database', key)) fail(`${name} has no \`database.${key}\`: see ${MODEL}`);
  }
  const secrets = [secret('database.db_password', text(database, 'database', 'db_password'))];

  const ecommerce = platform();
  secrets.push(secret('ecommerce.api_key', ecommerce.ECOMMERCE_API_KEY));
  secrets.push(secret('ecommerce.api_secret', ecommerce.ECOMMERCE_API_SECRET));
  const references = [...new Set(secrets.filter(isReference))];

  const origin = text(config, null, 'cors_allow_origin') || '*';
  if (!/^(\*|https?:\/\/[^\s/'",]+)$/.test(origin)) fail(`${name}: \`cors_allow_origin\` must be one origin, or *`);
  const operators = closing();
  const alarms = alarming();

  return {
    warnings,
    environment: { DATABASE_URL: databaseUrl(), CORS_ALLOW_ORIGIN: origin },
    ecommerce: { ...ecommerce, BILLING_TIMEZONE: text(config, null, 'billing_timezone') || 'UTC' },
    cors: { origin, headers: ['content-type'], maxAge: 3600 },
    vpc: vpc(),
    concurrency: concurrency(),
    operators,
    alarms,
    /** The root certificate to put beside the binaries, or null. */
    certificate: certificate(),
    statements: statements(),
    layers: (region, architecture) => {
      if (!references.length) return null;
      const own = text(config, null, 'secrets_extension_arn');
      const known = layers[region] && layers[region][architecture];
      if (!own && !known) {
        fail(
          `the layer that reads secrets is not known for ${region}: put its ARN into \`secrets_extension_arn\` of ${name}`,
        );
      }
      return [own || known];
    },
  };

  function read(file) {
    let content;
    try {
      content = fs.readFileSync(file, 'utf8');
    } catch (error) {
      if (error.code === 'ENOENT') return null;
      fail(`${path.basename(file)} cannot be read: ${error.message}`);
    }
    let parsed;
    try {
      parsed = JSON.parse(content);
    } catch {
      // What is there may be a password: it is not repeated.
      fail(`${path.basename(file)} is not JSON`);
    }
    if (!isObject(parsed)) fail(`${path.basename(file)} must be an object`);
    return parsed;
  }

  function isObject(value) {
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  }

  function block(parent, key) {
    const value = parent[key];
    if (value === undefined || value === null) return null;
    if (!isObject(value)) fail(`${name}: \`${key}\` must be an object`);
    return value;
  }

  function text(parent, parentKey, key) {
    const value = parent[key];
    if (value === undefined || value === null) return '';
    if (typeof value !== 'string') fail(`${name}: \`${parentKey ? `${parentKey}.` : ''}${key}\` must be a text`);
    return value;
  }

  function number(parent, key, least, most) {
    const value = Number(parent[key.split('.').pop()]);
    if (!Number.isInteger(value) || value < least || value > most) {
      fail(`${name}: \`${key}\` must be a whole number from ${least} to ${most}`);
    }
    return value;
  }

  function secret(key, value) {
    if (isReference(value) && !REFERENCE.test(value)) {
      fail(`${name}: \`${key}\` must be a value, or the full ARN of an SSM parameter or a Secrets Manager secret`);
    }
    return value;
  }

  function databaseUrl() {
    const port =
      database.db_port === undefined || database.db_port === '' ? 5432 : number(database, 'database.db_port', 1, 65535);
    const sslmode = text(database, 'database', 'sslmode') || (production ? 'verify-full' : 'prefer');
    if (!SSL_MODES.includes(sslmode)) fail(`${name}: \`database.sslmode\` must be one of ${SSL_MODES.join(', ')}`);
    const url = [
      'postgresql://',
      encodeURIComponent(database.db_user),
      database.db_password ? `:${encodeURIComponent(database.db_password)}` : '',
      `@${encodeURIComponent(database.db_host)}:${port}/${encodeURIComponent(database.db_name)}`,
      `?sslmode=${sslmode}`,
      database.sslrootcert ? `&sslrootcert=${encodeURIComponent(database.sslrootcert)}` : '',
    ];
    return url.join('');
  }

  /** The file goes into the package under the path that it has here, so that path serves Alembic and the functions. */
  function certificate() {
    const file = text(database, 'database', 'sslrootcert');
    if (!file) return null;
    const inside = path.relative(root, path.resolve(root, file));
    if (path.isAbsolute(file) || inside.startsWith('..')) {
      fail(`${name}: \`database.sslrootcert\` must be a path in the project's folder, from which it is packaged`);
    }
    let content;
    try {
      content = fs.readFileSync(path.resolve(root, file), 'utf8');
    } catch {
      fail(`${name}: there is no ${file} (\`database.sslrootcert\`); RDS's is ${RDS_BUNDLE}`);
    }
    if (!content.includes('-----BEGIN CERTIFICATE-----'))
      fail(`${file} (\`database.sslrootcert\`) is not a certificate in PEM`);
    return inside;
  }

  /** The environment first, else the file's block, else the model's. */
  function platform() {
    let values = block(config, 'ecommerce');
    let file = name;
    if (!values) {
      file = MODEL;
      values = block(read(path.join(root, MODEL)) || {}, 'ecommerce') || {};
    }
    const found = {};
    for (const key of ['base_url', 'api_key', 'api_secret']) {
      const variable = `ECOMMERCE_${key.toUpperCase()}`;
      found[variable] = environment[variable] || values[key];
      if (!found[variable]) fail(`${variable} is not set, and ${file} has no \`ecommerce.${key}\``);
    }
    if (!/^https?:\/\/[^?#]+$/.test(found.ECOMMERCE_BASE_URL)) {
      fail(`ECOMMERCE_BASE_URL (\`ecommerce.base_url\`) must be an http or https URL without a query`);
    }
    if (production && found.ECOMMERCE_API_SECRET === 'change-me') {
      warnings.push(`the platform's api_secret is the placeholder of ${MODEL}`);
    }
    const timeout = environment.ECOMMERCE_TIMEOUT_MS || values.timeout_ms;
    // What a charge takes beside it, until the function's timeout: a cold start, the claim, four seconds to settle.
    if (timeout) found.ECOMMERCE_TIMEOUT_MS = number({ timeout_ms: timeout }, 'ecommerce.timeout_ms', 1, 20000);
    return found;
  }

  function vpc() {
    const given = block(config, 'vpc');
    if (!given) return null;
    const ids = (key, prefix) => {
      const list = given[key];
      if (
        !Array.isArray(list) ||
        !list.length ||
        !list.every((id) => typeof id === 'string' && id.startsWith(prefix))
      ) {
        fail(`${name}: \`vpc.${key}\` must be a list of ids that begin with ${prefix}`);
      }
      return list;
    };
    return { securityGroupIds: ids('security_group_ids', 'sg-'), subnetIds: ids('subnet_ids', 'subnet-') };
  }

  function concurrency() {
    const given = block(config, 'concurrency') || {};
    const limits = {};
    for (const key of Object.keys(given)) {
      if (!FUNCTIONS.includes(key)) fail(`${name}: \`concurrency.${key}\` is none of ${FUNCTIONS.join(', ')}`);
      limits[key] = number(given, `concurrency.${key}`, 0, 10000);
    }
    return limits;
  }

  /** Who may call eligible and charge. */
  function closing() {
    const given = block(config, 'operators') || {};
    const authorization = text(given, 'operators', 'authorization') || (production ? 'aws_iam' : 'none');
    if (!['aws_iam', 'none'].includes(authorization))
      fail(`${name}: \`operators.authorization\` must be aws_iam or none`);
    if (authorization === 'none') {
      warnings.push(
        `anybody may call eligible and charge on stage ${stage}: \`operators.authorization\` of ${name} closes them`,
      );
      return { authorizer: null, throttle: null };
    }
    const limit = (key, usual) => (given[key] === undefined ? usual : number(given, `operators.${key}`, 1, 10000));
    return {
      authorizer: 'aws_iam',
      throttle: { rate: limit('rate_limit', RATE_LIMIT), burst: limit('burst_limit', BURST_LIMIT) },
    };
  }

  function alarming() {
    const given = block(config, 'alarms');
    if (!given) return { resources: {}, own_topic: {} };
    const topic = text(given, 'alarms', 'topic_arn');
    const email = text(given, 'alarms', 'email');
    if (!topic === !email) fail(`${name}: \`alarms\` needs either \`topic_arn\` or \`email\``);
    if (topic && !/^arn:aws[a-z-]*:sns:[^:]+:\d+:[^:]+$/.test(topic))
      fail(`${name}: \`alarms.topic_arn\` must be an SNS topic's ARN`);
    return {
      resources: '${file(deploy/alarms.yml)}',
      own_topic: email ? '${file(deploy/alarm-topic.yml)}' : {},
      topic: topic || { Ref: 'AlarmTopic' },
      email,
      event: JSON.stringify(attention),
    };
  }

  function statements() {
    const named = { 'ssm:GetParameter': [], 'secretsmanager:GetSecretValue': [] };
    for (const arn of references) {
      const service = arn.split(':')[2] === 'ssm' ? 'ssm:GetParameter' : 'secretsmanager:GetSecretValue';
      // A secret's ARN has seven parts; what follows selects in it.
      named[service].push(arn.split(':').slice(0, 7).join(':'));
    }
    const key = text(config, null, 'secrets_kms_key_arn');
    const granted = Object.entries(named).filter(([, arns]) => arns.length);
    if (references.length && key) granted.push(['kms:Decrypt', [key]]);
    if (!granted.length) return null;
    return granted.map(([Action, Resource]) => ({
      Effect: 'Allow',
      Action: [Action],
      Resource: [...new Set(Resource)],
    }));
  }
};
