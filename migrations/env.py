"""Connects Alembic to the database that `<scope>_config.json` names (`alembic -x scope=<scope> upgrade head`)."""

import json
import os
import ssl
from logging.config import fileConfig
from pathlib import Path

from alembic import context
from alembic.util import CommandError
from sqlalchemy import URL, create_engine, pool
from sqlalchemy.exc import OperationalError

ROOT = Path(__file__).resolve().parent.parent
DRIVER = {"database_type": "postgresql", "driver": "psycopg2"}
REQUIRED = ("db_user", "db_host", "db_name")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def database_url(scope: str) -> URL:
    """The `database` block of the scope's configuration; what is missing or wrong in it is named in one line."""
    path = ROOT / f"{scope}_config.json"
    try:
        database = json.loads(path.read_text(encoding="utf-8"))["database"]
    except FileNotFoundError:
        raise CommandError(f"{path.name} is missing: copy model_config.json to it and fill in `database`") from None
    except json.JSONDecodeError as error:
        raise CommandError(f"{path.name} is not JSON: {error}") from None
    except (KeyError, TypeError):
        raise CommandError(f"{path.name} has no `database`: see model_config.json") from None
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
    sslmode = database.get("sslmode") or ("verify-full" if scope == "prod" else "prefer")
    if sslmode not in SSL_MODES:
        raise CommandError(f"{path.name}: `database.sslmode` must be one of {', '.join(SSL_MODES)}")
    parameters = {"sslmode": sslmode}
    if database.get("sslrootcert"):
        parameters["sslrootcert"] = str(ROOT / database["sslrootcert"])
    elif sslmode == "verify-full":
        # The public authorities, as for the functions. The wheel's libpq looks for them where it was built.
        parameters["sslrootcert"] = "system"
        paths = ssl.get_default_verify_paths()
        for variable, path in ((paths.openssl_cafile_env, paths.cafile), (paths.openssl_capath_env, paths.capath)):
            if path:
                os.environ.setdefault(variable, path)
    password = database.get("db_password") or None
    if password is not None and str(password).startswith("arn:"):
        password = os.environ.get("PGPASSWORD")
        if not password:
            raise CommandError(f"{path.name} has an ARN for `database.db_password`: put the password into PGPASSWORD")
    # A socket directory cannot stand in the host's place of a URL, so libpq gets it as a parameter.
    if host.startswith("/"):
        parameters["host"] = host
    return URL.create(
        "postgresql+psycopg2",
        username=database["db_user"],
        password=password,
        host=None if host.startswith("/") else host,
        port=port,
        database=database["db_name"],
        query=parameters,
    )


def run_migrations() -> None:
    scope = context.get_x_argument(as_dictionary=True).get("scope", "local")
    engine = create_engine(database_url(scope), poolclass=pool.NullPool)
    try:
        connection = engine.connect()
    except OperationalError as error:
        raise CommandError(f"the database of {scope}_config.json does not answer: {error.orig}") from None
    with connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()


fileConfig(context.config.config_file_name, disable_existing_loggers=False)
run_migrations()
