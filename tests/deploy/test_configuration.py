"""A mistake in a configuration is one line, and nothing is built."""

import json
import re
import subprocess
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from functions import DEFINITIONS
from package import EXAMPLE, REGION, Template, serverless
from processes import ROOT

GOOD = json.loads((EXAMPLE / "dev_config.json").read_text(encoding="utf-8"))


def without(key: str) -> dict:
    return {"database": {k: v for k, v in GOOD["database"].items() if k != key}}


def database(**changes: object) -> dict:
    return {"database": GOOD["database"] | changes}


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (None, "dev_config.json is missing: copy model_config.json to it and fill in `database`"),
        ("{", "dev_config.json is not JSON"),
        ("[]", "dev_config.json: it must be an object"),
        ({}, "dev_config.json has no `database`: see model_config.json"),
        (without("db_host"), "dev_config.json has no `database.db_host`: see model_config.json"),
        (database(db_user=""), "dev_config.json has no `database.db_user`: see model_config.json"),
        (database(db_port="x"), "`database.db_port` must be a port number"),
        (database(sslmode="on"), "`database.sslmode` must be disable, "),
        (database(sslmode="verify-ca"), "`database.sslmode` verify-ca needs `database.sslrootcert`"),
        (database(sslmode="require", sslrootcert="system"), "`database.sslmode` must be verify-full if"),
        (database(db_host="fe80::1%eth0"), "`database.db_host` cannot have a zone"),
        (database(functions_password="p"), "dev_config.json has no `database.functions_user`"),
        (database(sslrootcert="nowhere.pem"), "there is no nowhere.pem"),
        (database(sslrootcert="../root.pem"), "`database.sslrootcert` must be a path in the project's folder"),
        (database(sslrootcert="README.md"), "README.md (`database.sslrootcert`) is not a certificate"),
        (database(idle_timeout_ms=99), "`database.idle_timeout_ms` must be 0, or a number of milliseconds from 100 to"),
        (database(db_password="arn:aws:s3:::x"), "`database.db_password` must be a value, or the full ARN"),
        (database(db_password="arn:aws:ssm:eu-west-1:1:parameter/x"), "an ARN of eu-west-1, and this is us-east-1"),
        (GOOD | {"vpc": {"subnet_ids": ["subnet-1"]}}, "dev_config.json has no `vpc.security_group_ids`"),
        (GOOD | {"concurrency": {"chrage": 1}}, "there is no such setting as `concurrency.chrage`"),
        (GOOD | {"operators": {"authorization": "iam"}}, "`operators.authorization` must be aws_iam or none"),
        (GOOD | {"customers": {"authorization": "iam"}}, "`customers.authorization` must be none, aws_iam, cognito or"),
        (GOOD | {"customers": {"authorization": "cognito"}}, "`customers.arn` must be the ARN of a user pool"),
        (
            GOOD | {"customers": {"authorization": "cognito", "arn": "arn:aws:lambda:us-east-1:1:function:f"}},
            "`customers.arn` must be the ARN of a user pool",
        ),
        (
            GOOD | {"customers": {"authorization": "lambda", "arn": "arn:aws:cognito-idp:us-east-1:1:userpool/p"}},
            "`customers.arn` must be the ARN of a Lambda function",
        ),
        (GOOD | {"customers": {"arn": "arn:aws:s3:::x"}}, "`customers.arn` must be the ARN of a user pool or of a"),
        (GOOD | {"customers": {"claim": "sub"}}, "`customers.claim` is only for `customers.authorization` cognito or"),
        (GOOD | {"changes_per_day": -1}, "`changes_per_day` must be a number of changes, or 0 for no limit"),
        (GOOD | {"throttle": {"rate_limit": 0}}, "`throttle.rate_limit` must be a number of requests from 1 to 10000"),
        (GOOD | {"bill_run": {}}, "dev_config.json has no `bill_run.schedule`"),
        (GOOD | {"bill_run": {"schedule": "cron(0 6 31 * ? *)"}}, "must be cron(<minute> <hour> <day> * ? *) with"),
        (GOOD | {"bill_run": {"schedule": "rate(1 day)"}}, "`bill_run.schedule` must be cron("),
        (GOOD | {"bill_run": {"schedule": "cron(0 6 1 * ? *)", "concurrency": 0}}, "`bill_run.concurrency` must be a"),
        (GOOD | {"bill_run": {"schedule": "cron(0 6 1 * ? *)", "rate": 0}}, "`bill_run.rate` must be a number of req"),
        (
            GOOD | {"bill_run": {"schedule": "cron(0 6 1 * ? *)", "retries": ["cron(0 6 31 * ? *)"]}},
            "`bill_run.retries.0` must be cron(<minute> <hour> <day> * ? *) with a day from 1 to 26",
        ),
        (GOOD | {"access_log": "yes"}, "`access_log` must be true, false, or an object with `source_address` and `su"),
        (GOOD | {"access_log": {"path": True}}, "`access_log` must be true, false, or an object with"),
        (GOOD | {"access_log": {"subject": 1}}, "`access_log` must be true, false, or an object with"),
        (
            GOOD | {"access_log": {"subject": True}},
            "`access_log.subject` is only for `customers.authorization` cognito",
        ),
        (GOOD | {"web_acl_arn": "arn:aws:s3:::x"}, "`web_acl_arn` must be the ARN of a regional web ACL"),
        (
            GOOD | {"web_acl_arn": "arn:aws:wafv2:eu-west-1:1:regional/webacl/shop/1"},
            "an ARN of eu-west-1, and this is us-east-1",
        ),
        (GOOD | {"cors_allow_origin": "shop.example.com"}, "`cors_allow_origin` must be one origin, or *"),
        (GOOD | {"billing_timezone": "Mars"}, "`billing_timezone` must be an IANA name"),
        (GOOD | {"billing_timezone": "america/sao_paulo"}, "`billing_timezone` must be America/Sao_Paulo"),
        (GOOD | {"billing_timezone": "${env:HOME}"}, "no value may have ${ in it"),
        (GOOD | {"alarms": {}}, "`alarms` must be an object with either `topic_arn` or `email`"),
        (GOOD | {"ecommerce": {"base_url": "https://e"}}, "ECOMMERCE_API_KEY is not set, and dev_config.json has no"),
        (GOOD | {"ecommerce": {"timeout_ms": 20001}}, "`ecommerce.timeout_ms` must be a number of milliseconds"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(config: dict | str | None, line: str, tmp_path: Path) -> None:
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config)
        (tmp_path / "dev_config.json").write_text(text, encoding="utf-8")
    refuses("dev", tmp_path, line)


def test_another_stages_configuration_is_named() -> None:
    refuses("pord", EXAMPLE, "pord_config.json is missing (there is dev_config.json, prod_config.json)")


def refuses(stage: str, folder: Path, line: str, **environment: str) -> None:
    done = serverless("package", "--stage", stage, configs=folder, **environment)
    assert done.returncode != 0
    # The notice of versions goes to the other stream.
    _, _, said = done.stdout.partition("Error:\n")
    (only,) = [text for text in said.splitlines() if text.strip()]
    assert line in only
    assert "Building" not in done.stdout + done.stderr, "it was built before the configuration was read"


def settings(stage: str, folder: Path) -> dict:
    """The settings that deploy/settings.js makes of this configuration."""
    options = {"stage": stage, "region": REGION, "architecture": "arm64", "folder": str(folder), "root": str(ROOT)}
    options |= {"environment": {}, "functions": DEFINITIONS}
    script = f"""
        const fail = (line) => {{ throw new Error(line); }};
        console.log(JSON.stringify(require('./deploy/settings')({{ ...{json.dumps(options)}, fail }})));
    """
    done = subprocess.run(["node", "-e", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_functions_get_every_setting_that_they_read() -> None:
    found = settings("prod", EXAMPLE)
    given = set().union(found["environment"], found["customers"]["environment"], *found["environments"].values())
    source = (ROOT / "crates/core/src/config.rs").read_text(encoding="utf-8")
    # A function of a stage reads no file, and its URL of the database says how it is encrypted.
    read = set(re.findall(r'"([A-Z][A-Z_]+)"', source)) - {"SCOPE", "PGSSLMODE", "PGSSLROOTCERT"}
    assert given == read, (
        "deploy/settings.js must give the functions what crates/core/src/config.rs reads."
        " The setting must be in deploy/example/prod_config.json, too"
    )


def test_a_setting_that_nothing_reads_is_a_warning(tmp_path: Path) -> None:
    config = database(sslmod="require") | {"ecommerse": {}, "billing_time_zone": "UTC"}
    (tmp_path / "dev_config.json").write_text(json.dumps(config), encoding="utf-8")
    warnings = settings("dev", tmp_path)["warnings"]
    for key in ("database.sslmod", "ecommerse", "billing_time_zone"):
        assert f"nothing reads `{key}` of dev_config.json" in warnings


def test_a_stage_makes_no_name_that_aws_refuses(tmp_path: Path) -> None:
    """The longest stage that is packaged makes a name of as many characters as AWS takes."""

    def packaged(stage: str) -> CompletedProcess:
        config = GOOD | {"customers": {"authorization": "none"}, "bill_run": {"schedule": "cron(0 6 1 * ? *)"}}
        (tmp_path / f"{stage}_config.json").write_text(json.dumps(config), encoding="utf-8")
        return serverless("package", "--stage", stage, "--package", str(tmp_path / stage), configs=tmp_path)

    done = packaged("s" * 59)
    assert done.returncode != 0
    (limit, excess), *others = re.findall(r"may have (\d+) characters: .* (\d+) characters shorter", done.stdout)
    assert others == []
    longest = "s" * (59 - int(excess))
    done = packaged(longest)
    assert done.returncode == 0, done.stdout + done.stderr
    template = Template(tmp_path / longest)
    names = [made["FunctionName"] for made in template.all("AWS::Lambda::Function")]
    assert max(map(len, names)) == int(limit) == 64
