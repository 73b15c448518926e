"""The calls that the pages show are answered as the pages say."""

import json
import re
import shlex
from datetime import datetime, timedelta
from urllib.parse import urlsplit
from uuid import uuid4

import requests
from conftest import run
from document import DOCUMENT, FRONT_END_PAGE, README, examples_of


def test_the_front_ends_calls_are_answered_in_this_order(api: str) -> None:
    """But for ids, and for the time that passes."""
    ids = {"00000000-0000-0000-000-0000000000000": str(uuid4())}
    begins: list[datetime] = []
    for curl, text in examples_of(FRONT_END_PAGE):
        for shown_id, id in ids.items():
            curl, text = curl.replace(shown_id, id), text.replace(shown_id, id)
        words = shlex.split(curl.replace("\\\n", ""))
        method = words[words.index("-X") + 1] if "-X" in words else "GET"
        path = next(word for word in words if word.startswith("http")).removeprefix(DOCUMENT["servers"][0]["url"])
        answer = requests.request(method, api + path, data=words[words.index("-d") + 1] if "-d" in words else None)
        shown, got = json.loads(text), answer.json()
        if answer.status_code == 201:
            ids[shown["id"]] = got["id"]
            shown["id"] = got["id"]
            begins = [datetime.fromisoformat(one["create_date"]) for one in (shown, got)]
        if begins:
            shown, got = (in_general(one, begin) for one, begin in zip((shown, got), begins, strict=True))
        assert got == shown, f"docs/frontend.md shows another answer of {curl}"


def in_general(answer: object, begin: datetime) -> object:
    """With moments as whole days from then on, but for those that the page's calls name."""
    if isinstance(answer, dict):
        return {name: in_general(value, begin) for name, value in answer.items() if name != "instance"}
    try:
        moment = datetime.fromisoformat(answer)
    except (TypeError, ValueError):
        return answer
    return answer if moment.year >= 2030 else round((moment - begin) / timedelta(days=1))


def test_the_readmes_call_of_a_function_alone_is_answered(api: str) -> None:
    (line,) = re.findall(r"^\.venv/bin/cargo-lambda lambda invoke .*$", README, re.MULTILINE)
    address = urlsplit(api)
    called = run(*shlex.split(line), "--invoke-address", "127.0.0.1", "--invoke-port", str(address.port))
    assert json.loads(called.stdout)["statusCode"] == 200, called.stdout
