"""What no webhook told is found, booked through the same functions, and said with its cause."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from core import db, errors
from core.billing import (
    comparisons,
    differences,
    inbox,
    ledger,
    payouts,
    reconcile,
    refunds,
    stripe_api,
    stripe_objects,
    webhooks,
)
from core.billing.differences import Difference
from core.billing.ledger import BILLING
from core.billing.reconcile import Report
from core.billing.sales_tables import ClawBack, Fulfilment, Order, Payment, Subscription
from core.billing.stripe_api import BalanceTransaction, Payout, StripeApi, StripeRefused
from core.billing.stripe_objects import CheckoutSession, Json, PaymentIntent, Refund
from core.billing.stripe_tables import StripeDifference, StripeEvent, StripePayout
from core.db import Database, new_id
from core.identity.access import Operator
from core.money import NANO_PER_USD
from tests.billing import purchases
from tests.billing.purchases import offences
from tests.billing.story import Story, tell
from tests.factories import TESTS

NOW = datetime.now(UTC)
PAID, PART = "checkout.session.completed.paid", "refund.created.partial"
PLAN, ACTIVE = "checkout.session.completed.subscription", "customer.subscription.updated.activated"
OPERATOR = Operator(user_id=new_id(), email="op@example.com", name="Op")


class Shop(StripeApi):
    """Stripe's books, as a test writes them."""

    def __init__(self) -> None:
        super().__init__("sk_test_x", base="http://127.0.0.1:1")
        self.undelivered: list[Json] = []
        self.asked_events: list[tuple[tuple[str, ...], datetime, bool]] = []
        self.sessions: dict[str, CheckoutSession] = {}
        self.listed_sessions: set[str] | None = None
        self.refunds: dict[str, Refund] = {}
        self.subscriptions: dict[str, stripe_objects.Subscription] = {}
        self.intents: dict[str, PaymentIntent] = {}
        self.payouts: list[Payout] = []
        self.movements: dict[str, list[BalanceTransaction]] = {}

    def events(self, *, types: Sequence[str], since: datetime, undelivered: bool) -> Iterator[Json]:
        self.asked_events.append((tuple(types), since, undelivered))
        yield from (event for event in self.undelivered if event["type"] in types)

    def sessions_since(self, at: datetime) -> Iterator[CheckoutSession]:
        listed = self.sessions if self.listed_sessions is None else self.listed_sessions
        yield from (self.sessions[one] for one in listed)

    def checkout_session(self, session_id: str) -> CheckoutSession:
        return found(self.sessions, session_id)

    def refunds_since(self, at: datetime) -> Iterator[Refund]:
        yield from self.refunds.values()

    def subscription(self, subscription_id: str) -> stripe_objects.Subscription:
        return found(self.subscriptions, subscription_id)

    def payment_intent(self, payment_intent_id: str) -> PaymentIntent:
        return found(self.intents, payment_intent_id)

    def fetch(self, object_kind: str, object_id: str) -> Json:
        raise StripeRefused("resource_missing", status=404)

    def payouts_since(self, at: datetime) -> Iterator[Payout]:
        yield from self.payouts

    def balance_transactions(self, payout_id: str) -> Iterator[BalanceTransaction]:
        yield from self.movements[payout_id]


def found(books: dict[str, Any], stripe_id: str) -> Any:
    if stripe_id not in books:
        raise StripeRefused("resource_missing", status=404)
    return books[stripe_id]


@pytest.fixture
def shop(database: Database) -> Iterator[Shop]:
    """A shop with empty books; what earlier tests left open or fulfilled is out of the way."""
    with db.transaction(TESTS) as session:
        for row in session.scalars(select(StripeDifference)):
            session.delete(row)
        for table in (Fulfilment, ClawBack):
            column = table.fulfilled_at if table is Fulfilment else ClawBack.opened_at
            for row in session.scalars(select(table)):
                setattr(row, column.key, NOW - timedelta(days=30))
        for row in session.scalars(select(Subscription)):
            row.ended_at = row.ended_at or NOW
    made = Shop()
    stripe_api.install(made)
    yield made
    stripe_api.install(None)


def book(story: Story, *names: str) -> None:
    """As if the webhooks of these had come."""
    for name in names:
        event = stripe_objects.event(story.event(name))
        with db.transaction(BILLING) as session:
            webhooks.apply(session, event, None)


def a_session(story: Story, name: str = PAID, **fields: Any) -> CheckoutSession:
    return replace(stripe_objects.checkout_session(story.object(name)), **fields)


def a_refund(story: Story, name: str = PART) -> Refund:
    return stripe_objects.refund(story.object(name))


def has(shop: Shop, *sessions: CheckoutSession) -> None:
    shop.sessions |= {one.session_id: one for one in sessions}


def hourly() -> Report:
    return reconcile.run(NOW, scope="hourly")


def daily() -> Report:
    return reconcile.run(NOW, scope="daily")


def noted(stripe_id: str) -> StripeDifference:
    with db.transaction(TESTS) as session:
        query = select(StripeDifference).where(StripeDifference.stripe_id == stripe_id)
        return session.scalars(query).one()


def posted(story: Story) -> int:
    with db.transaction(TESTS) as session:
        return ledger.wallet(session, story.place.tenant_id).posted_nusd


# Events


def test_events_that_were_not_delivered_come_through_the_inbox(shop: Shop, story: Story) -> None:
    event = story.event(PAID)
    shop.undelivered = [event, story.event("refund.created.partial")]
    assert hourly().events_new == 2
    with db.transaction(TESTS) as session:
        row = session.get_one(StripeEvent, event["id"])
        assert (row.state, row.came_by) == ("waiting", "reconciler")
    inbox.handle(event["id"])
    assert posted(story) == 55 * NANO_PER_USD
    assert hourly().events_new == 0  # only counted


def test_events_are_asked_for_by_their_types_and_time(shop: Shop) -> None:
    hourly()
    asked = [name for types, _, _ in shop.asked_events for name in types]
    assert all(len(types) <= 20 and undelivered for types, _, undelivered in shop.asked_events)
    assert {"checkout.session.completed", "refund.failed", "invoice.paid"} <= set(asked)
    assert len(asked) == len(set(asked)) and not any(name.startswith("billing.") for name in asked)
    assert {since for _, since, _ in shop.asked_events} == {NOW - timedelta(hours=48)}
    shop.asked_events.clear()
    daily()
    assert {since for _, since, _ in shop.asked_events} == {NOW - timedelta(days=30)}


def test_one_unreadable_event_does_not_hide_the_next(shop: Shop, story: Story) -> None:
    shop.undelivered = [{"type": "invoice.paid"}, story.event(PAID)]
    assert hourly().events_new == 1


# Sessions against fulfilments


def test_a_paid_session_nobody_told_of_is_fulfilled_now(shop: Shop, story: Story) -> None:
    session = a_session(story)
    has(shop, session)
    report = hourly()
    assert posted(story) == 55 * NANO_PER_USD
    assert report.sessions == 1 and [d.stripe_id for d in report.differences] == [
        session.session_id
    ]
    row = noted(session.session_id)
    assert (row.kind, row.of_tenant) == ("session", story.place.tenant_id)
    assert row.cause == comparisons.BOOKED_NOW and row.resolved_at is None
    assert hourly().differences == ()
    assert noted(session.session_id).resolved_at is not None
    assert offences(story.place.tenant_id) == []


def test_the_webhook_may_come_after_the_reconciler(shop: Shop, story: Story) -> None:
    has(shop, a_session(story))
    hourly()
    book(story, PAID)
    assert posted(story) == 55 * NANO_PER_USD


def test_a_session_that_was_told_of_is_no_difference(shop: Shop, story: Story) -> None:
    book(story, PAID)
    has(shop, a_session(story), a_session(story, "checkout.session.completed.unpaid_async"))
    assert hourly().differences == ()


def test_a_plans_session_is_done_with_its_order(shop: Shop, story: Story) -> None:
    has(shop, a_session(story, PLAN))
    assert len(hourly().differences) == 1
    with db.transaction(TESTS) as session:
        order = session.get_one(Order, (story.place.tenant_id, story.orders["plan"]))
        assert order.state == "fulfilled"
    assert hourly().differences == () and posted(story) == 0


def test_a_session_that_is_not_what_was_ordered_stays_a_difference(
    shop: Shop, story: Story
) -> None:
    session = a_session(story, subtotal_minor=4000)
    has(shop, session)
    for _ in range(2):
        assert [d.stripe_id for d in hourly().differences] == [session.session_id]
    assert "review" in noted(session.session_id).cause
    assert posted(story) == 0


def test_a_session_whose_money_all_went_back_differs_no_more(shop: Shop, story: Story) -> None:
    session = a_session(story, subtotal_minor=4000)
    has(shop, session)
    hourly()
    assert session.total_minor is not None
    given_back = replace(a_refund(story), amount_minor=session.total_minor, status="succeeded")
    with db.transaction(BILLING) as told:
        refunds.on_refund(told, given_back)
    shop.refunds[given_back.refund_id] = given_back
    assert hourly().differences == ()
    assert noted(session.session_id).resolved_at is not None
    assert posted(story) == 0


def test_a_strangers_session_is_only_counted(shop: Shop, story: Story) -> None:
    has(shop, a_session(story, customer_id="cus_of_another_shop"))
    report = hourly()
    assert (report.foreign, report.differences, report.sessions) == (1, (), 1)
    assert posted(story) == 0


def test_an_open_difference_is_looked_at_beyond_the_window(shop: Shop, story: Story) -> None:
    session = a_session(story, subtotal_minor=4000)
    has(shop, session)
    hourly()
    shop.listed_sessions = set()
    assert len(hourly().differences) == 1
    assert noted(session.session_id).resolved_at is None


def test_credit_without_a_paid_session_is_a_difference(shop: Shop, story: Story) -> None:
    book(story, PAID)
    session_id = story.object(PAID)["id"]
    report = hourly()
    assert [(d.kind, d.stripe_id, d.theirs) for d in report.differences] == [
        ("fulfilment", session_id, "unknown")
    ]
    has(shop, a_session(story, payment_status="unpaid"))
    assert [d.theirs for d in hourly().differences] == ["unpaid"]
    has(shop, a_session(story))
    shop.listed_sessions = set()  # paid, but begun before the window
    assert hourly().differences == ()
    assert noted(session_id).resolved_at is not None
    assert posted(story) == 55 * NANO_PER_USD  # it takes nothing back by itself


def test_one_object_that_fails_does_not_hide_the_others(
    shop: Shop, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, fulfil = tell(), comparisons.checkout.fulfil

    def failing(session: Any, found: CheckoutSession) -> Any:
        if found.customer_id == story.customer_id:
            raise ValueError("broken")
        return fulfil(session, found)

    monkeypatch.setattr(comparisons.checkout, "fulfil", failing)
    has(shop, a_session(story), a_session(other))
    assert len(hourly().differences) == 1
    assert (posted(story), posted(other)) == (0, 55 * NANO_PER_USD)


def test_a_pass_that_stripe_refuses_keeps_no_other_back(
    shop: Shop, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> Any:
        raise StripeRefused("more_permissions_required", status=403)

    for name in ("events", "refunds_since", "payouts_since"):
        monkeypatch.setattr(shop, name, refused)
    has(shop, a_session(story))
    before = purchases.alarms("reconcile_refused")
    report = reconcile.run(NOW, scope="all")
    assert report.refused == ("events", "refunds", "payouts")
    assert [one.kind for one in report.differences] == ["session"]
    assert purchases.alarms("reconcile_refused") == before + 3
    assert posted(story) == 55 * NANO_PER_USD
    assert reconcile.run(NOW, scope="hourly").refused == ("events", "refunds")


# Refunds


def test_a_refund_nobody_told_of_is_booked_now(shop: Shop, story: Story) -> None:
    book(story, PAID)
    has(shop, a_session(story))
    refund = a_refund(story)
    shop.refunds = {refund.refund_id: refund}
    report = hourly()
    assert [(d.kind, d.ours, d.cause) for d in report.differences] == [
        ("refund", "not booked", comparisons.BOOKED_NOW)
    ]
    assert posted(story) < 55 * NANO_PER_USD
    assert hourly().differences == ()
    assert noted(refund.refund_id).resolved_at is not None


def test_a_refund_of_an_unknown_payment_of_ours_says_what_it_waits_for(
    shop: Shop, story: Story
) -> None:
    refund = replace(a_refund(story), customer_id=story.customer_id)
    shop.refunds = {refund.refund_id: refund}
    assert "payment" in hourly().differences[0].cause
    with db.transaction(TESTS) as session:
        assert session.get(ClawBack, refund.refund_id) is None


def test_a_strangers_refund_is_only_counted(shop: Shop, story: Story) -> None:
    refund = replace(a_refund(story), payment_intent_id="pi_other", customer_id="cus_other")
    shop.refunds = {refund.refund_id: refund}
    assert (hourly().foreign, hourly().differences) == (1, ())


def test_a_claw_back_stripe_does_not_know_is_a_difference(shop: Shop, story: Story) -> None:
    book(story, PAID, PART)
    has(shop, a_session(story))
    assert [(d.kind, d.theirs) for d in hourly().differences] == [("refund", "unknown")]


# Subscriptions


def test_a_subscription_that_moved_on_is_stored_as_it_is_now(shop: Shop, story: Story) -> None:
    active = stripe_objects.subscription(story.object(ACTIVE))
    shop.subscriptions = {active.subscription_id: active}
    with db.transaction(BILLING) as session:
        reconcile.comparisons.subscriptions.on_subscription(session, active)
    assert daily().differences == ()
    renewed = stripe_objects.subscription(story.object("customer.subscription.updated.past_due"))
    shop.subscriptions = {active.subscription_id: renewed}
    report = daily()
    assert report.subscriptions == 1
    assert [(d.kind, d.cause) for d in report.differences] == [
        ("subscription", comparisons.BOOKED_NOW)
    ]
    with db.transaction(TESTS) as session:
        row = session.get_one(Subscription, active.subscription_id)
        assert (row.status, row.period_end) == ("past_due", renewed.period_end)
    assert daily().differences == ()


def test_a_subscription_stripe_does_not_know_is_a_difference(shop: Shop, story: Story) -> None:
    active = stripe_objects.subscription(story.object(ACTIVE))
    with db.transaction(BILLING) as session:
        reconcile.comparisons.subscriptions.on_subscription(session, active)
    assert [(d.kind, d.theirs) for d in daily().differences] == [("subscription", "unknown")]


# Payouts


def a_movement(category: str, amount_minor: int, **fields: Any) -> BalanceTransaction:
    made = BalanceTransaction(
        id=f"txn_{new_id().hex}", category=category, source_id=None, payment_intent_id=None,
        amount_minor=amount_minor, fee_minor=0, net_minor=amount_minor, currency="usd",
    )  # fmt: skip
    made = replace(made, **fields)
    return replace(made, net_minor=made.amount_minor - made.fee_minor)


def pays_out(shop: Shop, *movements: BalanceTransaction, amount_minor: int | None = None) -> str:
    total = sum(m.net_minor for m in movements) if amount_minor is None else amount_minor
    payout = Payout(f"po_{new_id().hex}", "usd", total, NOW, "paid")
    shop.payouts.append(payout)
    itself = a_movement("payout", -total, source_id=payout.payout_id)
    shop.movements[payout.payout_id] = [*movements, itself]
    return payout.payout_id


def of_a_story(story: Story) -> list[BalanceTransaction]:
    """Its card payment, the partial refund of it, a lost dispute and a fee."""
    intent_id = story.object(PAID)["payment_intent"]
    return [
        a_movement("charge", 5413, payment_intent_id=intent_id, source_id="ch_1", fee_minor=187),
        a_movement("refund", -2165, source_id=story.object(PART)["id"]),
        a_movement("dispute", -5413, source_id=story.object("charge.dispute.created")["id"],
                   fee_minor=1500),
        a_movement("fee", -30),
    ]  # fmt: skip


def test_a_payout_is_the_sum_of_what_we_booked(shop: Shop, story: Story) -> None:
    book(story, PAID, PART, "charge.dispute.created")
    payout_id = pays_out(shop, *of_a_story(story))
    report = daily()
    assert (report.payouts, report.differences) == (1, ())
    with db.transaction(TESTS) as session:
        row = session.get_one(StripePayout, payout_id)
    assert (row.charges_minor, row.refunds_minor, row.disputes_minor) == (5413, 2165, 5413)
    assert (row.fees_minor, row.other_minor) == (187 + 1500 + 30, 0)
    net = row.charges_minor - row.refunds_minor - row.disputes_minor - row.fees_minor
    assert net + row.other_minor == row.paid_minor


def test_movements_of_what_we_never_booked_are_differences(shop: Shop, story: Story) -> None:
    movements = of_a_story(story)
    intent_id = story.object(PAID)["payment_intent"]
    intent = stripe_objects.payment_intent(story.object("payment_intent.succeeded"))
    shop.intents = {intent_id: intent}
    pays_out(shop, *movements)
    report = daily()
    assert {d.stripe_id for d in report.differences} == {m.id for m in movements[:3]}
    charge = next(d for d in report.differences if d.stripe_id == movements[0].id)
    assert charge.tenant_id == story.place.tenant_id and "no payment of ours" in charge.cause
    book(story, PAID, PART, "charge.dispute.created")
    assert daily().differences == ()
    assert noted(movements[0].id).resolved_at is not None


def test_a_strangers_payment_is_only_counted(shop: Shop, story: Story) -> None:
    intent = stripe_objects.payment_intent(story.object("payment_intent.succeeded"))
    shop.intents = {"pi_other": replace(intent, customer_id="cus_of_another_shop")}
    pays_out(shop, a_movement("charge", 900, payment_intent_id="pi_other"))
    report = daily()
    assert (report.foreign, report.differences) == (1, ())


def test_a_payment_over_another_amount_is_a_difference(shop: Shop, story: Story) -> None:
    book(story, PAID)
    charge = replace(of_a_story(story)[0], amount_minor=5000)
    intent = stripe_objects.payment_intent(story.object("payment_intent.succeeded"))
    shop.intents = {intent.payment_intent_id: intent}
    pays_out(shop, charge, amount_minor=5000 - 187)
    assert [d.cause for d in daily().differences] == ["our payment is over 5413"]


def test_a_payout_that_does_not_add_up_is_a_difference(shop: Shop, story: Story) -> None:
    book(story, PAID)
    payout_id = pays_out(shop, of_a_story(story)[0], amount_minor=1)
    assert [(d.kind, d.stripe_id, d.ours, d.theirs) for d in daily().differences] == [
        ("payout", payout_id, "5226", "1")
    ]


def test_a_refund_that_failed_comes_back(shop: Shop, story: Story) -> None:
    book(story, "checkout.session.async_payment_succeeded", "refund.failed")
    failed = story.object("refund.failed")
    pays_out(
        shop, a_movement("refund", -5413, source_id=failed["id"]),
        a_movement("refund_failure", 5413, source_id=failed["id"]),
    )  # fmt: skip
    assert daily().differences == ()


# The list, and where nothing is sold


def test_operators_see_what_is_open_and_what_was(shop: Shop, story: Story) -> None:
    has(shop, a_session(story))
    hourly()
    with db.transaction(OPERATOR) as session:
        shown = differences.listed(session, OPERATOR)
    assert [one.difference.stripe_id for one in shown] == [a_session(story).session_id]
    hourly()
    with db.transaction(OPERATOR) as session:
        assert differences.listed(session, OPERATOR) == ()
        assert len(differences.listed(session, OPERATOR, with_resolved=True)) == 1
        with pytest.raises(errors.Forbidden):
            differences.listed(session, story.place.who)


def test_a_difference_seen_again_is_one_row(session: Any) -> None:
    stripe_id = f"po_{new_id().hex}"
    for ours in ("1", "2"):
        differences.note(session, Difference("payout", stripe_id, None, ours, "3", "why"))
    query = select(StripeDifference).where(StripeDifference.stripe_id == stripe_id)
    assert [row.ours for row in session.scalars(query)] == ["2"]


def test_where_nothing_is_sold_the_jobs_do_nothing(database: Database) -> None:
    stripe_api.install(None)
    reconcile._hourly()
    reconcile._daily()
    reconcile._payouts()
    with pytest.raises(errors.Unavailable):
        payouts.compare_since(NOW)


def test_payments_are_known_by_what_the_webhooks_booked(shop: Shop, story: Story) -> None:
    book(story, PAID)
    with db.transaction(TESTS) as session:
        row = session.get_one(Payment, story.object(PAID)["payment_intent"])
    assert (row.total_minor, row.tenant_id) == (5413, story.place.tenant_id)
