"""Applies the files of `sql/`, for the revisions."""

import re
from pathlib import Path

from alembic import op
from sqlalchemy import text

FOLDER = Path(__file__).parent / "sql"


def apply(*names: str) -> None:
    """Makes what these files create."""
    _execute(names)


def replace(*names: str) -> None:
    """Makes it where an earlier file has made it: its rights stay, and so does what depends on it."""
    _execute(names, replacing=True)


def _execute(names: tuple[str, ...], *, replacing: bool = False) -> None:
    # A function that says `set search_path from current` keeps this one. Temporary objects come last, so that nobody's
    # temporary table takes the place of one of ours.
    op.execute("select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true)")
    for name in names:
        statements = (FOLDER / f"{name}.sql").read_text(encoding="utf-8")
        if replacing:
            statements = re.sub(
                "^create (?=function|view|trigger)", "create or replace ", statements, flags=re.MULTILINE
            )
        # A colon would begin a parameter.
        op.execute(text(statements.replace(":", "\\:")))
