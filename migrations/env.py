"""Connects Alembic to the database that `<scope>_config.json` names (`alembic -x scope=<scope> upgrade head`).

With `--sql` it reads no configuration and connects to nothing.
"""

import json
import logging
import os
import ssl
from logging.config import fileConfig
from pathlib import Path

import sources
from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.util import CommandError
from psycopg2.errors import InvalidParameterValue, LockNotAvailable
from sqlalchemy import URL, Connection, create_engine, pool
from sqlalchemy.exc import DBAPIError, OperationalError

ROOT = Path(__file__).resolve().parent.parent
DRIVER = {"database_type": "postgresql", "driver": "psycopg2"}
REQUIRED = ("db_user", "db_host", "db_name")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
LOCK = int.from_bytes(b"alembic", "big")

log = logging.getLogger("alembic.env")


def configuration(path: Path) -> dict:
    """The scope's file. What is missing or wrong in it is named in one line, here and below."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CommandError(f"{path.name} is missing: copy model_config.json to it and fill in `database`") from None
    except ValueError as error:
        raise CommandError(f"{path.name} is not JSON: {error}") from None
    if not isinstance(config, dict) or "database" not in config:
        raise CommandError(f"{path.name} has no `database`: see model_config.json")
    return config


def connect(scope: str, path: Path, database: dict) -> Connection:
    if not isinstance(database, dict):
        raise CommandError(f"{path.name}: `database` must be an object")
    for key in REQUIRED:
        if not isinstance(database.get(key), str) or not database[key]:
            raise CommandError(f"{path.name} has no `database.{key}`: see model_config.json")
    backend = {key: database.get(key) or only for key, only in DRIVER.items()}
    if backend != DRIVER:
        raise CommandError(f"{path.name}: `database_type` and `driver` can only be postgresql and psycopg2")
    try:
        port = int(database.get("db_port") or 5432)
    except (TypeError, ValueError):
        raise CommandError(f"{path.name}: `database.db_port` is not a number") from None
    host = database["db_host"]
    sslrootcert = database.get("sslrootcert")
    # People reach a server in many ways, so `prod` alone is strict by default.
    is_strict = scope == "prod" or sslrootcert == "system"
    sslmode = database.get("sslmode") or ("verify-full" if is_strict else "prefer")
    if sslmode not in SSL_MODES:
        raise CommandError(f"{path.name}: `database.sslmode` must be one of {', '.join(SSL_MODES)}")
    parameters = {"sslmode": sslmode}
    if sslrootcert and sslrootcert != "system":
        parameters["sslrootcert"] = str(ROOT / sslrootcert)
    elif sslrootcert or sslmode == "verify-full":
        # The public authorities, as for the functions. The wheel's libpq looks for them where it was built.
        parameters["sslrootcert"] = "system"
        paths = ssl.get_default_verify_paths()
        for variable, place in ((paths.openssl_cafile_env, paths.cafile), (paths.openssl_capath_env, paths.capath)):
            if place:
                os.environ.setdefault(variable, place)
    password = database.get("db_password") or None
    if password is not None and str(password).startswith("arn:"):
        password = os.environ.get("PGPASSWORD")
        if not password:
            raise CommandError(f"{path.name} has an ARN for `database.db_password`: put the password into PGPASSWORD")
    url = URL.create(
        "postgresql+psycopg2",
        username=database["db_user"],
        password=password,
        host=None if host.startswith("/") else host,
        port=port,
        database=database["db_name"],
        query=parameters,
    )
    # In a URL, SQLAlchemy would split a socket directory at its colons.
    directory = {"host": host} if host.startswith("/") else {}
    try:
        return create_engine(url, connect_args=directory, poolclass=pool.NullPool).connect()
    except OperationalError as error:
        raise CommandError(f"the database of {path.name} does not answer: {error.orig}") from None


def wait_for_others(connection: Connection) -> None:
    """Lets one Alembic at a time change the database. The lock ends with the session.

    `create index concurrently` waits for the statements of others, and for ours here too. So each try ends before
    `deadlock_timeout`.
    """
    waiting = False
    while True:
        try:
            connection.exec_driver_sql(f"set local lock_timeout = '500ms'; select pg_advisory_lock({LOCK})")
            connection.commit()
            return
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise
            connection.rollback()
        if not waiting:
            log.info("Waiting for another Alembic, which is changing this database.")
            waiting = True


def require_usable(connection: Connection, path: Path, timezone: object) -> None:
    """Refuses a database that the functions could not work on."""
    encoding = connection.exec_driver_sql("show server_encoding").scalar()
    if encoding != "UTF8":
        raise CommandError(f"the encoding of the database of {path.name} is {encoding}: create one in UTF8")
    if not isinstance(timezone, str):
        raise CommandError(f"{path.name}: `billing_timezone` must be an IANA name such as America/Sao_Paulo")
    try:
        # As current_billing_month() does.
        connection.exec_driver_sql("select now() at time zone %s", (timezone,))
    except DBAPIError as error:
        if not isinstance(error.orig, InvalidParameterValue):
            raise
        raise CommandError(f"the database of {path.name} does not know the billing_timezone {timezone}") from None
    connection.rollback()


# Each function that gives rights, and a function that only a role with these rights may call.
GRANTS = {"grant_to_functions": "subscribe", "grant_to_operators": "resolve_charge"}


def granted(connection: Connection, path: Path, functions_user: str | None) -> list[tuple[str, str]]:
    """The rights to give after an upgrade: those from before it, and those of the functions' role."""
    roles = connection.exec_driver_sql(
        """
        select proname, rolname from pg_proc, aclexplode(proacl) acl join pg_roles on pg_roles.oid = grantee
        where pronamespace = (select oid from pg_namespace where nspname = current_schema())
            and proname = any(%s) and grantee <> proowner
        """,
        (list(GRANTS.values()),),
    ).all()
    if functions_user:
        if not connection.exec_driver_sql("select 1 from pg_roles where rolname = %s", (functions_user,)).all():
            raise CommandError(f"the database of {path.name} has no role {functions_user}: create it first")
        roles.append((GRANTS["grant_to_functions"], functions_user))
    connection.rollback()
    return sorted({(grant, role) for grant, shows in GRANTS.items() for function, role in roles if function == shows})


def grant_again(connection: Connection, rights: list[tuple[str, str]]) -> None:
    """Nobody has a right yet on a function that is new or was made again."""
    for grant, role in rights:
        if connection.exec_driver_sql("select to_regproc(%s)", (grant,)).scalar():
            connection.exec_driver_sql(f"select {grant}(%s)", (role,))


def run_migrations() -> None:
    arguments = context.get_x_argument(as_dictionary=True)
    scope = arguments.get("scope", "local")
    path = ROOT / f"{scope}_config.json"
    config = configuration(path)
    with connect(scope, path, config["database"]) as connection:
        context.configure(connection=connection, on_version_apply=remember_sources)
        options = context.get_context().opts
        if not options.get("dont_mutate"):
            wait_for_others(connection)
        rights = []
        if options["fn"].__name__ == "upgrade":
            timezone = os.environ.get("BILLING_TIMEZONE") or config.get("billing_timezone")
            require_usable(connection, path, "UTC" if timezone is None else timezone)
            rights = granted(connection, path, config["database"].get("functions_user"))
        with context.begin_transaction():
            if arguments.get("sources") == "same":
                sources.require_same(context.get_context(), context.script, digests)
            context.run_migrations()
            grant_again(connection, rights)


def print_migrations() -> None:
    context.configure(**sources.OFFLINE, literal_binds=True, on_version_apply=remember_sources)
    with context.begin_transaction():
        context.run_migrations()


def remember_sources(ctx: MigrationContext, step: MigrationInfo, **_: object) -> None:
    sources.remember(ctx, step, digests)


# Alembic logs for each revision here, so this comes first.
digests = sources.digests(context.script)
fileConfig(context.config.config_file_name, disable_existing_loggers=False)
if context.is_offline_mode():
    print_migrations()
else:
    run_migrations()
