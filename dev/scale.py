"""`make scale`: hundreds of function processes at once, through PgBouncer over a few server connections and without it.

The processes are the development builds that `make test` has built already: both ways are compared with each other, and
with no bar.
"""

import resource
import signal
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

from local_api import target_directory
from pgbouncer import pooling
from postgres import USER, Server, own_folder
from processes import ROOT, Failed, end_with, running
from with_database import migrate_throwaway

SERVER_CONNECTIONS = 20
FEWEST, MOST = 300, 1000  # processes
# A process, its share of the driver, and its server connection where it has one: twice what was measured.
MEMORY_OF_ONE = 8_000_000  # bytes
# The part of the available memory that is left to the machine.
LEFT = 0.5
# Of the operator, the driver and the migrations.
OTHER_CONNECTIONS = 50


def build() -> None:
    for options in ([], ["-p", "bench", "--bin", "scale"]):
        if subprocess.run(["cargo", "build", "--locked", *options], cwd=ROOT, check=False).returncode:
            raise Failed("the build failed")


def processes() -> int:
    """As many as the memory allows."""
    meminfo = Path("/proc/meminfo").read_text(encoding="utf-8")
    available = next(int(line.split()[1]) for line in meminfo.splitlines() if line.startswith("MemAvailable:")) * 1024
    fitting = int(available * (1 - LEFT) / MEMORY_OF_ONE)
    if fitting < FEWEST:
        needed = FEWEST * MEMORY_OF_ONE / (1 - LEFT)
        raise Failed(f"{FEWEST} processes need {needed / 1e9:.0f} GB of memory, {available / 1e9:.0f} GB are available")
    return min(fitting, MOST)


def allow_open_files(count: int) -> None:
    """The driver has two or three sockets for each process, the pooler one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most not in (resource.RLIM_INFINITY, *range(count, most + 1)):
        raise Failed(f"{count} open files are needed, the limit is {most}: see ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> int:
    count = processes()
    allow_open_files(4 * count)
    build()
    with tempfile.TemporaryDirectory(prefix="beer-club-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        options = (f"--max_connections={count + OTHER_CONNECTIONS}", "--timezone=UTC")
        server = Server(own_folder(folder / "postgres"), durable=False, options=options)
        with (
            server.running(),
            pooling(server, folder / "pgbouncer", SERVER_CONNECTIONS, count + OTHER_CONNECTIONS) as pooler,
        ):
            for database in ("pooled", "direct"):
                server.create_database(database)
                migrate_throwaway(server, database)
            url = f"postgresql://{USER}@{quote(str(server.folder), safe='')}"
            pooler_url = f"postgresql://{USER}@127.0.0.1:{pooler.port}"
            target = target_directory() / "debug"
            command = [target / "scale", url, pooler_url, target, str(count), str(SERVER_CONNECTIONS)]
            print(f"PgBouncer {pooler.version}, {SERVER_CONNECTIONS} server connections", flush=True)
            with running(command, {}, signal.SIGTERM) as driver:
                failed = driver.wait()
            # The functions give up waiting for a lock before PostgreSQL looks for a deadlock.
            if deadlocks := (server.folder / "log").read_text(errors="replace").count("deadlock detected"):
                print(f"FAILED: PostgreSQL ended a statement because of a deadlock ({deadlocks} times)")
            if failed or deadlocks:
                print(*pooler.complaints()[-20:], sep="\n")
                return 1
            return 0


if __name__ == "__main__":
    end_with(main)
