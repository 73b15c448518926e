"""Remembers which sources a database was made from.

A revision is edited in place until it is released (`released.py`), so a database can have the id of one and other
functions. The comment on `alembic_version` has a word `revision=digest` for each revision that was applied. The digest
is of its SQL.
"""

import hashlib
import io
from collections.abc import Mapping
from types import ModuleType

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import ScriptDirectory
from alembic.util import CommandError

# Turns the revisions into text for psql.
OFFLINE = {"dialect_name": "postgresql", "dialect_opts": {"paramstyle": "named"}}


def digests(scripts: ScriptDirectory) -> dict[str, str]:
    """Of all revisions but the first, which never changes and may have been applied by others."""
    return {script.revision: digest(script.module) for script in scripts.walk_revisions() if script.down_revision}


def digest(revision: ModuleType) -> str:
    sql = io.StringIO()
    context = MigrationContext.configure(**OFFLINE, opts={"as_sql": True, "literal_binds": True, "output_buffer": sql})
    with Operations.context(context):
        revision.upgrade()
    return hashlib.sha256(sql.getvalue().encode()).hexdigest()[:16]


def remember(context: MigrationContext, step: MigrationInfo, digest_of: Mapping[str, str]) -> None:
    """Runs in the transaction of the step."""
    if step.is_stamp:
        return
    for revision in digest_of.keys() & set(step.up_revision_ids):
        word = f"'{revision}={digest_of[revision]}'" if step.is_upgrade else "null"
        context.execute(
            f"""
            do $$ begin
                execute format('comment on table alembic_version is %L', concat_ws(' ', nullif(trim(
                    regexp_replace(obj_description('alembic_version'::regclass, 'pg_class'), '{revision}=[^ ]* *', '')
                ), ''), {word}));
            end $$
            """
        )


def require_same(context: MigrationContext, scripts: ScriptDirectory, digest_of: Mapping[str, str]) -> None:
    """Refuses a database that has a revision which was edited since."""
    applied = list(scripts.iterate_revisions(context.get_current_heads(), "base"))
    comment = context.connection.exec_driver_sql(
        "select obj_description(to_regclass('alembic_version'), 'pg_class')"
    ).scalar()
    words = (comment or "").split()
    for script in reversed(applied):
        if script.revision in digest_of and f"{script.revision}={digest_of[script.revision]}" not in words:
            raise CommandError(f"revision {script.revision} of the database was made from other sources")
