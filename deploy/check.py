"""`make check-deploy`: what `serverless deploy` would do, as far as that shows without an AWS account.

Packages two stages as they are deployed and reads their templates and zips, asks cfn-lint, breaks the configuration,
and deploys to moto, an emulator of AWS in this process. It passes over alarms, metric filters, policies, and what the
gateway answers by itself: of these only the template is checked.
"""

import base64
import contextlib
import hashlib
import json
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import boto3
from moto.apigateway.models import Method
from moto.server import ThreadedMotoServer

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "deploy/example"
FUNCTIONS = ("subscribe", "status", "eligible", "charge", "unresolved")
ROUTES = {
    "subscribe": ("POST", "/club/{id}/subscribe"),
    "status": ("POST", "/subscription/{id}/status"),
    "eligible": ("GET", "/subscription/eligible"),
    "charge": ("POST", "/subscription/{id}/charge/{request_id}"),
}
FRONT_END = ("subscribe", "status")
OPERATORS = ("eligible", "charge")
# Seconds.
GATEWAY_TIMEOUT = 29
LONGEST_CALL_OUT = 20
TO_SETTLE = 4
LARGEST_ZIP = 3_000_000  # bytes
REGION = "us-east-1"
AL2023_GLIBC = 34  # of 2.34
ARM64_LIBRARIES = Path("/usr/aarch64-linux-gnu")
ELF_MACHINE = {0xB7: "aarch64", 0x3E: "x86_64"}


class Wrong(Exception):
    """One line for whoever broke it."""


def expect(condition: object, line: str) -> None:
    if not condition:
        raise Wrong(line)


def equal(what: str, found: object, expected: object) -> None:
    expect(found == expected, f"{what}: {found!r} instead of {expected!r}")


def serverless(*arguments: str, configs: Path, aws: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """With the platform's settings of the configuration, and this AWS, whatever the caller's environment has."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "ECOMMERCE_"))}
    command = [ROOT / "node_modules/.bin/serverless", *arguments, "--param", f"configs={configs}"]
    return subprocess.run(command, cwd=ROOT, env=variables | (aws or {}), capture_output=True, text=True, check=False)


class Package:
    """A stage's package: its template, with what osls derives names from, and its zips."""

    def __init__(self, stage: str, folder: Path) -> None:
        done = serverless("package", "--stage", stage, "--package", str(folder), configs=EXAMPLE)
        expect(done.returncode == 0, f"stage {stage} cannot be packaged:\n{done.stdout}{done.stderr}")
        self.stage, self.said = stage, done.stdout + done.stderr
        self.templates = sorted(folder.glob("cloudformation-template-*.json"))
        self.resources = json.loads((folder / "cloudformation-template-update-stack.json").read_text())["Resources"]

    def all(self, kind: str) -> list[dict]:
        return [r["Properties"] for r in self.resources.values() if r["Type"] == kind]

    def function(self, name: str) -> dict:
        return self.resources[f"{name.capitalize()}LambdaFunction"]["Properties"]

    def methods(self) -> dict[tuple[str, str], dict]:
        """By method and path."""
        return {(m["HttpMethod"], self._path(m["ResourceId"])): m for m in self.all("AWS::ApiGateway::Method")}

    def _path(self, reference: dict) -> str:
        if "Ref" not in reference:
            return ""
        resource = self.resources[reference["Ref"]]["Properties"]
        return f"{self._path(resource['ParentId'])}/{resource['PathPart']}"


def check_any_stage(package: Package, origin: str, authorization: str, limit: tuple[int, int] | None) -> None:
    keys = {name: package.function(name)["Code"]["S3Key"] for name in FUNCTIONS}
    equal("packages' names", {name: key.rsplit("/", 1)[1] for name, key in keys.items()}, {n: f"{n}.zip" for n in keys})
    equal("number of functions", len(package.all("AWS::Lambda::Function")), len(FUNCTIONS))
    for name in FUNCTIONS:
        function = package.function(name)
        equal(f"{name}'s log", function["LoggingConfig"]["LogFormat"], "JSON")
        equal(f"{name}'s runtime", (function["Runtime"], function["Architectures"]), ("provided.al2023", ["arm64"]))
        equal(f"{name}'s tracing", function["TracingConfig"], {"Mode": "Active"})
        expect(function["Timeout"] < GATEWAY_TIMEOUT, f"{name} may run for longer than the gateway waits")
        expect(function["MemorySize"] >= 256, f"{name} has too little memory for a quick TLS handshake")
        logs = package.resources[f"{name.capitalize()}LogGroup"]["Properties"]
        expect(logs.get("RetentionInDays"), f"{name}'s log is kept for ever")
        equal(f"{name}'s origin", function["Environment"]["Variables"]["CORS_ALLOW_ORIGIN"], origin)
        knows_platform = "ECOMMERCE_API_SECRET" in function["Environment"]["Variables"]
        equal(f"whether {name} knows the platform's secret", knows_platform, name == "charge")

    expect(package.function("charge")["Timeout"] >= LONGEST_CALL_OUT + TO_SETTLE + 2, "charge has no time to settle")
    expect(package.function("eligible")["MemorySize"] >= 512, "eligible has no memory for its longest answer")

    methods = package.methods()
    expected = {route: name for name, route in ROUTES.items()} | {("OPTIONS", ROUTES[name][1]): None for name in FRONT_END}
    equal("routes", set(methods), set(expected))
    for route, name in expected.items():
        method = methods[route]
        if name:
            uri = json.dumps(method["Integration"]["Uri"])
            expect(f'"{name.capitalize()}LambdaFunction"' in uri, f"{route} does not call {name}: {uri}")
            wanted = authorization if name in OPERATORS else "NONE"
            equal(f"authorization of {name}", method["AuthorizationType"], wanted)
        else:
            (answer,) = method["Integration"]["IntegrationResponses"]
            allowed = {key.rsplit("-", 1)[1]: value for key, value in answer["ResponseParameters"].items()}
            equal(f"CORS of {route}", allowed["Origin"], f"'{origin}'")
            expect("POST" in allowed["Methods"], f"CORS of {route} allows {allowed['Methods']}")
            equal(f"CORS headers of {route}", allowed["Headers"], "'content-type'")

    (api,) = package.all("AWS::ApiGateway::RestApi")
    equal("endpoint", api["EndpointConfiguration"], {"Types": ["REGIONAL"]})
    expect(api["MinimumCompressionSize"], "the gateway does not compress")
    header = "gatewayresponse.header.Access-Control-Allow-Origin"
    own = package.all("AWS::ApiGateway::GatewayResponse")
    refusals = {answer["ResponseType"]: answer["ResponseParameters"][header] for answer in own}
    equal("CORS of the gateway's own answers", refusals, dict.fromkeys(("DEFAULT_4XX", "DEFAULT_5XX"), f"'{origin}'"))
    (deployment,) = [r for r in package.resources.values() if r["Type"] == "AWS::ApiGateway::Deployment"]
    expect({"GatewayRefusal", "GatewayFailure"} <= set(deployment["DependsOn"]), "the gateway is deployed without them")
    # With those, CloudFormation refuses every deployment but the first.
    expect(not {"StageName", "StageDescription"} & set(deployment["Properties"]), "the deployment makes its own stage")
    (stage,) = package.all("AWS::ApiGateway::Stage")
    equal("stage", (stage["StageName"], stage["TracingEnabled"]), (package.stage, True))
    limits = {
        (s["HttpMethod"], s["ResourcePath"]): (s["ThrottlingRateLimit"], s["ThrottlingBurstLimit"])
        for s in stage["MethodSettings"]
    }
    closed = [(ROUTES[name][0], "/" + ROUTES[name][1].replace("/", "~1")) for name in OPERATORS]
    equal("limits", limits, dict.fromkeys(closed, limit) if limit else {})

    roles = [name for name, resource in package.resources.items() if resource["Type"] == "AWS::IAM::Role"]
    for statement in [statement for role in roles for statement in statements(package, role)]:
        wide = "*" in json.dumps(statement["Resource"]).replace("-" + package.stage + "*", "").replace(":*", "")
        expect(not wide or all(a.startswith("xray:") for a in statement["Action"]), f"too wide a right: {statement}")


def statements(package: Package, role: str) -> list[dict]:
    policies = package.resources[role]["Properties"]["Policies"]
    return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]


def check_schedule(package: Package, state: str) -> None:
    (rule,) = package.all("AWS::Events::Rule")
    equal("the schedule", (rule["ScheduleExpression"], rule["State"]), ("rate(1 hour)", state))
    (target,) = rule["Targets"]
    equal("whom the schedule calls", target["Arn"], {"Fn::GetAtt": ["UnresolvedLambdaFunction", "Arn"]})


def check_dev(package: Package) -> None:
    check_any_stage(package, "*", "NONE", None)
    expect("anybody may call eligible and charge" in package.said, "no warning that the operators' routes are open")
    charge = package.function("charge")
    model = json.loads((ROOT / "model_config.json").read_text())["ecommerce"]
    password = "example%3A%20%25%26%2F%3F%23%5B%5D%40"
    variables = {
        "DATABASE_URL": f"postgresql://beer%40club:{password}@dev.example.com:5432/beer%20club?sslmode=prefer",
        "CORS_ALLOW_ORIGIN": "*",
        "ECOMMERCE_BASE_URL": model["base_url"],
        "ECOMMERCE_API_KEY": model["api_key"],
        "ECOMMERCE_API_SECRET": model["api_secret"],
        "BILLING_TIMEZONE": "UTC",
    }
    equal("charge's environment", charge["Environment"]["Variables"], variables)
    for key in ("VpcConfig", "Layers", "ReservedConcurrentExecutions"):
        expect(key not in charge, f"{key} without being asked for")
    equal("alarms", package.all("AWS::CloudWatch::Alarm"), [])
    check_schedule(package, "DISABLED")
    secrets = (model["api_secret"], password)
    for resource in package.resources.values():
        public = {key: value for key, value in resource["Properties"].items() if key != "Environment"}
        expect(not any(secret in json.dumps(public) for secret in secrets), f"a secret stands in {resource['Type']}")


def check_prod(package: Package) -> None:
    config = json.loads((EXAMPLE / "prod_config.json").read_text())
    limit = (config["operators"]["rate_limit"], config["operators"]["burst_limit"])
    check_any_stage(package, config["cors_allow_origin"], "AWS_IAM", limit)
    expect("anybody may call" not in package.said, "a warning about routes that are closed")
    charge = package.function("charge")
    variables = charge["Environment"]["Variables"]
    url = variables["DATABASE_URL"]
    expect("sslmode=verify-full&sslrootcert=deploy%2Fexample%2Froot.pem" in url, f"the server is not verified: {url}")
    expect(":arn%3Aaws%3Asecretsmanager%3A" in url, f"the password is no reference: {url}")
    for key in ("api_key", "api_secret"):
        equal(key, variables[f"ECOMMERCE_{key.upper()}"], config["ecommerce"][key])
    equal("time for a call-out", variables["ECOMMERCE_TIMEOUT_MS"], str(config["ecommerce"]["timeout_ms"]))
    for name in ("charge", "eligible"):
        own = package.function(name)["Environment"]["Variables"]
        equal(f"{name}'s time zone", own["BILLING_TIMEZONE"], config["billing_timezone"])
    equal("network", charge["VpcConfig"]["SubnetIds"], config["vpc"]["subnet_ids"])
    equal("security groups", charge["VpcConfig"]["SecurityGroupIds"], config["vpc"]["security_group_ids"])
    for name in FUNCTIONS:
        equal(f"{name}'s limit", package.function(name).get("ReservedConcurrentExecutions"), config["concurrency"].get(name))
        (layer,) = package.function(name)["Layers"]
        expect(re.search(rf":{REGION}:.*Secrets-Lambda-Extension-Arm64:", layer), f"{name} has the layer {layer}")

    password = config["database"]["db_password"].removesuffix(":password::")
    parameters = sorted(config["ecommerce"][key] for key in ("api_key", "api_secret"))
    key = config["secrets_kms_key_arn"]
    for role, may in {
        "IamRoleLambdaExecution": {"secretsmanager:GetSecretValue": [password], "kms:Decrypt": [key]},
        "IamRoleChargeExecution": {
            "secretsmanager:GetSecretValue": [password],
            "kms:Decrypt": [key],
            "ssm:GetParameter": parameters,
        },
    }.items():
        read = {
            action: sorted([s["Resource"]] if isinstance(s["Resource"], str) else s["Resource"])
            for s in statements(package, role)
            for action in s["Action"]
            if not action.startswith(("logs:", "xray:"))
        }
        equal(f"what {role} may read", read, may)
    for name in FUNCTIONS:
        own = "IamRoleChargeExecution" if name == "charge" else "IamRoleLambdaExecution"
        equal(f"{name}'s role", package.function(name)["Role"], {"Fn::GetAtt": [own, "Arn"]})

    check_alarms(package)
    check_schedule(package, "ENABLED")
    (dashboard,) = package.all("AWS::CloudWatch::Dashboard")
    json.loads(dashboard["DashboardBody"]["Fn::Sub"])


def check_alarms(package: Package) -> None:
    alarms = {alarm["AlarmName"]: alarm for alarm in package.all("AWS::CloudWatch::Alarm")}
    for name, alarm in alarms.items():
        equal(f"who hears of {name}", alarm["AlarmActions"], [{"Ref": "AlarmTopic"}])
    failures, throttles, unknown, unresolved = (
        alarms.pop(f"beer-club-prod-{name}")
        for name in ("5xx", "throttles", "charge-outcome-unknown", "unresolved-charges")
    )
    equal("further alarms", alarms, {})
    (api,) = package.all("AWS::ApiGateway::RestApi")
    watched = [{"Name": "ApiName", "Value": api["Name"]}, {"Name": "Stage", "Value": package.stage}]
    equal("whose failures are counted", (failures["MetricName"], failures["Dimensions"]), ("5XXError", watched))
    counted = {
        metric["Id"]: metric["MetricStat"]["Metric"]["Dimensions"][0]["Value"]
        for metric in throttles["Metrics"]
        if "MetricStat" in metric
    }
    equal("whose throttles", counted, {name: {"Ref": f"{name.capitalize()}LambdaFunction"} for name in FUNCTIONS})
    (expression,) = [metric["Expression"] for metric in throttles["Metrics"] if "Expression" in metric]
    equal("sum of throttles", expression, " + ".join(f"FILL({name}, 0)" for name in FUNCTIONS))

    filters = {f["MetricTransformations"][0]["MetricName"]: f for f in package.all("AWS::Logs::MetricFilter")}
    for alarm, log, pattern in (
        (unknown, "ChargeLogGroup", "charge_outcome_unknown"),
        (unresolved, "UnresolvedLogGroup", "{ $.unresolved_charges = * }"),
    ):
        made = filters.pop(alarm["MetricName"])
        equal("log of a metric", made["LogGroupName"], {"Ref": log})
        equal("pattern of a metric", made["FilterPattern"], pattern)
        equal("namespace of a metric", made["MetricTransformations"][0]["MetricNamespace"], alarm["Namespace"])
    equal("further metrics", filters, {})

    (policy,) = package.all("AWS::SNS::TopicPolicy")
    (statement,) = policy["PolicyDocument"]["Statement"]
    equal("who may publish alarms", statement["Principal"], {"Service": "cloudwatch.amazonaws.com"})


def check_zips(extra: set[str]) -> dict[str, Path]:
    """Each function's zip has that crate's binary and what goes with it."""
    zips = {name: ROOT / f"target/lambda/{name}.zip" for name in FUNCTIONS}
    built = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "aarch64-unknown-linux-gnu/release"
    for name, path in zips.items():
        expect(path.stat().st_size <= LARGEST_ZIP, f"{path.name} is {path.stat().st_size} bytes")
        with zipfile.ZipFile(path) as packed:
            equal(f"content of {path.name}", set(packed.namelist()), {"bootstrap"} | extra)
            mode = packed.getinfo("bootstrap").external_attr >> 16
            expect(mode & 0o111 == 0o111, f"{path.name}'s bootstrap may not be executed")
            binary = packed.read("bootstrap")
        equal(f"{path.name}'s machine", ELF_MACHINE.get(int.from_bytes(binary[18:20], "little")), "aarch64")
        newest = max(int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", binary))
        expect(newest <= AL2023_GLIBC, f"{path.name} needs glibc 2.{newest}, which Lambda has not")
        expect(binary == (built / name).read_bytes(), f"{path.name} has not {name}'s binary")
    return zips


def check_errors(folder: Path) -> None:
    """What is missing or wrong in a configuration is one line, and nothing is built."""
    good = json.loads((EXAMPLE / "dev_config.json").read_text())

    def without(key: str) -> dict:
        return {"database": {k: v for k, v in good["database"].items() if k != key}}

    def database(**changes: object) -> dict:
        return {"database": good["database"] | changes}

    cases: list[tuple[dict | str | None, str]] = [
        (None, "dev_config.json is missing: copy model_config.json to it and fill in `database`"),
        ("{", "dev_config.json is not JSON"),
        ("[]", "dev_config.json: it must be an object"),
        ({}, "dev_config.json has no `database`: see model_config.json"),
        (without("db_host"), "dev_config.json has no `database.db_host`: see model_config.json"),
        (database(db_user=""), "dev_config.json has no `database.db_user`: see model_config.json"),
        (database(db_port="x"), "`database.db_port` must be a port number"),
        (database(sslmode="on"), "`database.sslmode` must be disable, "),
        (database(sslrootcert="nowhere.pem"), "there is no nowhere.pem"),
        (database(sslrootcert="../root.pem"), "`database.sslrootcert` must be a path in the project's folder"),
        (database(sslrootcert="README.md"), "README.md (`database.sslrootcert`) is not a certificate"),
        (database(db_password="arn:aws:s3:::x"), "`database.db_password` must be a value, or the full ARN"),
        (database(db_password="arn:aws:ssm:eu-west-1:1:parameter/x"), "an ARN of eu-west-1, and this is us-east-1"),
        (good | {"vpc": {"subnet_ids": ["subnet-1"]}}, "dev_config.json has no `vpc.security_group_ids`"),
        (good | {"concurrency": {"chrage": 1}}, "there is no such setting as `concurrency.chrage`"),
        (good | {"operators": {"authorization": "iam"}}, "`operators.authorization` must be aws_iam or none"),
        (good | {"cors_allow_origin": "shop.example.com"}, "`cors_allow_origin` must be one origin, or *"),
        (good | {"billing_timezone": "Mars"}, "`billing_timezone` must be an IANA name"),
        (good | {"billing_timezone": "${env:HOME}"}, "no value may have ${ in it"),
        (good | {"alarms": {}}, "`alarms` must be an object with either `topic_arn` or `email`"),
        (good | {"ecommerce": {"base_url": "https://e"}}, "ECOMMERCE_API_KEY is not set, and dev_config.json has no"),
        (good | {"ecommerce": {"timeout_ms": 20001}}, "`ecommerce.timeout_ms` must be a number of milliseconds"),
    ]
    for config, line in cases:
        file = folder / "dev_config.json"
        file.unlink(missing_ok=True)
        if config is not None:
            file.write_text(config if isinstance(config, str) else json.dumps(config))
        check_error("dev", folder, line)
    check_error("pord", EXAMPLE, "pord_config.json is missing (there is dev_config.json, prod_config.json)")


def check_error(stage: str, folder: Path, line: str) -> None:
    done = serverless("package", "--stage", stage, configs=folder)
    expect(done.returncode != 0, f"packaged although: {line}")
    # The notice of versions goes to the other stream.
    _, _, said = done.stdout.partition("Error:\n")
    lines = [text for text in said.splitlines() if text.strip()]
    expect(len(lines) == 1 and line in lines[0], f"instead of {line!r} it says:\n{said}")
    expect("Building" not in done.stdout + done.stderr, "it was built before the configuration was read")


@contextlib.contextmanager
def emulator() -> Iterator[str]:
    """moto. Its one gap in what we deploy is filled here: it takes for granted that an integration has a method and a
    URI, which the mock that answers OPTIONS has not."""
    create = Method.create_from_cloudformation_json.__func__

    def with_mock(cls: type, name: str, body: dict, *arguments: object, **keywords: object) -> Method:
        integration = {"IntegrationHttpMethod": None, "Uri": None} | body["Properties"]["Integration"]
        properties = body["Properties"] | {"Integration": integration}
        return create(cls, name, body | {"Properties": properties}, *arguments, **keywords)

    Method.create_from_cloudformation_json = classmethod(with_mock)
    # Every request, and every kind of resource that it passes over.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    logging.getLogger("moto").setLevel(logging.ERROR)
    warnings.simplefilter("ignore", UserWarning)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def check_deployment(stage: str, endpoint: str) -> None:
    variables = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
    done = serverless("deploy", "--stage", stage, configs=EXAMPLE, aws=variables)
    expect(done.returncode == 0, f"stage {stage} was not deployed:\n{done.stdout}{done.stderr}")

    def client(service: str) -> object:
        return boto3.client(
            service, endpoint_url=endpoint, region_name=REGION, aws_access_key_id="none", aws_secret_access_key="none"
        )

    (stack,) = client("cloudformation").describe_stacks(StackName=f"beer-club-{stage}")["Stacks"]
    expect(stack["StackStatus"].endswith("_COMPLETE"), f"the stack is {stack['StackStatus']}")
    hashes = {}
    for name in FUNCTIONS:
        function = client("lambda").get_function(FunctionName=f"beer-club-{stage}-{name}")["Configuration"]
        hashes[name] = function["CodeSha256"]
        zipped = (ROOT / f"target/lambda/{name}.zip").read_bytes()
        equal(f"{name}'s CodeSha256", hashes[name], base64.b64encode(hashlib.sha256(zipped).digest()).decode())
        expect(
            function["Environment"]["Variables"]["DATABASE_URL"].startswith("postgresql://"), f"{name} has no database"
        )
    equal("number of different CodeSha256", len(set(hashes.values())), len(FUNCTIONS))

    gateway = client("apigateway")
    (api,) = [a for a in gateway.get_rest_apis()["items"] if a["name"] == f"{stage}-beer-club"]
    resources = gateway.get_resources(restApiId=api["id"], embed=["methods"])["items"]
    routes = {(method, r["path"]) for r in resources for method in r.get("resourceMethods", {})}
    expected = set(ROUTES.values()) | {("OPTIONS", ROUTES[name][1]) for name in FRONT_END}
    equal("routes", routes, expected)
    short = " ".join(value[:8] for value in hashes.values())
    print(f"  {stage}: stack {stack['StackStatus']}, {len(routes)} routes, CodeSha256 {short}")


def smoke_run(zips: dict[str, Path], folder: Path) -> None:
    """The arm64 binaries start, and end with their one line about what is missing."""
    command = []
    if platform.machine() != "aarch64":
        emulate = shutil.which("qemu-aarch64")
        if emulate is None or not ARM64_LIBRARIES.exists():
            print("  not run: Debian's packages qemu-user and libc6-arm64-cross are not here")
            return
        command = [emulate, "-L", ARM64_LIBRARIES]
    for name, path in zips.items():
        with zipfile.ZipFile(path) as packed:
            binary = Path(packed.extract("bootstrap", folder / name))
        binary.chmod(0o755)
        done = subprocess.run([*command, binary], cwd=folder, env={}, capture_output=True, text=True, check=False)
        expect(
            done.returncode == 1 and "DATABASE_URL is not set" in done.stdout,
            f"{name} does not run: {done.returncode} {done.stdout}{done.stderr}",
        )
    print(f"  {len(zips)} arm64 binaries started")


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        print("packages for prod, then dev", flush=True)
        prod = Package("prod", folder / "prod")
        check_zips({"deploy/example/root.pem"})
        check_prod(prod)
        dev = Package("dev", folder / "dev")
        zips = check_zips(set())
        check_dev(dev)
        for path in zips.values():
            print(f"  {path.relative_to(ROOT)}: {path.stat().st_size} bytes")
        subprocess.run([Path(sys.executable).parent / "cfn-lint", *prod.templates, *dev.templates], check=True)
        print("  cfn-lint has nothing to say")
        print("arm64", flush=True)
        smoke_run(zips, folder)
        print("configurations that are wrong", flush=True)
        check_errors(folder)
        print("deploys to an emulator", flush=True)
        with emulator() as endpoint:
            for stage in ("prod", "dev"):
                check_deployment(stage, endpoint)


if __name__ == "__main__":
    try:
        main()
    except Wrong as wrong:
        sys.exit(f"make check-deploy: {wrong}")
