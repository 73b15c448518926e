"""A stage's package, as `serverless package` makes it: its template and its zips."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from functions import FUNCTIONS, ROUTES
from processes import ROOT

EXAMPLE = ROOT / "deploy/example"
OSLS = ROOT / "node_modules/.bin/serverless"
# The last Serverless Framework without a login.
SERVERLESS_3 = ROOT / "tests/deploy/serverless-3/node_modules/.bin/serverless"
REGION = "us-east-1"

# The function of the stages that have `bill_run`.
BILL_RUN = "bill-run"
FRONT_END = [route for route in ROUTES if route.has_cors]
OPERATORS = [route for route in ROUTES if not route.has_cors]
# A page's where customers are authenticated, else an operator's.
CUSTOMERS_LIST = next(route for route in ROUTES if (route.method, route.path) == ("GET", "/subscription"))
# The gateway serves those, and the question that a browser asks before a page's call.
METHODS = {(route.method, route.path) for route in ROUTES} | {("OPTIONS", route.path) for route in FRONT_END}


def serverless(
    *arguments: str, configs: Path, framework: Path = OSLS, **environment: str
) -> subprocess.CompletedProcess:
    return run_framework(framework, *arguments, "--param", f"configs={configs}", folder=ROOT, **environment)


def run_framework(framework: Path, *arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """With the configuration's settings of the platform and this AWS, whatever the caller's environment has."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "ECOMMERCE_"))}
    silent = {"SLS_TELEMETRY_DISABLED": "1", "SLS_NOTIFICATIONS_MODE": "off"}
    command, variables = [framework, *arguments], variables | silent | environment
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


def logical(name: str) -> str:
    """A function's name in the template, as the framework makes it."""
    return name.capitalize().replace("-", "Dash")


class Template:
    """A template for CloudFormation."""

    def __init__(self, folder: Path) -> None:
        self.resources = json.loads((folder / "cloudformation-template-update-stack.json").read_text())["Resources"]

    def all(self, kind: str) -> list[dict]:
        return [r["Properties"] for r in self.resources.values() if r["Type"] == kind]

    def one(self, kind: str) -> dict:
        (found,) = self.all(kind)
        return found

    def function(self, name: str) -> dict:
        return self.resources[f"{logical(name)}LambdaFunction"]["Properties"]

    def methods(self) -> dict[tuple[str, str], dict]:
        """By method and path."""
        return {(m["HttpMethod"], self._path(m["ResourceId"])): m for m in self.all("AWS::ApiGateway::Method")}

    def _path(self, reference: dict) -> str:
        if "Ref" not in reference:
            return ""
        resource = self.resources[reference["Ref"]]["Properties"]
        return f"{self._path(resource['ParentId'])}/{resource['PathPart']}"

    def statements(self, role: str) -> list[dict]:
        policies = self.resources[role]["Properties"]["Policies"]
        return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]


class Package(Template):
    def __init__(self, stage: str, folder: Path, configs: Path = EXAMPLE, framework: Path = OSLS) -> None:
        options = ["--stage", stage, "--package", str(folder)]
        done = serverless("package", *options, configs=configs, framework=framework)
        assert done.returncode == 0, f"stage {stage} cannot be packaged:\n{done.stdout}{done.stderr}"
        self.stage, self.said = stage, done.stdout + done.stderr
        self.warnings = re.findall(r"^Warning: (.*)$", self.said, re.MULTILINE)
        self.config = json.loads((configs / f"{stage}_config.json").read_text(encoding="utf-8"))
        super().__init__(folder)
        self.templates = sorted(folder.glob("cloudformation-template-*.json"))
        # The next package replaces them where they are.
        self.functions = FUNCTIONS + ((BILL_RUN,) if "bill_run" in self.config else ())
        self.zips = {name: Path(shutil.copy(ROOT / f"target/lambda/{name}.zip", folder)) for name in self.functions}
