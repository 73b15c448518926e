"""Applies the files of `sql/`, for the revisions."""

from pathlib import Path

from alembic import op
from sqlalchemy import text

FOLDER = Path(__file__).parent / "sql"


def apply(*names: str) -> None:
    # A function that says `set search_path from current` keeps this one. Temporary objects come last, so that nobody's
    # temporary table takes the place of one of ours.
    op.execute("select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true)")
    for name in names:
        statements = (FOLDER / f"{name}.sql").read_text(encoding="utf-8")
        # A colon would begin a parameter.
        op.execute(text(statements.replace(":", "\\:")))
