"""The files that are uploaded: each function's zip has that crate's binary and what goes with it."""

import platform
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from functions import FUNCTIONS
from local_api import target_directory
from package import BILL_RUN, Package

# Bytes. No call waits for the bill run's start, and its program has a command line in it.
LARGEST_ZIP, LARGEST_BILL_RUN = 3_000_000, 5_000_000
AL2023_GLIBC = 34  # of 2.34
ARM64_LIBRARIES = Path("/usr/aarch64-linux-gnu")
ELF_MACHINE = {0xB7: "aarch64", 0x3E: "x86_64"}
EACH_ZIP = [("prod", BILL_RUN), *((stage, name) for stage in ("prod", "dev") for name in FUNCTIONS)]
EACH_FUNCTION = pytest.mark.parametrize(("package", "name"), EACH_ZIP, indirect=["package"])


@EACH_FUNCTION
def test_a_zip_is_small_and_has_a_program_and_the_certificate(name: str, package: Package) -> None:
    zipped = package.zips[name]
    assert zipped.stat().st_size <= (LARGEST_BILL_RUN if name == BILL_RUN else LARGEST_ZIP)
    certificate = package.config["database"].get("sslrootcert")
    with zipfile.ZipFile(zipped) as packed:
        assert set(packed.namelist()) == {"bootstrap", *([certificate] if certificate else [])}
        mode = packed.getinfo("bootstrap").external_attr >> 16
    assert mode & 0o111 == 0o111, "it may not be executed"


@EACH_FUNCTION
def test_the_program_is_the_functions_and_runs_on_lambda(name: str, package: Package) -> None:
    binary = zipfile.ZipFile(package.zips[name]).read("bootstrap")
    assert binary == (target_directory() / "aarch64-unknown-linux-gnu/release" / name).read_bytes()
    assert ELF_MACHINE.get(int.from_bytes(binary[18:20], "little")) == "aarch64"
    newest = max(int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", binary))
    assert newest <= AL2023_GLIBC, f"it needs glibc 2.{newest}"


def emulated() -> list:
    """The command that starts an arm64 program here."""
    if platform.machine() == "aarch64":
        return []
    qemu = shutil.which("qemu-aarch64")
    if qemu is None or not ARM64_LIBRARIES.exists():
        pytest.skip("Debian's packages qemu-user and libc6-arm64-cross are not here")
    return [qemu, "-L", ARM64_LIBRARIES]


@EACH_FUNCTION
def test_the_program_starts_and_says_what_is_missing(name: str, package: Package, tmp_path: Path) -> None:
    command = emulated()
    with zipfile.ZipFile(package.zips[name]) as packed:
        binary = Path(packed.extract("bootstrap", tmp_path))
    binary.chmod(0o755)
    # Without this one, the bill run's program is a command for a terminal.
    lambdas = {"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1"}
    done = subprocess.run([*command, binary], cwd=tmp_path, env=lambdas, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    missing = "BILL_RUN_API" if name == BILL_RUN else "DATABASE_URL"
    assert f"{missing} is not set" in done.stdout + done.stderr
