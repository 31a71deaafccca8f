"""One customer per tenant, however many ask at once; whose it is never follows from metadata."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from core import db, errors
from core.billing import customers, stripe_api
from core.billing.effects import Handled, Ignored
from core.billing.sales_tables import StripeCustomer
from core.billing.stripe_api import Card, StripeApi, StripeDown, StripeRefused
from core.db import Database, new_id
from core.identity.access import Role
from core.identity.tables import AuditEntry
from tests.factories import TESTS, Place, make_place


class Shop(StripeApi):
    """Stripe as these tests need it: customers by key, with idempotency as it really is."""

    def __init__(self) -> None:
        super().__init__("sk_test_x", base="http://127.0.0.1:1")
        self.made: dict[str, tuple[str, str]] = {}
        self.card: Card | None = Card("pm_1", "visa •••• 4242")
        self.on_create: Callable[[], object] = lambda: None
        self.asked: list[tuple[str, str, str | None]] = []
        self._lock = threading.Lock()

    def create_customer(self, *, tenant_id: UUID, name: str, email: str, key: str) -> str:
        self.on_create()
        with self._lock:
            customer_id, sent = self.made.setdefault(key, (f"cus_{new_id().hex}", name + email))
        if sent != name + email:
            raise StripeRefused("idempotency_error", status=400)
        return customer_id

    def default_card(self, customer_id: str) -> Card | None:
        return self.card

    def portal_url(self, customer_id: str, *, return_url: str, flow: Any = None) -> str:
        self.asked.append((customer_id, return_url, flow))
        return f"https://billing.stripe.example/{customer_id}"


@pytest.fixture
def shop(database: Database) -> Iterator[Shop]:
    made = Shop()
    stripe_api.install(made)
    yield made
    stripe_api.install(None)


@pytest.fixture
def place(database: Database) -> Place:
    return make_place(role="admin")


def rows_of(place: Place) -> list[StripeCustomer]:
    with db.transaction(TESTS) as session:
        query = select(StripeCustomer).where(StripeCustomer.tenant_id == place.tenant_id)
        return list(session.scalars(query))


def ensure(place: Place, name: str = "Ada") -> str:
    return customers.ensure(place.tenant_id, name=name, email="ada@example.com")


def test_the_first_purchase_makes_a_customer_and_later_ones_use_it(
    shop: Shop, place: Place
) -> None:
    first = ensure(place)
    assert [row.customer_id for row in rows_of(place)] == [first]
    assert ensure(place) == first and len(shop.made) == 1
    assert list(shop.made) == [f"customer:{place.tenant_id}:1"]


def test_twenty_at_once_make_one_customer(shop: Shop, place: Place) -> None:
    with ThreadPoolExecutor(10) as pool:
        found = set(pool.map(lambda _: ensure(place), range(20)))
    assert len(found) == 1 and len(rows_of(place)) == 1


def test_racers_with_other_names_all_get_the_winner(shop: Shop, place: Place) -> None:
    both_asked = threading.Barrier(2, timeout=10)
    waits: list[Callable[[], object]] = [both_asked.wait] * 2
    shop.on_create = lambda: waits.pop()() if waits else None
    with ThreadPoolExecutor(2) as pool:
        found = set(pool.map(lambda name: ensure(place, name), ["Ada", "Bob"]))
    assert len(found) == 1 and [row.customer_id for row in rows_of(place)] == list(found)


def test_a_crash_before_the_row_is_mended_by_the_next_try(shop: Shop, place: Place) -> None:
    shop.create_customer(
        tenant_id=place.tenant_id, name="Eve", email="eve@example.com",
        key=f"customer:{place.tenant_id}:1",
    )  # fmt: skip
    assert ensure(place) == rows_of(place)[0].customer_id


def test_after_its_customer_was_deleted_a_tenant_gets_another(shop: Shop, place: Place) -> None:
    first = ensure(place)
    with db.transaction(TESTS) as session:
        assert isinstance(customers.on_deleted(session, first), Handled)
    second = ensure(place)
    assert second != first and list(shop.made)[-1] == f"customer:{place.tenant_id}:2"
    with db.transaction(TESTS) as session:
        assert customers.tenant_of(session, first) == place.tenant_id  # its refunds still come
        live = customers.of_tenant(session, place.tenant_id)
        assert live is not None and live.customer_id == second


def test_a_refusal_is_told_as_buying_that_does_not_work(shop: Shop, place: Place) -> None:
    def refuse() -> None:
        raise StripeRefused("email_invalid", param="email", status=400)

    shop.on_create = refuse
    with pytest.raises(errors.Unavailable, match="does not work"):
        ensure(place)
    assert rows_of(place) == []


def test_a_lost_answer_leaves_no_row_and_the_same_key(shop: Shop, place: Place) -> None:
    def lose() -> None:
        shop.on_create = lambda: None
        raise StripeDown("could not be reached")

    shop.on_create = lose
    with pytest.raises(StripeDown):
        ensure(place)
    ensure(place)
    assert list(shop.made) == [f"customer:{place.tenant_id}:1"]


def test_a_stranger_is_nobodys_customer(shop: Shop, place: Place) -> None:
    with db.transaction(TESTS) as session:
        assert customers.tenant_of(session, "cus_stranger") is None
        assert customers.tenant_of(session, None) is None
        assert customers.of_tenant(session, place.tenant_id) is None
        assert isinstance(customers.on_deleted(session, "cus_stranger"), Ignored)
        assert isinstance(customers.on_changed(session, "cus_stranger"), Ignored)


def test_the_card_is_kept_by_its_label_and_forgotten_when_it_is_gone(
    shop: Shop, place: Place
) -> None:
    ensure(place)
    customers.refresh_card(place.tenant_id)
    row = rows_of(place)[0]
    assert (row.payment_method_id, row.card) == ("pm_1", "visa •••• 4242")
    shop.card = None
    customers.refresh_card(place.tenant_id)
    row = rows_of(place)[0]
    assert (row.payment_method_id, row.card) == (None, None)


def test_a_deleted_customer_keeps_no_card(shop: Shop, place: Place) -> None:
    customer_id = ensure(place)
    customers.refresh_card(place.tenant_id)
    with db.transaction(TESTS) as session:
        customers.on_deleted(session, customer_id)
    with db.transaction(TESTS) as session:
        customers.on_deleted(session, customer_id)
    customers.refresh_card(place.tenant_id)
    row = rows_of(place)[0]
    assert row.deleted_at is not None and row.payment_method_id is None


def test_without_a_customer_there_is_no_card_to_read(shop: Shop, place: Place) -> None:
    customers.refresh_card(place.tenant_id)
    assert rows_of(place) == []


def test_the_portal_leads_back_to_our_own_page_and_is_audited(shop: Shop, place: Place) -> None:
    customer_id = ensure(place)
    url = customers.portal(place.who, flow="payment_method_update")
    assert url.endswith(customer_id)
    returned = shop.asked[0][1]
    assert shop.asked[0] == (customer_id, returned, "payment_method_update")
    assert returned == "http://localhost:8501/billing"
    with db.transaction(TESTS) as session:
        count = session.execute(
            select(func.count()).where(
                AuditEntry.of_tenant == place.tenant_id, AuditEntry.action == "billing.portal"
            )
        ).scalar_one()
    assert count == 1


def test_before_the_first_purchase_there_is_no_portal(shop: Shop, place: Place) -> None:
    with pytest.raises(errors.Conflict):
        customers.portal(place.who)


def test_only_buyers_in_a_browser_open_the_portal(shop: Shop, place: Place) -> None:
    ensure(place)
    for who in (
        replace(place.who, role=Role.MEMBER),
        replace(place.who, key_id=new_id()),
    ):
        with pytest.raises(errors.Forbidden):
            customers.portal(who)
    assert customers.portal(replace(place.who, role=Role.FINANCE))
    assert len(shop.asked) == 1
