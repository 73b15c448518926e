"""Each kind of stage, and for each of its routes who gets in. docs/deploying.md ("Stages") says the same in words."""

import json

import pytest
from functions import ROUTES, Route
from kinds import FUNCTION, KINDS, POOL
from package import Package

WHO_GETS_IN = """
| route                                       | dev     | production | Dev | dev-2 | staging  |
| POST /club/{id}/subscribe                   | anybody | anybody    | iam | pool  | function |
| POST /subscription/{id}/status              | anybody | anybody    | iam | pool  | function |
| GET /subscription/{id}                      | anybody | anybody    | iam | pool  | function |
| GET /subscription/{id}/charge               | anybody | anybody    | iam | pool  | function |
| GET /club                                   | anybody | anybody    | iam | pool  | function |
| GET /subscription                           | anybody | iam        | iam | pool  | function |
| GET /subscription/eligible                  | anybody | iam        | iam | iam   | anybody  |
| POST /subscription/{id}/charge/{request_id} | anybody | iam        | iam | iam   | anybody  |
| GET /charge                                 | anybody | iam        | iam | iam   | anybody  |
"""
_, *STAGES = [cell.strip() for cell in WHO_GETS_IN.splitlines()[1].strip("| ").split("|")]
ROWS = [[cell.strip() for cell in line.strip("| ").split("|")] for line in WHO_GETS_IN.splitlines()[2:]]
EXPECTED = {(route, stage): who for route, *cells in ROWS for stage, who in zip(STAGES, cells, strict=True)}

OPERATORS_ROUTES = "GET /charge, GET /subscription/eligible, POST /subscription/{id}/charge/{request_id}"
CUSTOMERS_ROUTES = (
    "POST /club/{id}/subscribe, POST /subscription/{id}/status, GET /subscription/{id}, GET /subscription/{id}/charge,"
    " GET /club"
)
OWNER = (
    "the functions have the owner's login, which may rewrite the ledger: `database.functions_user` of {} names another"
)
READABLE = "can be read in the functions' environments and in the template: give the ARN of a secret instead"
PLACEHOLDER = "the platform's api_secret is the placeholder of model_config.json"
WARNINGS = {
    "dev": [
        f"anybody may call GET /subscription, {OPERATORS_ROUTES} on stage dev:"
        " `operators.authorization` of dev_config.json closes them",
    ],
    "production": [
        "anybody may act for any customer on stage production:"
        f" `customers.authorization` of production_config.json closes {CUSTOMERS_ROUTES}",
        "`database.sslmode` require does not check which server answers: verify-full is safe",
        OWNER.format("production_config.json"),
        f"`database.db_password` {READABLE}",
        PLACEHOLDER,
        "a customer may change a subscription as often as they like: `changes_per_day` of production_config.json is 0",
        "nothing shows who called: `access_log` of production_config.json keeps a line for each call",
        "nobody hears of failures and of charges that need a person: `alarms` of production_config.json says who",
    ],
    "Dev": [
        OWNER.format("Dev_config.json"),
        f"`database.db_password` {READABLE}",
        f"the platform's api_secret {READABLE}",
    ],
    "dev-2": [
        "customers may be able to write the claim custom:customer_id and so act for others:"
        " see `customers.claim` in docs/deploying.md",
        "any page may call with a customer's token: `cors_allow_origin` of dev-2_config.json names the shop's origin",
        OWNER.format("dev-2_config.json"),
        f"`database.db_password` {READABLE}",
        PLACEHOLDER,
    ],
    "staging": [
        f"anybody may call {OPERATORS_ROUTES} on stage staging:"
        " `operators.authorization` of staging_config.json closes them",
        PLACEHOLDER,
    ],
}


@pytest.fixture(params=STAGES)
def kind(request: pytest.FixtureRequest, kinds: dict[str, Package]) -> Package:
    return kinds[request.param]


def who_gets_in(method: dict, package: Package) -> str:
    """As the template says."""
    if method["AuthorizationType"] in ("NONE", "AWS_IAM"):
        assert "AuthorizerId" not in method
        return {"NONE": "anybody", "AWS_IAM": "iam"}[method["AuthorizationType"]]
    assert "AuthorizationScopes" not in method
    authorizer = package.resources[method["AuthorizerId"]["Ref"]]["Properties"]
    assert authorizer["IdentitySource"] == "method.request.header.Authorization"
    if method["AuthorizationType"] == "COGNITO_USER_POOLS":
        assert (authorizer["Type"], authorizer["ProviderARNs"]) == ("COGNITO_USER_POOLS", [POOL])
        return "pool"
    assert (method["AuthorizationType"], authorizer["Type"]) == ("CUSTOM", "TOKEN")
    assert FUNCTION in json.dumps(authorizer["AuthorizerUri"])
    return "function"


def test_the_table_has_every_route_and_every_kind() -> None:
    assert sorted(route for route, *_ in ROWS) == sorted(map(str, ROUTES))
    assert set(STAGES) == set(KINDS) == set(WARNINGS)


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_each_route_lets_in_whom_the_table_says(route: Route, kind: Package) -> None:
    methods = kind.methods()
    assert who_gets_in(methods[route.method, route.path], kind) == EXPECTED[str(route), kind.stage]
    if route.has_cors:
        # A browser's question, which carries no token.
        assert who_gets_in(methods["OPTIONS", route.path], kind) == "anybody"


def test_every_weakness_is_a_line_and_nothing_else_is(kind: Package) -> None:
    assert kind.warnings == WARNINGS[kind.stage]


def test_the_example_has_no_weakness(prod: Package) -> None:
    assert prod.warnings == []
