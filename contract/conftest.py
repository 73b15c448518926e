"""What the judges share: the running API, its database, the platform's stand-in, and a gateway in front of the API."""

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import requests
from document import ROOT
from gateway import Gateway

PROGRAMS = ROOT / "contract/node_modules/.bin"
CHANGES_PER_DAY = int(os.environ["CHANGES_PER_DAY"])


@pytest.fixture(scope="session")
def api() -> str:
    return os.environ["API_URL"]


class Database:
    def __init__(self, url: str) -> None:
        self.connection = psycopg2.connect(url)
        self.connection.autocommit = True

    def run(self, statement: str, **values: object) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values)

    def column(self, query: str, **values: object) -> list:
        with self.connection.cursor() as cursor:
            cursor.execute(query, values)
            return [value for (value,) in cursor]


@pytest.fixture(scope="session")
def database() -> Database:
    return Database(os.environ["DATABASE_URL"])


@pytest.fixture(scope="session")
def server() -> Database:
    """The database server's own database, which the API does not use."""
    return Database(os.environ["TEST_DATABASE_URL"])


@pytest.fixture(scope="session", autouse=True)
def examples_exist(api: str, database: Database) -> None:
    """Clubs 1 (active), 2 (closed) and 3 (without a status), and the document's subscriptions, one of them charged."""
    database.run("insert into club (name, store_sku) values ('Lager', 4711), ('Stout', 4712), ('Ale', 4713)")
    database.run(
        "insert into club_status_history (id, club_id, club_status_id, effect_date, create_date)"
        " values ('active', 1, 1, utc_now(), utc_now()), ('closed', 2, 2, utc_now(), utc_now())"
    )
    new, from_before = "57f51d24-8b35-4e4c-b7b0-6eeb53bd1fba", "00000000-0000-0000-000-0000000000000"
    database.run(
        "insert into subscription (id, club_id, customer_store_id, create_date)"
        " values (%(new)s, 1, 'a customer', utc_now()), (%(from_before)s, 1, 'another customer', utc_now())",
        new=new,
        from_before=from_before,
    )
    # The document's example of a charge is answered with 200 from now on, whatever status a judge records.
    requests.post(f"{api}/subscription/{new}/charge/2026-11.{new}").raise_for_status()


class Platform:
    """The stand-in."""

    def __init__(self, url: str) -> None:
        self.url = url

    def answers_once(self, **behaviour: object) -> None:
        requests.post(f"{self.url}/behaviour", json=behaviour).raise_for_status()

    def answers_once_with(self, status: int, body: str = "{}", **headers: str) -> None:
        self.answers_once(answer={"status": {"status": status, "headers": headers, "body": body}})

    def has_received(self, request_id: str) -> bool:
        return any(order["request_id"] == request_id for order in requests.get(f"{self.url}/orders").json())


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
