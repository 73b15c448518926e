"""PgBouncer in transaction mode, in front of an embedded PostgreSQL.

It must handle named prepared statements by default, as 1.24 does. The variable PGBOUNCER names the program. Without it,
the one on the PATH is used if it is new enough. Otherwise it is unpacked from Debian's packages, because no package of
PyPI, npm or crates.io has the program. Nothing is installed.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from postgres import USER, Server, own_folder, reachable, unprivileged
from processes import ROOT, Failed, running
from with_api import free_ports

OLDEST = (1, 24)
# The first release of Debian that has it.
SOURCE = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main\n"
MISSING = "install PgBouncer 1.24 or later, or let the variable PGBOUNCER name one"


@contextlib.contextmanager
def pooling(server: Server, folder: Path, connections: int, clients: int) -> Iterator["Pooler"]:
    """Shares `connections` of the server among up to `clients`, for each database. Its files are in `folder`."""
    own_folder(folder)
    command = program(folder)
    (port,) = free_ports(1)
    configuration = folder / "pgbouncer.ini"
    # Only addresses and sizes; everything else is a default. The server trusts every user, and so does the pooler.
    # By default only 100 clients may wait, so `max_client_conn` is set.
    configuration.write_text(
        f"""
[databases]
* = host={server.folder} user={USER}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = {clients}
""",
        encoding="utf-8",
    )
    configuration.chmod(0o644)
    log = folder / "log"
    with (
        log.open("ab") as output,
        running(
            [*command, configuration], {}, signal.SIGQUIT, stdout=output, stderr=output, **unprivileged()
        ) as process,
    ):
        while not answers(port):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
                raise Failed(f"PgBouncer did not start:\n{log.read_text()[-2000:]}")
        yield Pooler(port, ".".join(map(str, version(command))), log)


@dataclass(frozen=True)
class Pooler:
    """A pooler on 127.0.0.1."""

    port: int
    version: str
    log: Path

    def complaints(self) -> list[str]:
        """The log's lines above the level of a notice."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in lines if re.search(r" (WARNING|ERROR|FATAL) ", line)]


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def program(folder: Path) -> list:
    """A command that PgBouncer's user can start. What that user cannot reach is copied into `folder`."""
    if named := os.environ.get("PGBOUNCER"):
        if version([named]) < OLDEST:
            raise Failed(f"PGBOUNCER={named} does not start or is too old: {MISSING}")
        return [named]
    if (found := shutil.which("pgbouncer")) and version([found]) >= OLDEST:
        return [found]
    unpacked = ROOT / ".local/pgbouncer"
    if not unpacked.exists():
        unpack(unpacked)
    if not reachable(unpacked / "pgbouncer"):
        unpacked = shutil.copytree(unpacked, folder / "program")
    command = with_own_loader(unpacked, unpacked / "pgbouncer")
    if version(command) < OLDEST:
        raise Failed(f"{unpacked} does not start: remove it, or {MISSING}")
    return command


def version(command: list) -> tuple[int, ...]:
    """(1, 24, 1) for example; (0,) if it does not start."""
    with contextlib.suppress(OSError):
        said = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False).stdout
        if found := re.match(r"PgBouncer (\d+(?:\.\d+)*)", said):
            return tuple(map(int, found[1].split(".")))
    return (0,)


def with_own_loader(libraries: Path, binary: Path) -> list:
    """An older Debian's own libraries are too old for it."""
    loader = next(libraries.glob("ld-linux-*.so.*"), None)
    if loader is None:
        raise Failed(f"{libraries} has no loader: {MISSING}")
    return [loader, "--library-path", libraries, binary]


def unpack(folder: Path) -> None:
    """Takes PgBouncer, its loader and its libraries out of Debian's packages."""
    if not all(map(shutil.which, ("apt-get", "dpkg"))):
        raise Failed(MISSING)
    with tempfile.TemporaryDirectory(prefix="beer-club-", ignore_cleanup_errors=True) as temporary:
        whole, part = Path(temporary) / "whole", folder.with_name("pgbouncer.part")
        whole.mkdir()
        for package in download(Path(temporary)):
            done("dpkg", "-x", package, whole)
        (libraries,) = {path.parent for path in whole.glob("usr/lib/*/libc.so.6")}
        binary = whole / "usr/sbin/pgbouncer"
        loader, *arguments = with_own_loader(libraries, binary)
        linked = re.findall(r"=> (\S+)", done(loader, "--list", *arguments))
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        part.chmod(0o755)
        for path in (binary, loader, *map(Path, linked)):
            shutil.copy(path, part / path.name)
        part.rename(folder)


def download(folder: Path) -> list[Path]:
    """The packages of PgBouncer and all its dependencies, for an apt that has nothing installed."""
    for path in ("lists/partial", "cache/archives/partial"):
        (folder / path).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(SOURCE, encoding="utf-8")
    settings = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": folder / "lists",
        "Dir::State::Status": folder / "status",
        "Dir::Cache": folder / "cache",
        # Root does not become a user who cannot write here.
        "APT::Sandbox::User": "",
    }
    options = [f"--option={name}={value}" for name, value in settings.items()]
    for command in (["update"], ["install", "--yes", "--no-install-recommends", "--download-only", "pgbouncer"]):
        done("apt-get", "--quiet", *options, *command)
    return sorted((folder / "cache/archives").glob("*.deb"))


def done(*command: object) -> str:
    """Runs the command, and returns what it prints."""
    ran = subprocess.run(command, env=os.environ | {"LC_ALL": "C"}, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise Failed(f"{Path(str(command[0])).name} failed: {ran.stdout}{ran.stderr}: {MISSING}")
    return ran.stdout
