"""Schemathesis against the running API: every check, every phase. And what it must find when an answer is broken."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import run
from document import PATH, ROOT
from gateway import Answer, Change, Gateway, without_header

SECONDS = 150
# Enough to meet every breakage below.
BRIEFLY = ("--phases", "examples,coverage", "--max-examples", "20")


def command(url: str, *options: str) -> list:
    schemathesis = Path(sys.executable).parent / "schemathesis"
    return [schemathesis, "--config-file", ROOT / "contract/schemathesis.toml", "run", PATH, "--url", url, *options]


def test_every_check_in_every_phase(api: str, capfd: pytest.CaptureFixture) -> None:
    found = run(*command(api, "--max-time", str(SECONDS)))
    with capfd.disabled():
        print(f"\n{found.stdout}")
    assert found.returncode == 0
    links = re.search(r"API Links: +(\d+) covered / (\d+) selected", found.stdout)
    assert links, "histories were not played"
    assert links[1] == links[2], "some link was never followed"


def test_the_gateway_alone_breaks_nothing(gateway: Gateway) -> None:
    found = run(*command(gateway.url, *BRIEFLY))
    assert found.returncode == 0, found.stdout


def of_status(status: int, change: Change) -> Change:
    def change_some(answer: Answer) -> None:
        if answer.status == status:
            change(answer)

    return change_some


def with_status(status: int) -> Change:
    def change(answer: Answer) -> None:
        answer.status = status

    return change


def with_body(change_body: Callable[[dict], object]) -> Change:
    def change(answer: Answer) -> None:
        body = json.loads(answer.body)
        if isinstance(body, dict):
            change_body(body)
            answer.body = json.dumps(body).encode()

    return change


def as_plain_json(answer: Answer) -> None:
    answer.headers.replace_header("content-type", "application/json")


BREAKAGES = {
    "another status": (of_status(201, with_status(200)), "Undocumented HTTP status code"),
    "a failure": (of_status(404, with_status(500)), "Server error"),
    "a refusal that is none": (of_status(400, with_status(404)), "API accepted schema-violating request"),
    "a refusal of what is right": (of_status(200, with_status(400)), "Schema-valid request rejected"),
    "a field less": (of_status(200, with_body(lambda body: body.pop("already_charged", None))), "violates schema"),
    "a field of another type": (of_status(201, with_body(lambda body: body.update(status_id="1"))), "violates schema"),
    "another code": (of_status(404, with_body(lambda body: body.update(code="not_found"))), "violates schema"),
    "another content-type": (of_status(404, as_plain_json), "Undocumented Content-Type"),
    "a header less": (without_header("access-control-allow-origin"), "Missing required response headers"),
}


@pytest.mark.parametrize(("change", "finding"), BREAKAGES.values(), ids=BREAKAGES)
def test_a_broken_answer_is_found(change: Change, finding: str, gateway: Gateway) -> None:
    gateway.change = change
    found = run(*command(gateway.url, *BRIEFLY))
    assert found.returncode == 1
    assert finding in found.stdout, found.stdout
