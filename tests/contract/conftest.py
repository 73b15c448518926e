"""Fixtures of the judges: the running API, its database, the platform's stand-in, and a gateway in front of the API."""

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from database import CLUBS, Database
from gateway import Gateway
from processes import ROOT
from stand_in import Platform

PROGRAMS = ROOT / "tests/contract/node_modules/.bin"


@pytest.fixture(scope="session")
def database() -> Database:
    return Database(os.environ["DATABASE_URL"])


@pytest.fixture(scope="session")
def server() -> Database:
    """The database server's own database, which the API does not use."""
    return Database(os.environ["TEST_DATABASE_URL"])


@pytest.fixture(scope="session")
def api(database: Database) -> str:
    """Its address. It has the clubs, and the document's subscriptions, one of them charged."""
    url = os.environ["API_URL"]
    database.run(CLUBS)
    new, from_before = "57f51d24-8b35-4e4c-b7b0-6eeb53bd1fba", "00000000-0000-0000-000-0000000000000"
    database.run(
        "insert into subscription (id, club_id, customer_store_id, create_date)"
        " values (%(new)s, 1, 'a customer', utc_now()), (%(from_before)s, 1, 'another customer', utc_now())",
        new=new,
        from_before=from_before,
    )
    # The document's example of a charge is answered with 200 from now on, whatever status a judge records.
    requests.post(f"{url}/subscription/{new}/charge/2026-11.{new}").raise_for_status()
    return url


@pytest.fixture(scope="session")
def platform() -> Platform:
    return Platform(os.environ["PLATFORM_URL"])


@pytest.fixture
def gateway(api: str) -> Iterator[Gateway]:
    with Gateway(api) as gateway:
        thread = threading.Thread(target=gateway.serve_forever)
        thread.start()
        yield gateway
        gateway.shutdown()
        thread.join()


def run(*command: object, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """Runs a judge."""
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
