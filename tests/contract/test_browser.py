"""A browser decides what a page may read."""

import json
import os
import re
from datetime import UTC, datetime, time
from datetime import date as Date
from subprocess import CompletedProcess
from zoneinfo import ZoneInfo

import pytest
from conftest import Database, run
from document import OPERATIONS
from gateway import Answer, Gateway, without_header
from processes import ROOT


def browse(url: str) -> CompletedProcess:
    return run("node", "--test", ROOT / "tests/contract/browser.mjs", API_URL=url)


def test_a_page_uses_the_local_api(api: str) -> None:
    found = browse(api)
    assert found.returncode == 0, found.stdout


def test_a_page_uses_the_functions_behind_a_gateway(gateway: Gateway) -> None:
    found = browse(gateway.url)
    assert found.returncode == 0, found.stdout


def use_page(url: str) -> CompletedProcess:
    return run("node", "--test", ROOT / "tests/contract/page.mjs", API_URL=url, ROUTES=str(len(OPERATIONS)))


def test_a_person_tries_every_route_on_the_page(api: str) -> None:
    found = use_page(api)
    assert found.returncode == 0, found.stdout


def test_a_page_that_calls_another_api_is_found(gateway: Gateway) -> None:
    found = use_page(gateway.url)
    assert found.returncode == 1
    assert "asks nobody but the API" in found.stdout, found.stdout


def use_shop(url: str, *options: str) -> CompletedProcess:
    return run("node", "--test", *options, ROOT / "tests/contract/shop.mjs", API_URL=url)


def test_a_customer_uses_the_shop(api: str) -> None:
    found = use_shop(api)
    assert found.returncode == 0, found.stdout


def test_a_shop_that_calls_another_api_is_found(gateway: Gateway) -> None:
    found = use_shop(gateway.url, "--test-name-pattern", "finds the subscription again|asks nobody")
    assert found.returncode == 1
    # The difference between whom it asks and whom it should.
    assert gateway.url in found.stdout, found.stdout


def first_moment(day: str, zone: str) -> str:
    begin = datetime.combine(Date.fromisoformat(day), time(), ZoneInfo(zone))
    return f"{begin.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


@pytest.mark.parametrize(
    ("browser", "billing"),
    [
        ("America/Los_Angeles", "America/Sao_Paulo"),
        ("Asia/Tokyo", "America/Sao_Paulo"),
        ("Europe/Berlin", "America/Sao_Paulo"),
        ("America/Sao_Paulo", "Asia/Tokyo"),
    ],
)
def test_a_day_is_the_billing_time_zones_wherever_the_customer_is(
    browser: str, billing: str, database: Database
) -> None:
    command = ["node", "--test", "--test-reporter", "tap", ROOT / "tests/contract/dates.mjs"]
    if billing != os.environ["BILLING_TIMEZONE"]:
        # Another API, with the same database.
        command = [ROOT / ".venv/bin/python", ROOT / "dev/with_api.py", *command]
    found = run(*command, BROWSER_TIMEZONE=browser, BILLING_TIMEZONE=billing)
    assert found.returncode == 0, found.stdout
    chosen = json.loads(re.search(r"chosen: (.*)", found.stdout)[1])

    def entries(action: str) -> list[str]:
        # All but that of subscribing.
        return database.column(
            "select status_id || ' ' || case when effect_date > create_date then effect_date::text else 'now' end"
            " from subscription_status_history where subscription_id = %(id)s"
            " order by effect_date, create_date offset 1",
            id=chosen[action]["id"],
        )

    month = first_moment(chosen["skip"]["day"], billing)
    next_month = first_moment(chosen["pause"]["day"], billing)
    assert entries("skip") == [f"3 {month}", f"1 {next_month}"]
    assert entries("later") == [f"3 {month}", f"1 {next_month}"]
    assert entries("pause") == ["3 now", f"1 {next_month}"]
    assert entries("cancel") == [f"2 {month}"]


@pytest.mark.parametrize("success", [True, False], ids=["success", "refusal"])
def test_the_browser_hides_an_answer_without_its_header(success: bool, gateway: Gateway) -> None:
    def hide(answer: Answer) -> None:
        if (answer.status < 400) == success:
            without_header("access-control-allow-origin")(answer)

    gateway.change = hide
    found = browse(gateway.url)
    assert found.returncode == 1
    assert "Failed to fetch" in found.stdout, found.stdout
