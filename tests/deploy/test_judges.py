"""Judges of the templates that others wrote."""

import subprocess
import sys
from pathlib import Path

import yaml
from package import Package
from processes import ROOT

# A bare `dev` lacks what a configuration must ask for: who may call (CKV_AWS_59), the access log (76), limits of the
# functions (115), a network (117).
CONFIG = yaml.safe_load((ROOT / "tests/deploy/checkov.yaml").read_text(encoding="utf-8"))
OPTIONAL = ("CKV_AWS_59", "CKV_AWS_76", "CKV_AWS_115", "CKV_AWS_117")
OPTIONAL_FOR_CFN_LINT = ("ES2000",)
# Rules of cfn-lint-serverless that do not hold here: the schedule's next call counts again what a failed one did not
# (ES4000, ES1007), and an alarm that cannot be mailed is in CloudWatch nevertheless (ES7000). A bill run's executions
# are not traced: one a month, and it has its history (WS5000). The framework makes a method
# depend on an authorizer that the method refers to anyway (W3005).
SKIPPED = ("ES1007", "ES4000", "ES7000", "WS5000", "W3005")


def judge(*command: object) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_cfn_lint_finds_nothing(package: Package) -> None:
    cfn_lint = Path(sys.executable).parent / "cfn-lint"
    skipped = [*SKIPPED, *(OPTIONAL_FOR_CFN_LINT if package.stage == "dev" else ())]
    rules = ["--append-rules", "cfn_lint_serverless.rules", "--ignore-checks", *skipped]
    judge(cfn_lint, *rules, "--", *package.templates)


def test_checkov_finds_nothing(package: Package) -> None:
    skipped = [*CONFIG["skip-check"], *(OPTIONAL if package.stage == "dev" else ())]
    checkov = [ROOT / "tests/deploy/.venv/checkov/bin/checkov", "--config-file", "tests/deploy/checkov.yaml"]
    judge(*checkov, "--skip-check", ",".join(skipped), "-f", package.templates[-1])


def test_the_validator_of_state_machines_finds_nothing() -> None:
    judge(ROOT / "node_modules/.bin/asl-validator", "--json-path", ROOT / "deploy/bill-run.asl.json")
