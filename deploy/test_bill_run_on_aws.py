"""The bill run on Step Functions: its definition, and months that it charges on the emulator.

The emulator cannot redrive an execution. Where AWS's users would redrive one, a second execution completes the month.
"""

import json
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

import pytest
from conftest import deployed, dev_config
from emulator import OWNER, Emulator
from package import REGION, Package
from processes import ROOT
from stage import Database, Platform, Stage, status

DEFINITION = json.loads((ROOT / "deploy/bill-run.asl.json").read_text(encoding="utf-8"))
TIMEZONE = "Pacific/Auckland"
TOOL = OWNER | {"AWS_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true"}
CONCURRENCY = 8
# Seconds.
PATIENCE = 600
ALL = 1200
# No more than are sent at the same time.
REFUSED = 7
TOLERATED = DEFINITION["States"]["Charge"]["ToleratedFailureCount"]


class Run:
    """An execution."""

    def __init__(self, arn: str, emulator: Emulator) -> None:
        self.arn, self.client = arn, emulator.client("stepfunctions")

    def ended(self) -> "Run":
        patience = time.monotonic() + PATIENCE
        while (found := self.client.describe_execution(executionArn=self.arn))["status"] == "RUNNING":
            assert time.monotonic() < patience, "it runs for ever"
            time.sleep(0.1)
        self.status, self.error = found["status"], found.get("error")
        self.output = json.loads(found["output"]) if self.status == "SUCCEEDED" else None
        return self

    def states(self) -> list[tuple[str, dict]]:
        """Those that it entered, with their inputs."""
        pages = self.client.get_paginator("get_execution_history").paginate(executionArn=self.arn)
        events = [event for page in pages for event in page["events"] if "stateEnteredEventDetails" in event]
        details = [event["stateEnteredEventDetails"] for event in events]
        return [(each["name"], json.loads(each["input"])) for each in details]

    def succeeded(self) -> "Run":
        assert self.ended().status == "SUCCEEDED", json.dumps(self.states()[-1])
        return self

    def result(self) -> dict:
        """Of an execution that failed because not everybody is charged: it has no output."""
        name, state = self.states()[-1]
        assert name == "Is everybody charged"
        return state["result"]


class Month:
    """The stage's current month, with subscriptions of its own."""

    def __init__(self, stage: Stage, platform: Platform, machine: str) -> None:
        self.stage, self.database, self.platform, self.machine = stage, stage.database, platform, machine
        self.machines = stage.emulator.client("stepfunctions")
        self.name = datetime.now(ZoneInfo(TIMEZONE)).strftime("%Y-%m")

    def subscriptions(self, count: int, form: str = "gen_random_uuid()::text") -> list[str]:
        """These alone are eligible."""
        self.database.run(
            f"""insert into club_status_history (id, club_id, club_status_id, effect_date, create_date)
                    select gen_random_uuid()::text, id, 3, utc_now(), utc_now() from club;
                insert into club (name, store_sku) values ('{random.random()}', 1);
                insert into club_status_history (id, club_id, club_status_id, effect_date, create_date)
                    select gen_random_uuid()::text, max(id), 1, utc_now(), utc_now() from club;
                insert into subscription (id, club_id, customer_store_id)
                    select {form}, (select max(id) from club), 'c' || n from generate_series(1, {count}) n;
                insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date)
                    select gen_random_uuid()::text, id, 1, '2020-01-01', '2020-01-01' from subscription
                    where club_id = (select max(id) from club)"""
        )
        found = self.database.run("select id from subscription where club_id = (select max(id) from club)")
        return sorted(id for (id,) in found)

    def starts(self, machine: str | None = None, **given: object) -> Run:
        """As the schedule does, at 06:00 of the month's first day."""
        first = datetime.strptime(self.name, "%Y-%m").replace(hour=6, tzinfo=ZoneInfo(TIMEZONE))
        scheduled = first.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return self.runs(machine or self.machine, {"scheduled_time": scheduled} | given)

    def runs(self, machine: str, given: dict) -> Run:
        started = self.machines.start_execution(stateMachineArn=machine, input=json.dumps(given))
        return Run(started["executionArn"], self.stage.emulator)

    def deployed(self) -> dict:
        return self.machines.describe_state_machine(stateMachineArn=self.machine)

    def variant(self, name: str, definition: dict) -> str:
        """Another machine, with the rights of the deployed one."""
        role = self.deployed()["roleArn"]
        made = self.machines.create_state_machine(name=name, definition=json.dumps(definition), roleArn=role)
        return made["stateMachineArn"]

    def charged(self, subscriptions: list[str]) -> list[str]:
        """Those with an order at the platform: one, under the request_id that bill-run has, too."""
        orders = {order["request_id"] for order in self.platform.received() if order["taken"]}
        months = {id for id in subscriptions if f"{self.name}.{id}" in orders}
        assert {order for order in orders if order[8:] in set(subscriptions)} == {f"{self.name}.{id}" for id in months}
        ledger = self.database.run("select subscription_id from charge_attempt where state = 'charged'")
        counts = Counter(id for (id,) in ledger)
        assert {id: counts[id] for id in months if counts[id] > 1} == {}, "charged twice"
        return sorted(months)

    def sent_since(self, orders: int) -> int:
        return len(self.platform.orders()) - orders


def monthly_config(emulator: Emulator, platform: Platform, database: Database) -> dict:
    topic = emulator.client("sns").create_topic(Name="on-duty")["TopicArn"]
    return dev_config(emulator, platform, database) | {
        "billing_timezone": TIMEZONE,
        "alarms": {"topic_arn": topic},
        "bill_run": {"schedule": "cron(0 6 1 * ? *)", "concurrency": CONCURRENCY},
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
    (machine,) = [
        machine["stateMachineArn"]
        for machine in stage.emulator.client("stepfunctions").list_state_machines()["stateMachines"]
        if machine["name"] == "beer-club-monthly-bill-run"
    ]
    yield Month(stage, platform, machine)
    platform.answers("order")


# What the template says.


@pytest.fixture
def properties(prod: Package) -> Callable[[str], dict]:
    return lambda name: prod.resources[name]["Properties"]


def test_the_machine_is_the_files_with_the_configured_concurrency(prod: Package, properties: Callable) -> None:
    definition = properties("BillRun")["Definition"]
    assert definition["States"]["Charge"].pop("MaxConcurrency") == prod.config["bill_run"]["concurrency"]
    expected = json.loads(json.dumps(DEFINITION))
    del expected["States"]["Charge"]["MaxConcurrency"]
    assert definition == expected
    names = {"EligibleFunction", "ChargeFunction", "Topic"}
    assert set(properties("BillRun")["DefinitionSubstitutions"]) == names
    assert {name for name in names if f"${{{name}}}" in json.dumps(DEFINITION)} == names


def test_the_schedule_is_in_the_billing_time_zone(prod: Package, properties: Callable) -> None:
    schedule = properties("BillRunSchedule")
    assert schedule["ScheduleExpression"] == prod.config["bill_run"]["schedule"]
    assert schedule["ScheduleExpressionTimezone"] == prod.config["billing_timezone"]
    assert schedule["State"] == "ENABLED"
    assert schedule["Target"]["Arn"] == {"Ref": "BillRun"}
    given = json.loads(schedule["Target"]["Input"])
    assert given == {"scheduled_time": "<aws.scheduler.scheduled-time>", "dry_run": False}


def test_the_machine_may_do_no_more_than_it_needs(prod: Package) -> None:
    named = "${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}"
    functions = [{"Fn::GetAtt": [name, "Arn"]} for name in ("EligibleLambdaFunction", "ChargeLambdaFunction")]
    own = "beer-club-prod-bill-run"
    executions = [{"Fn::Sub": f"arn:{named}:execution:{own}{part}:*"} for part in ("", "/Charge")]
    rule = "rule/StepFunctionsGetEventsForStepFunctionsExecutionRule"
    may = [(s["Action"], s["Resource"]) for s in prod.statements("BillRunRole")]
    assert may == [
        ("lambda:InvokeFunction", functions),
        ("states:StartExecution", {"Fn::Sub": f"arn:{named}:stateMachine:{own}"}),
        (["states:DescribeExecution", "states:StopExecution", "states:RedriveExecution"], executions),
        (
            ["events:PutTargets", "events:PutRule", "events:DescribeRule"],
            {"Fn::Sub": "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:" + rule},
        ),
    ]
    (tells,) = prod.all("AWS::IAM::Policy")
    (statement,) = tells["PolicyDocument"]["Statement"]
    assert (statement["Action"], statement["Resource"]) == ("sns:Publish", {"Ref": "AlarmTopic"})
    (starts,) = prod.statements("BillRunScheduleRole")
    assert (starts["Action"], starts["Resource"]) == ("states:StartExecution", {"Ref": "BillRun"})
    assert DEFINITION["States"]["Charge"]["Label"] == "Charge"


def test_a_stage_without_a_bill_run_has_none_of_it(dev: Package) -> None:
    assert "bill_run" not in dev.config
    kinds = {resource["Type"].split("::")[1] for resource in dev.resources.values()}
    assert kinds == {"ApiGateway", "Events", "IAM", "Lambda", "Logs", "S3"}
    assert "BillRun" not in json.dumps(dev.resources)


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
    ],
)
def test_the_month_is_that_of_the_scheduled_time(given: dict, expected: str, month: Month) -> None:
    begin = {name: value for name, value in DEFINITION["States"]["Begin"].items() if name != "Next"} | {"End": True}
    machine = month.variant(re.sub(r"\D", "", json.dumps(given)), {"StartAt": "Begin", "States": {"Begin": begin}})
    run = month.runs(machine, given).ended()
    assert run.output["run"] == {"month": expected, "dry_run": False}


def missing(schedule: str, timezone: str) -> Callable[[date, int], bool]:
    """The alarm's expression, of a day in UTC and how many runs succeeded on it."""
    script = "console.log(require('./deploy/bill-run')({schedule: process.argv[1]}, process.argv[2], {}).missing)"
    command = ["node", "--eval", script, schedule, timezone]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    (condition,) = re.fullmatch(r"IF\((.*), 1, 0\)", said.strip()).groups()
    python = condition.replace("DAY(days)", "day.day").replace("MONTH(days)", "day.month")
    python = python.replace("FILL(succeeded, 0)", "succeeded").replace(" AND ", " and ").replace(" OR ", " or ")
    return lambda day, succeeded: eval(python, {"day": day, "succeeded": succeeded})


@pytest.mark.parametrize("timezone", ["America/Los_Angeles", "UTC", "Asia/Tokyo", "Pacific/Auckland"])
@pytest.mark.parametrize(("day", "hour"), [(1, 0), (1, 6), (1, 23), (2, 6), (15, 6), (26, 23)])
def test_an_alarm_hears_of_a_month_without_a_run_and_of_no_other(day: int, hour: int, timezone: str) -> None:
    is_missing = missing(f"cron(0 {hour} {day} * ? *)", timezone)
    starts = [datetime(2027, month, day, hour, tzinfo=ZoneInfo(timezone)).astimezone(UTC) for month in range(1, 13)]
    # A run that takes half a day, and one of a minute.
    for takes in (timedelta(hours=12), timedelta(minutes=1)):
        ends = {(start + takes).date() for start in starts}
        for forgotten in (None, *range(12)):
            succeeded = ends if forgotten is None else ends - {(starts[forgotten] + takes).date()}
            days = [date(2027, 1, 5) + timedelta(days=n) for n in range(360)]
            breaches = [is_missing(day, day in succeeded) for day in days]
            alarms = [days[n] for n in range(2, len(days)) if all(breaches[n - 2 : n + 1])]
            expected = [] if forgotten is None or starts[forgotten].date() < days[0] else [forgotten]
            late = [(alarm - starts[forgotten].date()).days for alarm in alarms] if expected else alarms
            assert len(late) == len(expected), (forgotten, alarms)
            assert all(0 < each <= 3 for each in late), "it is heard within three days"


# Months on the emulator.


def test_a_month_with_faults_is_charged_once(month: Month, emulator: Emulator) -> None:
    subscriptions = month.subscriptions(ALL)
    faults = [
        *[status(500)] * 10,
        *[status(429, **{"retry-after": "1"})] * 10,
        *["cut_body", "reset_before_reading"] * 5,
        *[{"reset_after_reading": {"take": take}} for take in (True, False)] * 5,
    ]
    random.shuffle(faults)
    # The first ones that are sent are refused; the others meet a fault now and then, some at a repeat.
    for answer in [*[status(400)] * REFUSED, *(each for fault in faults for each in (fault, *["order"] * 5))]:
        month.platform.answers_once(answer)
    mailbox = subscribed(emulator, month.stage.config["alarms"]["topic_arn"])

    run = month.starts().succeeded()

    refused = run.output["refused"]
    assert refused["order_rejected"] == REFUSED
    assert run.output["listed"] == run.output["listed_again"] == ALL
    assert run.output["charged"] + run.output["already_charged"] == ALL - REFUSED
    assert sum(refused.values()) == REFUSED
    assert run.output["unresolved"]["count"] == 0
    assert len(month.charged(subscriptions)) == ALL - REFUSED
    assert [name for name, _ in run.states()].count("Charge") == 3, "pages of 500"

    (told,) = mailbox()
    assert (told["Subject"], json.loads(told["Message"])) == (f"Bill run of {month.name}", run.output)


def subscribed(emulator: Emulator, topic: str) -> Callable[[], list[dict]]:
    """What the topic sends from now on."""
    sqs = emulator.client("sqs")
    queue = sqs.create_queue(QueueName="mailbox")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    statement = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
    policy = {"Version": "2012-10-17", "Statement": [statement | {"Resource": arn}]}
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps(policy)})
    emulator.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    read = {"QueueUrl": queue, "WaitTimeSeconds": 5, "MaxNumberOfMessages": 10}
    return lambda: [json.loads(message["Body"]) for message in sqs.receive_message(**read).get("Messages", [])]


def test_two_at_once_charge_once(month: Month) -> None:
    subscriptions = month.subscriptions(60)
    both = [month.starts(), month.starts()]
    for run in both:
        run.succeeded()
    assert sum(run.output["charged"] for run in both) == 60
    assert sum(run.output["already_charged"] for run in both) == 60
    assert month.charged(subscriptions) == subscriptions


def test_a_second_execution_completes_what_killed_functions_left(month: Month, emulator: Emulator) -> None:
    subscriptions, before = month.subscriptions(200), len(month.platform.orders())
    first = month.starts()
    kills = 0
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(first.ended)
        while not ended.done():
            # Once more each time that some were sent since.
            if kills < 5 and month.sent_since(before) > 30 * (kills + 1):
                kills += kill(emulator, "beer-club-monthly-charge")
            time.sleep(0.05)
        ended.result()
    assert kills == 5
    if first.status == "FAILED":
        left = first.result()["unresolved"]["ids"]
        assert 0 < len(left) <= TOLERATED
    # On AWS a child waits for as long as the answer says. Here it waits for less, and calls are still under way.
    under_way = "select id from charge_attempt where state = 'in_flight' and deadline > clock_timestamp()"
    while month.database.run(under_way):
        time.sleep(0.1)
    second = month.starts().succeeded()
    assert second.output["charged"] + second.output["already_charged"] == 200
    assert month.charged(subscriptions) == subscriptions


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


def test_a_platform_that_is_down_stops_the_run_and_a_second_execution_completes_it(month: Month) -> None:
    subscriptions = month.subscriptions(TOLERATED + 10)
    month.platform.answers(status(503))
    down = month.starts().ended()
    assert (down.status, down.error) == ("FAILED", "States.ExceedToleratedFailureThreshold")
    month.platform.answers("order")
    month.starts().succeeded()
    assert month.charged(subscriptions) == subscriptions


def test_a_few_without_an_outcome_do_not_stop_the_others(month: Month) -> None:
    subscriptions = month.subscriptions(TOLERATED - 10)
    month.platform.answers(status(503))
    run = month.starts().ended()
    assert (run.status, run.error) == ("FAILED", "States.NoChoiceMatched")
    assert sorted(run.result()["unresolved"]["ids"]) == subscriptions
    assert month.charged(subscriptions) == [], "they are not taken, but may have been"


def test_a_dry_run_sends_nothing(month: Month) -> None:
    subscriptions, before = month.subscriptions(510), len(month.platform.orders())
    run = month.starts(dry_run=True).ended()
    assert (run.status, run.output["listed"], run.output["charged"]) == ("SUCCEEDED", len(subscriptions), 0)
    assert "Charge" not in [name for name, _ in run.states()]
    assert month.sent_since(before) == 0
    charged = {id for (id,) in month.database.run("select subscription_id from charge_attempt")}
    assert charged.isdisjoint(subscriptions)


def test_another_month_charges_nobody(month: Month) -> None:
    month.subscriptions(3)
    before = len(month.platform.orders())
    run = month.starts(month="2020-01").ended()
    assert (run.status, run.error) == ("FAILED", "AnotherMonth")
    assert month.sent_since(before) == 0


def test_an_id_that_cannot_be_in_a_request_id_is_left_for_the_command_line(month: Month) -> None:
    form = "case when n % 2 = 0 then 'sendable-' else 'not/sendable %41 ' end || n || left(md5(random()::text), 9)"
    month.subscriptions(6, form)
    run = month.starts().ended()
    assert run.status == "FAILED"
    result = run.result()
    assert (result["charged"], result["unresolved"]["count"], result["not_sendable"]["count"]) == (3, 0, 3)
    assert all(id.startswith("not/sendable") for id in result["not_sendable"]["ids"])


def test_a_long_run_goes_on_in_another_execution(month: Month) -> None:
    subscriptions = month.subscriptions(20)
    short = json.loads(month.deployed()["definition"])
    short["States"]["Begin"]["Output"]["reading"]["query"]["limit"] = "10"
    (long,) = [c for c in short["States"]["What comes next"]["Choices"] if c["Variable"] == "$.pages"]
    long["NumericGreaterThanEquals"] = 2
    run = month.starts(machine=month.variant("short", short)).succeeded()
    assert run.states()[-1][0] == "Go on in another execution"
    assert (run.output["listed"], run.output["listed_again"], run.output["charged"]) == (20, 20, 20)
    assert month.charged(subscriptions) == subscriptions


# The command-line tool.


def test_either_finishes_the_others_month(month: Month, tool: Path, tmp_path: Path) -> None:
    subscriptions = month.subscriptions(30)
    part, whole = str(tmp_path / "part"), str(tmp_path / "whole")

    def bill_run(*arguments: str) -> str:
        done = subprocess.run([tool, *arguments], env=TOOL, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    bill_run("plan", "--api", month.stage.url(), "--limit", "10", "--output", part)
    bill_run("apply", part, "--yes")
    run = month.starts().ended()
    assert (run.output["charged"], run.output["already_charged"]) == (20, 10)
    bill_run("plan", "--api", month.stage.url(), "--output", whole)
    assert "30 charged before" in bill_run("apply", whole, "--yes")
    assert month.charged(subscriptions) == subscriptions


def test_the_tool_reports_an_execution(month: Month, tool: Path) -> None:
    environment = TOOL | {"AWS_ENDPOINT_URL": month.stage.emulator.endpoint}

    def report(run: Run, *options: str) -> str:
        command = [tool, "report", "--execution", run.arn, *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else done.stderr

    subscriptions = month.subscriptions(3)
    month.platform.answers(status(503))
    found = json.loads(report(month.starts().ended(), "--format", "json"))
    counts = {name: found[name] for name in ("planned", "charged", "already_charged", "refused", "unknown", "left")}
    assert counts == {"planned": 3, "charged": 0, "already_charged": 0, "refused": 0, "unknown": 3, "left": 0}
    assert [line["subscription_id"] for line in found["subscriptions"]] == subscriptions
    assert {line["request_id"] for line in found["subscriptions"]} == {f"{month.name}.{id}" for id in subscriptions}

    month.platform.answers("order")
    said = report(month.starts().ended())
    assert f"{month.name}: 3 planned = " in said
    assert said.endswith("+ 0 refused + 0 unknown + 0 left\n")
    assert "in the state Another month" in report(month.starts(month="2020-01").ended())


# What a redrive finds. The emulator has no count of redrives, so it is in the state here.


def redriven(month: Month) -> dict:
    return json.loads(month.deployed()["definition"].replace("$$.Execution.RedriveCount", "$.redriven"))


def test_a_redrive_asks_about_the_unresolved_alone(month: Month) -> None:
    subscriptions = month.subscriptions(20)
    month.platform.answers(status(503))
    failed = month.starts().ended()
    month.platform.answers("order")
    name, state = failed.states()[-1]
    definition = redriven(month) | {"StartAt": name}
    run = month.runs(month.variant("redriven", definition), state | {"redriven": 1}).succeeded()
    assert [name for name, _ in run.states()].count("Charge") == 1
    assert run.output["charged"] + run.output["already_charged"] == 20
    assert run.output["unresolved"] == {"count": 0, "ids": []}
    assert month.charged(subscriptions) == subscriptions


def test_a_redriven_child_charges_again(month: Month) -> None:
    (subscription,) = month.subscriptions(1)
    child = redriven(month)["States"]["Charge"]["ItemProcessor"]
    child = {"StartAt": "Unresolved until it is redriven", "States": child["States"]}
    state = {"id": subscription, "month": month.name, "request_id": f"{month.name}.{subscription}", "tries": 8}
    state |= {"redrives": 0, "pauses": [2]}
    machine = month.variant("child", child)
    run = month.runs(machine, state | {"redriven": 1}).ended()
    assert run.output == {"id": subscription, "outcome": "charged"}
    assert month.runs(machine, state | {"redriven": 0}).ended().error == "States.NoChoiceMatched"
