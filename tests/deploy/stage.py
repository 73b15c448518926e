"""A stage that is deployed to the emulator, with its database, and calls through its gateway."""

import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from database import Database
from emulator import OWNER, Emulator
from package import REGION, serverless
from processes import ROOT

ARCHITECTURE = "arm64" if platform.machine() == "aarch64" else "x86_64"
# Quick to build; test_zips.py checks the optimized programs.
QUICK_BUILD = {
    "CARGO_PROFILE_RELEASE_LTO": "off",
    "CARGO_PROFILE_RELEASE_OPT_LEVEL": "0",
    "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "256",
}
# The emulator's CloudFormation has neither alarms of metric math nor associations of web ACLs. They are taken out of
# what it is given, and test_template.py checks them. Its gateway has another address than AWS's.
GAPS = ("ThrottlesAlarm", "BillRunMissingAlarm", "WebAclAssociation")


class Stage:
    def __init__(self, name: str, config: dict, database: Database, folder: Path, emulator: Emulator) -> None:
        self.name, self.config, self.database, self.folder, self.emulator = name, config, database, folder, emulator
        self.requests_sent = 0

    # A person's commands at a terminal.

    def migrate(self, password: str) -> None:
        """With the very file that is deployed, in the folder where Alembic looks for it."""
        self._write_config()
        shutil.copy(ROOT / "alembic.ini", self.folder)
        shutil.copytree(ROOT / "migrations", self.folder / "migrations", dirs_exist_ok=True)
        command = [ROOT / ".venv/bin/python", "-m", "alembic", "-x", f"scope={self.name}", "upgrade", "head"]
        environment = os.environ | {"PGPASSWORD": password}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def deploy(self) -> None:
        self._write_config()
        packaged = self.folder / "package"
        self.serverless("package", "--package", str(packaged))
        state = packaged / "serverless-state.json"
        content = json.loads(state.read_text())
        resources = content["service"]["provider"]["compiledCloudFormationTemplate"]["Resources"]
        gaps = [resources.pop(name) for name in GAPS if name in resources]
        if function := resources.get("BillDashrunLambdaFunction"):
            url = f"{self.emulator.endpoint}/_aws/execute-api/${{ApiGatewayRestApi}}/{self.name}"
            function["Properties"]["Environment"]["Variables"]["BILL_RUN_API"] = {"Fn::Sub": url}
        state.write_text(json.dumps(content))
        # Where nothing differs, all that `serverless deploy` does by itself.
        self.serverless("deploy", *(["--package", str(packaged)] if gaps or function else []))

    def roll_back(self) -> None:
        """To the first deployment."""
        first, *_ = sorted(re.findall(r"Timestamp: (\d+)", self.serverless("deploy", "list")))
        self.serverless("rollback", "--timestamp", first)

    def serverless(self, *command: str) -> str:
        environment = {"AWS_ENDPOINT_URL": self.emulator.endpoint} | OWNER | QUICK_BUILD
        options = ["--stage", self.name, "--param", f"architecture={ARCHITECTURE}"]
        done = serverless(*command, *options, configs=self.folder, **environment)
        assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def _write_config(self) -> None:
        (self.folder / f"{self.name}_config.json").write_text(json.dumps(self.config), encoding="utf-8")

    # The deployed stage.

    def stack(self) -> dict:
        (stack,) = self.emulator.client("cloudformation").describe_stacks(StackName=f"beer-club-{self.name}")["Stacks"]
        return stack

    def function(self, name: str) -> dict:
        return self.emulator.client("lambda").get_function(FunctionName=f"beer-club-{self.name}-{name}")[
            "Configuration"
        ]

    def invoke(self, name: str, event: dict) -> Any:
        answer = self.emulator.client("lambda").invoke(
            FunctionName=f"beer-club-{self.name}-{name}", Payload=json.dumps(event)
        )
        assert "FunctionError" not in answer, answer["Payload"].read()
        return json.load(answer["Payload"])

    def api_id(self) -> str:
        apis = self.emulator.client("apigateway").get_rest_apis()["items"]
        (api,) = [api for api in apis if api["name"] == f"{self.name}-beer-club"]
        return api["id"]

    def url(self) -> str:
        return f"{self.emulator.endpoint}/_aws/execute-api/{self.api_id()}/{self.name}"

    def call(
        self, method: str, path: str, body: object = None, signed_by: Credentials | None = None, **headers: str
    ) -> requests.Response:
        data = None if body is None else json.dumps(body).encode()
        request = AWSRequest(method, self.url() + path, headers, data)
        if signed_by:
            SigV4Auth(signed_by, "execute-api", REGION).add_auth(request)
        self.requests_sent += 1
        return requests.request(method, request.url, headers=dict(request.headers), data=data, timeout=60)
