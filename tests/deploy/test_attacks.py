"""Attacks on a closed stage. Each test is named after its attack, and shows that it fails."""

import json
import re
from collections.abc import Iterator

import pytest
from botocore.credentials import Credentials
from conftest import anywhere, caller, deployed, dev_config
from database import Database
from emulator import Emulator
from functions import ROUTES, Route
from package import REGION
from processes import ROOT
from stage import Stage
from stand_in import Platform

# The callers of each route by the IAM policies of docs/deploying.md.
MAY_CALL = {
    "POST /club/{id}/subscribe": {"shop"},
    "POST /subscription/{id}/status": {"shop"},
    "GET /subscription/{id}": {"shop"},
    "GET /subscription/{id}/charge": {"shop"},
    "GET /subscription": {"shop", "operations"},
    "GET /club": {"shop"},
    "GET /charge": {"operations", "bill-run"},
    "GET /subscription/eligible": {"operations", "bill-run"},
    "POST /subscription/{id}/charge/{request_id}": {"operations", "bill-run"},
}
SUBSCRIPTION = "5f9d2b8e-6c4a-4d7e-9b1f-0a1b2c3d4e5f"
# The policy's pattern for ids also matches this id with `/charge` after it.
LOOK_ALIKE = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaa"


def closed_config(emulator: Emulator, platform: Platform, database: Database) -> dict:
    return dev_config(emulator, platform, database) | {
        "operators": {"authorization": "aws_iam"},
        "customers": {"authorization": "aws_iam"},
        "bill_run": {"schedule": "cron(0 6 1 * ? *)"},
    }


@pytest.fixture(scope="module")
def closed(emulator: Emulator, platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A stage where IAM knows customers and operators, with a subscription of each kind of id."""
    stage = deployed("closed", closed_config, emulator, platform, tmp_path_factory)
    for subscription in (SUBSCRIPTION, LOOK_ALIKE):
        stage.database.run(
            f"""insert into subscription (id, club_id, customer_store_id)
                    values ('{subscription}', 1, 'of {subscription[:8]}');
                insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date)
                    values (gen_random_uuid()::text, '{subscription}', 1, '2020-01-01', '2020-01-01')"""
        )
    yield stage
    stage.serverless("remove")


def documented(sid: str, stage: Stage) -> list[dict]:
    """The statements of the page's policy that begins with this one."""
    page = (ROOT / "docs/deploying.md").read_text(encoding="utf-8")
    account = stage.emulator.client("sts").get_caller_identity()["Account"]
    names = {"region": REGION, "account": account, "api": stage.api_id(), "stage": stage.name}
    blocks = [block for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if f'"Sid": "{sid}"' in block]
    (policy,) = [json.loads(re.sub(r"<(\w+)>", lambda match: names[match[1]], block)) for block in blocks]
    return policy["Statement"]


def deployed_for(role: str, stage: Stage) -> list[dict]:
    stack, iam = stage.emulator.client("cloudformation"), stage.emulator.client("iam")
    found = stack.describe_stack_resource(StackName=f"beer-club-{stage.name}", LogicalResourceId=role)
    name = found["StackResourceDetail"]["PhysicalResourceId"]
    (policy,) = iam.list_role_policies(RoleName=name)["PolicyNames"]
    return iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]["Statement"]


@pytest.fixture(scope="module")
def callers(closed: Stage, emulator: Emulator, operator: Credentials) -> dict[str, Credentials | None]:
    return {
        "shop": caller(emulator, "shop", *documented("ActForCustomers", closed)),
        "operations": caller(emulator, "operations", *documented("Operate", closed)),
        "bill-run": caller(emulator, "bill-run", *deployed_for("BillRunFunctionRole", closed)),
        "nobody": None,
        # This one may call everything, and so shows which routes exist.
        "everything": operator,
    }


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_each_caller_has_the_routes_of_the_policy_and_no_others(
    route: Route, closed: Stage, callers: dict[str, Credentials | None]
) -> None:
    path = route.path.format(id="1" if "club" in route.path else SUBSCRIPTION, request_id="2026-11.order")
    query = "?customer_id=c" if route.path == "/subscription" else ""
    body = {"POST /club/{id}/subscribe": {"customer_id": "c"}, "POST /subscription/{id}/status": {"status_id": 1}}
    answers = {
        name: closed.call(route.method, path + query, body.get(str(route)), signed_by=credentials).status_code
        for name, credentials in callers.items()
    }
    assert {name for name, status in answers.items() if status != 403} == MAY_CALL[str(route)] | {"everything"}, answers
    assert {status for status in answers.values() if status != 403} <= {200, 201, 409}, answers


LISTS = [
    *("/subscription/eligible", "/subscription/eligible/", "/subscription//eligible", "/subscription/eligible?limit=1"),
    *("/charge", "/charge/", "//charge"),
]


@pytest.mark.parametrize("path", LISTS)
def test_the_shops_server_lists_everybody(path: str, closed: Stage, callers: dict[str, Credentials | None]) -> None:
    assert closed.call("GET", path, signed_by=callers["everything"]).status_code == 200, "there is such a list"
    assert closed.call("GET", path, signed_by=callers["shop"]).status_code == 403


@pytest.mark.parametrize("subscription", [SUBSCRIPTION, LOOK_ALIKE])
@pytest.mark.parametrize("path", ["/subscription/{}/charge/status", "/subscription/{}/charge/status/"])
def test_the_shops_server_charges_as_if_it_changed_a_status(
    subscription: str, path: str, closed: Stage, callers: dict[str, Credentials | None], platform: Platform
) -> None:
    orders = platform.orders()
    assert closed.call("POST", path.format(subscription), signed_by=callers["shop"]).status_code == 403
    assert platform.orders() == orders


def test_the_shops_server_has_got_a_policy_for_everything_too(
    closed: Stage, emulator: Emulator, platform: Platform
) -> None:
    rights = [*documented("ActForCustomers", closed), anywhere("execute-api:Invoke")]
    shop, orders = caller(emulator, "shop-with-more", *rights), platform.orders()
    for method, path in (
        *(("GET", path) for path in LISTS),
        ("POST", f"/subscription/{LOOK_ALIKE}/charge/2026-11.order"),
    ):
        assert closed.call(method, path, signed_by=shop).status_code == 403, path
    assert platform.orders() == orders
    assert closed.call("GET", f"/subscription/{LOOK_ALIKE}/charge", signed_by=shop).status_code == 200


def test_a_policy_written_in_good_faith_lets_the_shops_server_list_and_charge(
    closed: Stage, emulator: Emulator
) -> None:
    """This attack succeeds, because `*` matches `/` in the emulator as in IAM. So the page has other policies."""
    (allow, _) = documented("ActForCustomers", closed)
    stage = allow["Resource"][0].removesuffix("GET/club")
    obvious = [f"{stage}GET/subscription/*", f"{stage}POST/subscription/*/status"]
    shop = caller(emulator, "shop-in-good-faith", allow | {"Resource": obvious})
    assert closed.call("GET", "/subscription/eligible", signed_by=shop).status_code == 200
    path = f"/subscription/{LOOK_ALIKE}/charge/status"
    assert closed.call("POST", path, signed_by=shop).status_code == 200
