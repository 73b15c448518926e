"""Writes .sqlx/, what a build without a database knows of our SQL; with --check, compares it in place of that.

To be run beside a migrated database (`with_database.py`), from which every statement is checked and described.
"""

import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from processes import ROOT

KEPT = ROOT / ".sqlx"


def main() -> int:
    with tempfile.TemporaryDirectory() as fresh:
        # sqlx describes statements as they are compiled, so the crate that has them is compiled, changed or not.
        os.utime(ROOT / "crates/core/src/lib.rs")
        environment = os.environ | {"SQLX_OFFLINE_DIR": fresh, "SQLX_OFFLINE": "false"}
        command = ["cargo", "check", "--locked", "--quiet", "-p", "club-core"]
        if failed := subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
            return failed
        if "--check" not in sys.argv:
            shutil.rmtree(KEPT, ignore_errors=True)
            shutil.copytree(fresh, KEPT)
            return 0
        names = {path.name for folder in (KEPT, Path(fresh)) for path in folder.glob("*.json")}
        _, changed, missing = filecmp.cmpfiles(KEPT, fresh, names, shallow=False)
        if not names or changed or missing:
            print(".sqlx/ is not in step with the statements and the schema: run `make sqlx` and commit it")
            return 1
        return 0


if __name__ == "__main__":
    sys.exit(main())
