"""Runs a command with the whole API, on free ports: `with_database.py … with_api.py COMMAND…`.

The command finds `API_URL`, `PLATFORM_URL` (the stand-in), `PAGE_URL`, `SHOP_URL`, `BILLING_TIMEZONE` and
`CHANGES_PER_DAY`, and what `with_database.py` sets.
"""

import os
import secrets
import signal
import socket
import sys

from local_api import Ports, build, serving, target_directory
from processes import end_with, running


def free_ports(count: int) -> list[int]:
    """Ports that are free now. Another process may take one before it is used."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


# More than the changes of a run, so that only a test of the limit reaches it.
CHANGES_PER_DAY = "20000"


def main(command: list[str]) -> int:
    settings = {
        # Not UTC, so that a day in another zone shows.
        "BILLING_TIMEZONE": os.environ.get("BILLING_TIMEZONE") or "America/Sao_Paulo",
        "ECOMMERCE_API_KEY": "local",
        "ECOMMERCE_API_SECRET": secrets.token_urlsafe(),
        "CHANGES_PER_DAY": CHANGES_PER_DAY,
        # No file has this name, so no local settings apply.
        "SCOPE": "throwaway",
        # A line for each of thousands of calls would hide an error.
        "RUST_LOG": os.environ.get("RUST_LOG", "off"),
    }
    build()
    log = target_directory() / "api.log"
    with serving(Ports(*free_ports(4)), settings, log, ("--ignore-changes",)) as api:
        environment = {"API_URL": api.url, "PLATFORM_URL": api.platform_url}
        environment |= {"PAGE_URL": api.page_url, "SHOP_URL": api.shop_url}
        environment |= {name: settings[name] for name in ("BILLING_TIMEZONE", "CHANGES_PER_DAY")}
        with running(command, environment, signal.SIGTERM) as child:
            return child.wait()


if __name__ == "__main__":
    end_with(lambda: main(sys.argv[1:]))
