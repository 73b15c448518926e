"""Clients of others: one generated from the document, and api.http in a tool that sends it."""

import importlib
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import PROGRAMS, run
from document import DOCUMENT, OPERATIONS, PATH, SCHEMA
from gateway import Answer, Gateway, with_status
from processes import ROOT


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The modules of a generated client."""
    folder = tmp_path_factory.mktemp("generated")
    environment = Path(sys.executable).parent
    # It formats what it generates with ruff of the same environment.
    path = f"{environment}{os.pathsep}{os.environ['PATH']}"
    options = ("--path", PATH, "--meta", "none", "--output-path", folder / "beer_club", "--fail-on-warning")
    done = run(environment / "openapi-python-client", "generate", *options, PATH=path)
    assert done.returncode == 0, done.stdout
    sys.path.insert(0, str(folder))
    routes = {
        name: importlib.import_module(f"beer_club.api.{operation.definition['tags'][0]}.{name}")
        for name, operation in OPERATIONS.items()
    }
    return SimpleNamespace(
        Client=importlib.import_module("beer_club").Client,
        models=importlib.import_module("beer_club.models"),
        **routes,
    )


def test_a_generated_client_subscribes_and_charges(generated: SimpleNamespace, api: str) -> None:
    models = generated.models
    with generated.Client(base_url=api, raise_on_unexpected_status=True) as client:
        customer = models.NewSubscription(customer_id="customer of a generated client")
        subscription = generated.subscribe.sync(1, client=client, body=customer)
        assert isinstance(subscription, models.Subscription)
        again = generated.subscribe.sync(1, client=client, body=customer)
        assert isinstance(again, models.AlreadySubscribed)

        paused = generated.status.sync(subscription.id, client=client, body=models.Pause(3, interval=30))
        assert (paused.automatic_return - paused.effect_date).days == 30
        refused = generated.charge.sync(subscription.id, f"2026-11.{subscription.id}", client=client)
        assert isinstance(refused, models.NotChargeable)

        activate = models.ActivateOrCancelStatusId.ACTIVATE
        generated.status.sync(subscription.id, client=client, body=models.ActivateOrCancel(activate))
        assert subscription.id in generated.eligible.sync(client=client)
        charge = generated.charge.sync(subscription.id, f"2026-11.{subscription.id}", client=client)
        assert isinstance(charge, models.Charge)
        assert charge.order["customer_id"] == customer.customer_id
        assert generated.charge.sync(subscription.id, "another", client=client).already_charged


def test_a_generated_client_misses_a_field_that_is_not_there(generated: SimpleNamespace, gateway: Gateway) -> None:
    def rename(answer: Answer) -> None:
        answer.body = answer.body.replace(b'"create_date"', b'"created"')

    gateway.change = rename
    with generated.Client(base_url=gateway.url) as client, pytest.raises(KeyError, match="create_date"):
        customer = generated.models.NewSubscription(customer_id="its customer with a field less")
        generated.subscribe.sync(1, client=client, body=customer)


def routes(url: str, folder: Path) -> set[tuple[str, bool]]:
    """The routes that api.http uses, and whether each accepts its request. Only the API's address is replaced."""
    text = (ROOT / "api.http").read_text(encoding="utf-8")
    server = f"@api = {DOCUMENT['servers'][0]['url']}\n"
    assert server in text
    (folder / "api.http").write_text(text.replace(server, f"@api = {url}\n"), encoding="utf-8")
    sent = json.loads(run(PROGRAMS / "httpyac", "send", "api.http", "--all", "--json", folder=folder).stdout)
    answers = [exchange["response"] for exchange in sent["requests"]]
    return {
        (operation.label, answer["statusCode"] < 300)
        for answer in answers
        for path in [answer["request"]["url"].removeprefix(url).partition("?")[0]]
        for operation in [SCHEMA.find_operation_by_path(answer["request"]["method"], path)]
    }


def every_route(accepted: bool) -> set[tuple[str, bool]]:
    return {(f"{operation.method.upper()} {operation.path}", accepted) for operation in OPERATIONS.values()}


def test_the_http_file_uses_every_route(api: str, tmp_path: Path) -> None:
    assert routes(api, tmp_path) == every_route(accepted=True)


def test_a_refused_request_of_the_http_file_is_found(gateway: Gateway, tmp_path: Path) -> None:
    gateway.change = with_status(400)
    assert routes(gateway.url, tmp_path) == every_route(accepted=False)
