"""openapi.yaml by itself, and the pages that show what it says."""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from copy import deepcopy
from http import HTTPStatus
from pathlib import Path
from subprocess import CompletedProcess
from urllib.parse import parse_qsl, urlsplit

import pytest
from conftest import PROGRAMS, run
from document import (
    DOCUMENT,
    EVERYWHERE,
    FRONT_END_PAGE,
    OPERATIONS,
    PATH,
    README,
    SCHEMA,
    Operation,
    examples_of,
    resolved,
    unlike_all,
)
from functions import ROUTES
from openapi_spec_validator import validate
from openapi_spec_validator.validation.exceptions import OpenAPIValidationError
from processes import ROOT

API_PAGE = (ROOT / "docs/api.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", API_PAGE, re.DOTALL | re.MULTILINE))


def lint(document: Path) -> CompletedProcess:
    rules = ROOT / "tests/contract/redocly.yaml"
    quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    return run(PROGRAMS / "redocly", "lint", "--config", rules, document, **quiet)


def test_a_linter_finds_nothing() -> None:
    found = lint(PATH)
    assert found.returncode == 0, found.stdout


def test_it_is_valid_by_the_official_schema() -> None:
    validate(DOCUMENT)


def test_the_official_schema_rejects_a_link_parameter_of_another_type() -> None:
    broken = deepcopy(DOCUMENT)
    subscribed = broken["paths"]["/club/{id}/subscribe"]["post"]["responses"]["201"]
    subscribed["links"]["eligible"]["parameters"] = {"limit": 100}
    with pytest.raises(OpenAPIValidationError, match="100 is not of type"):
        validate(broken)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("code: club_not_found\n        instance", "code: no_such_club\n        instance"),
        ('"#/components/schemas/ClubId"', '"#/components/schemas/Club"'),
        ("interval: 30,", "interval: thirty,"),
    ],
    ids=["example of a problem", "reference", "example of a body"],
)
def test_the_linter_rejects_what_contradicts_itself(right: str, wrong: str, tmp_path: Path) -> None:
    broken = tmp_path / "openapi.yaml"
    text = PATH.read_text(encoding="utf-8")
    assert right in text
    broken.write_text(text.replace(right, wrong), encoding="utf-8")
    assert lint(broken).returncode != 0


def test_it_has_every_route() -> None:
    documented = {(operation.method.upper(), operation.path) for operation in OPERATIONS.values()}
    assert documented == {(route.method, route.path) for route in ROUTES}


def test_it_has_every_problem() -> None:
    source = (ROOT / "crates/core/src/error.rs").read_text(encoding="utf-8")
    # Python's name for 413 depends on its version.
    statuses = {"PAYLOAD_TOO_LARGE": 413, **HTTPStatus.__members__}
    problems = {(statuses[name], code) for name, code in re.findall(r'StatusCode::(\w+), "(\w+)"', source)}
    documented = set().union(*(operation.problems() for operation in OPERATIONS.values()))
    assert problems == documented, "crates/core/src/error.rs (kind()) and openapi.yaml do not have the same problems"


def parameter_examples(operation: Operation, place: str) -> dict[str, list]:
    parameters = [resolved(parameter) for parameter in operation.definition.get("parameters", [])]
    return {
        parameter["name"]: [example["value"] for example in parameter.get("examples", {}).values()]
        or [parameter["example"]]
        for parameter in parameters
        if parameter["in"] == place
    }


def request_examples(operation: Operation) -> list:
    content = operation.definition.get("requestBody", {}).get("content", {})
    return [example["value"] for media in content.values() for example in media["examples"].values()]


def readme_examples() -> list[tuple[str, str]]:
    """Each curl and its answer, which is the comment below it."""
    subscription = re.search(r"^SUBSCRIPTION=(.*)$", README, re.MULTILINE)
    return re.findall(r"^(curl .*)\n# (.*)$", README.replace("$SUBSCRIPTION", subscription[1]), re.MULTILINE)


def api_page_examples() -> list[tuple[str, str]]:
    return examples_of(API_PAGE)


@pytest.mark.parametrize(
    ("page", "examples"), [("README.md", readme_examples), ("docs/api.md", api_page_examples)], ids=["README", "api"]
)
def test_a_page_shows_the_documents_examples_of_every_route(
    page: str, examples: Callable[[], list[tuple[str, str]]]
) -> None:
    shown = [shown_operation(page, curl, json.loads(answer)) for curl, answer in examples()]
    assert sorted(shown) == sorted(OPERATIONS), f"{page} must show each operation of openapi.yaml once"


def shown_operation(page: str, curl: str, answer: object) -> str:
    """The id of the operation of which the document has this request and this answer as examples."""
    words = shlex.split(curl.replace("\\\n", ""))
    url = urlsplit(next(word for word in words if word.startswith("http")))
    assert f"{url.scheme}://{url.netloc}" == DOCUMENT["servers"][0]["url"]
    method = words[words.index("-X") + 1] if "-X" in words else "GET"
    operation = OPERATIONS[SCHEMA.find_operation_by_path(method, url.path).definition.raw["operationId"]]

    parts = zip(operation.path.split("/"), url.path.split("/"), strict=True)
    in_path = [(part.strip("{}"), segment) for part, segment in parts if part != segment]
    for place, shown in (("path", in_path), ("query", parse_qsl(url.query))):
        known = parameter_examples(operation, place)
        for name, value in shown:
            assert value in map(str, known[name]), (
                f"{page}: {operation.id} with {name}={value}, which openapi.yaml has not"
            )
    assert ("-d" in words) == ("requestBody" in operation.definition), f"{page}: the body of {operation.id}"
    if "-d" in words:
        different = unlike_all(json.loads(words[words.index("-d") + 1]), request_examples(operation))
        assert not different, f"{page}, the request of {operation.id}: {different}"

    successes = next(operation.examples(answer) for status, answer in operation.answers() if status < 300)
    different = unlike_all(answer, successes)
    assert not different, f"{page}, the answer of {operation.id}: {different}"
    return operation.id


def named_problems(section: str) -> set[tuple[int, str]]:
    return {(int(status), code) for status, code in re.findall(r"\b([45]\d\d)\s+`(\w+)`", SECTIONS[section])}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_the_api_page_names_the_documents_problems(operation: Operation) -> None:
    problems = operation.problems() - EVERYWHERE
    assert named_problems(operation.id.capitalize()) == problems, f"docs/api.md ({operation.id}) must name {problems}"


def test_the_api_page_names_the_problems_that_are_everywhere() -> None:
    assert named_problems("Errors") == EVERYWHERE
    (shown,) = re.findall(r"^```json\n(.*?)^```", SECTIONS["Errors"], re.DOTALL | re.MULTILINE)
    assert json.loads(shown) in [example["value"] for example in DOCUMENT["components"]["examples"].values()]


def front_end_problems() -> set[tuple[int, str]]:
    """What the calls of a page may answer."""
    routes = {(route.method, route.path) for route in ROUTES if route.has_cors}
    called = [one for one in OPERATIONS.values() if (one.method.upper(), one.path) in routes]
    return set().union(*(operation.problems() for operation in called))


def test_the_front_ends_page_has_words_for_its_problems() -> None:
    section = FRONT_END_PAGE.partition("\n## Refusals\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`\w+`.*?) \|", section, re.MULTILINE)
    named = {code for row in rows for code in re.findall(r"`(\w+)`", row)} - {"code"}
    functions = {code for _, code in front_end_problems()}
    gateway = set(re.findall(r"^\| `(\w+)` \| \d", DOCUMENT["info"]["description"], re.MULTILINE))
    assert functions - {"invalid_request", "internal_error"} < named <= functions | gateway, (
        "docs/frontend.md (Refusals) and openapi.yaml do not have the same codes"
    )


def test_the_shop_has_words_for_its_refusals() -> None:
    source = (ROOT / "examples/shop/api.js").read_text(encoding="utf-8")
    words = set(
        re.findall(
            r"^  (\w+):", re.search(r"^const WORDS = {\n(.*?)^};", source, re.DOTALL | re.MULTILINE)[1], re.MULTILINE
        )
    )
    refusals = {code for status, code in front_end_problems() if status < 500}
    assert words == refusals, "WORDS of examples/shop/api.js and openapi.yaml do not have the same refusals"


def test_a_page_may_read_every_header() -> None:
    everywhere = {"cache-control", "x-content-type-options"}
    answers = [answer for operation in OPERATIONS.values() for _, answer in operation.answers()]
    ours = {name for answer in answers for name in answer["headers"] if not name.startswith("access-control-")}
    exposed = DOCUMENT["components"]["headers"]["ExposeHeaders"]["schema"]["const"].split(",")
    assert exposed == sorted(ours - everywhere), (
        "ExposeHeaders of openapi.yaml, and EXPOSED_HEADERS of crates/core/src/lambda/mod.rs, must be all headers"
    )


def settings_of_the_functions() -> tuple[set[str], set[str]]:
    """The environment variables and the keys of the file that the functions read."""
    source = (ROOT / "crates/core/src/config.rs").read_text(encoding="utf-8")
    structs = re.findall(r"^struct (\w+) {\n(.*?)^}", source, re.DOTALL | re.MULTILINE)
    fields = {name: re.findall(r"^    (\w+): (?:Option<)?(\w+)", struct, re.MULTILINE) for name, struct in structs}
    keys = {key for key, kind in fields["File"] if kind not in fields}
    keys |= {f"{block}.{key}" for block, kind in fields["File"] for key, _ in fields.get(kind, [])}
    variables = set(re.findall(r'"([A-Z][A-Z_]+)"', source))
    assert {"DATABASE_URL", "ECOMMERCE_API_KEY", "CUSTOMER_CLAIM"} < variables
    assert {"changes_per_day", "database.sslmode", "customers.claim"} < keys
    return variables, keys


def schema_keys(schema: dict, parents: str = "") -> Iterator[str]:
    for key, inner in schema["properties"].items():
        if "properties" in inner:
            yield from schema_keys(inner, f"{parents}{key}.")
        elif key != "$schema":
            yield parents + key


SCHEMA_KEYS = set(schema_keys(json.loads((ROOT / "deploy/config.schema.json").read_text(encoding="utf-8"))))


def unnamed(settings: set[str], *pages: str) -> list[str]:
    """Those that no page has in backticks. There, a key may be without its block."""
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in pages)
    words = {word for quoted in re.findall("`([^`\n]+)`", text) for word in re.findall(r"[\w.-]+", quoted)}
    return sorted(setting for setting in settings if not {setting, setting.rpartition(".")[2]} & words)


def test_the_page_of_settings_has_what_the_functions_read() -> None:
    missing = unnamed(set().union(*settings_of_the_functions()), "docs/settings.md")
    assert not missing, f"docs/settings.md has no {missing}, which crates/core/src/config.rs reads"


def test_the_schema_has_what_the_functions_read() -> None:
    missing = sorted(settings_of_the_functions()[1] - SCHEMA_KEYS)
    assert not missing, f"deploy/config.schema.json has no {missing}, which crates/core/src/config.rs reads"


def test_a_page_has_every_setting_of_a_deployment() -> None:
    missing = unnamed(SCHEMA_KEYS, "docs/settings.md", "docs/deploying.md")
    assert not missing, f"docs/settings.md or docs/deploying.md must have {missing} of deploy/config.schema.json"
