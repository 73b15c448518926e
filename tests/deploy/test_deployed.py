"""Both kinds of stage, deployed to the emulator and used over HTTP through its gateway. The tests go in this order."""

import base64
import hashlib
import os
import shutil
import uuid
from subprocess import PIPE, STDOUT, CompletedProcess, run

import pytest
import requests
from botocore.credentials import Credentials
from emulator import Emulator
from functions import FUNCTIONS, Route
from package import CUSTOMERS_LIST, FRONT_END, METHODS, OPERATORS
from processes import ROOT
from stage import Stage
from stand_in import Platform

# Neither judge can sign.
ON_DEV = pytest.mark.parametrize("stage", ["dev"], indirect=True)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SLASHES = pytest.mark.parametrize("slash", ["", "/"], ids=["", "slash"])


def origin(stage: Stage) -> str:
    return stage.config.get("cors_allow_origin", "*")


def is_refused(answer: requests.Response, status: int, code: str, stage: Stage) -> None:
    """As a problem that a page of the configured origin may read."""
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["access-control-allow-origin"] == origin(stage)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json()["status"] == status
    assert answer.json()["instance"].startswith("urn:uuid:")
    uuid.UUID(answer.json()["instance"].removeprefix("urn:uuid:"))


@pytest.fixture
def signed_by(stage: Stage, operator: Credentials) -> Credentials | None:
    """Whose signature the operators' routes want."""
    return operator if stage.name == "prod" else None


def subscribe(stage: Stage, slash: str = "") -> requests.Response:
    return stage.call("POST", f"/club/1/subscribe{slash}", {"customer_id": str(uuid.uuid4())})


def path_of(route: Route) -> str:
    return route.path.format(id="1", request_id="2026-11.order")


# The deployment.


def test_the_stack_is_complete(stage: Stage) -> None:
    # The first step of a deployment creates it with nothing but the bucket for the packages.
    assert stage.stack()["StackStatus"] == "UPDATE_COMPLETE"


def test_each_function_has_its_own_code(stage: Stage) -> None:
    hashes = {name: stage.function(name)["CodeSha256"] for name in FUNCTIONS}
    for name, found in hashes.items():
        zipped = (ROOT / f"target/lambda/{name}.zip").read_bytes()
        assert found == base64.b64encode(hashlib.sha256(zipped).digest()).decode(), name
    assert len(set(hashes.values())) == len(FUNCTIONS)


def test_the_gateway_has_these_routes_and_no_others(stage: Stage, emulator: Emulator) -> None:
    resources = emulator.client("apigateway").get_resources(restApiId=stage.api_id(), embed=["methods"])["items"]
    routes = {(method, r["path"]) for r in resources for method in r.get("resourceMethods", {})}
    assert routes == METHODS


# Each route, with and without a slash at its end.


@SLASHES
def test_a_month_of_a_subscription(slash: str, stage: Stage, signed_by: Credentials | None, platform: Platform) -> None:
    subscribed = subscribe(stage, slash)
    assert subscribed.status_code == 201, subscribed.text
    subscription = subscribed.json()["id"]

    paused = stage.call("POST", f"/subscription/{subscription}/status{slash}", {"status_id": 3, "interval": 30})
    assert (paused.status_code, paused.json()["status_id"]) == (200, 3)
    activated = stage.call("POST", f"/subscription/{subscription}/status{slash}", {"status_id": 1})
    assert activated.status_code == 200

    found = stage.call("GET", f"/subscription/{subscription}{slash}")
    assert (found.status_code, found.json()["id"]) == (200, subscription)
    listed = stage.call("GET", f"/subscription{slash}?customer_id={found.json()['customer_id']}", signed_by=signed_by)
    assert (listed.status_code, [each["id"] for each in listed.json()]) == (200, [subscription])
    clubs = stage.call("GET", f"/club{slash}")
    assert (clubs.status_code, [club["id"] for club in clubs.json()]) == (200, [1])

    eligible = stage.call("GET", f"/subscription/eligible{slash}", signed_by=signed_by)
    assert eligible.status_code == 200
    assert subscription in eligible.json()

    request_id = f"order-{uuid.uuid4()}"
    for already in (False, True):
        path = f"/subscription/{subscription}/charge/{request_id}{slash}"
        charged = stage.call("POST", path, signed_by=signed_by)
        assert (charged.status_code, charged.json()["already_charged"]) == (200, already)
    assert platform.orders().count(request_id) == 1

    history = stage.call("GET", f"/subscription/{subscription}/charge{slash}")
    assert [month["request_id"] for month in history.json()] == [request_id]
    charges = stage.call("GET", f"/charge{slash}?subscription_id={subscription}", signed_by=signed_by)
    assert [charge["request_id"] for charge in charges.json()["charges"]] == [request_id]

    for answer in (subscribed, paused, activated, found, listed, clubs, eligible, charged, history, charges):
        assert answer.headers["access-control-allow-origin"] == origin(stage)
        assert answer.headers["content-type"] == "application/json"


@SLASHES
def test_a_function_refuses(slash: str, stage: Stage, signed_by: Credentials | None) -> None:
    is_refused(stage.call("POST", f"/club/1/subscribe{slash}", {}), 400, "invalid_request", stage)
    long = {"customer_id": "c", "note": "x" * 16 * 1024}
    is_refused(stage.call("POST", f"/club/1/subscribe{slash}", long), 413, "too_large", stage)
    gone = stage.call("POST", f"/subscription/nobody/status{slash}", {"status_id": 1})
    is_refused(gone, 404, "subscription_not_found", stage)
    limit = stage.call("GET", f"/subscription/eligible{slash}?limit=0", signed_by=signed_by)
    is_refused(limit, 400, "invalid_request", stage)
    charge = stage.call("POST", f"/subscription/nobody/charge/order{slash}", signed_by=signed_by)
    is_refused(charge, 404, "subscription_not_found", stage)


@SLASHES
@pytest.mark.parametrize("route", FRONT_END, ids=str)
def test_a_page_may_ask_first(route: Route, slash: str, stage: Stage) -> None:
    answer = stage.call("OPTIONS", path_of(route) + slash, **{"Access-Control-Request-Method": route.method})
    assert answer.status_code in (200, 204)
    assert answer.headers["access-control-allow-origin"] == origin(stage)
    assert route.method in answer.headers["access-control-allow-methods"]
    assert "content-type" in answer.headers["access-control-allow-headers"].lower()


# The gateway's own answers.


def test_an_unknown_route_is_refused(stage: Stage) -> None:
    expected = (403, "unauthenticated") if stage.name == "prod" else (404, "not_found")
    is_refused(stage.call("GET", "/nothing/here"), *expected, stage)


@pytest.mark.parametrize("route", [*OPERATORS, CUSTOMERS_LIST], ids=str)
def test_an_operators_call_needs_a_signature_on_prod(route: Route, stage: Stage, stranger: Credentials) -> None:
    method, path = route.method, path_of(route)
    if stage.name == "prod":
        is_refused(stage.call(method, path), 403, "unauthenticated", stage)
        forged = Credentials(stranger.access_key, "another secret")
        is_refused(stage.call(method, path, signed_by=forged), 403, "unauthenticated", stage)
        # The emulator refuses in its own words here; test_template.py checks the gateway's.
        assert stage.call(method, path, signed_by=stranger).status_code == 403
    else:
        assert stage.call(method, path).status_code in (200, 400, 404)


@pytest.mark.parametrize("route", [route for route in FRONT_END if route != CUSTOMERS_LIST], ids=str)
def test_a_front_ends_call_needs_none(route: Route, stage: Stage) -> None:
    # A function answers, whatever it says.
    assert stage.call(route.method, path_of(route)).status_code in (200, 400, 404)


def test_a_call_too_many_is_refused(stage: Stage, emulator: Emulator) -> None:
    """The limit is the configured one, and is lowered for a moment to be reached with one call.

    The emulator does not find the limits of the operators' routes, whose paths CloudFormation wants encoded;
    test_template.py checks them.
    """
    gateway, at = emulator.client("apigateway"), {"restApiId": stage.api_id(), "stageName": stage.name}
    found = gateway.get_stage(**at)["methodSettings"]["*/*"]
    throttle = stage.config.get("throttle", {"rate_limit": 100, "burst_limit": 200})
    assert (found["throttlingRateLimit"], found["throttlingBurstLimit"]) == tuple(throttle.values())

    def limit(rate: float, burst: int) -> None:
        for key, value in (("rateLimit", rate), ("burstLimit", burst)):
            operation = {"op": "replace", "path": f"/*/*/throttling/{key}", "value": str(value)}
            gateway.update_stage(**at, patchOperations=[operation])

    limit(0, 0)
    try:
        answer = stage.call("GET", "/club")
    finally:
        limit(*throttle.values())
    is_refused(answer, 429, "throttled", stage)
    assert answer.headers["retry-after"] == "1"


# The rest of a stage.


def test_the_schedule_counts_unresolved_charges(
    stage: Stage, signed_by: Credentials | None, platform: Platform, emulator: Emulator
) -> None:
    events = emulator.client("events")
    (rule,) = events.list_rule_names_by_target(TargetArn=stage.function("unresolved")["FunctionArn"])["RuleNames"]
    enabled = "ENABLED" if "alarms" in stage.config else "DISABLED"
    assert events.describe_rule(Name=rule)["State"] == enabled
    event = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}
    before = stage.invoke("unresolved", event)
    platform.fails_once()
    subscription = subscribe(stage).json()["id"]
    failed = stage.call("POST", f"/subscription/{subscription}/charge/{subscription}", signed_by=signed_by)
    is_refused(failed, 504, "charge_outcome_unknown", stage)
    assert stage.invoke("unresolved", event) == before + 1


def test_secrets_are_read_where_they_are_kept(stage: Stage, emulator: Emulator) -> None:
    assert bool(stage.config["database"].get("functions_password")) == (stage.name == "prod")
    read = {name.rsplit("/", 1)[-1] for name in emulator.secrets_read}
    if stage.name == "prod":
        assert {"api_key", "api_secret"} < read
        assert stage.config["database"]["functions_password"].removesuffix(":password::") in emulator.secrets_read
    else:
        assert read == set()


# Judges that others wrote.


CONTRACT = ROOT / "tests/contract"


def judge(*command: object, **environment: str) -> CompletedProcess:
    """In the folder of the contract's own checks, which has a judge's configuration."""
    environment = os.environ | environment
    return run(command, cwd=CONTRACT, env=environment, stdout=PIPE, stderr=STDOUT, text=True, check=False)


@ON_DEV
def test_schemathesis_finds_nothing(stage: Stage) -> None:
    brief = ["--phases", "examples,coverage", "--warnings", "off"]
    found = judge(".venv/bin/schemathesis", "run", ROOT / "openapi.yaml", "--url", stage.url(), *brief)
    assert found.returncode == 0, found.stdout


@ON_DEV
@pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="there is no Chromium here")
def test_a_browser_lets_a_page_use_it(stage: Stage) -> None:
    found = judge("node", "--test", "browser.mjs", API_URL=stage.url())
    assert found.returncode == 0, found.stdout


# Later deployments.


def test_a_second_deployment_and_a_way_back(stage: Stage) -> None:
    api, subscription = stage.api_id(), subscribe(stage).json()["id"]
    first = origin(stage)
    stage.config["cors_allow_origin"] = "https://second.example.com"
    stage.deploy()
    assert stage.stack()["StackStatus"] == "UPDATE_COMPLETE"
    assert stage.api_id() == api
    for origin_of, answer in (
        ("a function", stage.call("POST", f"/subscription/{subscription}/status", {"status_id": 1})),
        ("the gateway", stage.call("GET", "/nothing/here")),
    ):
        assert answer.headers["access-control-allow-origin"] == "https://second.example.com", origin_of

    stage.config["cors_allow_origin"] = first
    stage.roll_back()
    for origin_of, answer in (
        ("a function", stage.call("POST", f"/subscription/{subscription}/status", {"status_id": 1})),
        ("the gateway", stage.call("GET", "/nothing/here")),
    ):
        assert answer.headers["access-control-allow-origin"] == first, origin_of


def test_nothing_is_left_of_a_stage_that_is_removed(stage: Stage, emulator: Emulator) -> None:
    stage.serverless("remove")
    stacks = emulator.client("cloudformation").list_stacks()["StackSummaries"]
    assert {s["StackStatus"] for s in stacks if s["StackName"] == f"beer-club-{stage.name}"} == {"DELETE_COMPLETE"}
    functions = emulator.client("lambda").list_functions()["Functions"]
    assert not [f for f in functions if f["FunctionName"].startswith(f"beer-club-{stage.name}")]
