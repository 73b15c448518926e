"""Writes .sqlx/, which tells a build without a database about our SQL. With --check, it compares instead.

It runs with a migrated database (`with_database.py`), which checks and describes every statement.
"""

import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from processes import ROOT

CACHE = ROOT / ".sqlx"


def main() -> int:
    with tempfile.TemporaryDirectory() as fresh:
        # sqlx describes statements when they are compiled, so their crate is compiled even if it did not change.
        os.utime(ROOT / "crates/core/src/lib.rs")
        environment = os.environ | {"SQLX_OFFLINE_DIR": fresh, "SQLX_OFFLINE": "false"}
        command = ["cargo", "check", "--locked", "--quiet", "-p", "club-core"]
        if failed := subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
            return failed
        if "--check" not in sys.argv:
            shutil.rmtree(CACHE, ignore_errors=True)
            shutil.copytree(fresh, CACHE)
            return 0
        names = {path.name for folder in (CACHE, Path(fresh)) for path in folder.glob("*.json")}
        _, changed, missing = filecmp.cmpfiles(CACHE, fresh, names, shallow=False)
        if not names or changed or missing:
            print(".sqlx/ does not match the statements and the schema: run `make sqlx` and commit it")
            return 1
        return 0


if __name__ == "__main__":
    sys.exit(main())
