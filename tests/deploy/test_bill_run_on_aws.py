"""The bill run on AWS: what the template says of it, and months that the deployed machine charges on the emulator."""

import json
import os
import random
import re
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

import pytest
from botocore.credentials import Credentials
from conftest import deployed, dev_config
from database import Database
from emulator import Emulator
from package import BILL_RUN, REGION, Package
from processes import ROOT
from stage import Stage
from stand_in import Platform, http_status

DEFINITION = json.loads((ROOT / "deploy/bill-run.asl.json").read_text(encoding="utf-8"))
TIMEZONE = "Pacific/Auckland"
CONCURRENCY = 8
OPERATORS_LIMIT = 1000
# Seconds.
PATIENCE = 600
WORKS_AT_MOST = 180
STARTS_NOTHING_BEFORE_ITS_END = 60
ALL = 1200
REFUSED = 7
MAX_FAILURES = 100


class Run:
    """An execution."""

    def __init__(self, arn: str, emulator: Emulator) -> None:
        self.arn, self.client = arn, emulator.client("stepfunctions")

    def ended(self) -> "Run":
        patience = time.monotonic() + PATIENCE
        while (found := self.client.describe_execution(executionArn=self.arn))["status"] == "RUNNING":
            assert time.monotonic() < patience, f"it runs for ever: {Counter(self.states())}"
            time.sleep(0.1)
        self.status, self.error = found["status"], found.get("error")
        text = found["output"] if self.status == "SUCCEEDED" else found.get("cause", "")
        # Of a run that ended by itself.
        self.result = json.loads(text) if text.startswith("{") else None
        return self

    def history(self) -> list[dict]:
        pages = self.client.get_paginator("get_execution_history").paginate(executionArn=self.arn)
        return [event for page in pages for event in page["events"]]

    def states(self) -> list[str]:
        """Those that it entered."""
        events = [event for event in self.history() if "stateEnteredEventDetails" in event]
        return [event["stateEnteredEventDetails"]["name"] for event in events]

    def succeeded(self) -> "Run":
        assert self.ended().status == "SUCCEEDED", self.story()
        return self

    def failed(self) -> "Run":
        assert (self.ended().status, self.error) == ("FAILED", "NotEverybodyIsCharged"), self.story()
        return self

    def story(self) -> str:
        """Why it ended as it did: its result, the states that it entered, and what failed on the way."""
        failures = [
            {name: str(value)[-500:] for name, value in details.items()}
            for event in self.history()
            for key, details in event.items()
            if key.endswith("FailedEventDetails")
        ]
        states = dict(Counter(self.states()))
        return "\n".join(map(str, [f"{self.status} {self.error or ''}", self.result, states, *failures]))

    def counts(self) -> tuple[int, int, int, int, int]:
        return tuple(self.result[name] for name in ("eligible", "charged", "rejected", "unknown", "left"))

    def counted(self, *expected: int) -> None:
        assert self.counts() == expected, self.story()


class Month:
    """The stage's current month, with the subscriptions of one test."""

    def __init__(self, stage: Stage, platform: Platform) -> None:
        self.stage, self.database, self.platform, self.emulator = stage, stage.database, platform, stage.emulator
        self.machines = stage.emulator.client("stepfunctions")
        (self.machine,) = [
            machine["stateMachineArn"]
            for machine in self.machines.list_state_machines()["stateMachines"]
            if machine["name"] == "beer-club-monthly-bill-run"
        ]
        self.name = datetime.now(ZoneInfo(TIMEZONE)).strftime("%Y-%m")

    def subscriptions(self, count: int) -> list[str]:
        """These alone are in the month."""
        self.database.run(
            f"""truncate charge_attempt, orphan_note, subscription_status_history, subscription;
                insert into subscription (id, club_id, customer_store_id)
                    select gen_random_uuid()::text, 1, 'c' || n from generate_series(1, {count}) n;
                insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date)
                    select gen_random_uuid()::text, id, 1, '2020-01-01', '2020-01-01' from subscription"""
        )
        return sorted(id for (id,) in self.database.run("select id from subscription"))

    def starts(self, schedule: str = "beer-club-monthly-bill-run", **given: object) -> Run:
        """As the schedule does, at 06:00 of the month's first day."""
        first = datetime.strptime(self.name, "%Y-%m").replace(hour=6, tzinfo=ZoneInfo(TIMEZONE))
        scheduled = first.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        target = self.emulator.client("scheduler").get_schedule(Name=schedule)["Target"]
        assert target["Arn"] == self.machine
        its = json.loads(target["Input"].replace("<aws.scheduler.scheduled-time>", scheduled))
        return self.runs(self.machine, its | given)

    def runs(self, machine: str, given: dict) -> Run:
        started = self.machines.start_execution(stateMachineArn=machine, input=json.dumps(given))
        return Run(started["executionArn"], self.emulator)

    def definition(self) -> dict:
        return json.loads(self.machines.describe_state_machine(stateMachineArn=self.machine)["definition"])

    def variant(self, name: str, definition: dict) -> str:
        """Another machine, with the rights of the deployed one."""
        role = self.machines.describe_state_machine(stateMachineArn=self.machine)["roleArn"]
        made = self.machines.create_state_machine(name=name, definition=json.dumps(definition), roleArn=role)
        return made["stateMachineArn"]

    def works_for(self, seconds: int) -> None:
        """So long at a time, for a run of several invocations."""
        timeout = seconds + STARTS_NOTHING_BEFORE_ITS_END
        functions = self.emulator.client("lambda")
        functions.update_function_configuration(FunctionName="beer-club-monthly-bill-run", Timeout=timeout)

    def charged(self) -> set[str]:
        """Those with an order that the platform took, under the month's request_id. Nobody has two."""
        rows = self.database.run("select subscription_id from charge_attempt where state = 'charged'")
        ledger = [id for (id,) in rows]
        assert [id for id, count in Counter(ledger).items() if count > 1] == [], "charged twice"
        taken = {order["request_id"] for order in self.platform.received() if order["taken"]}
        assert {f"{self.name}.{id}" for id in ledger} <= taken
        return set(ledger)

    def taken_of(self, subscriptions: list[str]) -> list[str]:
        """The orders that the platform took for these."""
        taken = {order["request_id"] for order in self.platform.received() if order["taken"]}
        # Other tests' orders, which may have any request_id, are there, too.
        return sorted(taken & {f"{self.name}.{id}" for id in subscriptions})


def monthly_config(emulator: Emulator, platform: Platform, database: Database) -> dict:
    """The functions' routes are closed, so the run's role is what lets it in."""
    topic = emulator.client("sns").create_topic(Name="on-duty")["TopicArn"]
    return dev_config(emulator, platform, database) | {
        "billing_timezone": TIMEZONE,
        "customers": {"authorization": "none"},
        "operators": {"rate_limit": OPERATORS_LIMIT, "burst_limit": OPERATORS_LIMIT},
        "alarms": {"topic_arn": topic},
        "bill_run": {
            "schedule": "cron(0 6 1 * ? *)",
            "concurrency": CONCURRENCY,
            "retries": ["cron(0 6 5 * ? *)"],
        },
    }


@pytest.fixture(scope="module")
def stage(emulator: Emulator, platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = deployed("monthly", monthly_config, emulator, platform, tmp_path_factory)
    yield stage
    stage.serverless("remove")
    machines = emulator.client("stepfunctions").list_state_machines()["stateMachines"]
    assert [machine for machine in machines if "-monthly-" in machine["name"]] == []


@pytest.fixture
def month(stage: Stage, platform: Platform) -> Iterator[Month]:
    yield Month(stage, platform)
    platform.answers("order")


# The template.


@pytest.fixture
def properties(prod: Package) -> Callable[[str], dict]:
    return lambda name: prod.resources[name]["Properties"]


def test_the_machine_is_the_files_with_the_configured_numbers(prod: Package, properties: Callable) -> None:
    assert properties("BillRun")["Definition"] == DEFINITION
    given = properties("BillRun")["DefinitionSubstitutions"]
    assert {name for name in given if f"${{{name}}}" in json.dumps(DEFINITION)} == set(given)
    chosen = prod.config["bill_run"]
    assert (given["Concurrency"], given["Rate"]) == (str(chosen["concurrency"]), str(chosen["rate"]))
    assert given["Function"] == {"Fn::GetAtt": ["BillDashrunLambdaFunction", "Arn"]}


def test_the_schedules_are_in_the_billing_time_zone(prod: Package) -> None:
    chosen = prod.config["bill_run"]
    again = {"retry_rejected": True, "new_number": chosen["new_number"]}
    expected = [(chosen["schedule"], {}), *((retry, again) for retry in chosen["retries"])]
    schedules = prod.all("AWS::Scheduler::Schedule")
    assert len({schedule["Name"] for schedule in schedules}) == len(expected) == 3
    for schedule, (cron, more) in zip(schedules, expected, strict=True):
        assert schedule["ScheduleExpression"] == cron
        assert schedule["ScheduleExpressionTimezone"] == prod.config["billing_timezone"]
        assert schedule["State"] == "ENABLED"
        assert schedule["Target"]["Arn"] == {"Ref": "BillRun"}
        given = json.loads(schedule["Target"]["Input"])
        assert given == {"scheduled_time": "<aws.scheduler.scheduled-time>", "dry_run": False} | more


def test_the_function_is_outside_the_network_and_knows_no_database(prod: Package) -> None:
    assert "vpc" in prod.config
    function = prod.function(BILL_RUN)
    assert "VpcConfig" not in function
    url = "https://${ApiGatewayRestApi}.execute-api.${AWS::Region}.${AWS::URLSuffix}/prod"
    assert function["Environment"]["Variables"] == {"BILL_RUN_API": {"Fn::Sub": url}}
    assert "Layers" not in function
    assert function["LoggingConfig"]["LogFormat"] == "JSON"
    assert prod.resources["BillDashrunLogGroup"]["Properties"]["RetentionInDays"]
    assert function["Role"] == {"Fn::GetAtt": ["BillRunFunctionRole", "Arn"]}


def test_a_stop_takes_effect_within_three_minutes(prod: Package) -> None:
    """Because the function works for no longer, though it could. The state waits for it longer than Lambda does."""
    timeout = prod.function(BILL_RUN)["Timeout"]
    assert timeout >= WORKS_AT_MOST + STARTS_NOTHING_BEFORE_ITS_END
    assert DEFINITION["States"]["Charge"]["TimeoutSeconds"] > timeout
    source = (ROOT / "crates/bill-run/src/function.rs").read_text(encoding="utf-8")
    assert f"WORK: Duration = Duration::from_secs({WORKS_AT_MOST})" in source
    assert f"SPARE: Duration = Duration::from_secs({STARTS_NOTHING_BEFORE_ITS_END})" in source


def test_the_machine_may_do_no_more_than_it_needs(prod: Package) -> None:
    (invoke,) = prod.statements("BillRunRole")
    function = {"Fn::GetAtt": ["BillDashrunLambdaFunction", "Arn"]}
    assert (invoke["Action"], invoke["Resource"]) == ("lambda:InvokeFunction", function)
    (tells,) = prod.all("AWS::IAM::Policy")
    (statement,) = tells["PolicyDocument"]["Statement"]
    assert (statement["Action"], statement["Resource"]) == ("sns:Publish", {"Ref": "AlarmTopic"})
    (starts,) = prod.statements("BillRunScheduleRole")
    assert (starts["Action"], starts["Resource"]) == ("states:StartExecution", {"Ref": "BillRun"})


def test_a_stage_without_a_bill_run_has_none_of_it(dev: Package) -> None:
    assert "bill_run" not in dev.config
    kinds = {resource["Type"].split("::")[1] for resource in dev.resources.values()}
    assert kinds == {"ApiGateway", "Events", "IAM", "Lambda", "Logs", "S3"}
    assert not re.search("bill-?(dash)?run", json.dumps(dev.resources), re.IGNORECASE)


def settings_of(config: dict, *then: str) -> object:
    """The file's view of this `bill_run`, where the operators' routes take 50 requests a second."""
    options = "{timezone: 'UTC', limit: 50, topic: process.argv[2] && {}}"
    script = f"const made = require('./deploy/bill-run')(JSON.parse(process.argv[1]), {options});"
    script += "console.log(JSON.stringify(made))"
    command = ["node", "--eval", script, json.dumps({"schedule": "cron(0 6 1 * ? *)"} | config), *then]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def test_without_a_choice_a_run_takes_four_fifths_of_the_operators_limit() -> None:
    assert settings_of({})["substitutions"]["Rate"] == "40"
    assert settings_of({"rate": 7})["substitutions"]["Rate"] == "7"


def test_without_a_topic_the_machine_goes_on_without_a_report() -> None:
    assert settings_of({}, "topic")["definition"] == DEFINITION
    made = settings_of({})
    assert "Topic" not in made["substitutions"]
    states = made["definition"]["States"]
    assert states.keys() == DEFINITION["States"].keys() - {"Report"}
    assert "Report" not in {
        each.get("Next") for state in states.values() for each in [state, *state.get("Choices", [])]
    }


def test_disabled_schedules_are_there_and_do_not_start() -> None:
    schedules = settings_of({"enabled": False, "retries": ["cron(0 6 2 * ? *)"]})["schedules"]["Resources"].values()
    assert [schedule["Properties"]["State"] for schedule in schedules] == ["DISABLED", "DISABLED"]


# The month.


def test_a_day_after_the_scheduled_time_it_is_the_local_month_everywhere() -> None:
    """For every day that a schedule may have, at the ends of the day and in both seasons, in every time zone."""
    for name in sorted(available_timezones()):
        for month in range(1, 13):
            for day, hour, minute in ((1, 0, 0), (1, 23, 59), (26, 0, 0), (26, 23, 59)):
                local = datetime(2027, month, day, hour, minute, tzinfo=ZoneInfo(name))
                later = local.astimezone(UTC) + timedelta(days=1)
                assert (later.year, later.month) == (2027, month), f"{name}: {local}"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"scheduled_time": "2026-11-30T17:00:00Z"}, "2026-12"),
        ({"scheduled_time": "2026-12-31T11:00:00Z"}, "2027-01"),
        ({"scheduled_time": "2026-12-01T09:00:00Z"}, "2026-12"),
        ({"scheduled_time": "2027-02-27T11:59:00Z"}, "2027-02"),
        ({"month": "2026-10", "scheduled_time": "2026-12-01T09:00:00Z"}, "2026-10"),
        # The function says which.
        ({}, None),
    ],
)
def test_the_month_is_that_of_the_scheduled_time(given: dict, expected: str | None, month: Month) -> None:
    definition = month.definition()
    begin = {name: value for name, value in definition["States"]["Begin"].items() if name != "Next"} | {"End": True}
    name = "m" + re.sub(r"\D", "", json.dumps(given))
    event = (
        month.runs(month.variant(name, definition | {"States": {"Begin": begin}}), given).succeeded().result["event"]
    )
    rate = OPERATORS_LIMIT * 8 // 10
    numbers = {"pass": 0, "concurrency": CONCURRENCY, "rate": rate}
    flags = {"dry_run": False, "retry_rejected": False, "new_number": False}
    assert event == {"month": expected} | numbers | flags


def missing(schedule: str, timezone: str) -> Callable[[date, int], bool]:
    """The alarm's expression, of a day in UTC and how many runs ended on it."""
    script = "const options = {timezone: process.argv[2], limit: 50};"
    script += "console.log(require('./deploy/bill-run')({schedule: process.argv[1]}, options).missing)"
    command = ["node", "--eval", script, schedule, timezone]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    (condition,) = re.fullmatch(r"IF\((.*), 1, 0\)", said.strip()).groups()
    python = condition.replace("DAY(days)", "day.day").replace("MONTH(days)", "day.month")
    python = python.replace("FILL(succeeded, 0) + FILL(failed, 0)", "ended").replace(" AND ", " and ")
    python = python.replace(" OR ", " or ")
    return lambda day, ended: eval(python, {"day": day, "ended": ended})


@pytest.mark.parametrize("timezone", ["America/Los_Angeles", "UTC", "Asia/Tokyo", "Pacific/Auckland"])
@pytest.mark.parametrize(("day", "hour"), [(1, 0), (1, 6), (1, 23), (2, 6), (15, 6), (26, 23)])
def test_an_alarm_hears_of_a_month_without_a_run_and_of_no_other(day: int, hour: int, timezone: str) -> None:
    is_missing = missing(f"cron(0 {hour} {day} * ? *)", timezone)
    starts = [datetime(2027, month, day, hour, tzinfo=ZoneInfo(timezone)).astimezone(UTC) for month in range(1, 13)]
    # A run that takes half a day, and one of a minute.
    for takes in (timedelta(hours=12), timedelta(minutes=1)):
        ends = {(start + takes).date() for start in starts}
        for forgotten in (None, *range(12)):
            ended = ends if forgotten is None else ends - {(starts[forgotten] + takes).date()}
            days = [date(2027, 1, 5) + timedelta(days=n) for n in range(360)]
            breaches = [is_missing(day, day in ended) for day in days]
            alarms = [days[n] for n in range(2, len(days)) if all(breaches[n - 2 : n + 1])]
            expected = [] if forgotten is None or starts[forgotten].date() < days[0] else [forgotten]
            late = [(alarm - starts[forgotten].date()).days for alarm in alarms] if expected else alarms
            assert len(late) == len(expected), (forgotten, alarms)
            assert all(0 < each <= 3 for each in late), "it is heard within three days"


# Months on the emulator.


def test_a_month_with_faults_and_killed_functions_is_charged_once(month: Month, emulator: Emulator) -> None:
    subscriptions = month.subscriptions(ALL)
    faults = [
        *[http_status(500)] * 10,
        *[http_status(429, **{"retry-after": "1"})] * 10,
        *["cut_body", "reset_before_reading"] * 5,
        *[{"reset_after_reading": {"take": take}} for take in (True, False)] * 5,
    ]
    random.shuffle(faults)
    # The first ones that are sent are refused; the others meet a fault now and then, some at a repeat.
    for answer in [*[http_status(402)] * REFUSED, *(each for fault in faults for each in (fault, *["order"] * 5))]:
        month.platform.answers_once(answer)
    mailbox = subscribed(emulator, month.stage.config["alarms"]["topic_arn"])
    month.works_for(6)

    run, kills = month.starts(), Counter()
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(run.failed)
        while not ended.done():
            # Once more each time that some were charged since.
            if kills.total() < 6 and len(month.taken_of(subscriptions)) > 100 * (kills.total() + 1):
                function = "bill-run" if kills.total() % 2 else "charge"
                kills[function] += kill(emulator, f"beer-club-monthly-{function}")
            time.sleep(0.2)
        ended.result()
    assert kills["bill-run"] >= 2 and kills["charge"] >= 2, (kills, run.story())

    eligible, charged, rejected, unknown, left = run.counts()
    # Nobody is passed over where an invocation ends: the next one goes on after the last subscription that was begun.
    assert (eligible, rejected, charged + unknown, left) == (ALL, REFUSED, ALL - REFUSED, 0), run.story()
    assert run.states().count("Charge") > 1, "it goes on from where it was"
    assert set(run.result) == {
        *("month", "dry_run", "stopped", "charged_now", "eligible", "charged", "rejected", "unknown", "left")
    }
    (told,) = mailbox()
    assert (told["Subject"], json.loads(told["Message"])) == (f"Bill run of {month.name}", run.result)
    assert not [id for id in subscriptions if id in told["Message"]]

    # A killed function's attempts are in flight until its deadline.
    until_settled(month)
    month.works_for(WORKS_AT_MOST)
    again = month.starts("beer-club-monthly-bill-run-retry-1").succeeded()
    again.counted(ALL, ALL, 0, 0, 0)
    assert month.charged() == set(subscriptions)
    assert month.taken_of(subscriptions) == [f"{month.name}.{id}" for id in subscriptions]
    # The ledger has what a killed invocation charged. Its count does not.
    assert REFUSED <= again.result["charged_now"] <= REFUSED + unknown, again.story()
    (told,) = mailbox()
    assert json.loads(told["Message"]) == again.result


def test_a_report_has_counts_only_whatever_the_function_answers(month: Month, emulator: Emulator) -> None:
    """A later function may tell more. The machine sends what it knows to be a count, and nothing else."""
    definition = month.definition() | {"StartAt": "Is it done"}
    told = {"month": month.name, "stopped": None}
    counts = {"eligible": 2, "charged": 1, "rejected": 1, "unknown": 0, "left": 0}
    more = {"after": "an id", "subscriptions": ["an id"], "customer_id": "a customer", "upstream_answer": "a card"}
    answer = told | counts | more | {"done": True, "pass": 1, "charged_now": 1}
    mailbox = subscribed(emulator, month.stage.config["alarms"]["topic_arn"])
    given = {"answer": answer, "event": {"dry_run": False}, "charged_now": 1}
    run = month.runs(month.variant("chatty", definition), given).failed()
    assert run.result == told | counts | {"dry_run": False, "charged_now": 1}
    (sent,) = mailbox()
    assert json.loads(sent["Message"]) == run.result


def until_settled(month: Month) -> None:
    under_way = "select id from charge_attempt where state = 'in_flight' and deadline > clock_timestamp()"
    while month.database.run(under_way):
        time.sleep(0.1)


def subscribed(emulator: Emulator, topic: str) -> Callable[[], list[dict]]:
    """The topic's messages from now on."""
    sqs = emulator.client("sqs")
    queue = sqs.create_queue(QueueName=f"mailbox-{uuid.uuid4()}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    statement = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
    policy = {"Version": "2012-10-17", "Statement": [statement | {"Resource": arn}]}
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps(policy)})
    emulator.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)

    def read() -> list[dict]:
        options = {"QueueUrl": queue, "WaitTimeSeconds": 5, "MaxNumberOfMessages": 10}
        messages = sqs.receive_message(**options).get("Messages", [])
        for message in messages:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in messages]

    return read


def kill(emulator: Emulator, function: str) -> int:
    """A process of the function, in the midst of whatever it does. How many there were to kill: one or none."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            session = int((process / "stat").read_text().rpartition(")")[2].split()[3])
            variables = (process / "environ").read_text().split("\0")
        except (OSError, UnicodeDecodeError):
            continue
        if session == emulator.session and f"AWS_LAMBDA_FUNCTION_NAME={function}" in variables:
            os.kill(int(process.name), signal.SIGKILL)
            return 1
    return 0


def test_two_at_once_charge_once(month: Month) -> None:
    subscriptions = month.subscriptions(60)
    for run in [month.starts(), month.starts()]:
        run.succeeded().counted(60, 60, 0, 0, 0)
    assert month.charged() == set(subscriptions)
    assert len(month.taken_of(subscriptions)) == 60


def test_a_platform_that_is_down_stops_the_run_and_a_second_one_completes_it(month: Month) -> None:
    subscriptions = month.subscriptions(MAX_FAILURES + 50)
    before = len(month.platform.orders())
    month.platform.answers(http_status(503))
    run = month.starts().failed()
    assert run.result["stopped"] == "too_many_failures"
    assert run.states()[-3:] == ["Report", "Is everybody charged", "Not everybody is charged"]
    assert run.states().count("Charge") == 1
    assert len({*month.platform.orders()[before:]}) < len(subscriptions)

    month.platform.answers("order")
    until_settled(month)
    month.starts().succeeded().counted(len(subscriptions), len(subscriptions), 0, 0, 0)
    assert month.charged() == set(subscriptions)


def test_wrong_credentials_of_the_platform_stop_the_run_at_once(month: Month) -> None:
    month.subscriptions(60)
    before = len(month.platform.orders())
    month.platform.answers(http_status(401))
    assert month.starts().failed().result["stopped"] == "ecommerce_unauthorized"
    assert len(month.platform.orders()) - before <= CONCURRENCY + 2

    month.platform.answers("order")
    month.starts().succeeded().counted(60, 60, 0, 0, 0)


def test_a_dry_run_sends_nothing(month: Month) -> None:
    month.subscriptions(510)
    before = len(month.platform.orders())
    run = month.starts(dry_run=True).succeeded()
    assert (run.counts(), run.result["dry_run"]) == ((510, 0, 0, 0, 510), True)
    assert len(month.platform.orders()) == before
    assert month.database.run("select id from charge_attempt") == []


def test_another_month_charges_nobody(month: Month) -> None:
    month.subscriptions(3)
    before = len(month.platform.orders())
    for dry_run in (False, True):
        assert month.starts(month="2020-01", dry_run=dry_run).failed().result["stopped"] == "month_is_over"
    assert len(month.platform.orders()) == before


def test_a_run_that_was_stopped_begins_nothing_more_and_another_goes_on(month: Month) -> None:
    subscriptions = month.subscriptions(300)
    month.works_for(6)
    run = month.starts()
    while not month.taken_of(subscriptions):
        time.sleep(0.1)
    month.machines.stop_execution(executionArn=run.arn)
    assert run.ended().status == "ABORTED"
    month.works_for(WORKS_AT_MOST)
    month.starts().succeeded().counted(300, 300, 0, 0, 0)
    assert len(month.taken_of(subscriptions)) == 300


def test_the_command_goes_on_where_the_machine_was_and_reports_the_same(
    month: Month, tool: Path, operator: Credentials
) -> None:
    month.subscriptions(30)
    refused = 3
    for answer in [http_status(402)] * refused:
        month.platform.answers_once(answer)
    run = month.starts().failed()
    keys = {"AWS_ACCESS_KEY_ID": operator.access_key, "AWS_SECRET_ACCESS_KEY": operator.secret_key}
    environment = keys | {"AWS_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true"}

    def bill_run(*arguments: str) -> str:
        command = [tool, *arguments, "--api", month.stage.url()]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    found = json.loads(bill_run("report", "--format", "json"))
    assert tuple(found[name] for name in ("eligible", "charged", "rejected", "unknown", "left")) == run.counts()
    assert [each["upstream_status"] for each in found["subscriptions"] if each["state"] == "rejected"] == [
        402
    ] * refused
    said = bill_run("charge", "--retry-rejected", "--yes")
    assert "30 = 30 charged + 0 rejected + 0 unknown + 0 left" in said
    assert month.starts().succeeded().result["charged_now"] == 0
