'use strict';

const definition = require('./bill-run.asl.json');

const CONCURRENCY = 20;
/** Of what the gateway lets through, so that people can call the same routes meanwhile. */
const SHARE = 0.8;
const HOUR = 3600 * 1000;

/**
 * The values for the files bill_run….yml: none, where the configuration has no `bill_run`.
 *
 * @param limit requests per second of the operators' routes
 */
module.exports = function billRun(config, { timezone, limit, topic }) {
  if (!config) return { function: {}, resources: {}, schedules: {}, alarms: {} };
  const { schedule, enabled = true, dry_run = false, retries = [], new_number = false } = config;
  const { concurrency = CONCURRENCY, rate = Math.max(1, Math.floor(limit * SHARE)) } = config;
  const state = enabled ? 'ENABLED' : 'DISABLED';
  const starts = (name, suffix, cron, input) => [
    name,
    {
      Type: 'AWS::Scheduler::Schedule',
      Properties: {
        Name: '${self:service}-${sls:stage}-bill-run' + suffix,
        Description: 'Charges the month that it is then in the billing time zone',
        ScheduleExpression: cron,
        ScheduleExpressionTimezone: timezone,
        State: state,
        FlexibleTimeWindow: { Mode: 'OFF' },
        Target: {
          Arn: { Ref: 'BillRun' },
          RoleArn: { 'Fn::GetAtt': ['BillRunScheduleRole', 'Arn'] },
          Input: JSON.stringify({ scheduled_time: '<aws.scheduler.scheduled-time>', dry_run, ...input }),
          RetryPolicy: { MaximumEventAgeInSeconds: 86400, MaximumRetryAttempts: 185 },
        },
      },
    },
  ];
  return {
    function: '${file(deploy/bill_run_function.yml)}',
    resources: '${file(deploy/bill_run.yml)}',
    alarms: topic ? '${file(deploy/bill_run_alarms.yml)}' : {},
    definition: topic ? definition : withoutReport(),
    substitutions: {
      Function: { 'Fn::GetAtt': ['BillDashrunLambdaFunction', 'Arn'] },
      Concurrency: String(concurrency),
      Rate: String(rate),
      ...(topic && { Topic: topic }),
    },
    schedules: {
      Resources: Object.fromEntries([
        starts('BillRunSchedule', '', schedule),
        ...retries.map((cron, n) =>
          starts(`BillRunRetry${n + 1}`, `-retry-${n + 1}`, cron, { retry_rejected: true, new_number }),
        ),
      ]),
    },
    missing: missing(schedule, timezone),
  };
};

/** Where there is no topic. */
function withoutReport() {
  const { Report, ...States } = structuredClone(definition.States);
  States['Is it done'].Choices[0].Next = Report.Next;
  return { ...definition, States };
}

/**
 * 1 on each of three days, in UTC as CloudWatch counts them, on which no run comes to an end; else 0. The first is the
 * earliest day on which the schedule can begin.
 */
function missing(schedule, timeZone) {
  const [minute, hour, day] = schedule.match(/\d+/g).map(Number);
  const local = hour * HOUR + minute * (HOUR / 60);
  const isTheDayBefore = local < Math.max(...[0, 6].map((month) => offset(timeZone, month)));
  const first = isTheDayBefore ? day - 1 : day;
  const days = first > 0 ? `(DAY(days) >= ${first} AND DAY(days) <= ${first + 2})` : `(${LAST_DAY} OR DAY(days) <= 2)`;
  return `IF(${days} AND FILL(succeeded, 0) + FILL(failed, 0) < 1, 1, 0)`;
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
