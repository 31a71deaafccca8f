"""All events of one tenant's story in a drawn order with drawn copies, lived through; and what they
led to, in names that all stories share."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import inspect, select, update
from sqlalchemy.orm import Session

from core import db
from core.billing import inbox, stripe_api, stripe_objects, subscriptions, webhooks
from core.billing.effects import Waits
from core.billing.ledger import BILLING
from core.billing.sales_tables import (
    AutoTopup,
    ClawBack,
    Fulfilment,
    Invoice,
    Order,
    Payment,
    Subscription,
)
from core.billing.stripe_api import StripeApi
from core.billing.stripe_objects import Event, Json
from core.billing.stripe_tables import StripeEvent
from core.billing.tables import Account, Lot
from core.identity.tables import Tenant
from core.money import NANO_PER_USD
from tests.billing.purchases import offences
from tests.billing.story import LAST, LOST, PAID, WON, Story, names, tell
from tests.factories import TESTS

COPIES = 20
PARTS, SEEDS_PER_PART = 2, 25
_ROUNDS_MAX = 5
_NO_MATTER = {
    "changed_at", "created_at", "fulfilled_at", "paid_at", "opened_at", "ended_at", "effective_at",
    "version", "lot_id", "tenant_id", "order_id", "ordered_by", "click_key", "consent_at",
    "consent_by", "seq",
}  # fmt: skip


class SaidNow(StripeApi):
    """Stripe after all of a story happened: it says the last state of what is asked for."""

    def __init__(self, story: Story) -> None:
        super().__init__("sk_test_x", base="http://127.0.0.1:1")
        self._said = {"checkout.session": story.object(PAID), "subscription": story.object(LAST)}

    def fetch(self, object_kind: str, object_id: str) -> Json:
        found = self._said[object_kind]
        assert found["id"] == object_id
        return found

    def subscription(self, subscription_id: str) -> stripe_objects.Subscription:
        return stripe_objects.subscription(self.fetch("subscription", subscription_id))


@dataclass(frozen=True, slots=True)
class Drawn:
    """One seed's story: its events in the order they come, copies among them."""

    story: Story
    events: list[dict[str, Any]]

    @property
    def tenant_ids(self) -> tuple[UUID, UUID]:
        return self.story.place.tenant_id, self.story.other.tenant_id


def draw(seed: int, *, won: bool) -> Drawn:
    """A new tenant's events, shuffled by `seed`, every other copy under an id of its own."""
    chance = random.Random(seed)
    story = tell()
    told = [name for name in names() if name != (LOST if won else WON)]
    events = [story.event(name) for name in told]
    for number in range(COPIES):
        name = chance.choice(told)
        events.append(story.event(name, copy=number + 1 if number % 2 else 0))
    chance.shuffle(events)
    return Drawn(story, events)


def assert_one_end(part: int, *, won: bool) -> None:
    """Every seed of a part ends as its first, which ends right; nothing of it is unsound.

    The first comes through the inbox, as in life. The others go through the same handlers in one
    transaction each, which is what lets so many be tried.
    """
    first = draw(part, won=won)
    live_through(first)
    expected = end_of(first)
    assert_right(expected, won=won)
    lived = [first]
    for number in range(1, SEEDS_PER_PART):
        one = draw(number * PARTS + part, won=won)
        live_through_at_once(one)
        assert end_of(one) == expected, f"seed {number * PARTS + part}"
        lived.append(one)
    tenant_ids = [tenant_id for one in lived for tenant_id in one.tenant_ids]
    assert offences(*tenant_ids) == []
    _leave_to_rest(tenant_ids)


def _leave_to_rest(tenant_ids: list[UUID]) -> None:
    """No sweep of another test buys for them."""
    with db.transaction(TESTS) as session:
        theirs = update(AutoTopup).where(AutoTopup.tenant_id.in_(tenant_ids))
        session.execute(theirs.values(enabled=False))


def live_through(one: Drawn) -> None:
    """Each event by itself: received, handled, and tried again while it waits for another."""
    stripe_api.install(SaidNow(one.story))
    for event in one.events:
        with db.transaction(BILLING) as session:
            inbox.receive(session, event, came_by="webhook")
        inbox.handle(event["id"])
    settle({event["id"] for event in one.events})


def settle(ids: set[str]) -> None:
    """What waits is tried again until all of it had its effect or had none to have."""
    for _ in range(_ROUNDS_MAX):
        for event_id in _states(ids).get("waiting", []):
            inbox.handle(event_id)
    assert _states(ids).keys() == {"handled", "ignored"}


def _states(ids: set[str]) -> dict[str, list[str]]:
    with db.transaction(TESTS) as session:
        query = select(StripeEvent.state, StripeEvent.event_id)
        found: dict[str, list[str]] = {}
        for state, event_id in session.execute(query.where(StripeEvent.event_id.in_(ids))):
            found.setdefault(state, []).append(event_id)
    return found


def live_through_at_once(one: Drawn) -> None:
    """The same handlers in one transaction."""
    said = SaidNow(one.story)
    waiting = [stripe_objects.event(event) for event in one.events]
    with db.transaction(BILLING) as session:
        for _ in range(_ROUNDS_MAX):
            waiting = [event for event in waiting if _still_waits(session, said, event)]
    assert not waiting


def _still_waits(session: Session, said: SaidNow, event: Event) -> bool:
    fetched: object = None
    need = webhooks.needed(event)
    if need is not None and need.kind == "subscription":
        row = session.get(Subscription, need.object_id, populate_existing=True)
        now = said.subscription(need.object_id)
        fetched = subscriptions.Asked(row.version if row else 0, now)
    elif need is not None:
        fetched = stripe_objects.checkout_session(said.fetch(need.kind, need.object_id))
    effect = webhooks.tried(session, lambda: webhooks.apply(session, event, fetched))
    return isinstance(effect, Waits)


def end_of(one: Drawn) -> dict[str, Any]:
    with db.transaction(TESTS) as session:
        return state_of(session, one.story)


def state_of(session: Session, story: Story) -> dict[str, Any]:
    """Everything the events of a story led to."""
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


def assert_right(end: dict[str, Any], *, won: bool) -> None:
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
