"""What selling through Stripe is known to get wrong, each tried against the stand-in or all fixtures at
once. Traps that concern one file alone are in that file's tests."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.orm import Session

from core import db, schema, settings
from core.billing import (
    checkout,
    connection,
    customers,
    inbox,
    ledger,
    offers,
    postpaid,
    reconcile,
    refunds,
    stripe_api,
    stripe_objects,
    subscriptions,
    topups,
    webhooks,
)
from core.billing.effects import Effect
from core.billing.ledger import BILLING
from core.billing.sales_tables import Fulfilment, Order, Payment
from core.billing.sandbox import people
from core.billing.sandbox.refusals import Refused
from core.billing.sandbox.world import Ask
from core.billing.stripe_objects import Event
from core.db import Database, new_id
from core.money import NANO_PER_USD
from core.settings import Settings
from tests.billing.conftest import Stripe
from tests.billing.plans import own_prices
from tests.billing.purchases import alarms, offences, page_of, wallet
from tests.billing.shuffles import SaidNow, assert_right, settle, state_of
from tests.billing.story import LOST, Story, names, tell
from tests.factories import TESTS, Place, make_place

pytestmark = pytest.mark.usefixtures("database")
USD = NANO_PER_USD
COPIES, THREADS = 40, 8
TWICE = "payment_used_twice"


class Killed(BaseException):
    """The process of the handler ends here."""


@pytest.fixture
def place(stripe: Stripe) -> Iterator[Place]:
    """A team that may buy; what it agreed to ends with the test."""
    made = make_place(credit_usd=0, role="admin", plan="free")
    yield made
    with db.transaction(BILLING) as session:
        topups.switch_off(session, made.who)


def buy(stripe: Stripe, place: Place, code: str = "starter", **more: Any) -> Order:
    """A package, paid on its page, of which nobody was told yet."""
    order = checkout.start_package(place.who, code, click_key=new_id().hex, **more)
    stripe.sandbox.pay(page_of(order))
    return order


def rows(table: Any, place: Place) -> list[Any]:
    with db.transaction(TESTS) as session:
        return list(session.scalars(select(table).where(table.tenant_id == place.tenant_id)))


def agree(place: Place) -> None:
    """The buyer agrees that twenty dollars are bought whenever less than fifteen are left."""
    customers.refresh_card(place.tenant_id)
    with db.transaction(BILLING) as session:
        topups.configure(
            session, place.who, threshold_nusd=15 * USD, amount_minor=2000, daily_cap_minor=10_000,
            consent="Charge my card.",
        )  # fmt: skip


# Everything at once


def forty_of_each(story: Story, told: list[str], chance: random.Random) -> list[dict[str, Any]]:
    """Twenty copies of each of two events per change, in any order, but what gives money back before
    all that brings it."""
    events = [story.event(name, copy=number % 2) for name in told for number in range(COPIES)]
    chance.shuffle(events)
    return sorted(events, key=lambda event: not event["type"].startswith(("refund", "charge.disp")))


def test_forty_copies_of_everything_handled_by_threads_that_die_end_in_one_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    story, chance, apply = tell(), random.Random(7), webhooks.apply
    stripe_api.install(SaidNow(story))
    deaths: list[str] = []

    def dying(session: Session, event: Event, fetched: object) -> Effect:
        effect = apply(session, event, fetched)
        if chance.random() < 0.3:
            deaths.append(event.event_id)
            raise Killed
        return effect

    def deliver(event: dict[str, Any]) -> None:
        with db.transaction(BILLING) as session:
            inbox.receive(session, event, came_by="webhook")
        with suppress(Killed):
            inbox.handle(event["id"])
            if chance.random() < 0.2:  # it died after its commit: its job runs again
                inbox.handle(event["id"])

    monkeypatch.setattr(webhooks, "apply", dying)
    told = [name for name in names() if name != LOST]
    events = forty_of_each(story, told, chance)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(deliver, events))
    monkeypatch.undo()
    ids = {event["id"] for event in events}
    assert len(deaths) > len(told)
    settle(ids)
    for event_id in ids:
        inbox.handle(event_id)
    with db.transaction(TESTS) as session:
        assert_right(state_of(session, story), won=True)
    assert offences(story.place.tenant_id, story.other.tenant_id) == []


def test_thirty_fulfilments_by_page_and_events_at_once_make_one_lot(
    stripe: Stripe, place: Place
) -> None:
    order = buy(stripe, place)
    told = next(
        event
        for event in stripe.sandbox.event("checkout.session.completed")
        if event["data"]["object"]["id"] == order.session_id
    )

    def fulfil(number: int) -> None:
        if number % 3 == 0:
            checkout.confirm(place.who, page_of(order))
            return
        event = told if number % 3 == 1 else told | {"id": f"{told['id']}{number}"}
        with db.transaction(BILLING) as session:
            inbox.receive(session, event, came_by="webhook")
        inbox.handle(event["id"])

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(fulfil, range(30)))
    assert [lot.granted_nusd for lot in lots_of(place)] == [10 * USD]
    assert len(rows(Fulfilment, place)) == len(rows(Payment, place)) == 1
    stripe.deliver(seed=1)
    assert wallet(place.tenant_id).posted_nusd == 10 * USD
    assert offences(place.tenant_id) == []


def lots_of(place: Place) -> list[Any]:
    with db.transaction(TESTS) as session:
        return ledger.lots(session, place.tenant_id)


# Buying


def test_one_purchase_is_granted_once_though_five_kinds_of_events_say_it_is_paid(
    stripe: Stripe, place: Place
) -> None:
    buy(stripe, place, save_card=True)
    stripe.deliver(seed=2)
    said = {"checkout.session.completed", "payment_intent.succeeded", "charge.succeeded",
            "invoice.paid", "invoice_payment.paid"}  # fmt: skip
    assert said <= set(stripe.delivered)
    assert [lot.source_type for lot in lots_of(place)] == ["checkout_session"]


def test_one_payment_never_pays_two_orders(stripe: Stripe, place: Place) -> None:
    paid = stripe.api.checkout_session(page_of(buy(stripe, place)))
    stripe.deliver()
    other, before = checkout.start_package(place.who, "starter", click_key="k"), alarms(TWICE)
    with db.transaction(TESTS) as session:  # as if the opening of its page had not been noted
        session.get_one(Order, (other.tenant_id, other.order_id)).session_id = None
    claimed = replace(paid, client_reference_id=str(other.order_id))
    with db.transaction(BILLING) as session:
        checkout.fulfil(session, claimed)
    assert sorted(row.state for row in rows(Order, place)) == ["fulfilled", "open"]
    assert alarms(TWICE) == before + 1
    assert wallet(place.tenant_id).posted_nusd == 10 * USD
    assert offences(place.tenant_id) == []


def test_a_decline_on_the_page_ends_nothing_while_the_page_is_open(
    stripe: Stripe, place: Place
) -> None:
    order = checkout.start_package(place.who, "starter", click_key="k")
    with pytest.raises(Refused):
        stripe.sandbox.pay(page_of(order), "declined")
    stripe.deliver()
    assert [row.state for row in rows(Order, place)] == ["open"]
    stripe.sandbox.pay(page_of(order))
    stripe.deliver()
    assert [row.state for row in rows(Order, place)] == ["fulfilled"]


def test_a_tenant_whose_customer_was_deleted_buys_again_and_its_past_is_still_refunded(
    stripe: Stripe, place: Place
) -> None:
    first = buy(stripe, place)
    stripe.deliver()
    [paid] = rows(Payment, place)
    gone = customers.ensure(place.tenant_id, name="x", email="x@example.com")
    with stripe.sandbox.world.changing():
        people.delete_customer(stripe.sandbox.world, Ask({}, {"id": gone}, "/v1/customers"))
    stripe.deliver()
    second = buy(stripe, place)
    stripe.sandbox.refund(paid.payment_intent_id)
    stripe.deliver(seed=4)
    assert customers.ensure(place.tenant_id, name="x", email="x@example.com") != gone
    states = {row.order_id: row.state for row in rows(Order, place)}
    assert states == {first.order_id: "fulfilled", second.order_id: "fulfilled"}
    assert wallet(place.tenant_id).posted_nusd == 10 * USD
    assert offences(place.tenant_id) == []


def test_when_stripe_has_forgotten_every_key_repeats_are_still_done_once(
    stripe: Stripe, place: Place
) -> None:
    order = checkout.start_package(place.who, "starter", click_key="k", save_card=True)
    stripe.sandbox.pay(page_of(order))
    stripe.deliver()
    agree(place)
    topups.sweep()
    offers.mirror()
    stripe.deliver()
    paid_by, request_id = rows(Payment, place)[0].payment_intent_id, new_id()
    ask_back = (TESTS, place.tenant_id, paid_by, 300)
    refunds.refund(*ask_back, reason="x", request_id=request_id)
    kinds = ("customer", "checkout.session", "payment_intent", "refund", "price")
    before = {kind: len(stripe.sandbox.objects(kind)) for kind in kinds}
    stripe.sandbox.world.store.answers.clear()  # a day later a key is a new request
    assert checkout.start_package(place.who, "starter", click_key="k").state == "fulfilled"
    topups.sweep()
    assert refunds.refund(*ask_back, reason="x", request_id=request_id).state == "sent"
    refunds.send_waiting()
    offers.mirror()
    stripe.deliver()
    assert {kind: len(stripe.sandbox.objects(kind)) for kind in kinds} == before
    assert wallet(place.tenant_id).posted_nusd == 27 * USD
    assert offences(place.tenant_id) == []


# Plans


def test_a_renewals_credit_lasts_as_long_as_what_was_paid_not_as_its_invoices_period() -> None:
    story = tell()
    event = stripe_objects.event(story.event("invoice.paid.subscription_cycle"))
    with db.transaction(BILLING) as session:
        webhooks.apply(session, event, None)
        [lot] = ledger.lots(session, story.place.tenant_id)
    [line] = event.object["lines"]["data"]
    assert event.object["period_end"] == line["period"]["start"]  # the month that is over
    assert lot.expires_at is not None
    paid_until = datetime.fromtimestamp(line["period"]["end"], UTC)
    assert timedelta(0) <= lot.expires_at - paid_until <= timedelta(days=7)


def test_a_plan_whose_first_payment_fails_brings_neither_plan_nor_credit(
    stripe: Stripe, place: Place
) -> None:
    order = checkout.start_plan(place.who, "starter", click_key="k")
    with pytest.raises(Refused):
        stripe.sandbox.pay(page_of(order), "declined")
    stripe.sandbox.advance(2 * 86_400)
    stripe.deliver(seed=6)
    assert lots_of(place) == []
    with db.transaction(TESTS) as session:
        assert subscriptions.current(session, place.tenant_id) is None
    assert [row.state for row in rows(Order, place)] == ["expired"]


# The connection


def test_every_event_that_matters_is_subscribed_to_and_none_that_stops_invoices() -> None:
    needed = {
        "checkout.session.completed", "checkout.session.async_payment_succeeded",
        "checkout.session.async_payment_failed", "checkout.session.expired",
        "payment_intent.succeeded", "payment_intent.payment_failed", "refund.created",
        "refund.updated", "refund.failed", "charge.dispute.created", "charge.dispute.closed",
        "radar.early_fraud_warning.created", "customer.subscription.created",
        "customer.subscription.updated", "customer.subscription.deleted",
        "customer.subscription.paused", "customer.subscription.resumed", "invoice.paid",
        "invoice.payment_failed", "invoice.payment_action_required", "invoice_payment.paid",
        "customer.updated", "customer.deleted", "payment_method.attached",
        "payment_method.detached", "payout.reconciliation_completed",
    }  # fmt: skip
    assert needed <= set(webhooks.LISTED_TYPES)
    # an endpoint that fails on it holds up the payment of all invoices for three days
    assert "invoice.created" not in webhooks.LISTED_TYPES


def test_a_key_without_a_webhook_secret_is_told_at_the_start() -> None:
    before = alarms("stripe_without_webhook_secret")
    for secrets, told in (("whsec_1, whsec_2", 0), (" , ", 1), (None, 2)):
        configured = Settings(
            app_env="development", stripe_secret_key=SecretStr("sk_test_x"),
            stripe_webhook_secrets=None if secrets is None else SecretStr(secrets),
        )  # fmt: skip
        with connection.connected(configured):
            assert bool(stripe_api.current().webhook_secrets) is (told == 0)
        assert alarms("stripe_without_webhook_secret") - before == told
    assert not stripe_api.configured()


@pytest.fixture
def alone_url(
    database: Database, fresh_database_url: Callable[[str], str], worker_id: str
) -> Iterator[str]:
    """A database of its own: what looks through everything would ask for what others left too."""
    url = fresh_database_url(f"purser_alone_{worker_id}")
    schema.migrate(url)
    alone = Database(settings.current(), url)
    db.install(alone)
    yield url
    db.install(database)
    alone.close()


def test_nobody_waits_in_a_transaction_while_stripe_is_asked(
    alone_url: str, stripe: Stripe, place: Place
) -> None:
    open_while_asking: list[str] = []
    with psycopg.connect(alone_url, autocommit=True) as watching, own_prices():

        def look(method: str, path: str, *_rest: object) -> None:
            found = watching.execute(
                "select left(query, 60) from pg_stat_activity where datname = current_database()"
                " and pid <> pg_backend_pid() and state like 'idle in transaction%'"
            ).fetchall()
            open_while_asking.extend(f"{method} {path}: {row[0]}" for row in found)

        stripe.sandbox.observe(look)
        go_through_everything(stripe, place)
        asked = len(stripe.sandbox.world.store.answers)
        stripe.sandbox.world.observers.remove(look)
    assert asked > 10
    assert open_while_asking == []


def go_through_everything(stripe: Stripe, place: Place) -> None:
    """Every act that asks Stripe for something."""
    order = buy(stripe, place, save_card=True)
    checkout.confirm(place.who, page_of(order))
    stripe.deliver()
    dropped = checkout.start_package(place.who, "pro", click_key="k")
    checkout.cancel(place.who, dropped.order_id)
    customers.portal(place.who)
    agree(place)
    topups.sweep()
    paid_by = rows(Payment, place)[0].payment_intent_id
    refunds.refund(TESTS, place.tenant_id, paid_by, 100, reason="x")
    stripe.sandbox.pay(page_of(checkout.start_plan(place.who, "starter", click_key="p")))
    stripe.deliver()
    subscriptions.change_plan(place.who, "pro")
    subscriptions.cancel(place.who)
    subscriptions.resume(place.who)
    stripe.deliver()
    offers.mirror()
    with_postpaid()
    stripe.sandbox.pay_out()
    now = datetime.now(UTC)  # the passes over our rows would ask for those of all other tests too
    reconcile.receive_missed(now - timedelta(hours=1))
    reconcile.compare_payouts(now)


def with_postpaid() -> None:
    place = make_place(
        credit_usd=0, mode="postpaid", role="finance", credit_limit_nusd=5000 * USD
    )  # fmt: skip
    postpaid.ensure(place.tenant_id)
