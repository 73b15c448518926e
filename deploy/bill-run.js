'use strict';

const definition = require('./bill-run.asl.json');

const CONCURRENCY = 20;
const HOUR = 3600 * 1000;

/** What bill_run.yml and bill_run_alarms.yml are filled in with: nothing, where the configuration has no `bill_run`. */
module.exports = function billRun(config, timezone, topic) {
  if (!config) return { resources: {}, alarms: {} };
  const { schedule, enabled = true, concurrency = CONCURRENCY, dry_run = false } = config;
  return {
    resources: '${file(deploy/bill_run.yml)}',
    alarms: topic ? '${file(deploy/bill_run_alarms.yml)}' : {},
    definition: machine({ concurrency, tells: Boolean(topic) }),
    substitutions: {
      EligibleFunction: { 'Fn::GetAtt': ['EligibleLambdaFunction', 'Arn'] },
      ChargeFunction: { 'Fn::GetAtt': ['ChargeLambdaFunction', 'Arn'] },
      ...(topic && { Topic: topic }),
    },
    schedule,
    timezone,
    state: enabled ? 'ENABLED' : 'DISABLED',
    input: JSON.stringify({ scheduled_time: '<aws.scheduler.scheduled-time>', dry_run }),
    missing: missing(schedule, timezone),
  };
};

/** The definition of the file, with what a string cannot fill in. */
function machine({ concurrency, tells }) {
  const copy = structuredClone(definition);
  copy.States.Charge.MaxConcurrency = concurrency;
  if (!tells) {
    copy.States['Sum up'].Next = copy.States.Tell.Next;
    delete copy.States.Tell;
  }
  return copy;
}

/**
 * 1 on each of three days, in UTC as CloudWatch counts them, that ends without a success; else 0. The first is the
 * earliest day on which the schedule can begin.
 */
function missing(schedule, timeZone) {
  const [minute, hour, day] = schedule.match(/\d+/g).map(Number);
  const local = hour * HOUR + minute * (HOUR / 60);
  const isTheDayBefore = local < Math.max(...[0, 6].map((month) => offset(timeZone, month)));
  const first = isTheDayBefore ? day - 1 : day;
  const days = first > 0 ? `(DAY(days) >= ${first} AND DAY(days) <= ${first + 2})` : `(${LAST_DAY} OR DAY(days) <= 2)`;
  return `IF(${days} AND FILL(succeeded, 0) < 1, 1, 0)`;
}

const LAST_DAY = [
  'DAY(days) == 31',
  '(DAY(days) == 30 AND (MONTH(days) == 4 OR MONTH(days) == 6 OR MONTH(days) == 9 OR MONTH(days) == 11))',
  '(DAY(days) >= 28 AND MONTH(days) == 2)',
].join(' OR ');

/** Milliseconds ahead of UTC, at the beginning of this month of a year. */
function offset(timeZone, month) {
  const utc = Date.UTC(new Date().getUTCFullYear(), month, 2);
  const fields = ['year', 'month', 'day', 'hour', 'minute'].map((field) => [field, 'numeric']);
  const format = new Intl.DateTimeFormat('en', { timeZone, hourCycle: 'h23', ...Object.fromEntries(fields) });
  const parts = format.formatToParts(utc).map(({ type, value }) => [type, Number(value)]);
  const { year, month: local, day, hour, minute } = Object.fromEntries(parts);
  return Date.UTC(year, local - 1, day, hour, minute) - utc;
}
