"""Every answer that the document promises is given as the document says, failures included."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from urllib.parse import urljoin

import pytest
import requests
from database import Database
from document import CLOSED_ONLY, OPERATIONS, differences, unlike_all
from gateway import Gateway, without_header
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import positive_data_acceptance
from stand_in import Platform, http_status

NAMES = count(1)
TOO_LONG = "x" * 16 * 1024
PLATFORMS = ("order", "upstream_answer")


@dataclass
class World:
    api: str
    database: Database
    server: Database
    platform: Platform

    def ask(self, case: Case) -> Response:
        return case.call(base_url=self.api)

    def subscription(self, *statuses: int) -> str:
        """A new subscription to the active club, with these statuses."""
        name = f"subscription {next(NAMES)}"
        insert = "insert into subscription (id, club_id, customer_store_id) values (%(name)s, 1, %(name)s)"
        self.database.run(insert, name=name)
        for status in statuses:
            assert self.ask(status_case(name, status_id=status)).status_code == 200
        return name

    def charge(self, subscription: str, request_id: str | None = None) -> Response:
        return self.ask(charge_case(subscription, request_id))

    def unknown_charge(self) -> tuple[str, str]:
        """A subscription, and the request_id of its charge, whose outcome is unknown."""
        subscription, request_id = self.subscription(1), f"order-{next(NAMES)}"
        self.platform.fails_once()
        assert self.charge(subscription, request_id).status_code == 504
        return subscription, request_id

    @contextmanager
    def without_table(self, table: str) -> Iterator[None]:
        self.database.run(f"alter table {table} rename to hidden")
        try:
            yield
        finally:
            self.database.run(f"alter table hidden rename to {table}")

    @contextmanager
    def without_database(self) -> Iterator[None]:
        name = self.database.connection.info.dbname
        self.server.run(f"alter database {name} with allow_connections false")
        try:
            self.server.run(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = %(name)s and application_name = 'beer-club'",
                name=name,
            )
            yield
        finally:
            self.server.run(f"alter database {name} with allow_connections true")


@pytest.fixture
def world(api: str, database: Database, server: Database, platform: Platform) -> World:
    return World(api, database, server, platform)


def subscribe_case(club: int = 1, customer: str | None = None) -> Case:
    customer = customer or f"customer {next(NAMES)}"
    return OPERATIONS["subscribe"].case({"id": club}, body={"customer_id": customer})


def status_case(subscription: str, **body: object) -> Case:
    return OPERATIONS["status"].case({"id": subscription}, body=body)


def eligible_case(**query: object) -> Case:
    return OPERATIONS["eligible"].case({}, query=query)


def charge_case(subscription: str, request_id: str | None = None, **query: object) -> Case:
    return OPERATIONS["charge"].case(
        {"id": subscription, "request_id": request_id or f"order-{next(NAMES)}"}, query=query
    )


def lookup_case(subscription: str) -> Case:
    return OPERATIONS["lookup"].case({"id": subscription})


def history_case(subscription: str) -> Case:
    return OPERATIONS["history"].case({"id": subscription})


def charges_case(**query: object) -> Case:
    return OPERATIONS["charges"].case({}, query=query)


def subscriptions_case(customer: str, **query: object) -> Case:
    return OPERATIONS["subscriptions"].case({}, query={"customer_id": customer} | query)


def clubs_case() -> Case:
    return OPERATIONS["clubs"].case({})


def some_case(operation: str, world: World) -> Case:
    """A case that would succeed."""
    subscription = world.subscription(1)
    return {
        "subscribe": lambda: subscribe_case(),
        "status": lambda: status_case(subscription, status_id=1),
        "lookup": lambda: lookup_case(subscription),
        "history": lambda: history_case(subscription),
        "charges": lambda: charges_case(limit=1),
        "subscriptions": lambda: subscriptions_case(subscription),
        "clubs": lambda: clubs_case(),
        "eligible": lambda: eligible_case(limit=1),
        "charge": lambda: charge_case(subscription),
    }[operation]()


Provoked = tuple[Case, Response]


def asking(case: Callable[[World], Case]) -> Callable[[World], Provoked]:
    def provoke(world: World) -> Provoked:
        made = case(world)
        return made, world.ask(made)

    return provoke


def already_subscribed(world: World) -> Provoked:
    case = subscribe_case()
    world.ask(case)
    return case, world.ask(case)


def page_required(world: World) -> Provoked:
    """Creates more ids than a Lambda answer can hold."""
    world.database.run(
        "with many as (insert into subscription (id, club_id, customer_store_id)"
        " select gen_random_uuid()::text, 1, 'one of many' from generate_series(1, 165000) returning id)"
        " insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date)"
        " select id, id, 1, utc_now(), utc_now() from many"
    )
    try:
        case = eligible_case()
        return case, world.ask(case)
    finally:
        world.database.run("delete from subscription_status_history where id = subscription_id")
        world.database.run("delete from subscription where customer_store_id = 'one of many'")


def too_many_changes(world: World) -> Provoked:
    name = world.subscription()
    world.database.run(
        "insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date)"
        " select gen_random_uuid()::text, %(name)s, 1, utc_now(), utc_now() from generate_series(1, %(limit)s)",
        name=name,
        limit=int(os.environ["CHANGES_PER_DAY"]),
    )
    case = status_case(name, status_id=1)
    return case, world.ask(case)


def charge_in_progress(world: World) -> Provoked:
    subscription, request_id = world.subscription(1), f"order-{next(NAMES)}"
    world.platform.answers_once(delay_ms=5000)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(world.charge, subscription, request_id)
        while request_id not in world.platform.orders():
            assert not first.done()
        case = charge_case(subscription)
        return case, world.ask(case)


def earlier_outcome_unknown(world: World) -> Provoked:
    subscription, request_id = world.unknown_charge()
    case = charge_case(subscription)
    answer = world.ask(case)
    assert answer.json()["request_id"] == request_id
    return case, answer


def request_id_reused(world: World) -> Provoked:
    request_id = f"order-{next(NAMES)}"
    assert world.charge(world.subscription(1), request_id).status_code == 200
    case = charge_case(world.subscription(1), request_id)
    return case, world.ask(case)


def platform_says(code: int, body: str = "{}", **headers: str) -> Callable[[World], Provoked]:
    def provoke(world: World) -> Provoked:
        case = charge_case(world.subscription(1))
        world.platform.answers_once(http_status(code, body, **headers))
        return case, world.ask(case)

    return provoke


def internal_error(operation: str, table: str) -> Callable[[World], Provoked]:
    def provoke(world: World) -> Provoked:
        case = some_case(operation, world)
        with world.without_table(table):
            return case, world.ask(case)

    return provoke


def database_unavailable(operation: str) -> Callable[[World], Provoked]:
    def provoke(world: World) -> Provoked:
        case = some_case(operation, world)
        with world.without_database():
            return case, world.ask(case)

    return provoke


PROVOKE: dict[tuple[str, int, str], Callable[[World], Provoked]] = {
    ("subscribe", 400, "invalid_request"): asking(lambda _: OPERATIONS["subscribe"].case({"id": 1}, body={})),
    ("subscribe", 413, "too_large"): asking(
        lambda _: OPERATIONS["subscribe"].case({"id": 1}, body={"customer_id": "c", "note": TOO_LONG})
    ),
    ("subscribe", 404, "club_not_found"): asking(lambda _: subscribe_case(club=2147483647)),
    ("subscribe", 409, "club_not_active"): asking(lambda _: subscribe_case(club=2)),
    ("subscribe", 409, "already_subscribed"): already_subscribed,
    ("status", 400, "invalid_request"): asking(lambda world: status_case(world.subscription(), status_id=4)),
    ("status", 413, "too_large"): asking(lambda world: status_case(world.subscription(), status_id=1, note=TOO_LONG)),
    ("status", 429, "too_many_changes"): too_many_changes,
    ("status", 404, "subscription_not_found"): asking(lambda _: status_case("nobody", status_id=1)),
    ("status", 409, "nothing_to_skip"): asking(
        lambda world: status_case(world.subscription(2), status_id=3, skip="2999-12")
    ),
    ("lookup", 400, "invalid_request"): asking(lambda _: lookup_case("x" * 37)),
    ("lookup", 404, "subscription_not_found"): asking(lambda _: lookup_case("nobody")),
    ("history", 400, "invalid_request"): asking(lambda _: history_case("x" * 37)),
    ("history", 404, "subscription_not_found"): asking(lambda _: history_case("nobody")),
    ("charges", 400, "invalid_request"): asking(lambda _: charges_case(month="2026-13")),
    ("subscriptions", 400, "invalid_request"): asking(lambda _: subscriptions_case("")),
    ("eligible", 400, "invalid_request"): asking(lambda _: eligible_case(limit=0)),
    ("eligible", 400, "page_required"): page_required,
    ("charge", 400, "invalid_request"): asking(lambda world: charge_case(world.subscription(1), "order 1")),
    ("charge", 404, "subscription_not_found"): asking(lambda _: charge_case("nobody")),
    ("charge", 409, "month_mismatch"): asking(lambda world: charge_case(world.subscription(1), month="2000-01")),
    ("charge", 409, "not_chargeable"): asking(lambda world: charge_case(world.subscription(2))),
    ("charge", 409, "charge_in_progress"): charge_in_progress,
    ("charge", 409, "charge_outcome_unknown"): earlier_outcome_unknown,
    ("charge", 422, "request_id_reused"): request_id_reused,
    ("charge", 502, "order_rejected"): platform_says(402, '{"error": "card_declined"}'),
    ("charge", 502, "ecommerce_unauthorized"): platform_says(401),
    ("charge", 503, "ecommerce_unavailable"): platform_says(429, **{"retry-after": "7"}),
    ("charge", 504, "charge_outcome_unknown"): platform_says(500),
    ("subscribe", 500, "internal_error"): internal_error("subscribe", "club"),
    ("status", 500, "internal_error"): internal_error("status", "subscription_status_history"),
    ("lookup", 500, "internal_error"): internal_error("lookup", "subscription_status_history"),
    ("history", 500, "internal_error"): internal_error("history", "subscription"),
    ("charges", 500, "internal_error"): internal_error("charges", "charge_attempt"),
    ("subscriptions", 500, "internal_error"): internal_error("subscriptions", "subscription"),
    ("clubs", 500, "internal_error"): internal_error("clubs", "club"),
    ("eligible", 500, "internal_error"): internal_error("eligible", "subscription"),
    ("charge", 500, "internal_error"): internal_error("charge", "charge_attempt"),
    **{(operation, 503, "database_unavailable"): database_unavailable(operation) for operation in OPERATIONS},
}
PROMISED = sorted(
    (operation.id, *problem) for operation in OPERATIONS.values() for problem in operation.problems() - CLOSED_ONLY
)


def conforms(case: Case, answer: Response) -> None:
    """Asks schemathesis. A failure, or a refusal of a well-formed call, is what these tests want."""
    case.validate_response(answer, excluded_checks=[not_a_server_error, positive_data_acceptance])


def shown(operation: str, status: int, code: str) -> list[dict]:
    """The document's examples of a problem."""
    answers = dict(OPERATIONS[operation].answers())
    return [example for example in OPERATIONS[operation].examples(answers[status]) if example["code"] == code]


def in_general(problem: dict) -> dict:
    """Without the parts that differ between calls."""
    of_one_call = {"instance", "request_id", "month"} | ({"detail"} if problem["code"] == "invalid_request" else set())
    return {name: None if name in of_one_call else value for name, value in problem.items()}


@pytest.mark.parametrize(("operation", "status", "code"), PROMISED)
def test_every_problem_is_given_as_the_document_shows_it(operation: str, status: int, code: str, world: World) -> None:
    case, answer = PROVOKE[operation, status, code](world)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    conforms(case, answer)
    examples = [in_general(example) for example in shown(operation, status, code)]
    different = unlike_all(in_general(answer.json()), examples)
    assert not different, f"the answer of {operation} is not its example in openapi.yaml: {different}"


def test_the_judge_of_failures_rejects_a_broken_one(world: World, gateway: Gateway) -> None:
    gateway.change = without_header("retry-after")
    world.api = gateway.url
    with pytest.raises(FailureGroup, match="retry-after"):
        conforms(*platform_says(429)(world))


def test_a_charge_that_waits_for_an_operator_is_as_the_document_shows_it(world: World) -> None:
    subscription, request_id = world.unknown_charge()
    assert world.ask(status_case(subscription, status_id=2)).status_code == 200
    case = charge_case(subscription, request_id)
    answer = world.ask(case)
    conforms(case, answer)
    (example,) = [one for one in shown("charge", 409, "charge_outcome_unknown") if "operator" in one["detail"]]
    assert not differences(in_general(answer.json()), in_general(example))


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_route_succeeds_with_and_without_a_slash(operation: str, slash: str, world: World) -> None:
    case = some_case(operation, world)
    call = case.as_transport_kwargs(base_url=world.api)
    answer = requests.request(**call | {"url": call["url"] + slash})
    assert answer.ok, answer.text
    case.validate_response(answer)
    documented = dict(OPERATIONS[operation].answers())[answer.status_code]
    undocumented = fields(answer.json()) - fields(OPERATIONS[operation].examples(documented))
    assert not undocumented, f"no example of {operation} in openapi.yaml has {undocumented}"


def fields(json: object) -> set[str]:
    """The names of all fields, but for those of the platform's own JSON."""
    if isinstance(json, list):
        return set().union(*map(fields, json))
    if not isinstance(json, dict):
        return set()
    return json.keys() | set().union(*(fields(value) for name, value in json.items() if name not in PLATFORMS))


def test_a_page_leads_to_the_next(world: World) -> None:
    world.subscription(1)
    world.subscription(1)
    case = eligible_case(limit=1)
    answer = requests.request(**case.as_transport_kwargs(base_url=world.api))
    case.validate_response(answer)
    after = requests.get(urljoin(answer.url, answer.links["next"]["url"]))
    case.validate_response(after)
    assert answer.json() < after.json()


def test_a_page_of_a_customers_subscriptions_leads_to_the_next(world: World) -> None:
    customer = f"customer {next(NAMES)}"
    insert = "insert into subscription (id, club_id, customer_store_id) values (%(id)s, 1, %(customer)s)"
    ids = [f"{customer} {letter}" for letter in "abc"]
    for id in ids:
        world.database.run(insert, id=id, customer=customer)
    case = subscriptions_case(customer, limit=1)
    answer = requests.request(**case.as_transport_kwargs(base_url=world.api))
    found = []
    while True:
        case.validate_response(answer)
        found += [subscription["id"] for subscription in answer.json()]
        if "next" not in answer.links:
            break
        answer = requests.get(urljoin(answer.url, answer.links["next"]["url"]))
    assert found == ids


def test_a_page_of_charges_leads_to_the_next(world: World) -> None:
    for _ in range(2):
        assert world.charge(world.subscription(1)).status_code == 200
    case = charges_case(limit=1, state="charged,rejected", orphaned="true")
    answer = requests.request(**case.as_transport_kwargs(base_url=world.api))
    case.validate_response(answer)
    after = requests.get(urljoin(answer.url, answer.links["next"]["url"]))
    case.validate_response(after)
    assert (answer.status_code, after.status_code) == (200, 200)
    assert answer.json()["charges"] != after.json()["charges"]
    assert "counts" in answer.json()
    assert "counts" not in after.json()


def test_a_charge_whose_order_was_cut_has_none(world: World) -> None:
    case = charge_case(world.subscription(1))
    world.platform.answers_once("cut_body")
    for already_charged in (False, True):
        answer = world.ask(case)
        case.validate_response(answer)
        assert (answer.json()["order"], answer.json()["already_charged"]) == (None, already_charged)
