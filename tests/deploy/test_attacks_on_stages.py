"""Attacks on stages. Each test is named after its attack. tests/api/attacks/ has the attacks on the functions."""

import json
import subprocess
from pathlib import Path

import pytest
from botocore.credentials import Credentials
from functions import FUNCTIONS, Route
from kinds import DATABASE, KINDS
from package import CUSTOMERS_LIST, OPERATORS, Package, serverless
from processes import ROOT
from stage import Stage
from test_configuration import refuses

GATED = pytest.mark.parametrize("route", [*OPERATORS, CUSTOMERS_LIST], ids=str)
# They have no `operators` in their configuration.
CLOSED = pytest.mark.parametrize("stage", ["production", "Dev", "dev-2"])
CLEAR = "must begin with https://, or the platform's secret is sent in clear"


def config_of(folder: Path, stage: str, **more: object) -> Path:
    config = {"database": DATABASE, "customers": {"authorization": "none"}} | more
    (folder / f"{stage}_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@GATED
@CLOSED
def test_anybody_reads_all_ids_on_a_stage_of_any_name(route: Route, stage: str, kinds: dict[str, Package]) -> None:
    assert "operators" not in KINDS[stage]
    found = kinds[stage].methods()[route.method, route.path]["AuthorizationType"]
    assert found == ("COGNITO_USER_POOLS" if stage == "dev-2" and route == CUSTOMERS_LIST else "AWS_IAM")


@pytest.mark.parametrize("route", OPERATORS, ids=str)
def test_anybody_charges_and_reads_all_ids_of_a_deployed_stage_of_any_name(
    route: Route, shop: Stage, stranger: Credentials
) -> None:
    path = route.path.format(id="1", request_id="2026-11.1")
    unsigned = shop.call(route.method, path)
    assert (unsigned.status_code, unsigned.json()["code"]) == (403, "unauthenticated")
    assert shop.call(route.method, path, signed_by=stranger).status_code == 403


@pytest.mark.parametrize("stage", ["dev", "staging"])
def test_anybody_calls_routes_that_nobody_said_are_open(stage: str, kinds: dict[str, Package]) -> None:
    package = kinds[stage]
    (warning,) = [warning for warning in package.warnings if "`operators.authorization`" in warning]
    for route in OPERATORS:
        assert package.methods()[route.method, route.path]["AuthorizationType"] == "NONE"
        assert str(route) in warning


def test_anybody_acts_for_a_customer_because_nobody_said_who_may(tmp_path: Path) -> None:
    folder = config_of(tmp_path, "production", customers={"rate_limit": 1})
    line = "production_config.json must say who may act for whom on stage production: `customers.authorization` is cog"
    refuses("production", folder, line)


def test_a_customer_writes_the_claim_that_names_them(kinds: dict[str, Package]) -> None:
    package = kinds["dev-2"]
    assert package.function("status")["Environment"]["Variables"]["CUSTOMER_CLAIM"] == "custom:customer_id"
    assert [w for w in package.warnings if "may be able to write the claim custom:customer_id" in w]


def test_a_customer_changes_a_subscription_thousands_of_times_a_day(kinds: dict[str, Package], prod: Package) -> None:
    for package, expected in [(kinds["dev-2"], "100"), (prod, "50"), (kinds["production"], "0"), (kinds["dev"], "0")]:
        for name in FUNCTIONS:
            found = package.function(name)["Environment"]["Variables"].get("CHANGES_PER_DAY")
            assert found == (expected if name == "status" else None)


def test_a_listener_reads_the_platforms_secret(tmp_path: Path) -> None:
    ecommerce = {"base_url": "http://localhost@shop.example.com", "api_key": "a key", "api_secret": "a secret"}
    folder = config_of(tmp_path, "production", ecommerce=ecommerce)
    refuses("production", folder, f"`ecommerce.base_url` of production_config.json {CLEAR}")


@pytest.mark.parametrize(
    ("url", "is_refused"),
    [
        ("http://shop.example.com/api", True),
        ("http://127.0.0.1.example.com", True),
        ("http://10.0.0.1", True),
        ("http://[::2]", True),
        ("http://[", True),
        ("https://shop.example.com/api", False),
        ("http://127.0.0.1:9001", False),
        ("http://[::1]:9001", False),
    ],
)
def test_a_listener_reads_the_secret_on_the_way_to_an_odd_address(url: str, is_refused: bool) -> None:
    script = "checkPlatform(process.argv[1], { isOpen: false }, 'It', (line) => console.log(line))"
    assert said_by_stage_js(script, url) == (f"It {CLEAR}\n" if is_refused else "")


def said_by_stage_js(script: str, argument: str) -> str:
    script = "const { checkPlatform, stageOf } = require('./deploy/stage');" + script
    command = ["node", "--eval", script, argument]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_a_listener_reads_the_secret_of_a_platform_in_the_environment(tmp_path: Path) -> None:
    folder = config_of(tmp_path, "production")
    refuses("production", folder, f"ECOMMERCE_BASE_URL {CLEAR}", ECOMMERCE_BASE_URL="http://shop.example.com")


def test_a_server_in_between_takes_the_databases_password(kinds: dict[str, Package]) -> None:
    for stage, sslmode in [("dev-2", "verify-full"), ("staging", "verify-full"), ("dev", "prefer")]:
        for name in FUNCTIONS:
            url = kinds[stage].function(name)["Environment"]["Variables"]["DATABASE_URL"]
            assert url.endswith(f"?sslmode={sslmode}")
    assert [w for w in kinds["production"].warnings if "`database.sslmode` require does not check" in w]


@pytest.mark.parametrize(
    ("database", "sslmode"),
    [({}, "prefer"), ({"sslrootcert": "rds.pem"}, "prefer"), ({"sslrootcert": "system"}, "verify-full")],
)
def test_a_server_in_between_takes_the_password_of_dev(database: dict, sslmode: str) -> None:
    """The public authorities are for verify-full only."""
    script = "console.log(stageOf({ stage: 'dev', config: { database: JSON.parse(process.argv[1]) } }).sslmode)"
    assert said_by_stage_js(script, json.dumps(database)) == f"{sslmode}\n"


# This must stay possible.


def test_an_evaluators_platform_may_speak_http_on_dev(tmp_path: Path) -> None:
    ecommerce = {"base_url": "http://stand-in.example.com:9001", "api_key": "a key", "api_secret": "a secret"}
    (tmp_path / "dev_config.json").write_text(json.dumps({"database": DATABASE, "ecommerce": ecommerce}))
    done = serverless("print", "--stage", "dev", configs=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ECOMMERCE_BASE_URL: http://stand-in.example.com:9001" in done.stdout
