"""Postpaid tenants at Stripe: subscribed once, ended with their last use sent, repaired when lost."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text, update

from core import db
from core.billing import accounts, postpaid, stripe_api, stripe_objects, subscriptions
from core.billing.ledger import BILLING
from core.billing.sales_tables import OfferPrice
from core.billing.stripe_api import UsageTier
from core.billing.stripe_tables import Meter, MeterExport
from core.db import new_id
from tests.billing.plans import a_customer, customer_id, row_of
from tests.billing.purchases import alarms, spend
from tests.factories import TESTS, Place, make_place

pytestmark = pytest.mark.usefixtures("database")
METER, PRICE = "mtr_tests", "price_tests_usage"


@dataclass
class Stripe:
    """Makes usage subscriptions, the same for the same key, and ends them."""

    made: dict[str, stripe_objects.Subscription] = field(default_factory=dict)
    customers: list[str] = field(default_factory=list)
    priced: list[tuple[UsageTier, ...]] = field(default_factory=list)
    units: list[int] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def create_customer(self, *, tenant_id: UUID, name: str, email: str, key: str) -> str:
        self.customers.append(email)
        return f"cus_new_{tenant_id.hex}"

    def create_meter(self, *, event_name: str, title: str) -> str:
        return METER

    def create_usage_price(
        self, *, meter_id: str, event_name: str, title: str, tiers: tuple[UsageTier, ...]
    ) -> str:
        self.priced.append(tiers)
        return PRICE

    def subscribe_usage(
        self, *, tenant_id: UUID, customer_id: str, price_id: str, key: str
    ) -> stripe_objects.Subscription:
        start = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=1)
        new = stripe_objects.Subscription(
            f"sub_{new_id().hex}", "active", customer_id, "si_1", price_id, start,
            start + timedelta(days=30), None, None, start, None, {"tenant_id": str(tenant_id)},
        )  # fmt: skip
        return self.made.setdefault(key, new)

    def subscription(self, subscription_id: str) -> stripe_objects.Subscription:
        return next(s for s in self.made.values() if s.subscription_id == subscription_id)

    def send_usage(self, *, units: int, **_: object) -> None:
        self.units.append(units)

    def cancel_now(self, subscription_id: str) -> None:
        self.ended.append(subscription_id)
        for key, found in self.made.items():
            if found.subscription_id == subscription_id:
                now = datetime.now(UTC)
                self.made[key] = replace(found, status="canceled", ended_at=now)


@pytest.fixture
def stripe(database: Any, monkeypatch: pytest.MonkeyPatch) -> Stripe:
    with db.transaction(BILLING) as session:
        session.execute(update(MeterExport).values(state="dead"))
    made = Stripe()
    monkeypatch.setattr(stripe_api, "_installed", made)
    return made


def switch(place: Place, mode: str, **more: Any) -> None:
    with db.transaction(TESTS) as session:
        accounts.switch_mode(session, TESTS, place.tenant_id, mode, **more)


def waiting_jobs(place: Place) -> list[str]:
    """Jobs deferred for a tenant."""
    with db.transaction(BILLING) as session:
        rows = text(
            "select task_name from jobs.procrastinate_jobs where args->>'tenant_id' = :tenant"
            " order by id"
        )
        return list(session.scalars(rows, {"tenant": str(place.tenant_id)}))


def test_a_postpaid_tenant_is_subscribed_to_the_meters_price_once(stripe: Stripe) -> None:
    place = a_customer(mode="postpaid", plan="enterprise")
    postpaid.ensure(place.tenant_id)
    postpaid.ensure(place.tenant_id)
    row = row_of(place)
    assert (row.purpose, row.price_id, row.status) == ("usage", PRICE, "active")
    assert list(stripe.made) == [f"usage:{place.tenant_id}:1"]
    assert stripe.subscription(row.subscription_id).customer_id == customer_id(place)
    with db.transaction(BILLING) as session:
        meter = session.scalars(select(Meter)).one()
        price = session.get_one(OfferPrice, PRICE)
    assert (meter.meter_id, meter.price_id) == (METER, PRICE)
    assert (price.kind, price.code, price.current) == ("usage", "purser_usage", True)
    assert stripe.priced[0] == (
        UsageTier(1_000_000_000, Decimal("0.0001")), UsageTier(None, Decimal("0.000098")),
    )  # fmt: skip


def test_a_tenant_that_is_nobodys_customer_yet_becomes_one(stripe: Stripe) -> None:
    place = make_place(mode="postpaid", role="finance", credit_usd=0)
    postpaid.ensure(place.tenant_id)
    assert stripe.customers == [place.who.email] and row_of(place).purpose == "usage"


def test_without_anybody_to_bill_an_operator_is_told(stripe: Stripe) -> None:
    place, before = make_place(mode="postpaid", role="member"), alarms("postpaid_without_buyer")
    postpaid.ensure(place.tenant_id)
    assert stripe.made == {} and alarms("postpaid_without_buyer") == before + 1


@pytest.mark.parametrize("mode", ["prepaid", "internal"])
def test_only_postpaid_tenants_are_subscribed(stripe: Stripe, mode: str) -> None:
    postpaid.ensure(a_customer(mode=mode).tenant_id)
    assert stripe.made == {}


def test_a_tenant_that_is_prepaid_again_is_ended_with_its_last_use_sent(stripe: Stripe) -> None:
    place = a_customer(mode="postpaid", plan="enterprise")
    postpaid.ensure(place.tenant_id)
    spend(place, "0.001")
    postpaid.end(place.tenant_id)
    assert stripe.ended == [] and row_of(place).ended_at is None  # it is still postpaid
    switch(place, "prepaid", write_off=True)
    for _ in range(2):
        postpaid.end(place.tenant_id)
    assert stripe.units == [1000]
    assert stripe.ended == [row_of(place).subscription_id] and row_of(place).status == "canceled"
    switch(place, "postpaid")
    postpaid.ensure(place.tenant_id)
    assert sorted(stripe.made) == [f"usage:{place.tenant_id}:{n}" for n in (1, 2)]
    assert waiting_jobs(place) == [postpaid.END, postpaid.BEGIN]


def test_lost_jobs_are_deferred_again_and_an_end_at_stripe_is_told(stripe: Stripe) -> None:
    new, prepaid = a_customer(mode="postpaid"), a_customer()
    ended, left = a_customer(mode="postpaid"), a_customer(mode="postpaid")
    for place in (ended, left):
        postpaid.ensure(place.tenant_id)
    stripe.cancel_now(row_of(ended).subscription_id)
    subscriptions.read_again(row_of(ended).subscription_id)
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.tenants set mode = 'prepaid' where tenant_id = :t"),
            {"t": left.tenant_id},
        )
    before = alarms("postpaid_without_meter")
    postpaid.look_after()
    assert waiting_jobs(new) == [postpaid.BEGIN] and waiting_jobs(left) == [postpaid.END]
    assert waiting_jobs(prepaid) == waiting_jobs(ended) == []
    assert alarms("postpaid_without_meter") >= before + 1


def test_without_stripe_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stripe_api, "_installed", None)
    place = a_customer(mode="postpaid")
    postpaid.ensure(place.tenant_id)
    postpaid.end(place.tenant_id)
    postpaid.look_after()
    assert waiting_jobs(place) == []
