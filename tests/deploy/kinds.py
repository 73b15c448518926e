"""A configuration of each kind of stage."""

import json

from package import EXAMPLE, REGION

POOL = f"arn:aws:cognito-idp:{REGION}:123456789012:userpool/{REGION}_AbCdEfGhI"
FUNCTION = f"arn:aws:lambda:{REGION}:123456789012:function:customers"
DATABASE = json.loads((EXAMPLE / "dev_config.json").read_text(encoding="utf-8"))["database"]
# By stage name. Only the name `dev` means something.
KINDS = {
    "dev": {"database": DATABASE},
    "production": {
        "database": DATABASE | {"sslmode": "require"},
        "customers": {"authorization": "none"},
        "changes_per_day": 0,
    },
    "Dev": {
        "database": DATABASE | {"db_host": "127.0.0.1", "sslmode": "disable"},
        "ecommerce": {"base_url": "https://e.example.com", "api_key": "a key", "api_secret": "a secret"},
        "customers": {"authorization": "aws_iam"},
        "access_log": True,
        "alarms": {"email": "on-duty@example.com"},
    },
    "dev-2": {
        "database": DATABASE,
        "customers": {"authorization": "cognito", "arn": POOL, "claim": "custom:customer_id"},
        "access_log": True,
        "alarms": {"email": "on-duty@example.com"},
    },
    "staging": {
        "database": DATABASE
        | {
            "functions_user": "beer_club_functions",
            "functions_password": f"arn:aws:ssm:{REGION}:123456789012:parameter/password",
        },
        "customers": {"authorization": "lambda", "arn": FUNCTION},
        "cors_allow_origin": "https://shop.example.com",
        "operators": {"authorization": "none"},
        "access_log": True,
        "alarms": {"email": "on-duty@example.com"},
    },
}
