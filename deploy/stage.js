'use strict';

const { openRoutes } = require('./functions');

/**
 * The defaults of an open and of a closed stage; docs/deploying.md ("Stages") explains them. The configuration of a closed
 * stage must say who may act for whom.
 */
const OPEN = { operators: 'none', customers: 'none', sslmode: 'prefer', changes_per_day: 0 };
const CLOSED = { operators: 'aws_iam', customers: null, sslmode: 'verify-full', changes_per_day: 100 };
/** Developers and evaluators call everything there. */
const OPEN_STAGE = 'dev';

/** The `api_secret` of model_config.json. */
const PLACEHOLDER = 'change-me';

/** The weakness of each mode but verify-full. Somebody on the way to the database can do more than listen. */
const WEAK_SSLMODES = {
  disable: 'sends everything in clear',
  allow: 'can be made to send everything in clear',
  prefer: 'can be made to send everything in clear',
  require: 'does not check which server answers',
  'verify-ca': 'accepts every server with a certificate of the same CA',
};

/** The stage that this configuration describes. */
exports.stageOf = function stageOf({ stage, config, name, fail }) {
  const isOpen = stage === OPEN_STAGE;
  const usual = isOpen ? OPEN : CLOSED;
  const chosen = {
    isOpen,
    operators: config.operators?.authorization || usual.operators,
    customers: config.customers?.authorization || usual.customers,
    // The public authorities (`system`) are for verify-full only.
    sslmode: config.database.sslmode || (config.database.sslrootcert === 'system' ? CLOSED : usual).sslmode,
    changes_per_day: config.changes_per_day ?? usual.changes_per_day,
  };
  if (!chosen.customers) {
    const choices = 'cognito, lambda, aws_iam, or none, which lets anybody act for any customer';
    fail(`${name} must say who may act for whom on stage ${stage}: \`customers.authorization\` is ${choices}`);
  }
  return chosen;
};

/** Refuses a URL that would send the platform's secret in clear, unless the stage is open or the secret stays on the machine. */
exports.checkPlatform = function checkPlatform(url, { isOpen }, setting, fail) {
  if (!isOpen && isClear(url)) fail(`${setting} must begin with https://, or the platform's secret is sent in clear`);
};

/** A line for each weakness that the configuration chooses. */
exports.weaknesses = function weaknesses({ stage, chosen, config, name, functions, ecommerce }) {
  const { isOpen, operators, customers, sslmode, changes_per_day } = chosen;
  const { database, customers: { claim = 'sub' } = {}, cors_allow_origin = '*', access_log, alarms } = config;
  const { ECOMMERCE_BASE_URL: base_url, ECOMMERCE_API_SECRET: api_secret } = ecommerce;
  const open = openRoutes(functions);
  // The key of the functions' password.
  const password = database.functions_user ? 'functions_password' : 'db_password';
  const hasTokens = ['cognito', 'lambda'].includes(customers);
  const readable = "can be read in the functions' environments and in the template: give the ARN of a secret instead";
  const ofAnyStage = [
    operators === 'none' &&
      `anybody may call ${open.operators} on stage ${stage}: \`operators.authorization\` of ${name} closes them`,
    customers === 'cognito' &&
      claim !== 'sub' &&
      `customers may be able to write the claim ${claim} and so act for others: see \`customers.claim\` in docs/deploying.md`,
    hasTokens &&
      cors_allow_origin === '*' &&
      `any page may call with a customer's token: \`cors_allow_origin\` of ${name} names the shop's origin`,
    isClear(base_url) && "the platform's secret is sent in clear: its URL begins with http://",
  ];
  const ofClosedStages = [
    customers === 'none' &&
      `anybody may act for any customer on stage ${stage}: \`customers.authorization\` of ${name} closes ${open.customers}`,
    sslmode in WEAK_SSLMODES &&
      !isHere(database.db_host) &&
      `\`database.sslmode\` ${sslmode} ${WEAK_SSLMODES[sslmode]}: verify-full is safe`,
    !database.functions_user &&
      `the functions have the owner's login, which may rewrite the ledger: \`database.functions_user\` of ${name} names another`,
    isPlain(database[password]) && `\`database.${password}\` ${readable}`,
    api_secret === PLACEHOLDER
      ? "the platform's api_secret is the placeholder of model_config.json"
      : isPlain(api_secret) && `the platform's api_secret ${readable}`,
    changes_per_day === 0 &&
      `a customer may change a subscription as often as they like: \`changes_per_day\` of ${name} is 0`,
    !access_log && `nothing shows who called: \`access_log\` of ${name} keeps a line for each call`,
    !alarms && `nobody hears of failures and of charges that need a person: \`alarms\` of ${name} says who`,
  ];
  return [...ofAnyStage, ...(isOpen ? [] : ofClosedStages)].filter(Boolean);
};

function isPlain(secret) {
  return Boolean(secret) && !secret.startsWith('arn:');
}

function isClear(url) {
  return url.startsWith('http://') && !(URL.canParse(url) && isHere(new URL(url).hostname));
}

/** True for a socket and for the machine's own addresses: what is sent there crosses no network. */
function isHere(host) {
  return host.startsWith('/') || host === 'localhost' || /^(127(\.\d+){3}|\[?::1\]?)$/.test(host);
}
