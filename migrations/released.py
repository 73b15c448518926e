"""Holds the released revisions to the digests of their SQL in `released.json`. With --add, a new release gets its own.

A digest is the one in the comment on `alembic_version` (`sources.py`), so moving a file changes none.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import sources
from alembic.config import Config
from alembic.script import Script, ScriptDirectory

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "migrations/released.json"
INSTEAD = (
    "Undo that, and write a new revision: `.venv/bin/alembic revision -m`. The old file moves to"
    ' sql/before_<revision>/; migrations/README.md says how under "To change something"'
)


def main() -> int:
    try:
        scripts = list(ScriptDirectory.from_config(Config(ROOT / "alembic.ini")).walk_revisions())[::-1]
    except KeyError as missing:
        print(f"a revision follows {missing}, which is missing. {INSTEAD}")
        return 1
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = re.search(r"^## (\d\S*) - ", changelog, re.MULTILINE)[1]
    releases = json.loads(FILE.read_text(encoding="utf-8"))
    if "--add" in sys.argv:
        return add(version, releases, scripts)
    wrong = next(edited(releases, scripts), None)
    if not wrong and version not in releases:
        wrong = f"CHANGELOG.md has the release {version}, migrations/released.json has not: run `make release-digests`"
    if wrong:
        print(wrong)
    return 1 if wrong else 0


def edited(releases: dict[str, dict[str, str]], scripts: list[Script]) -> Iterator[str]:
    digests = {script.revision: sources.digest(script.module) for script in scripts}
    released = [(version, *revision) for version, revisions in releases.items() for revision in revisions.items()]
    for place, (version, revision, digest) in enumerate(released):
        if revision not in digests:
            yield f"revision {revision} was released with {version} and is missing. {INSTEAD}"
        elif scripts[place].revision != revision:
            yield f"revision {scripts[place].revision} comes before {revision}, which was released with {version}"
        elif digests[revision] != digest:
            file = Path(scripts[place].path).relative_to(ROOT)
            yield f"{file}, or a file that it applies, was edited, and {version} was released with it. {INSTEAD}"


def add(version: str, releases: dict[str, dict[str, str]], scripts: list[Script]) -> int:
    """Until the release has its tag, this can be repeated."""
    tags = subprocess.run(["git", "tag", "--list", f"v{version}"], cwd=ROOT, capture_output=True, text=True, check=True)
    if tags.stdout:
        print(f"{version} has a tag already: CHANGELOG.md must have the next release, with its date")
        return 1
    releases.pop(version, None)
    earlier = {revision for revisions in releases.values() for revision in revisions}
    releases[version] = {
        script.revision: sources.digest(script.module) for script in scripts if script.revision not in earlier
    }
    FILE.write_text(json.dumps(releases, indent=4) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
