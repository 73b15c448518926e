"""Schemathesis against the running API: every check, every phase. It must also find each broken answer."""

import json
import re
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from conftest import run
from document import PATH
from gateway import Answer, Change, Gateway, with_status, without_header

SECONDS = 120
# These phases meet every breakage below. Warnings are off, because the few calls may not find a club.
BRIEFLY = ("--phases", "examples,coverage", "--warnings", "off")


def judge(url: str, *options: str) -> CompletedProcess:
    # Its configuration and hooks are in the working directory.
    schemathesis = Path(sys.executable).parent / "schemathesis"
    return run(schemathesis, "run", PATH, "--url", url, *options, folder=Path(__file__).parent)


def test_every_check_in_every_phase(api: str, capfd: pytest.CaptureFixture) -> None:
    found = judge(api, "--max-time", str(SECONDS))
    with capfd.disabled():
        print(f"\n{found.stdout}")
    assert found.returncode == 0
    links = re.search(r"API Links: +(\d+) covered / (\d+) selected / \d+ total \((\d+) inferred\)", found.stdout)
    assert links, "histories were not played"
    covered, selected, inferred = map(int, links.groups())
    # Histories are random. Some of the links that Schemathesis infers need a rare one.
    assert covered >= selected - inferred, f"{covered} of {selected} links were followed, {inferred} of them inferred"


def test_the_gateway_alone_breaks_nothing(gateway: Gateway) -> None:
    found = judge(gateway.url, *BRIEFLY)
    assert found.returncode == 0, found.stdout


def with_body(change_body: Callable[[dict], object]) -> Change:
    def change(answer: Answer) -> None:
        body = json.loads(answer.body)
        if isinstance(body, dict):
            change_body(body)
            answer.body = json.dumps(body).encode()

    return change


def as_plain_json(answer: Answer) -> None:
    del answer.headers["content-type"]
    answer.headers["content-type"] = "application/json"


# By the status of the answers that they break, in turn. Schemathesis says the text of each that it finds; `st explain`
# explains the codes.
BREAKAGES = {
    200: [
        (with_body(lambda body: body.pop("already_charged", None)), '"already_charged" is a required property'),
        (with_body(lambda body: body.update(status_id="1")), '"1" is not of type'),
        (with_status(400), "ST202"),
    ],
    400: [(with_status(200), "ST201"), (without_header("access-control-allow-origin"), "ST107")],
    404: [
        (with_status(500), "ST101"),
        (with_status(410), "ST103"),
        (as_plain_json, "ST105"),
        (with_body(lambda body: body.update(code="not_found")), '"subscription_not_found" was expected'),
    ],
}


def test_every_kind_of_broken_answer_is_found(gateway: Gateway) -> None:
    turns = {status: cycle([change for change, _ in breakages]) for status, breakages in BREAKAGES.items()}

    def break_it(answer: Answer) -> None:
        if answer.status in turns:
            next(turns[answer.status])(answer)

    gateway.change = break_it
    found = judge(gateway.url, *BRIEFLY)
    assert found.returncode == 1
    missed = [text for breakages in BREAKAGES.values() for _, text in breakages if text not in found.stdout]
    assert missed == [], found.stdout
