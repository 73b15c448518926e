"""openapi.yaml, and the pages that show it, as the tests read them."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import schemathesis
import yaml
from functions import ROUTES
from processes import ROOT
from schemathesis import Case

PATH = ROOT / "openapi.yaml"
DOCUMENT = yaml.safe_load(PATH.read_text(encoding="utf-8"))
SCHEMA = schemathesis.openapi.from_path(PATH)


def resolved(node: dict) -> dict:
    while "$ref" in node:
        reference = node["$ref"]
        node = DOCUMENT
        for key in reference.removeprefix("#/").split("/"):
            node = node[key]
    return node


@dataclass(frozen=True)
class Operation:
    path: str
    method: str
    definition: dict

    @property
    def id(self) -> str:
        return self.definition["operationId"]

    def answers(self) -> Iterator[tuple[int, dict]]:
        for status, answer in self.definition["responses"].items():
            yield int(status), resolved(answer)

    def examples(self, answer: dict) -> list:
        """The bodies that the document shows for an answer."""
        return [
            resolved(example)["value"] for media in answer["content"].values() for example in media["examples"].values()
        ]

    def problems(self) -> set[tuple[int, str]]:
        """The status and code of every refusal and failure."""
        return {
            (status, code)
            for status, answer in self.answers()
            for code in codes(answer["content"].get("application/problem+json", {}).get("schema", {}))
        }

    def case(self, path_parameters: dict, query: dict | None = None, body: object = None) -> Case:
        known = {} if body is None else {"body": body, "media_type": "application/json"}
        return SCHEMA[self.path][self.method.upper()].Case(path_parameters=path_parameters, query=query or {}, **known)


def codes(schema: dict) -> Iterator[str]:
    schema = resolved(schema)
    for part in (*schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from codes(part)
    if "code" in schema.get("properties", {}):
        yield schema["properties"]["code"]["const"]


OPERATIONS = {
    operation.id: operation
    for path, methods in DOCUMENT["paths"].items()
    for method, definition in methods.items()
    for operation in [Operation(path, method, definition)]
}
# The problems of every operation that has parameters.
EVERYWHERE = set.intersection(
    *(operation.problems() for operation in OPERATIONS.values() if "parameters" in operation.definition)
)
# The local API is open. tests/api/routes/customers.rs compares what a closed one answers with the document.
CLOSED_ONLY = {(401, "unauthenticated"), (403, "customer_mismatch")}


def differences(found: object, shown: object, field: str = "") -> list[str]:
    """Where two bodies differ, each with its path."""
    if isinstance(found, dict) and isinstance(shown, dict):
        keys = [*found, *(key for key in shown if key not in found)]
        return [
            line
            for key in keys
            for line in differences(found.get(key, "nothing"), shown.get(key, "nothing"), f"{field}.{key}")
        ]
    if isinstance(found, list) and isinstance(shown, list) and len(found) == len(shown):
        pairs = enumerate(zip(found, shown, strict=True))
        return [line for place, pair in pairs for line in differences(*pair, f"{field}[{place}]")]
    return (
        [] if found == shown else [f"{field.removeprefix('.') or 'the body'} is {found!r}, openapi.yaml has {shown!r}"]
    )


def unlike_all(found: object, examples: list) -> list[str]:
    """The differences from the example that is nearest."""
    return min((differences(found, example) for example in examples), key=len, default=["openapi.yaml has no example"])


def examples_of(page: str) -> list[tuple[str, str]]:
    """Each curl and its answer, which is the block below it."""
    return re.findall(r"^```sh\n(curl .*?)^```\n```json\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def agree(one: str, those: Iterable, other: str, these: Iterable) -> None:
    """Two files list the same. If they do not, the message says which line is missing where."""
    those, these = Counter(list(those)), Counter(list(these))
    missing = [f"{other} does not have {item}, which {one} has" for item in those - these]
    missing += [f"{one} does not have {item}, which {other} has" for item in these - those]
    assert not missing, "\n".join(missing)


def front_end_problems() -> set[tuple[int, str]]:
    """The problems that a page's calls may be answered with."""
    routes = {(route.method, route.path) for route in ROUTES if route.has_cors}
    called = [one for one in OPERATIONS.values() if (one.method.upper(), one.path) in routes]
    return set().union(*(operation.problems() for operation in called))


README = text_of("README.md")
FRONT_END_PAGE = text_of("docs/frontend.md")
