"""openapi.yaml by itself, and the pages that show it."""

import json
import re
import shlex
from collections.abc import Callable
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
    agree,
    examples_of,
    front_end_problems,
    resolved,
    text_of,
    unlike_all,
)
from functions import FUNCTIONS, ROUTES
from openapi_spec_validator import validate
from openapi_spec_validator.validation.exceptions import OpenAPIValidationError
from processes import ROOT
from test_answers import PROMISED, PROVOKE

API_PAGE = text_of("docs/api.md")
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
    documented = [f"{operation.method.upper()} {operation.path}" for operation in OPERATIONS.values()]
    agree("functions.yml", map(str, ROUTES), "openapi.yaml", documented)


def lists(file: str, pattern: str, item: object) -> None:
    """The file has a line of this pattern for the route or function."""
    assert re.search(pattern, text_of(file), re.MULTILINE), f"{file} does not have {item}, which functions.yml has"


# Each list of the routes that is kept by hand, and how it names one.
LISTS = {
    "README.md": r"`{method} {path}[`?]",
    "docs/deploying.md": r"`{method} {path}[`?]",
    "Cargo.toml": r'"{path}/" = \[.*method = "{method}", function = "{function}"',
    "api.http": r"^{method} \{{\{{api\}}\}}{path_with_values}[?\s]",
    "tests/deploy/test_stages.py": r"^\| {method} {path} ",
    "tests/deploy/test_attacks.py": r'"{method} {path}": \{{"',
}


@pytest.mark.parametrize("file", LISTS)
def test_a_list_of_the_routes_has_every_route(file: str) -> None:
    for route in ROUTES:
        names = route._asdict() | {"path": re.escape(route.path)}
        with_values = re.sub(r"\{\w+\}", r"\\{\\{\\w+\\}\\}", route.path)
        lists(file, LISTS[file].format(**names, path_with_values=with_values), route)


# Each list of the functions that is kept by hand, and how it names one.
LISTS_OF_FUNCTIONS = {
    "README.md": r"^\| .*`crates/{function}`",
    "docs/architecture.md": r"── {function} +──",
    "docs/deploying.md": r"^ *\| `concurrency`: .*`{function}`",
    "Cargo.toml": r'^    "crates/{function}",$',
    "deploy/config.schema.json": r'^ *"{function}": {{ "\$ref": "#/definitions/environments" }}',
    "deploy/example/prod_config.json": r'^        "{function}": \d',
    "deploy/alarms.yml": r"^ *Expression: .*FILL\({function}, 0\)",
}


@pytest.mark.parametrize("file", LISTS_OF_FUNCTIONS)
def test_a_list_of_the_functions_has_every_function(file: str) -> None:
    for function in FUNCTIONS:
        lists(file, LISTS_OF_FUNCTIONS[file].format(function=function), function)


def test_it_has_every_status() -> None:
    """The compiler does not ask for a status that is in the enum and is never parsed."""
    source = "crates/core/src/model/status.rs"
    text = text_of(source)
    statuses = [(name.upper(), int(number)) for name, number in re.findall(r"^    (\w+) = (\d+),$", text, re.MULTILINE)]
    parsed = [name.upper() for name in re.findall(r"\bSelf::(\w+)", text)]
    agree(f"{source} (the enum)", (name for name, _ in statuses), f"{source} (try_from())", parsed)
    shown = DOCUMENT["components"]["schemas"]["StatusEntry"]["properties"]["status_id"]
    documented = zip(map(str.upper, shown["x-enum-varnames"]), shown["enum"], strict=True)
    agree(source, statuses, "openapi.yaml (StatusEntry)", documented)
    words = re.findall(r"^export const ([A-Z]+) = (\d+);$", text_of("examples/shop/api.js"), re.MULTILINE)
    agree(source, statuses, "examples/shop/api.js", [(name, int(number)) for name, number in words])


def test_it_has_every_problem() -> None:
    source = text_of("crates/core/src/error.rs")
    # Python's name for 413 depends on its version.
    statuses = {"PAYLOAD_TOO_LARGE": 413, **HTTPStatus.__members__}
    problems = {(int(statuses[name]), code) for name, code in re.findall(r'StatusCode::(\w+), "(\w+)"', source)}
    documented = set().union(*(operation.problems() for operation in OPERATIONS.values()))
    agree("crates/core/src/error.rs", problems, "an operation of openapi.yaml", documented)


def properties(schema: dict) -> set[str]:
    schema = resolved(schema)
    parts = (*schema.get("oneOf", ()), *schema.get("anyOf", ()), *schema.get("allOf", ()))
    return set(schema.get("properties", {})).union(*map(properties, parts))


@pytest.mark.parametrize("name", [name for name, it in OPERATIONS.items() if "requestBody" in it.definition])
def test_a_function_reads_the_fields_of_its_body(name: str) -> None:
    """No answer shows it, because unknown fields are skipped."""
    (function,) = [
        str(r.function) for r in ROUTES if str(r) == f"{OPERATIONS[name].method.upper()} {OPERATIONS[name].path}"
    ]
    source = f"crates/{function}/src/main.rs"
    body = re.search(r"^struct Body \{\n(.*?)^\}", text_of(source), re.DOTALL | re.MULTILINE)
    read = set(re.findall(r"^    (\w+): ", body[1], re.MULTILINE))
    content = OPERATIONS[name].definition["requestBody"]["content"]
    agree(source, read, f"{name} in openapi.yaml", properties(content["application/json"]["schema"]))
    shown = set(re.findall(r'[`"](\w+)[`"]', SECTIONS[name.capitalize()]))
    assert read <= shown, f'docs/api.md ("{name.capitalize()}") has not {read - shown}, which {source} reads'


def test_every_problem_is_provoked() -> None:
    agree("openapi.yaml", PROMISED, "PROVOKE of tests/contract/test_answers.py", PROVOKE)


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


@pytest.mark.parametrize(("page", "examples"), [("README.md", readme_examples), ("docs/api.md", api_page_examples)])
def test_a_page_shows_the_documents_examples_of_every_route(
    page: str, examples: Callable[[], list[tuple[str, str]]]
) -> None:
    shown = [shown_operation(page, curl, json.loads(answer)) for curl, answer in examples()]
    agree("openapi.yaml", OPERATIONS, f"{page} (a curl of it, and its answer)", shown)


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
                f"{page}: {operation.id} with {name}={value}, which openapi.yaml does not have"
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
    assert section in SECTIONS, f'docs/api.md has no section "{section}"'
    return {(int(status), code) for status, code in re.findall(r"\b([45]\d\d)\s+`(\w+)`", SECTIONS[section])}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_the_api_page_names_the_documents_problems(operation: Operation) -> None:
    section = operation.id.capitalize()
    problems = operation.problems() - EVERYWHERE
    agree(f"{operation.id} in openapi.yaml", problems, f'docs/api.md ("{section}")', named_problems(section))


def test_the_api_page_names_the_problems_that_are_everywhere() -> None:
    assert named_problems("Errors") == EVERYWHERE
    (shown,) = re.findall(r"^```json\n(.*?)^```", SECTIONS["Errors"], re.DOTALL | re.MULTILINE)
    assert json.loads(shown) in [example["value"] for example in DOCUMENT["components"]["examples"].values()]


def test_the_front_ends_page_has_words_for_its_problems() -> None:
    section = FRONT_END_PAGE.partition("\n## Refusals\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`\w+`.*?) \|", section, re.MULTILINE)
    named = {code for row in rows for code in re.findall(r"`(\w+)`", row)} - {"code"}
    functions = {code for _, code in front_end_problems()}
    gateway = set(re.findall(r"^\| `(\w+)` \| \d", DOCUMENT["info"]["description"], re.MULTILINE))
    missing = functions - {"invalid_request", "internal_error"} - named
    assert not missing, f'docs/frontend.md ("Refusals") has no words for {missing}'
    assert named <= functions | gateway, f'docs/frontend.md ("Refusals") names {named - functions - gateway}'
