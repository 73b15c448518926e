"""Applies the files of `sql/`, for the revisions."""

from pathlib import Path

from alembic import op
from sqlalchemy import text

FOLDER = Path(__file__).parent / "sql"


def apply(*names: str) -> None:
    for name in names:
        statements = (FOLDER / f"{name}.sql").read_text(encoding="utf-8")
        # A colon would begin a parameter.
        op.execute(text(statements.replace(":", "\\:")))
