"""A browser decides what a page may read."""

from subprocess import CompletedProcess

import pytest
from conftest import run
from document import OPERATIONS, ROOT
from gateway import Answer, Gateway, without_header


def browse(url: str) -> CompletedProcess:
    return run("node", "--test", ROOT / "contract/browser.mjs", API_URL=url)


def test_a_page_uses_the_local_api(api: str) -> None:
    found = browse(api)
    assert found.returncode == 0, found.stdout


def test_a_page_uses_the_functions_behind_a_gateway(gateway: Gateway) -> None:
    found = browse(gateway.url)
    assert found.returncode == 0, found.stdout


def use_page(url: str) -> CompletedProcess:
    return run("node", "--test", ROOT / "contract/page.mjs", API_URL=url, ROUTES=str(len(OPERATIONS)))


def test_a_person_tries_every_route_on_the_page(api: str) -> None:
    found = use_page(api)
    assert found.returncode == 0, found.stdout


def test_a_page_that_calls_another_api_is_found(gateway: Gateway) -> None:
    found = use_page(gateway.url)
    assert found.returncode == 1
    assert "asks nobody but the API" in found.stdout, found.stdout


def use_shop(url: str, *options: str) -> CompletedProcess:
    return run("node", "--test", *options, ROOT / "contract/shop.mjs", API_URL=url)


def test_a_customer_uses_the_shop(api: str) -> None:
    found = use_shop(api)
    assert found.returncode == 0, found.stdout


def test_a_shop_that_calls_another_api_is_found(gateway: Gateway) -> None:
    found = use_shop(gateway.url, "--test-name-pattern", "finds the subscription again|asks nobody")
    assert found.returncode == 1
    # The difference between whom it asks and whom it should.
    assert gateway.url in found.stdout, found.stdout


@pytest.mark.parametrize("success", [True, False], ids=["success", "refusal"])
def test_the_browser_hides_an_answer_without_its_header(success: bool, gateway: Gateway) -> None:
    def hide(answer: Answer) -> None:
        if (answer.status < 400) == success:
            without_header("access-control-allow-origin")(answer)

    gateway.change = hide
    found = browse(gateway.url)
    assert found.returncode == 1
    assert "Failed to fetch" in found.stdout, found.stdout
