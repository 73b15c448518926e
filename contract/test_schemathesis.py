"""Schemathesis against the running API: every check, every phase. And what it must find when an answer is broken."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import run
from document import PATH, ROOT
from gateway import Answer, Gateway

SECONDS = 150
# Enough to meet every breakage below.
BRIEFLY = ("--phases", "examples,coverage", "--max-examples", "20")


def command(url: str, *options: str) -> list:
    schemathesis = Path(sys.executable).parent / "schemathesis"
    return [schemathesis, "--config-file", ROOT / "contract/schemathesis.toml", "run", PATH, "--url", url, *options]


def test_every_check_in_every_phase(api: str, capfd: pytest.CaptureFixture) -> None:
    with capfd.disabled():
        assert (
            subprocess.run(command(api, "--max-time", str(SECONDS)), cwd=ROOT / "contract", check=False).returncode == 0
        )


def test_the_gateway_alone_breaks_nothing(gateway: Gateway) -> None:
    found = run(*command(gateway.url, *BRIEFLY))
    assert found.returncode == 0, found.stdout


def of_status(status: int, change: Callable[[Answer], None]) -> Callable[[Answer], None]:
    def change_some(answer: Answer) -> None:
        if answer.status == status:
            change(answer)

    return change_some


def with_status(status: int) -> Callable[[Answer], None]:
    def change(answer: Answer) -> None:
        answer.status = status

    return change


def with_body(change_body: Callable[[dict], object]) -> Callable[[Answer], None]:
    def change(answer: Answer) -> None:
        body = json.loads(answer.body)
        if isinstance(body, dict):
            change_body(body)
            answer.body = json.dumps(body).encode()

    return change


def without_header(name: str) -> Callable[[Answer], None]:
    def change(answer: Answer) -> None:
        del answer.headers[name]

    return change


def as_plain_json(answer: Answer) -> None:
    answer.headers.replace_header("content-type", "application/json")


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (of_status(201, with_status(200)), "Undocumented HTTP status code"),
        (of_status(404, with_status(500)), "Server error"),
        (of_status(400, with_status(404)), "API accepted schema-violating request"),
        (of_status(200, with_status(400)), "Schema-valid request rejected"),
        (of_status(200, with_body(lambda body: body.pop("already_charged", None))), "Response violates schema"),
        (of_status(201, with_body(lambda body: body.update(status_id="1"))), "Response violates schema"),
        (of_status(404, with_body(lambda body: body.update(code="not_found"))), "Response violates schema"),
        (of_status(404, as_plain_json), "Undocumented Content-Type"),
        (without_header("access-control-allow-origin"), "Missing required response headers"),
    ],
)
def test_a_broken_answer_is_found(change: Callable[[Answer], None], finding: str, gateway: Gateway) -> None:
    gateway.change = change
    found = run(*command(gateway.url, *BRIEFLY))
    assert found.returncode == 1
    assert finding in found.stdout, found.stdout
