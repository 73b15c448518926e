"""The operators' tool signs its requests as the gateway wants them, with the credentials of its environment."""

import re
import subprocess
from pathlib import Path

import pytest
from botocore.credentials import Credentials
from package import REGION
from stage import Stage

COMPLETE, NOT_AUTHORIZED = 0, 6
ON_PROD = pytest.mark.parametrize("stage", ["prod"], indirect=True)


def ends(tool: Path, *arguments: str, by: Credentials | None) -> tuple[int, str]:
    """Its exit status, and what it says."""
    environment = {"AWS_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true"}
    if by:
        environment |= {"AWS_ACCESS_KEY_ID": by.access_key, "AWS_SECRET_ACCESS_KEY": by.secret_key}
    done = subprocess.run([tool, *arguments], env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def subscribe_by_hand(stage: Stage, *ids: str) -> None:
    """With ids that are encoded in a path: what is signed is encoded once more."""
    for id in ids:
        stage.database.run(
            "insert into subscription (id, club_id, customer_store_id) values (%(id)s, 1, %(id)s)", id=id
        )
        stage.database.run(
            "insert into subscription_status_history (id, subscription_id, status_id, effect_date)"
            " values (%(id)s, %(id)s, 1, '2020-01-01')",
            id=id,
        )


@ON_PROD
def test_a_month_is_charged_with_signed_requests(
    tool: Path, stage: Stage, operator: Credentials, stranger: Credentials
) -> None:
    # Not a slash: the emulator decodes it before it looks at the signature.
    subscribe_by_hand(stage, "a b é", "~._-")
    charge = ("charge", "--api", stage.url(), "--yes")
    forged = Credentials(operator.access_key, "another secret")
    for nobody in (None, forged, stranger):
        status, said = ends(tool, *charge, by=nobody)
        assert status == NOT_AUTHORIZED, said
    status, said = ends(tool, *charge, by=operator)
    assert status == COMPLETE, said
    (charged,) = re.findall(r"= (\d+) charged", said)
    assert int(charged) >= 2
    assert "0 rejected + 0 unknown + 0 left" in said
    for secret in (operator.secret_key, forged.secret_key):
        assert secret not in said
