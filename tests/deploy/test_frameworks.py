"""Serverless Framework 3 packages what osls does, and functions.yml works in somebody else's serverless.yml."""

import json
import re
import shutil
from pathlib import Path

import pytest
from functions import DEFINITIONS
from package import METHODS, OSLS, SERVERLESS_3, Package, Template, run_framework
from processes import ROOT

# Serverless Framework 3 does not know the setting `logs.lambda`. The functions log JSON all the same.
ONLY_OF_OSLS = {"LoggingConfig": {"LogFormat": "JSON"}}
PAGE = (ROOT / "docs/deploying.md").read_text(encoding="utf-8")
# The serverless.yml that the page shows.
(FOREIGN,) = re.findall(r"^```yaml\n(service: .*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def comparable(package: Package) -> dict:
    """Without what differs from one packaging to the next: the folder of the zips and the deployment's name."""
    text = json.dumps(package.resources)
    text = re.sub(r"ApiGatewayDeployment\d+", "ApiGatewayDeployment", text)
    return json.loads(re.sub(r"/\d+-\d{4}-\d\d-\d\dT[\d:.]+Z/", "/then/", text))


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_both_frameworks_package_the_same_resources(stage: str, packages: dict[str, Package], tmp_path: Path) -> None:
    other = Package(stage, tmp_path, framework=SERVERLESS_3)
    assert other.warnings == packages[stage].warnings
    expected = comparable(packages[stage])
    for resource in expected.values():
        if resource["Type"] == "AWS::Lambda::Function":
            for key, value in ONLY_OF_OSLS.items():
                assert resource["Properties"].pop(key) == value
    assert comparable(other) == expected


def test_functions_yml_has_no_variables() -> None:
    assert "${" not in (ROOT / "functions.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("framework", [OSLS, SERVERLESS_3], ids=["osls", "serverless-3"])
def test_a_foreign_serverless_yml_includes_the_functions(framework: Path, dev: Package, tmp_path: Path) -> None:
    (tmp_path / "serverless.yml").write_text(FOREIGN, encoding="utf-8")
    assert len(FOREIGN.splitlines()) == 10
    shutil.copy(ROOT / "functions.yml", tmp_path)
    (tmp_path / "target/lambda").mkdir(parents=True)
    for zipped in dev.zips.values():
        shutil.copy(zipped, tmp_path / "target/lambda")
    done = run_framework(framework, "package", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = Template(tmp_path / ".serverless")
    assert set(found.methods()) == METHODS
    for name, definition in DEFINITIONS.items():
        function = found.function(name)
        assert function["Code"]["S3Key"].endswith(f"/{name}.zip")
        assert (function["Runtime"], function["Handler"]) == ("provided.al2023", "bootstrap")
        assert (function["Timeout"], function["MemorySize"]) == (definition["timeout"], definition["memorySize"])
