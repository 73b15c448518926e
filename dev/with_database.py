"""Runs a command with a throw-away PostgreSQL that our migrations have built: `with_database.py COMMAND…`.

The command finds `DATABASE_URL`, a migrated database. For tests, which need a database each, it finds
`TEST_DATABASE_URL`, the server, with the migrated template `api_template`. `POSTGRES_PROGRAMS` is the folder of the
server's programs; `OLD_PROGRAMS` and `NEW_PROGRAMS` are those of two versions, to upgrade from and to.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from postgres import USER, Server, own_folder
from processes import ROOT, Failed, end_with, running

TEMPLATE = "api_template"


class OtherSources(Failed):
    """The database was not made by the revisions in migrations/."""


def migrate(scope: str, revision: str = "head") -> None:
    # As a module: the script would not survive a move of the folder.
    command = [sys.executable, "-m", "alembic", "-x", f"scope={scope}", "-x", "sources=same", "upgrade", revision]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    _, refused, reason = done.stdout.partition("FAILED: ")
    if "Can't locate revision" in reason:
        raise OtherSources("the database has a revision that migrations/ does not have")
    if "made from other sources" in reason:
        raise OtherSources(reason.strip())
    if done.returncode:
        raise Failed(f"the migrations failed: {reason.strip() if refused else done.stderr.strip()}")


def migrate_throwaway(server: Server, database: str, revision: str = "head") -> None:
    """The same for a database of this server. Its configuration is removed afterwards."""
    scope = f"throwaway_{os.getpid()}"
    config = ROOT / f"{scope}_config.json"
    config.write_text(json.dumps({"database": {"db_user": USER, "db_host": str(server.folder), "db_name": database}}))
    try:
        migrate(scope, revision)
    finally:
        config.unlink()


def main(command: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="beer-club-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        options = (f"--timezone={os.environ.get('TEST_TIMEZONE', 'UTC')}",)
        server = Server(own_folder(Path(folder) / "postgres"), durable=False, options=options)
        with server.running():
            server.create_database(TEMPLATE)
            migrate_throwaway(server, TEMPLATE)
            host = quote(str(server.folder), safe="")
            old, new = server.upgrade_programs()
            environment = {
                "DATABASE_URL": f"postgresql://{USER}@{host}/{TEMPLATE}",
                "TEST_DATABASE_URL": f"postgresql://{USER}@{host}/postgres",
                "POSTGRES_PROGRAMS": str(server.programs()),
                "OLD_PROGRAMS": str(old),
                "NEW_PROGRAMS": str(new),
                "PYTHON": sys.executable,
            }
            with running(command, environment, signal.SIGTERM) as child:
                return child.wait()


if __name__ == "__main__":
    end_with(lambda: main(sys.argv[1:]))
