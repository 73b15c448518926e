"""The template for CloudFormation, of each stage of the example."""

import json
import re
import subprocess
from collections import defaultdict
from urllib.parse import quote

import pytest
from functions import FUNCTIONS, ROUTES, Route
from package import BILL_RUN, FRONT_END, METHODS, OPERATORS, REGION, Package, logical
from processes import ROOT


def constant(file: str, pattern: str) -> int:
    """A constant of the code."""
    return int(re.search(pattern, (ROOT / file).read_text(encoding="utf-8"))[1].replace("_", ""))


# Seconds.
GATEWAY_TIMEOUT = 29
LONGEST_CALL_OUT = constant("crates/core/src/config.rs", r"LONGEST_TIMEOUT_MS: u64 = ([\d_]+);") // 1000
SETTLE_TIME = constant("crates/core/src/charge/protocol.rs", r"SETTLE_TIME: Duration = Duration::from_secs\((\d+)\);")
EACH_FUNCTION = pytest.mark.parametrize("name", FUNCTIONS)


def listed(value: object) -> list:
    return value if isinstance(value, list) else [value]


@EACH_FUNCTION
def test_each_function_has_a_zip_of_its_name(name: str, package: Package) -> None:
    assert package.function(name)["Code"]["S3Key"].rsplit("/", 1)[1] == f"{name}.zip"


def test_nothing_else_is_a_function(package: Package) -> None:
    assert len(package.all("AWS::Lambda::Function")) == len(package.functions)


@EACH_FUNCTION
def test_a_function_runs_as_it_should(name: str, package: Package) -> None:
    function = package.function(name)
    assert function["LoggingConfig"]["LogFormat"] == "JSON"
    assert (function["Runtime"], function["Architectures"]) == ("provided.al2023", ["arm64"])
    assert function["TracingConfig"] == {"Mode": "Active"}
    assert function["Timeout"] < GATEWAY_TIMEOUT, "it may run for longer than the gateway waits"
    assert function["MemorySize"] >= 256, "a TLS handshake would be slow"
    logs = package.resources[f"{name.capitalize()}LogGroup"]["Properties"]
    assert logs.get("RetentionInDays"), "its log is kept for ever"


def test_charge_has_time_to_settle(package: Package) -> None:
    assert package.function("charge")["Timeout"] >= LONGEST_CALL_OUT + SETTLE_TIME + 2


def test_eligible_has_memory_for_its_longest_answer(package: Package) -> None:
    assert package.function("eligible")["MemorySize"] >= 512


@EACH_FUNCTION
def test_only_charge_knows_the_platform(name: str, package: Package) -> None:
    assert ("ECOMMERCE_API_SECRET" in package.function(name)["Environment"]["Variables"]) == (name == "charge")


@EACH_FUNCTION
def test_a_function_allows_the_configured_origin(name: str, package: Package) -> None:
    origin = package.config.get("cors_allow_origin", "*")
    assert package.function(name)["Environment"]["Variables"]["CORS_ALLOW_ORIGIN"] == origin


def test_there_are_these_routes_and_no_others(package: Package) -> None:
    assert set(package.methods()) == METHODS


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_a_route_calls_its_function(route: Route, package: Package) -> None:
    uri = json.dumps(package.methods()[route.method, route.path]["Integration"]["Uri"])
    assert f'"{route.function.capitalize()}LambdaFunction"' in uri


@EACH_FUNCTION
def test_the_functions_for_customers_know_the_claim(name: str, package: Package) -> None:
    claim = package.config.get("customers", {}).get("claim")
    expected = claim if name in {route.function for route in FRONT_END} else None
    assert package.function(name)["Environment"]["Variables"].get("CUSTOMER_CLAIM") == expected


@pytest.mark.parametrize("route", FRONT_END, ids=str)
def test_a_page_may_call_the_front_ends_routes(route: Route, package: Package) -> None:
    (answer,) = package.methods()["OPTIONS", route.path]["Integration"]["IntegrationResponses"]
    allowed = {key.rsplit("-", 1)[1]: value for key, value in answer["ResponseParameters"].items()}
    assert allowed["Origin"] == f"'{package.config.get('cors_allow_origin', '*')}'"
    assert route.method in allowed["Methods"]
    assert allowed["Headers"] == ("'content-type,authorization'" if package.stage == "prod" else "'content-type'")


def test_the_gateway_is_regional_and_compresses(package: Package) -> None:
    api = package.one("AWS::ApiGateway::RestApi")
    assert api["EndpointConfiguration"] == {"Types": ["REGIONAL"]}
    assert api["MinimumCompressionSize"]


def test_the_gateways_own_answers_are_problems_that_a_page_may_read(package: Package) -> None:
    origin = package.config.get("cors_allow_origin", "*")
    answers = {answer["ResponseType"]: answer for answer in package.all("AWS::ApiGateway::GatewayResponse")}
    assert {"DEFAULT_4XX", "DEFAULT_5XX", "THROTTLED", "ACCESS_DENIED", "REQUEST_TOO_LARGE"} <= set(answers)
    for answer in answers.values():
        headers = {key.rsplit(".", 1)[1]: value for key, value in answer["ResponseParameters"].items()}
        assert headers["Access-Control-Allow-Origin"] == f"'{origin}'"
        assert headers["Content-Type"] == "'application/problem+json'"
        assert headers["X-Content-Type-Options"] == "'nosniff'"
        problem = json.loads(answer["ResponseTemplates"]["application/json"])
        assert problem["instance"] == "urn:uuid:$context.requestId"
        assert str(problem.get("status", "")) == answer.get("StatusCode", "")
        repeat = answer.get("StatusCode", "") in {"429", "504"} or answer["ResponseType"] == "DEFAULT_5XX"
        assert headers.get("Retry-After") == ("'1'" if repeat else None)
        assert headers["Access-Control-Expose-Headers"] == "'billing-month,link,location,retry-after'"


def test_the_document_has_the_gateways_codes(packages: dict[str, Package]) -> None:
    answers = [answer for package in packages.values() for answer in package.all("AWS::ApiGateway::GatewayResponse")]
    made = defaultdict(set)
    for answer in answers:
        code = json.loads(answer["ResponseTemplates"]["application/json"])["code"]
        made[code].add(answer.get("StatusCode") or f"other {answer['ResponseType'][-3:].lower()}")
    document = (ROOT / "openapi.yaml").read_text(encoding="utf-8")
    rows = re.findall(r"^ +\| `(\w+)` \| ((?:other )?\d[\w, ]*) \|", document, re.MULTILINE)
    assert {code: set(statuses.split(", ")) for code, statuses in rows} == made


def test_the_deployment_has_all_of_the_gateway_in_it(package: Package) -> None:
    (deployment,) = [r for r in package.resources.values() if r["Type"] == "AWS::ApiGateway::Deployment"]
    own = {name for name, r in package.resources.items() if r["Type"] == "AWS::ApiGateway::GatewayResponse"}
    assert own <= set(deployment["DependsOn"])
    # With those, CloudFormation refuses every deployment but the first.
    assert not {"StageName", "StageDescription"} & set(deployment["Properties"])
    stage = package.one("AWS::ApiGateway::Stage")
    assert (stage["StageName"], stage["TracingEnabled"]) == (package.stage, True)


def test_every_route_has_a_limit_and_closed_ones_theirs(package: Package) -> None:
    settings = package.one("AWS::ApiGateway::Stage")["MethodSettings"]
    limits = {
        (s["HttpMethod"], s["ResourcePath"]): (s["ThrottlingRateLimit"], s["ThrottlingBurstLimit"]) for s in settings
    }
    if package.stage == "prod":
        throttle = package.config["throttle"]
        expected = {
            (route.method, "/" + route.path.replace("/", "~1")): (chosen["rate_limit"], chosen["burst_limit"])
            for routes, chosen in ((OPERATORS, package.config["operators"]), (FRONT_END, package.config["customers"]))
            for route in routes
        }
        assert limits == expected | {("*", "/*"): (throttle["rate_limit"], throttle["burst_limit"])}
    else:
        assert limits == {("*", "/*"): (100, 200)}


def role_of(name: str, package: Package) -> str:
    role, attribute = package.function(name)["Role"]["Fn::GetAtt"]
    assert attribute == "Arn"
    return role


def test_each_function_has_its_own_role(package: Package) -> None:
    roles = {role_of(name, package) for name in package.functions}
    assert len(roles) == len(package.functions)
    for name, resource in package.resources.items():
        if resource["Type"] != "AWS::IAM::Role":
            continue
        assert "RoleName" not in resource["Properties"], "CloudFormation makes a name that is not too long"
        (trust,) = resource["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        (service,) = listed(trust["Principal"]["Service"])
        assert (name in roles) == (service == "lambda.amazonaws.com"), "nobody has a role of all functions"


def test_a_function_may_do_this_and_nothing_else(package: Package) -> None:
    """In a network and without, with references to secrets and without."""
    config = package.config
    stage = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${ApiGatewayRestApi}/" + package.stage
    of_operators = {f"{stage}/{route.method}{re.sub(r'{.+?}', '*', route.path)}" for route in OPERATORS}
    database = config["database"]
    password = database.get("functions_password", database["db_password"]).removesuffix(":password::")
    passwords = [password] if password.startswith("arn:") else []
    parameters = [config["ecommerce"][key] for key in ("api_key", "api_secret")] if "ecommerce" in config else []
    for name in package.functions:
        secrets = {
            "ssm:GetParameter": parameters if name == "charge" else [],
            "secretsmanager:GetSecretValue": passwords,
            "kms:Decrypt": [config["secrets_kms_key_arn"]] if passwords else [],
        }
        routes = {"execute-api:Invoke": [{"Fn::Sub": route} for route in sorted(of_operators)]}
        log = [{"Fn::GetAtt": [f"{logical(name)}LogGroup", "Arn"]}]
        expected = {
            "logs:CreateLogStream": log,
            "logs:PutLogEvents": log,
            "xray:PutTraceSegments": ["*"],
            "xray:PutTelemetryRecords": ["*"],
        } | (routes if name == BILL_RUN else secrets)
        found = defaultdict(list)
        for statement in package.statements(role_of(name, package)):
            if statement["Effect"] == "Allow":
                assert statement.keys() == {"Effect", "Action", "Resource"}
                for action in listed(statement["Action"]):
                    found[action] += sorted(listed(statement["Resource"]), key=str)
        assert found == {action: resources for action, resources in expected.items() if resources}, name


def test_in_a_network_lambda_makes_the_interfaces_and_the_code_may_not(package: Package) -> None:
    for name in package.functions:
        function, role = package.function(name), role_of(name, package)
        is_inside = "VpcConfig" in function
        assert is_inside == ("vpc" in package.config and name != BILL_RUN)
        managed = [arn["Fn::Join"][1][-1] for arn in package.resources[role]["Properties"].get("ManagedPolicyArns", [])]
        assert managed == [":iam::aws:policy/service-role/AWSLambdaENIManagementAccess"] * is_inside
        denied = [statement for statement in package.statements(role) if statement["Effect"] == "Deny"]
        assert len(denied) == is_inside
        arn = "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:" + function["FunctionName"]
        for statement in denied:
            assert statement["Condition"] == {"ArnEquals": {"lambda:SourceFunctionArn": {"Fn::Sub": arn}}}
            assert (statement["Resource"], len(statement["Action"])) == ("*", 6)
            assert all(re.fullmatch(r"ec2:\w+(NetworkInterfaces?|Subnets|Addresses)", a) for a in statement["Action"])


def test_the_packages_bucket_is_private(package: Package) -> None:
    bucket = package.one("AWS::S3::Bucket")
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4


def test_an_hourly_schedule_counts_where_there_are_alarms(package: Package) -> None:
    rule = package.one("AWS::Events::Rule")
    assert rule["ScheduleExpression"] == "rate(1 hour)"
    assert rule["State"] == ("ENABLED" if "alarms" in package.config else "DISABLED")
    (target,) = rule["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": ["UnresolvedLambdaFunction", "Arn"]}


# A configuration without settings.


def test_charges_settings_are_the_models(dev: Package) -> None:
    model = json.loads((ROOT / "model_config.json").read_text())["ecommerce"]
    password = "example%3A%20%25%26%2F%3F%23%5B%5D%40"
    assert dev.function("charge")["Environment"]["Variables"] == {
        "DATABASE_URL": f"postgresql://beer%40club:{password}@[2001:db8::1]:5432/beer%20club?sslmode=prefer",
        "CORS_ALLOW_ORIGIN": "*",
        "ECOMMERCE_BASE_URL": model["base_url"],
        "ECOMMERCE_API_KEY": model["api_key"],
        "ECOMMERCE_API_SECRET": model["api_secret"],
        "BILLING_TIMEZONE": "UTC",
    }


def test_what_is_not_asked_for_is_not_there(dev: Package) -> None:
    for name in FUNCTIONS:
        assert not {"VpcConfig", "Layers", "ReservedConcurrentExecutions"} & set(dev.function(name))
    for kind in ("AWS::CloudWatch::Alarm", "AWS::WAFv2::WebACLAssociation"):
        assert dev.all(kind) == []
    assert "AccessLogSetting" not in dev.one("AWS::ApiGateway::Stage")


def test_no_secret_stands_outside_a_functions_environment(dev: Package) -> None:
    secrets = (dev.function("charge")["Environment"]["Variables"]["ECOMMERCE_API_SECRET"], "example%3A%20%25")
    for resource in dev.resources.values():
        public = {key: value for key, value in resource.get("Properties", {}).items() if key != "Environment"}
        assert not any(secret in json.dumps(public) for secret in secrets), resource["Type"]


# A configuration with all of them.


def test_the_database_is_verified_and_its_password_is_a_reference(prod: Package) -> None:
    url = prod.function("charge")["Environment"]["Variables"]["DATABASE_URL"]
    assert "sslmode=verify-full&sslrootcert=deploy%2Fexample%2Froot.pem" in url
    password = prod.config["database"]["functions_password"]
    assert url.startswith(f"postgresql://beer_club_functions:{quote(password, safe='')}@")


def test_zero_as_the_databases_idle_timeout_reaches_the_functions(prod: Package) -> None:
    assert prod.function("charge")["Environment"]["Variables"]["DATABASE_IDLE_TIMEOUT_MS"] == "0"


def test_charge_has_the_configured_settings(prod: Package) -> None:
    variables = prod.function("charge")["Environment"]["Variables"]
    for key in ("api_key", "api_secret"):
        assert variables[f"ECOMMERCE_{key.upper()}"] == prod.config["ecommerce"][key]
    assert variables["ECOMMERCE_TIMEOUT_MS"] == str(prod.config["ecommerce"]["timeout_ms"])
    assert variables["BILLING_TIMEZONE"] == prod.config["billing_timezone"]


@EACH_FUNCTION
def test_a_function_is_in_the_network_with_its_limit_and_the_extension(name: str, prod: Package) -> None:
    function = prod.function(name)
    assert function["VpcConfig"]["SubnetIds"] == prod.config["vpc"]["subnet_ids"]
    assert function["VpcConfig"]["SecurityGroupIds"] == prod.config["vpc"]["security_group_ids"]
    assert function.get("ReservedConcurrentExecutions") == prod.config["concurrency"].get(name)
    assert prod.function(BILL_RUN)["ReservedConcurrentExecutions"] == prod.config["concurrency"][BILL_RUN]
    (layer,) = function["Layers"]
    assert re.search(rf":{REGION}:.*Secrets-Lambda-Extension-Arm64:", layer)


# None of these has an id. The gateway's messages are not here, because they repeat the path as it was sent.
WITHOUT_IDS = {
    "$context.requestId",
    "$context.httpMethod $context.resourcePath",
    "$context.status",
    "$context.responseLatency",
    "$context.error.responseType",
    "$context.authorizer.status",
    "$context.identity.userArn",
}


def test_the_access_log_has_no_ids_in_it(prod: Package) -> None:
    log = prod.one("AWS::ApiGateway::Stage")["AccessLogSetting"]
    assert log["DestinationArn"] == {"Fn::GetAtt": ["AccessLog", "Arn"]}
    assert prod.resources["AccessLog"]["Properties"]["RetentionInDays"]
    line = json.loads(log["Format"])
    assert prod.config["access_log"] == {"source_address": True, "subject": True}
    assert line.pop("sourceAddress") == "$context.identity.sourceIp"
    assert line.pop("subject") == "$context.authorizer.claims.sub"
    assert set(line.values()) == WITHOUT_IDS


@pytest.mark.parametrize(
    ("chosen", "authorizer", "more"),
    [
        (True, None, {}),
        (True, {"type": "COGNITO_USER_POOLS"}, {}),
        ({"source_address": False}, "aws_iam", {}),
        ({"source_address": True}, "aws_iam", {"sourceAddress": "$context.identity.sourceIp"}),
        ({"subject": True}, {"type": "TOKEN"}, {"subject": "$context.authorizer.principalId"}),
    ],
)
def test_the_access_log_has_personal_data_only_if_it_is_asked_for(
    chosen: object, authorizer: object, more: dict
) -> None:
    script = """
        const stage = { Properties: {} }, service = { service: 's', provider: { stage: 'x' } };
        require('./deploy/access-log')(stage, service, ...JSON.parse(process.argv[1]));
        console.log(stage.Properties.AccessLogSetting.Format);
    """
    command = ["node", "--eval", script, json.dumps([chosen, authorizer])]
    line = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    assert {key: line.pop(key) for key in more} == more
    assert set(line.values()) == WITHOUT_IDS


def test_the_firewall_is_associated_with_the_stage(prod: Package) -> None:
    association = prod.one("AWS::WAFv2::WebACLAssociation")
    assert association["WebACLArn"] == prod.config["web_acl_arn"]
    arn, _ = association["ResourceArn"]["Fn::Sub"]
    assert arn.endswith("::/restapis/${Api}/stages/${ApiGatewayStage}")


@pytest.fixture
def alarms(prod: Package) -> dict[str, dict]:
    return {a["AlarmName"].removeprefix("beer-club-prod-"): a for a in prod.all("AWS::CloudWatch::Alarm")}


def test_there_are_these_alarms_and_somebody_hears_them(alarms: dict[str, dict]) -> None:
    expected = {"5xx", "throttles", "charge-outcome-unknown", "unresolved-charges"}
    assert set(alarms) == expected | {"bill-run-failed", "bill-run-missing"}, "deploy/alarms.yml, bill_run_alarms.yml"
    for alarm in alarms.values():
        assert alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}]


def test_the_stages_failures_are_counted(alarms: dict[str, dict], prod: Package) -> None:
    watched = [
        {"Name": "ApiName", "Value": prod.one("AWS::ApiGateway::RestApi")["Name"]},
        {"Name": "Stage", "Value": "prod"},
    ]
    assert (alarms["5xx"]["MetricName"], alarms["5xx"]["Dimensions"]) == ("5XXError", watched)


def test_every_functions_throttles_are_counted(alarms: dict[str, dict]) -> None:
    metrics = alarms["throttles"]["Metrics"]
    counted = {m["Id"]: m["MetricStat"]["Metric"]["Dimensions"][0]["Value"] for m in metrics if "MetricStat" in m}
    assert counted == {name: {"Ref": f"{name.capitalize()}LambdaFunction"} for name in FUNCTIONS}
    (expression,) = [metric["Expression"] for metric in metrics if "Expression" in metric]
    assert expression == " + ".join(f"FILL({name}, 0)" for name in FUNCTIONS)


def test_metrics_are_made_of_what_the_functions_log(alarms: dict[str, dict], prod: Package) -> None:
    filters = {f["MetricTransformations"][0]["MetricName"]: f for f in prod.all("AWS::Logs::MetricFilter")}
    for name, log, pattern in (
        ("charge-outcome-unknown", "ChargeLogGroup", "charge_outcome_unknown"),
        ("unresolved-charges", "UnresolvedLogGroup", "{ $.unresolved_charges = * }"),
    ):
        made = filters.pop(alarms[name]["MetricName"])
        assert made["LogGroupName"] == {"Ref": log}
        assert made["FilterPattern"] == pattern
        assert made["MetricTransformations"][0]["MetricNamespace"] == alarms[name]["Namespace"]
    assert filters == {}


def test_mail_has_counts_only(prod: Package) -> None:
    """A mail has an alarm's texts, its metrics with their dimensions, or the counts of a bill run.

    test_bill_run_on_aws.py reads a bill run's message. The state machine lets nothing else through.
    """
    topic = {"Ref": "AlarmTopic"}
    mailing = {name for name, resource in prod.resources.items() if topic in references(resource["Properties"])}
    alarms = {name for name, resource in prod.resources.items() if resource["Type"] == "AWS::CloudWatch::Alarm"}
    assert mailing == alarms | {"AlarmSubscription", "AlarmTopicPolicy", "BillRun", "BillRunTells"}
    for name in alarms:
        alarm = prod.resources[name]["Properties"]
        texts = [alarm["AlarmName"], alarm["AlarmDescription"]]
        metrics = [each["MetricStat"]["Metric"] for each in alarm.get("Metrics", []) if "MetricStat" in each] or [alarm]
        dimensions = [dimension for metric in metrics for dimension in metric.get("Dimensions", [])]
        assert all(isinstance(text, str) and not re.search(r"\$|{", text) for text in texts)
        assert {dimension["Name"] for dimension in dimensions} <= {
            "ApiName",
            "Stage",
            "FunctionName",
            "StateMachineArn",
        }
    for made in prod.all("AWS::Logs::MetricFilter"):
        (transformation,) = made["MetricTransformations"]
        assert "Dimensions" not in transformation, "a dimension is a text from the log"
        assert transformation["MetricValue"] in {"1", "$.unresolved_charges"}


def references(value: object) -> list:
    """Every object in this one."""
    if isinstance(value, dict):
        return [value, *(found for each in value.values() for found in references(each))]
    return [found for each in value for found in references(each)] if isinstance(value, list) else []


def test_only_cloudwatch_may_publish_alarms(prod: Package) -> None:
    (statement,) = prod.one("AWS::SNS::TopicPolicy")["PolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "cloudwatch.amazonaws.com"}


def test_the_dashboard_is_json(prod: Package) -> None:
    json.loads(prod.one("AWS::CloudWatch::Dashboard")["DashboardBody"]["Fn::Sub"])


def test_the_example_has_every_setting(prod: Package) -> None:
    """So that each is packaged here, but for those that exclude each other or replace what is known."""
    schema = json.loads((ROOT / "deploy/config.schema.json").read_text(encoding="utf-8"))
    assert set(schema["properties"]) - set(prod.config) == {"$schema", "secrets_extension_arn"}
