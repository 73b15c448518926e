"""The functions on `cargo lambda watch`, with the platform's stand-in."""

import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from processes import ROOT, Failed, running

ENVIRONMENTS_PER_FUNCTION = 8
STARTS_WITHIN = 60  # seconds


@dataclass(frozen=True)
class Api:
    url: str
    platform_url: str
    # By what they are called to a person.
    processes: dict[str, subprocess.Popen]


@contextlib.contextmanager
def serving(port: int, stub_port: int, environment: dict, options: tuple[str, ...] = ()) -> Iterator[Api]:
    """On localhost, answering. `environment` says which database."""
    for package in ([], ["-p", "ecommerce-stub"]):
        if subprocess.run(["cargo", "build", "--locked", *package], cwd=ROOT, check=False).returncode:
            raise Failed("the build failed")

    settings = environment | {
        # The stand-in in the platform's place, whatever the configuration says: nothing here charges anybody.
        "ECOMMERCE_BASE_URL": f"http://127.0.0.1:{stub_port}",
        # cargo is asked for every environment that starts; only what goes wrong there is of interest.
        "CARGO_TERM_QUIET": "true",
    }
    url, platform_url = f"http://localhost:{port}", f"http://localhost:{stub_port}"
    stub = [target_directory() / "debug/ecommerce-stub", str(stub_port)]
    watch = [Path(sys.executable).parent / "cargo-lambda", "lambda", "watch", "--invoke-address", "127.0.0.1"]
    watch += ["--invoke-port", str(port), "--concurrency", str(ENVIRONMENTS_PER_FUNCTION), *options]
    with running(stub, settings, signal.SIGINT) as stub, running(watch, settings, signal.SIGINT) as watch:
        wait_until_all_answer(url, watch)
        yield Api(url, platform_url, {"the stand-in": stub, "cargo lambda watch": watch})


def target_directory() -> Path:
    command = ["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"]
    return Path(json.loads(subprocess.check_output(command, cwd=ROOT))["target_directory"])


def wait_until_all_answer(api: str, watch: subprocess.Popen) -> None:
    """Whatever they say, as long as it is what they say to such a call; the first makes cargo start the function."""
    calls = {
        "eligible": ("GET", "/subscription/eligible?limit=1", 200),
        "subscribe": ("POST", "/club/0/subscribe", 400),
        "status": ("POST", "/subscription/-/status", 400),
        "charge": ("POST", "/subscription/-/charge/-", 404),
    }
    for name, (method, path, expected) in calls.items():
        patience = time.monotonic() + STARTS_WITHIN
        while True:
            if watch.poll() is not None:
                raise Failed("cargo lambda watch ended")
            try:
                request = urllib.request.Request(api + path, method=method)
                with urllib.request.urlopen(request, timeout=STARTS_WITHIN) as answer:
                    status = answer.status
            except urllib.error.HTTPError as error:
                status = error.code
            except OSError:
                status = None
            if status == expected:
                break
            if time.monotonic() > patience or status is not None:
                raise Failed(f"{name} does not answer as it should ({status}); its log is above")
            time.sleep(0.1)
