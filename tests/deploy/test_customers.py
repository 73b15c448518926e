"""A stage that authenticates customers, with a user pool and its tokens, from a page of another origin."""

import json
import os
from subprocess import PIPE, STDOUT, run

from emulator import Emulator
from processes import ROOT
from stage import Stage

PASSWORD = "Beer-for-2026!"


class UserPool:
    """The stage's."""

    def __init__(self, stage: Stage, emulator: Emulator) -> None:
        self.cognito = emulator.client("cognito-idp")
        self.pool = stage.config["customers"]["arn"].rsplit("/", 1)[1]

    def sign_up(self, name: str) -> str:
        """The id of a new customer."""
        user = {"UserPoolId": self.pool, "Username": name}
        self.cognito.admin_create_user(**user, MessageAction="SUPPRESS")
        self.cognito.admin_set_user_password(**user, Password=PASSWORD, Permanent=True)
        attributes = self.cognito.admin_get_user(**user)["UserAttributes"]
        return next(attribute["Value"] for attribute in attributes if attribute["Name"] == "sub")

    def token(self, name: str, seconds: int) -> str:
        """A token that is valid for as long."""
        client = self.cognito.create_user_pool_client(
            UserPoolId=self.pool,
            ClientName="the shop's page",
            ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH"],
            IdTokenValidity=seconds,
            TokenValidityUnits={"IdToken": "seconds"},
        )["UserPoolClient"]
        answer = self.cognito.initiate_auth(
            ClientId=client["ClientId"],
            AuthFlow="USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": name, "PASSWORD": PASSWORD},
        )
        return answer["AuthenticationResult"]["IdToken"]


def test_each_customer_sees_and_pauses_only_their_own(shop: Stage, emulator: Emulator) -> None:
    pool = UserPool(shop, emulator)
    ids = {name: pool.sign_up(name) for name in ("ana", "bia")}
    customers = {name: {"id": ids[name], "token": pool.token(name, 3600)} for name in ids}
    environment = {
        "API_URL": shop.url(),
        "CUSTOMERS": json.dumps(list(customers.values())),
        "EXPIRING_TOKEN": pool.token("ana", 1),
    }
    command = ["node", "--test", ROOT / "tests/deploy/customers.mjs"]
    found = run(command, cwd=ROOT, env=os.environ | environment, stdout=PIPE, stderr=STDOUT, text=True, check=False)
    assert found.returncode == 0, found.stdout
