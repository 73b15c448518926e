"""An emulator of AWS that runs what is deployed to it: ministack, with the layer that reads secrets.

It checks signatures and rights. A function's zip is x86_64 or arm64, as this machine is.
"""

import contextlib
import json
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
from package import REGION
from processes import ROOT, Failed, running
from with_api import free_ports

# Of the account's owner, who may do everything.
OWNER = {"AWS_ACCESS_KEY_ID": "owner", "AWS_SECRET_ACCESS_KEY": "the owner's"}
STARTS_WITHIN = 30  # seconds


class Emulator:
    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.session = 0
        # The names that the functions asked their layer for.
        self.secrets_read: set[str] = set()

    def client(self, service: str) -> Any:
        credentials = {name.lower(): value for name, value in OWNER.items()}
        return boto3.client(service, endpoint_url=self.endpoint, region_name=REGION, **credentials)


class SecretsLayer(BaseHTTPRequestHandler):
    """The AWS Parameters and Secrets extension: a process in each environment, and here one for all of them."""

    emulator: Emulator

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if not self.headers["X-Aws-Parameters-Secrets-Token"]:
            self.send_error(401)
            return
        if url.path == "/systemsmanager/parameters/get":
            name = query["name"]
            found = self.emulator.client("ssm").get_parameter(Name=name, WithDecryption=True)
            answer = {"Parameter": {"Value": found["Parameter"]["Value"]}}
        else:
            name = query["secretId"]
            found = self.emulator.client("secretsmanager").get_secret_value(SecretId=name)
            answer = {"SecretString": found["SecretString"]}
        self.emulator.secrets_read.add(name)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def emulating(folder: Path) -> Iterator[Emulator]:
    (port,) = free_ports(1)
    emulator = Emulator(f"http://127.0.0.1:{port}")
    handler = type("Handler", (SecretsLayer,), {"emulator": emulator})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as layer, (folder / "emulator.log").open("wb") as log:
        thread = threading.Thread(target=layer.serve_forever)
        thread.start()
        environment = OWNER | {
            "AUTH": "true",
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "TMPDIR": str(folder),
            # State machines wait this much of what they would.
            "SFN_WAIT_SCALE": "0.02",
            # The functions inherit the rest of its environment.
            "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": str(layer.server_port),
        }
        command = [ROOT / "tests/deploy/.venv/ministack/bin/ministack"]
        try:
            with running(command, environment, signal.SIGTERM, stdout=log, stderr=log) as process:
                wait_until_it_answers(emulator.endpoint, process, folder / "emulator.log")
                # The processes of the functions are of the same session.
                emulator.session = process.pid
                yield emulator
        finally:
            layer.shutdown()
            thread.join()


def wait_until_it_answers(endpoint: str, process: Any, log: Path) -> None:
    patience = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            urllib.request.urlopen(f"{endpoint}/_ministack/health", timeout=STARTS_WITHIN).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > patience:
                raise Failed(f"the emulator did not start:\n{log.read_text()[-2000:]}") from None
        time.sleep(0.1)
