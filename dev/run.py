"""`make run`: the whole API on localhost, on an embedded PostgreSQL and the platform's stand-in, until Ctrl-C."""

import contextlib
import fcntl
import json
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import psycopg2
from local_api import Api, Ports, build, serving
from postgres import FALLBACK, USER, Server, data_folder
from processes import ROOT, Failed
from with_database import OtherSources, migrate

CONFIG = ROOT / "local_config.json"
DATABASE = "beer_club"
LOG = ROOT / ".local/api.log"


def say(step: str) -> None:
    print(step, flush=True)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Allows one at a time, because two would share the database's folder. The lock ends with the process."""
    local = ROOT / ".local"
    local.mkdir(exist_ok=True)
    with (local / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failed("make run is running already, from this folder") from None
        yield


def ports() -> Ports:
    """Four in a row from PORT on, all free."""
    choice = os.environ.get("PORT") or "9000"
    if not choice.isdecimal() or not 1 <= int(choice) <= 65532:
        raise Failed(f"PORT={choice}: it must be a number from 1 to 65532")
    chosen = Ports(*range(int(choice), int(choice) + 4))
    for port in astuple(chosen):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise Failed(f"port {port} is taken; choose four others with make run PORT=9100") from None
    return chosen


def configuration(folder: Path) -> dict:
    """local_config.json, which is written for the embedded database if it does not exist."""
    if not CONFIG.exists():
        config = json.loads((ROOT / "model_config.json").read_text(encoding="utf-8"))
        config["database"] |= {"db_user": USER, "db_password": "", "db_host": str(folder), "db_name": DATABASE}
        config["ecommerce"] |= {"api_key": "local", "api_secret": secrets.token_urlsafe()}
        CONFIG.write_text(json.dumps(config, indent=4) + "\n", encoding="utf-8")
        say(f"settings: writing {CONFIG.name}, for the embedded database")
    try:
        config = json.loads(CONFIG.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Failed(f"{CONFIG.name} is not JSON: {error}") from None
    for block in ("database", "ecommerce"):
        if not isinstance(config, dict) or not isinstance(config.setdefault(block, {}), dict):
            raise Failed(f"{CONFIG.name}: `{block}` must be an object; see model_config.json")
    for key in ("db_user", "db_host", "db_name"):
        if not isinstance(config["database"].get(key), str) or not config["database"][key]:
            raise Failed(f"{CONFIG.name} has no `database.{key}`; see model_config.json")
    host = Path(config["database"]["db_host"])
    if host != folder and (host.parts[-2:] == (".local", "postgres") or host.name.startswith(FALLBACK)):
        raise Failed(f"{CONFIG.name} is for the embedded database of another folder; delete it and run again")
    return config


def connect(database: dict) -> psycopg2.extensions.connection:
    return psycopg2.connect(
        host=database["db_host"],
        port=database.get("db_port") or 5432,
        user=database["db_user"],
        password=database.get("db_password") or None,
        dbname=database["db_name"],
    )


def demo_club(database: dict) -> int:
    """The id of an ACTIVE club. One is opened if no club is active."""
    with contextlib.closing(connect(database)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("select min(club_id) from club_current_status where club_status_id = 1")
        (club,) = cursor.fetchone()
        if club is None:
            cursor.execute("insert into club (name, store_sku) values ('Demo club', 4711) returning id")
            (club,) = cursor.fetchone()
            cursor.execute(
                "insert into club_status_history (id, club_id, club_status_id, effect_date, create_date)"
                " values (gen_random_uuid()::text, %s, 1, utc_now(), utc_now())",
                [club],
            )
        return club


def banner(api: Api, club: int, where: str) -> str:
    return f"""
The API answers on {api.url}
Read and try every route in a browser: {api.page_url}
A shop's page, as a customer sees it: {api.shop_url}
The platform's stand-in lists its orders on {api.platform_url}/orders; it forgets them when it ends
The database is {where}
The functions log to {LOG}, and so does the build after a change

  SUBSCRIPTION=$(curl -s -X POST {api.url}/club/{club}/subscribe -d "{{\\"customer_id\\": \\"customer-$RANDOM\\"}}" \\
    | tee /dev/stderr | sed 's/.*"id":"\\([^"]*\\)".*/\\1/')
  curl -X POST {api.url}/subscription/$SUBSCRIPTION/status -d '{{"status_id": 3, "interval": 30}}'
  curl -X POST {api.url}/subscription/$SUBSCRIPTION/status -d '{{"status_id": 1}}'
  curl {api.url}/subscription/$SUBSCRIPTION
  curl {api.url}/club
  curl {api.url}/subscription/eligible
  curl -X POST {api.url}/subscription/$SUBSCRIPTION/charge/$(date -u +%Y-%m).$SUBSCRIPTION

This charges everybody for the month, once, and this says how each of them stands:

  make bill-run ARGS='charge --api {api.url}'
  make bill-run ARGS='report --api {api.url}'

Ctrl-C ends everything; the data stays.
"""


def main() -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(alone())
        folder = data_folder()
        config = configuration(folder)
        database, ecommerce = config["database"], config["ecommerce"]
        chosen = ports()

        parts = {}
        if Path(database["db_host"]) == folder:
            say(f"database: starting the embedded PostgreSQL in {folder}")
            server = Server(folder, durable=True)
            stack.enter_context(server.running())
            server.create_database(database["db_name"])
            parts["PostgreSQL"] = server.process
            remedy = f"delete {folder} to begin with an empty one"
            where = f"embedded: {server.psql()} -h {folder} -U {database['db_user']} {database['db_name']}"
        else:
            remedy = f"name an empty one in {CONFIG.name}"
            where = f"your own, of {CONFIG.name}"
        say("database: migrating")
        try:
            migrate("local")
        except OtherSources as other:
            raise Failed(f"{other}; {remedy}") from None
        club = demo_club(database)

        say("build: the functions and the platform's stand-in, with cargo; the first time takes minutes")
        build()
        settings = {
            "ECOMMERCE_API_KEY": ecommerce.get("api_key") or "local",
            "ECOMMERCE_API_SECRET": ecommerce.get("api_secret") or "local",
            # The functions use the database that was migrated here, whatever the environment says.
            "DATABASE_URL": "",
            "SCOPE": "local",
        }
        say("API: starting each function with cargo lambda watch")
        api = stack.enter_context(serving(chosen, settings, LOG))
        print(banner(api, club, where), flush=True)

        parent = os.getppid()
        while os.getppid() == parent:
            time.sleep(0.5)
            for name, process in (parts | api.processes).items():
                if process.poll() is not None:
                    raise Failed(f"{name} ended; {LOG} says more")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except Failed as failed:
        sys.exit(f"make run: {failed}")
    except psycopg2.OperationalError as error:
        sys.exit(f"make run: the database of {CONFIG.name} does not answer: {error}")
    except KeyboardInterrupt:
        print("\nended")
