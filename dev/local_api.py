"""The functions on `cargo lambda watch`, with the platform's stand-in, a page to try the routes on, and a shop."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from functions import ROUTES
from page import serving_page, serving_shop
from processes import ROOT, Failed, running

ENVIRONMENTS_PER_FUNCTION = 8
STARTS_WITHIN = 60  # seconds


@dataclass(frozen=True)
class Ports:
    api: int
    platform: int
    page: int
    shop: int


@dataclass(frozen=True)
class Api:
    url: str
    platform_url: str
    page_url: str
    shop_url: str
    # By their names for a person.
    processes: dict[str, subprocess.Popen]


def build() -> None:
    # The same packages as `cargo lambda watch`: others would need other features, and crates would be built once more.
    if subprocess.run(["cargo", "build", "--locked"], cwd=ROOT, check=False).returncode:
        raise Failed("the build failed")


@contextlib.contextmanager
def serving(ports: Ports, environment: dict, log: Path, options: tuple[str, ...] = ()) -> Iterator[Api]:
    """On localhost, answering, after `build()`. `environment` names the database; all output goes to `log`."""
    settings = environment | {
        # The stand-in takes the platform's place, whatever the configuration says: nothing here charges anybody.
        "ECOMMERCE_BASE_URL": f"http://127.0.0.1:{ports.platform}",
        # cargo runs for every environment that starts. Only its errors matter.
        "CARGO_TERM_QUIET": "true",
    }
    url, platform_url = f"http://localhost:{ports.api}", f"http://localhost:{ports.platform}"
    stub = [target_directory() / "debug/ecommerce-stub", str(ports.platform)]
    watch = [Path(sys.executable).parent / "cargo-lambda", "lambda", "watch", "--invoke-address", "127.0.0.1"]
    watch += ["--invoke-port", str(ports.api), "--concurrency", str(ENVIRONMENTS_PER_FUNCTION), *options]
    with (
        log.open("wb") as output,
        running(stub, settings, signal.SIGINT, stdout=output, stderr=output) as stub,
        running(watch, settings, signal.SIGINT, stdout=output, stderr=output) as watch,
        serving_page(ports.page, url) as page_url,
        serving_shop(ports.shop, url, environment["BILLING_TIMEZONE"]) as shop_url,
    ):
        try:
            wait_until_all_answer(url, watch)
        except Failed as failed:
            raise Failed(f"{failed}; {log} ends with:\n{log.read_text(errors='replace')[-2000:]}") from None
        yield Api(url, platform_url, page_url, shop_url, {"the stand-in": stub, "cargo lambda watch": watch})


def target_directory() -> Path:
    command = ["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"]
    return Path(json.loads(subprocess.check_output(command, cwd=ROOT))["target_directory"])


def wait_until_all_answer(api: str, watch: subprocess.Popen) -> None:
    """The first call to a function makes cargo start it."""
    for name, route in {route.function: route for route in ROUTES}.items():
        # Every function refuses a NUL in an id, so the call changes nothing.
        url = api + re.sub(r"\{\w+\}", "%00", route.path)
        patience = time.monotonic() + STARTS_WITHIN
        while not answers(name, urllib.request.Request(url, method=route.method)):
            if watch.poll() is not None:
                raise Failed("cargo lambda watch ended")
            if time.monotonic() > patience:
                raise Failed(f"{name} does not answer")
            time.sleep(0.1)


def answers(name: str, request: urllib.request.Request) -> bool:
    """True if the function does. A refusal is an answer."""
    try:
        with urllib.request.urlopen(request, timeout=STARTS_WITHIN) as answer:
            status, headers = answer.status, answer.headers
    except urllib.error.HTTPError as error:
        status, headers = error.code, error.headers
    except OSError:
        return False
    if status >= 500 or headers.get_content_subtype() not in ("json", "problem+json"):
        raise Failed(f"{name} does not answer as it should ({status})")
    return True
