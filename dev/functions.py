"""The functions and their routes, as functions.yml has them."""

from typing import NamedTuple

import yaml
from processes import ROOT

DEFINITIONS = yaml.safe_load((ROOT / "functions.yml").read_text(encoding="utf-8"))
FUNCTIONS = tuple(DEFINITIONS)


class Route(NamedTuple):
    function: str
    method: str
    path: str
    # A page calls it; else an operator does.
    has_cors: bool

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


ROUTES = [
    Route(name, event["http"]["method"].upper(), event["http"]["path"], "cors" in event["http"])
    for name, definition in DEFINITIONS.items()
    for event in definition["events"]
    if "http" in event
]
