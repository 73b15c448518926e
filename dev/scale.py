"""`make scale`: hundreds of function processes at once, through PgBouncer over a few server connections and without it,
and then in turn on a server that has fewer connections than there are processes.

The builds are optimized a little. Development builds leave two cores too busy to answer in time, and a release takes
long to build. Both ways are compared with each other, and with no bar.
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

FUNCTIONS = ("subscribe", "status", "eligible", "charge", "lookup")
SERVER_CONNECTIONS = 20
# PostgreSQL's default.
FEW_CONNECTIONS = 100
FEWEST, MOST = 300, 1000  # processes
# A process, its share of the driver, and its server connection where it has one: twice what was measured.
MEMORY_OF_ONE = 8_000_000  # bytes
# The part of the available memory that is left to the machine.
LEFT = 0.5
# A process that gives up a connection opens another one before the server has noticed. A few are the driver's.
CONNECTIONS_OF_ONE = 2


def build() -> None:
    """With one command, so that cargo compiles each crate once for all of them."""
    packages = [option for name in (*FUNCTIONS, "bench") for option in ("-p", name)]
    binaries = [option for name in (*FUNCTIONS, "scale") for option in ("--bin", name)]
    profile = ["--profile", "measure", "--config", "profile.measure.opt-level=1"]
    command = ["cargo", "build", "--locked", *profile, *packages, *binaries]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
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
        options = (f"--max_connections={count * CONNECTIONS_OF_ONE}", "--timezone=UTC")
        server = Server(own_folder(folder / "postgres"), durable=False, options=options)
        few = (f"--max_connections={FEW_CONNECTIONS}", "--timezone=UTC")
        small_server = Server(own_folder(folder / "small"), durable=False, options=few)
        with (
            server.running(),
            small_server.running(),
            pooling(server, folder / "pgbouncer", SERVER_CONNECTIONS, count * CONNECTIONS_OF_ONE) as pooler,
        ):
            for of, database in ((server, "pooled"), (server, "direct"), (small_server, "turns")):
                of.create_database(database)
                migrate_throwaway(of, database)
            url, small_url = (f"postgresql://{USER}@{quote(str(of.folder), safe='')}" for of in (server, small_server))
            pooler_url = f"postgresql://{USER}@127.0.0.1:{pooler.port}"
            target = target_directory() / "measure"
            sizes = (str(count), str(SERVER_CONNECTIONS))
            command = [target / "scale", url, pooler_url, small_url, target, *sizes]
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
