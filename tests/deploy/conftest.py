"""Fixtures: the example's packages, an emulator of AWS, and the stages deployed to it."""

import io
import json
import os
import signal
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.credentials import Credentials
from database import CLUBS, Database
from emulator import Emulator, emulating
from kinds import KINDS
from local_api import build, target_directory
from package import EXAMPLE, Package
from processes import running
from stage import Stage
from stand_in import Platform
from with_api import free_ports

REPORT: list[str] = []


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Package]:
    return {stage: Package(stage, tmp_path_factory.mktemp(stage)) for stage in ("prod", "dev")}


@pytest.fixture(scope="session")
def dev(packages: dict[str, Package]) -> Package:
    """The package of a configuration that has nothing but a database."""
    return packages["dev"]


@pytest.fixture(scope="session")
def prod(packages: dict[str, Package]) -> Package:
    """The package of a configuration that has everything."""
    return packages["prod"]


@pytest.fixture(params=["prod", "dev"])
def package(request: pytest.FixtureRequest, packages: dict[str, Package]) -> Package:
    return packages[request.param]


@pytest.fixture(scope="session")
def kinds(dev: Package, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Package]:
    """The packages, by stage name."""
    configs = tmp_path_factory.mktemp("kinds")
    found = {"dev": dev}
    assert dev.config == KINDS["dev"]
    for stage in KINDS.keys() - {"dev"}:
        (configs / f"{stage}_config.json").write_text(json.dumps(KINDS[stage]), encoding="utf-8")
        found[stage] = Package(stage, tmp_path_factory.mktemp(stage), configs)
    return found


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulating(tmp_path_factory.mktemp("emulator")) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of the stand-in and of the operators' tool, as `make run` builds them."""
    build()
    return target_directory() / "debug"


@pytest.fixture(scope="session")
def platform(programs: Path) -> Iterator[Platform]:
    (port,) = free_ports(1)
    credentials = {"ECOMMERCE_API_KEY": "the key", "ECOMMERCE_API_SECRET": "the secret"}
    command = [programs / "ecommerce-stub", str(port)]
    with running(command, credentials, signal.SIGINT, stdout=subprocess.DEVNULL):
        yield Platform(f"http://127.0.0.1:{port}")


@pytest.fixture(scope="session")
def tool(programs: Path) -> Path:
    return programs / "bill-run"


@pytest.fixture(scope="session", params=["dev", "prod"])
def stage(
    request: pytest.FixtureRequest, emulator: Emulator, platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """Deployed, with a club that is active."""
    name = request.param
    config_of = {"dev": dev_config, "prod": prod_config}[name]
    # From now on, the secrets that this stage reads.
    emulator.secrets_read.clear()
    stage = deployed(name, config_of, emulator, platform, tmp_path_factory)
    yield stage
    REPORT.append(f"{name}: deployed, {stage.requests_sent} requests through its gateway and those of the judges")


@pytest.fixture(scope="session")
def shop(emulator: Emulator, platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """A stage that authenticates customers with a user pool."""
    return deployed("shop", shop_config, emulator, platform, tmp_path_factory)


def deployed(
    name: str,
    config_of: Callable[[Emulator, Platform, Database], dict],
    emulator: Emulator,
    platform: Platform,
    tmp_path_factory: pytest.TempPathFactory,
) -> Stage:
    server, own = os.environ["TEST_DATABASE_URL"], f"deployed_{name}"
    Database(server).run(f"create database {own}")
    database = Database(server, dbname=own)
    config = config_of(emulator, platform, database)
    stage = Stage(name, config, database, tmp_path_factory.mktemp(f"deployed_{name}"), emulator)
    stage.migrate(password="not asked for")
    database.run(CLUBS)
    stage.deploy()
    return stage


def block(database: Database) -> dict:
    """The `database` of a stage's configuration."""
    found = database.connection.info
    # A Unix socket has no TLS.
    return {"db_user": found.user, "db_host": found.host, "db_name": found.dbname, "sslmode": "disable"}


def dev_config(_: Emulator, platform: Platform, database: Database) -> dict:
    keys = {"api_key": "the key", "api_secret": "the secret"}
    # `dev` has no limit unless its configuration has one. browser.mjs reads the answer to a change too many.
    limits = {"changes_per_day": 20_000}
    return {"database": block(database), "ecommerce": {"base_url": platform.url, **keys}, **limits}


def shop_config(emulator: Emulator, platform: Platform, database: Database) -> dict:
    pool = emulator.client("cognito-idp").create_user_pool(PoolName="customers")["UserPool"]
    return dev_config(emulator, platform, database) | {"customers": {"authorization": "cognito", "arn": pool["Arn"]}}


def prod_config(emulator: Emulator, platform: Platform, database: Database) -> dict:
    """The example's, with what the emulator has in place of what AWS would."""
    config = json.loads((EXAMPLE / "prod_config.json").read_text(encoding="utf-8"))
    secrets, parameters = emulator.client("secretsmanager"), emulator.client("ssm")
    password = secrets.create_secret(Name="beer-club/prod", SecretString=json.dumps({"password": "not asked for"}))
    ecommerce = {"base_url": platform.url}
    for key, value in (("api_key", "the key"), ("api_secret", "the secret")):
        name = f"/beer-club/prod/{key}"
        parameters.put_parameter(Name=name, Value=value, Type="SecureString")
        ecommerce[key] = parameters.get_parameter(Name=name)["Parameter"]["ARN"]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as layer:
        layer.writestr("extensions/parameters-and-secrets", "emulator.py has it")
    published = emulator.client("lambda").publish_layer_version(
        LayerName="parameters-and-secrets", Content={"ZipFile": content.getvalue()}
    )
    user = config["database"]["functions_user"]
    database.run(f"drop role if exists {user}; create role {user} login")
    config["database"] |= block(database) | {"functions_password": f"{password['ARN']}:password::"}
    config["ecommerce"] |= ecommerce
    config["secrets_extension_arn"] = published["LayerVersionArn"]
    # The stage `shop` authenticates customers, so its tokens have a subject.
    config["customers"] = {"authorization": "none"}
    del config["access_log"]["subject"]
    return config


def caller(emulator: Emulator, name: str, *statements: dict) -> Credentials:
    """Credentials of somebody who may do just this."""
    iam = emulator.client("iam")
    iam.create_user(UserName=name)
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return Credentials(key["AccessKeyId"], key["SecretAccessKey"])


def anywhere(action: str) -> dict:
    return {"Effect": "Allow", "Action": action, "Resource": "*"}


@pytest.fixture(scope="session")
def operator(emulator: Emulator) -> Credentials:
    return caller(emulator, "operator", anywhere("execute-api:Invoke"))


@pytest.fixture(scope="session")
def stranger(emulator: Emulator) -> Credentials:
    return caller(emulator, "stranger", anywhere("s3:ListAllMyBuckets"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in REPORT:
        terminalreporter.write_line(line)
