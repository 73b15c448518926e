"""`make bench`: builds the release binaries and measures them on an embedded PostgreSQL.

The results are in target/bench. --report also puts them into docs/. --quick measures less, and less exactly.
"""

import argparse
import contextlib
import os
import platform
import signal
import subprocess
import tempfile
import zipfile
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

import psycopg2
from functions import FUNCTIONS
from local_api import target_directory
from pgbouncer import pooling
from postgres import USER, Server, own_folder
from processes import ROOT, Failed, end_with, running
from with_database import migrate_throwaway

FIRST_REVISION = "6640484e5703"
POPULATION = ROOT / "bench/population.sql"
CLUBS = 20
BEGIN, END = "<!-- measured -->\n", "<!-- end -->\n"
# More than are open at the same time.
POOLER_CONNECTIONS, POOLER_CLIENTS = 10, 100
# As a database server usually has: a quarter of a small machine's memory.
OPTIONS = ("--shared_buffers=1GB", "--timezone=UTC")


def build(target: Path) -> None:
    """Builds each separately, so that none gets the features of another."""
    functions = [option for name in FUNCTIONS for option in ("-p", name)]
    measuring = ["--profile", "measure", "-p", "bench", "--bin", "bench", "-p", "bill-run", "--bin", "bill-run"]
    for options in (["--release", *functions], ["--release", "-p", "bare"], measuring):
        if subprocess.run(["cargo", "build", "--locked", *options], cwd=ROOT, check=False).returncode:
            raise Failed("the build failed")
    output = target / "bench"
    output.mkdir(exist_ok=True)
    for name in (*FUNCTIONS, "bare"):
        with zipfile.ZipFile(output / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as package:
            package.write(target / "release" / name, "bootstrap")


class Databases:
    """Databases of the first revision, and copies of them that are upgraded to the head."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def build(self, sizes: list[int], both: set[int]) -> None:
        self.server.create_database("empty")
        migrate_throwaway(self.server, "empty")
        self.server.create_database("first")
        migrate_throwaway(self.server, "first", FIRST_REVISION)
        for size in sizes:
            print(f"building the database of {size:,} subscriptions", flush=True)
            first, head = f"first_{size}", f"head_{size}"
            self._run("postgres", f"create database {first} template first")
            population = POPULATION.read_text(encoding="utf-8")
            population = population.replace("$SUBSCRIPTIONS", str(size)).replace("$CLUBS", str(CLUBS))
            # The rows satisfy the foreign keys. Checking them would take most of the time.
            self._run(first, "set session_replication_role = replica", population)
            self._run("postgres", f"create database {head} template {first}")
            migrate_throwaway(self.server, head)
            self._run(head, "vacuum analyze")
            if size in both:
                self._run(first, "vacuum analyze")
            else:
                self._run("postgres", f"drop database {first}")

    def _run(self, database: str, *statements: str) -> None:
        connection = psycopg2.connect(host=str(self.server.folder), user=USER, dbname=database)
        connection.autocommit = True
        with contextlib.closing(connection), connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


def machine() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
        return f"{os.cpu_count()} cores of {model}, {memory:.0f} GB, {platform.system()} {platform.release()}"
    return platform.platform()


def commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/performance.md")
    return git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")


def report(output: Path, heading: str) -> None:
    """Replaces the earlier results in docs/."""
    page = ROOT / "docs/performance.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    measured = (output / "performance.md").read_text(encoding="utf-8")
    page.write_text(f"{before}{BEGIN}\n{heading}\n\n{measured}\n{END}{after}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    sizes = [10_000, 100_000] if options.quick else [10_000, 100_000, 1_000_000]
    target = target_directory()
    build(target)
    output = target / "bench"
    began = datetime.now(timezone.utc)
    heading = f"{began:%Y-%m-%d}, commit {commit()}, {machine()}; PostgreSQL 18 on the same machine."
    print(heading, flush=True)
    with tempfile.TemporaryDirectory(prefix="beer-club-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = Server(own_folder(Path(folder) / "postgres"), durable=False, options=OPTIONS)
        with (
            server.running(),
            pooling(server, Path(folder) / "pgbouncer", POOLER_CONNECTIONS, POOLER_CLIENTS) as pooler,
        ):
            Databases(server).build([0, *sizes], both={0, max(sizes)})
            url = f"postgresql://{USER}@{quote(str(server.folder), safe='')}"
            pooler_url = f"postgresql://{USER}@127.0.0.1:{pooler.port}"
            command = [target / "measure/bench", url, pooler_url, target / "release", output]
            command += [",".join(map(str, sizes)), "quick" if options.quick else "full"]
            with running(command, {}, signal.SIGTERM) as measuring:
                failed = measuring.wait()
    if failed:
        return failed
    seconds = (datetime.now(timezone.utc) - began).total_seconds()
    print(f"measured in {seconds // 60:.0f} min {seconds % 60:.0f} s; more is in {output}/performance.md")
    if options.report:
        report(output, heading)
    return 0


if __name__ == "__main__":
    end_with(main)
