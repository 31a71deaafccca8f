"""What every event of Stripe's causes here, and that all of them together, in any order and any
number of copies, end in one state."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import inspect, select, text
from sqlalchemy.orm import Session

from core import db, invariants
from core.billing import inbox, stripe_api, stripe_objects, subscriptions, webhooks
from core.billing.effects import Effect, Handled, Ignored, Waits
from core.billing.ledger import BILLING
from core.billing.sales_tables import (
    AutoTopup,
    ClawBack,
    Fulfilment,
    Invoice,
    Order,
    Payment,
    StripeCustomer,
    Subscription,
)
from core.billing.stripe_api import StripeApi
from core.billing.stripe_objects import Json
from core.billing.stripe_tables import StripeEvent
from core.billing.tables import Account, Lot
from core.billing.webhooks import Need
from core.db import Database
from core.identity.tables import Tenant
from core.money import NANO_PER_USD
from tests.billing.story import Story, names, tell
from tests.factories import TESTS

LAST = "customer.subscription.deleted.payment_failed"
PAID = "checkout.session.completed.paid"
WON, LOST = "charge.dispute.closed.won", "charge.dispute.closed.lost"
COPIES = 20
SEEDS, PARTS, THROUGH_THE_INBOX = 200, 4, 2


class SaidNow(StripeApi):
    """Stripe after all of a story happened: it says the last state of what is asked for."""

    def __init__(self, story: Story) -> None:
        super().__init__("sk_test_x", base="http://127.0.0.1:1")
        self.story = story

    def fetch(self, object_kind: str, object_id: str) -> Json:
        named = {"checkout.session": PAID, "subscription": LAST}
        found = self.story.object(named[object_kind])
        assert found["id"] == object_id
        return found

    def subscription(self, subscription_id: str) -> stripe_objects.Subscription:
        return stripe_objects.subscription(self.fetch("subscription", subscription_id))


@pytest.fixture(autouse=True)
def _nothing_installed(database: Database) -> Iterator[None]:
    yield
    stripe_api.install(None)


@pytest.fixture
def story(database: Database) -> Story:
    made = tell()
    stripe_api.install(SaidNow(made))
    return made


def apply(story: Story, name: str, **fields: Any) -> Effect:
    """One event of a fixture, applied in a transaction of its own."""
    event = stripe_objects.event(story.event(name) | fields)
    need = webhooks.needed(event)
    fetched = webhooks.read(need) if need else None
    with db.transaction(BILLING) as session:
        return webhooks.tried(session, lambda: webhooks.apply(session, event, fetched))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("payment_intent.created", "nothing is paid yet"),
        ("payment_intent.processing", "under way"),
        ("payment_intent.succeeded", "paid through its session"),
        ("charge.succeeded", "payouts match it"),
        ("charge.refunded.partial", "a running total"),
        ("charge.dispute.funds_withdrawn", "booked when the dispute was opened"),
    ],
)
def test_events_of_no_concern_say_why(story: Story, name: str, said: str) -> None:
    effect = apply(story, name)
    assert isinstance(effect, Ignored) and said in effect.reason


@pytest.mark.parametrize("name", ["invoice.created", "invoice.will_be_due", "tax.settings.updated"])
def test_types_we_do_not_use_are_ignored(story: Story, name: str) -> None:
    effect = apply(story, "charge.succeeded", type=name)
    assert isinstance(effect, Ignored) and effect.reason


def test_a_subscription_is_read_anew_whatever_its_event_said(story: Story) -> None:
    effect = apply(story, "customer.subscription.updated.activated")
    assert isinstance(effect, Handled)
    with db.transaction(TESTS) as session:
        row = session.scalars(
            select(Subscription).where(Subscription.tenant_id == story.place.tenant_id)
        ).one()
    assert row.status == "canceled"


def test_an_older_reading_of_a_subscription_never_wins(story: Story) -> None:
    event = stripe_objects.event(story.event("customer.subscription.updated.past_due"))
    need = webhooks.needed(event)
    assert need is not None
    earlier = webhooks.read(need)
    apply(story, "customer.subscription.updated.renewed")
    with db.transaction(BILLING) as session:
        effect = webhooks.tried(session, lambda: webhooks.apply(session, event, earlier))
    assert isinstance(effect, Waits)


@pytest.mark.parametrize("version", ["2017-08-15", None, ""])
def test_an_event_of_another_version_is_read_anew(story: Story, version: str | None) -> None:
    event = story.event(PAID) | {"api_version": version}
    event["data"]["object"] = {"id": event["data"]["object"]["id"], "object": "checkout.session"}
    found = stripe_objects.event(event)
    need = webhooks.needed(found)
    assert need == Need("checkout.session", event["data"]["object"]["id"])
    fetched = webhooks.read(need)
    with db.transaction(BILLING) as session:
        assert isinstance(webhooks.apply(session, found, fetched), Handled)
        order = session.get_one(Order, (story.place.tenant_id, story.orders["paid"]))
        assert order.state == "fulfilled"


def test_the_pinned_version_needs_nothing_from_stripe(story: Story) -> None:
    read = {name for name in names() if webhooks.needed(stripe_objects.event(story.event(name)))}
    assert read == {name for name in names() if name.startswith("customer.subscription.")} | {
        "thin.v1.checkout.session.completed"
    }


def test_an_invoice_whose_lines_did_not_fit_is_read_whole(story: Story) -> None:
    event = story.event("invoice.paid.subscription_create")
    event["data"]["object"]["lines"]["has_more"] = True
    need = webhooks.needed(stripe_objects.event(event))
    assert need == Need("invoice", event["data"]["object"]["id"])


def test_a_thin_event_does_what_its_snapshot_does(story: Story) -> None:
    assert isinstance(apply(story, "thin.v1.checkout.session.completed"), Handled)
    with db.transaction(TESTS) as session:
        assert state_of(session, story)["orders"]["paid"]["state"] == "fulfilled"


def test_a_deleted_customer_is_nobody_to_charge(story: Story) -> None:
    deleted = {"id": story.customer_id, "object": "customer", "deleted": True}
    effect = apply(story, "charge.succeeded", type="customer.deleted", data={"object": deleted})
    assert isinstance(effect, Handled)
    with db.transaction(TESTS) as session:
        assert session.get_one(StripeCustomer, story.customer_id).deleted_at is not None


@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("customer.updated", {"object": "customer", "id": "{customer}"}),
        ("payment_method.attached", {"object": "payment_method", "customer": "{customer}"}),
        ("customer.updated", {"object": "customer", "id": "cus_stranger"}),
        ("payment_method.detached", {"object": "payment_method", "customer": None}),
    ],
)
def test_another_card_is_read_by_a_job(story: Story, name: str, about: dict[str, Any]) -> None:
    said = {k: story.customer_id if v == "{customer}" else v for k, v in about.items()}
    effect = apply(story, "charge.succeeded", type=name, data={"object": said})
    ours = story.customer_id in said.values()
    assert isinstance(effect, Handled if ours else Ignored)
    with db.transaction(TESTS) as session:
        waiting = session.execute(
            text(
                "select count(*) from jobs.procrastinate_jobs where args ->> 'tenant_id' = :tenant"
                " and task_name = 'billing.refresh_card'"
            ),
            {"tenant": str(story.place.tenant_id)},
        ).scalar_one()
    assert waiting == ours


def test_a_payout_is_compared_by_a_job(story: Story) -> None:
    payout = {"id": "po_1", "object": "payout"}
    effect = apply(
        story, "charge.succeeded", type="payout.reconciliation_completed", data={"object": payout}
    )
    assert isinstance(effect, Handled)
    with db.transaction(TESTS) as session:
        query = "select count(*) from jobs.procrastinate_jobs where task_name = 'billing.payouts'"
        assert session.execute(text(query)).scalar_one() >= 1


def test_an_event_of_a_stranger_has_no_effect(story: Story) -> None:
    stranger = tell()
    event = stranger.event(PAID)
    event["data"]["object"]["customer"] = "cus_of_another_shop"
    found = stripe_objects.event(event)
    with db.transaction(BILLING) as session:
        webhooks.tried(session, lambda: webhooks.apply(session, found, None))
    with db.transaction(TESTS) as session:
        assert session.get_one(Account, stranger.place.tenant_id).posted_nusd == 0


# All of them together


@dataclass(frozen=True, slots=True)
class Drawn:
    """One seed's story: its events in the order they come, copies among them."""

    story: Story
    events: list[dict[str, Any]]


def drawn(seed: int, *, won: bool) -> Drawn:
    chance = random.Random(seed)
    story = tell()
    told = [name for name in names() if name != (LOST if won else WON)]
    events = [story.event(name) for name in told]
    for number in range(COPIES):
        name = chance.choice(told)
        events.append(story.event(name, copy=number + 1 if number % 2 else 0))
    chance.shuffle(events)
    return Drawn(story, events)


def live_through(one: Drawn) -> None:
    """Through the inbox, as in life."""
    stripe_api.install(SaidNow(one.story))
    for event in one.events:
        with db.transaction(BILLING) as session:
            inbox.receive(session, event, came_by="webhook")
        inbox.handle(event["id"])
    ids = {event["id"] for event in one.events}
    for _ in range(4):
        for event_id in ids:
            inbox.handle(event_id)
    with db.transaction(TESTS) as session:
        query = select(StripeEvent.state).where(StripeEvent.event_id.in_(ids))
        assert set(session.scalars(query)) == {"handled", "ignored"}


def live_through_at_once(one: Drawn) -> None:
    """The same handlers in one transaction, which is what lets two hundred seeds be tried."""
    waiting = [stripe_objects.event(event) for event in one.events]
    with db.transaction(BILLING) as session:
        for _ in range(5):
            waiting = [event for event in waiting if still_waits(session, one.story, event)]
    assert not waiting


def still_waits(session: Session, story: Story, event: stripe_objects.Event) -> bool:
    fetched: object = None
    need = webhooks.needed(event)
    if need is not None and need.kind == "subscription":
        row = session.get(Subscription, need.object_id, populate_existing=True)
        now = stripe_objects.subscription(story.object(LAST))
        fetched = subscriptions.Asked(row.version if row else 0, now)
    elif need is not None:
        fetched = stripe_objects.checkout_session(story.object(PAID))
    effect = webhooks.tried(session, lambda: webhooks.apply(session, event, fetched))
    return isinstance(effect, Waits)


_NO_MATTER = {
    "changed_at", "created_at", "fulfilled_at", "paid_at", "opened_at", "ended_at", "effective_at",
    "version", "lot_id", "tenant_id", "order_id", "ordered_by", "click_key", "consent_at",
    "consent_by", "seq",
}  # fmt: skip


def state_of(session: Session, story: Story) -> dict[str, Any]:
    """Everything the events of a story led to, in names that all stories share."""
    tenants = (story.place.tenant_id, story.other.tenant_id)
    called = {order_id: name for name, order_id in story.orders.items()}

    def shown(row: Any) -> dict[str, Any]:
        values = {c.key: getattr(row, c.key) for c in inspect(row).mapper.column_attrs}
        kept = {k: v for k, v in values.items() if k not in _NO_MATTER}
        return {k: v.replace(story.tag, "") if isinstance(v, str) else v for k, v in kept.items()}

    def rows(table: Any) -> list[dict[str, Any]]:
        found = session.scalars(select(table).where(table.tenant_id.in_(tenants)))
        return sorted((shown(row) for row in found), key=repr)

    orders = session.scalars(select(Order).where(Order.tenant_id.in_(tenants)))
    return {
        "orders": {called[order.order_id]: shown(order) for order in orders},
        "plans": [session.get_one(Tenant, tenant).plan for tenant in tenants],
        "wallets": [shown(session.get_one(Account, tenant)) for tenant in tenants],
    } | {
        table.__tablename__: rows(table)
        for table in (Lot, Payment, Fulfilment, ClawBack, Subscription, Invoice, AutoTopup)
    }


def end_of(one: Drawn) -> dict[str, Any]:
    with db.transaction(TESTS) as session:
        return state_of(session, one.story)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("won", [True, False], ids=["won", "lost"])
def test_any_order_with_any_copies_ends_in_one_state(
    database: Database, won: bool, part: int
) -> None:
    """Two hundred seeds in parts, so that they can run beside each other."""
    first = drawn(part, won=won)
    live_through(first)
    expected = end_of(first)
    assert_the_end(expected, won=won)
    for number in range(1, SEEDS // 2 // PARTS):
        one = drawn(number * PARTS + part, won=won)
        (live_through if number <= THROUGH_THE_INBOX else live_through_at_once)(one)
        assert end_of(one) == expected, f"seed {number * PARTS + part}"
    with db.transaction(TESTS) as session:
        assert invariants.check(session) == []


def assert_the_end(end: dict[str, Any], *, won: bool) -> None:
    """Not only one state, but the right one."""
    assert {name: order["state"] for name, order in end["orders"].items()} == {
        "paid": "fulfilled", "delayed": "fulfilled", "free": "fulfilled", "adaptive": "fulfilled",
        "failing": "failed", "expiring": "expired", "plan": "fulfilled", "topup": "failed",
        "topup_asked": "needs_action",
    }  # fmt: skip
    clawed_back = {row["stripe_id"]: (row["status"], row["counts"]) for row in end["claw_backs"]}
    assert clawed_back == {
        "re_3SUw2aB7WZ01zgkW1RefPart1": ("succeeded", True),
        "re_3SUw2aB7WZ01zgkW1RefRest2": ("succeeded", True),
        "re_3SUw5cB7WZ01zgkW2RefFail0": ("failed", False),
        "du_1SVe7kB7WZ01zgkWdispute01": ("won", False) if won else ("lost", True),
    }
    granted = {(row["source_type"], row["source_id"]): row for row in end["lots"]}
    packs = [row for (kind, _), row in granted.items() if kind.startswith("checkout_session")]
    assert len(packs) == 2 * 4 and len(granted) == 8 + 3
    assert sum(row["revoked_nusd"] for row in packs) == 55 * NANO_PER_USD
    months = [row["granted_nusd"] for (kind, _), row in granted.items() if kind == "invoice_line"]
    assert months == [20 * NANO_PER_USD] * 2
    upgrade = granted["invoice", "in_1SUz9pB7WZ01zgkWsubUpgrd"]["granted_nusd"]
    assert end["wallets"][0]["posted_nusd"] == (3 * 55 + 2 * 20) * NANO_PER_USD + upgrade
    assert end["wallets"][0]["debt_nusd"] == 0 and end["wallets"][1]["posted_nusd"] == 0
    assert [row["status"] for row in end["subscriptions"]] == ["canceled"]
    assert end["plans"] == ["free", "free"]
