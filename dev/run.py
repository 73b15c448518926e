"""`make run`: the whole API on localhost, on an embedded PostgreSQL and the platform's stand-in, until Ctrl-C."""

import contextlib
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg2
from postgres import ROOT, USER, Failed, Server, die_with_parent, kept_folder
from with_database import migrate

CONFIG = ROOT / "local_config.json"
DATABASE = "beer_club"
ENVIRONMENTS_PER_FUNCTION = 8


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Only one at a time: they would share a database and its folder. The lock goes with the process."""
    local = ROOT / ".local"
    local.mkdir(exist_ok=True)
    with (local / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failed("make run is running already, from this folder") from None
        yield


def require_free(port: int, setting: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise Failed(f"port {port} is taken; choose another pair with {setting}") from None


def configuration(folder: Path) -> dict:
    """local_config.json, written for the embedded database if it is not there."""
    if not CONFIG.exists():
        config = json.loads((ROOT / "model_config.json").read_text(encoding="utf-8"))
        config["database"] |= {"db_user": USER, "db_password": "", "db_host": str(folder), "db_name": DATABASE}
        config["ecommerce"] |= {"api_key": "local", "api_secret": secrets.token_urlsafe()}
        CONFIG.write_text(json.dumps(config, indent=4) + "\n", encoding="utf-8")
        print(f"wrote {CONFIG.name}, for the embedded database")
    try:
        config = json.loads(CONFIG.read_text(encoding="utf-8"))
        config["database"]["db_host"]
    except (ValueError, KeyError, TypeError) as error:
        raise Failed(f"{CONFIG.name} is wrong ({error!r}); delete it to have it written anew") from None
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
    """The id of an ACTIVE club; one is opened if there is none."""
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


@contextlib.contextmanager
def running(name: str, command: list, environment: dict, stop: signal.Signals) -> Iterator[subprocess.Popen]:
    """In a process group of its own, so that a Ctrl-C reaches it when we say so, and with it all that it started."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: die_with_parent(stop),
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, stop)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                print(f"{name} did not end; killing it")
            # Whatever of the group is left.
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_it_answers(api: str, watch: subprocess.Popen) -> None:
    while watch.poll() is None:
        try:
            with urllib.request.urlopen(f"{api}/subscription/eligible?limit=1", timeout=60):
                return
        except urllib.error.HTTPError as error:
            raise Failed(f"the API answers {error.code}: {error.read().decode()}") from None
        except OSError:
            time.sleep(0.1)
    raise Failed("cargo lambda watch ended")


def banner(api: str, platform: str, club: int, where: str) -> str:
    json_type = "-H 'content-type: application/json'"
    return f"""
The API answers on {api}
The platform's stand-in lists its orders on {platform}/orders
The database is {where}

  curl -X POST {api}/club/{club}/subscribe {json_type} -d '{{"customer_id": "00000000-0000-0000-000-0000000000000"}}'
  SUBSCRIPTION=the id in that answer
  curl -X POST {api}/subscription/$SUBSCRIPTION/status {json_type} -d '{{"status_id": 3, "interval": 30}}'
  curl -X POST {api}/subscription/$SUBSCRIPTION/status {json_type} -d '{{"status_id": 1}}'
  curl {api}/subscription/eligible
  curl -X POST {api}/subscription/$SUBSCRIPTION/charge/order-1

Ctrl-C ends everything; the data is kept.
"""


def main() -> None:
    port = int(os.environ.get("PORT") or 9000)
    api, platform = f"http://localhost:{port}", f"http://localhost:{port + 1}"
    with contextlib.ExitStack() as stack:
        stack.enter_context(alone())
        folder = kept_folder()
        config = configuration(folder)
        database, ecommerce = config["database"], config.get("ecommerce") or {}
        for taken in (port, port + 1):
            require_free(taken, "make run PORT=9100")

        for package in ([], ["-p", "ecommerce-stub"]):
            if subprocess.run(["cargo", "build", "--locked", *package], cwd=ROOT, check=False).returncode:
                raise Failed("the build failed")

        if database["db_host"] == str(folder):
            where = f"embedded, in {folder}"
            server = Server(folder, durable=True)
            stack.enter_context(server.running())
            server.create_database(database["db_name"])
        else:
            where = f"your own, of {CONFIG.name}"
        migrate("local")
        club = demo_club(database)

        # The stand-in in the platform's place, whatever the configuration says: nothing here charges anybody.
        stand_in = {
            "ECOMMERCE_BASE_URL": f"http://127.0.0.1:{port + 1}",
            "ECOMMERCE_API_KEY": ecommerce.get("api_key") or "local",
            "ECOMMERCE_API_SECRET": ecommerce.get("api_secret") or "local",
        }
        stub = [ROOT / "target/debug/ecommerce-stub", str(port + 1)]
        stub = stack.enter_context(running("the stand-in", stub, stand_in, signal.SIGINT))
        watch = [Path(sys.executable).parent / "cargo-lambda", "lambda", "watch", "--invoke-address", "127.0.0.1"]
        watch += ["--invoke-port", str(port), "--concurrency", str(ENVIRONMENTS_PER_FUNCTION)]
        # It asks cargo for every environment that it starts; only what goes wrong there is of interest.
        quiet = {"CARGO_TERM_QUIET": "true", "SCOPE": "local"}
        watch = stack.enter_context(running("cargo lambda watch", watch, quiet | stand_in, signal.SIGINT))
        wait_until_it_answers(api, watch)
        print(banner(api, platform, club, where), flush=True)

        parent = os.getppid()
        while os.getppid() == parent:
            for name, process in (("cargo lambda watch", watch), ("the stand-in", stub)):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.5)
                    raise Failed(f"{name} ended")


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
