"""Stripe's events of one tenant: the fixtures with ids and days of their own, and the rows that must
exist before them. Signing is done by hand here, not by the library that verifies."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert

from core import db
from core.billing.sales_tables import AutoTopup, OfferPrice, Order, StripeCustomer
from core.db import new_id
from core.money import NANO_PER_USD
from tests.factories import TESTS, Place, make_place

FIXTURES = Path(__file__).parent.parent / "fixtures" / "stripe"
SECRET = "whsec_of_the_tests_and_long_enough"
_TENANT, _CUSTOMER = "8f14e45f-ceea-467f-a8d1-0d4a5e1c7b21", "cus_TSx9Kq2mZr4Vb7"
_ID = re.compile(r'"((?:evt|cs_test|pi|ch|re|du|sub|si|in|il|inpay|py|txn)_[A-Za-z0-9_]{8,})"')
_TIME = re.compile(r"\b179[4-9]\d{6}\b|\b180\d{7}\b")
_FIRST_DAY = 1794916800  # when the subscription of the fixtures begins
_DAY_S = 86_400
_ORDERS = {
    "6b1f0e52-1c1e-4a57-9d39-2f6a0b1d7e01": "paid",
    "6b1f0e52-1c1e-4a57-9d39-2f6a0b1d7e02": "delayed",
    "6b1f0e52-1c1e-4a57-9d39-2f6a0b1d7e03": "failing",
    "6b1f0e52-1c1e-4a57-9d39-2f6a0b1d7e04": "expiring",
    "6b1f0e52-1c1e-4a57-9d39-2f6a0b1d7e06": "free",
    "6b1f0e52-1c1e-4a57-9d39-2f6a0b1d7e07": "adaptive",
    "sub-order-0001": "plan",
    "topup-0008": "topup",
    "topup-0009": "topup_asked",
}
_PRICES = (
    ("price_1SUcrPB7WZ01zgkWpack50", "package", "pro", 5000, 50),
    ("price_1SUsubB7WZ01zgkWproM20", "plan", "starter", 2000, 20),
    ("price_1SUsubB7WZ01zgkWteamM50", "plan", "pro", 5000, 50),
)
PAID, LAST = "checkout.session.completed.paid", "customer.subscription.deleted.payment_failed"
WON, LOST = "charge.dispute.closed.won", "charge.dispute.closed.lost"
OF_ANOTHER = (
    "payment_intent.payment_failed.authentication_required",
    "payment_intent.requires_action",
)


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """The fixtures' names, without their ending."""
    found = (file.name.removesuffix(".json") for file in sorted(FIXTURES.glob("*.json")))
    return tuple(name for name in found if name != "index")


@lru_cache(maxsize=100)
def _text(name: str) -> str:
    return (FIXTURES / f"{name}.json").read_text()


def sign(body: bytes, secret: str = SECRET, *, at: float | None = None) -> str:
    """The header that Stripe sends with a body."""
    moment = int(time.time() if at is None else at)
    code = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={code}"


@dataclass(frozen=True, slots=True)
class Story:
    """A tenant, its customer and its orders as the fixtures speak of them. `other` is the tenant of
    the one top-up that a bank wants its buyer for."""

    tag: str
    place: Place
    other: Place
    orders: dict[str, UUID]

    def event(self, name: str, *, copy: int = 0) -> dict[str, Any]:
        """One fixture in this story's ids; a `copy` is another event of the same change."""
        place, mark = (self.other, "b") if name in OF_ANOTHER else (self.place, "")
        said = _ID.sub(lambda found: f'"{found[1]}{self.tag}"', _text(name))
        said = said.replace(_TENANT, str(place.tenant_id))
        said = said.replace(_CUSTOMER, f"{_CUSTOMER}{self.tag}{mark}")
        for written, called in _ORDERS.items():
            said = said.replace(f'"{written}"', f'"{self.orders[called]}"')
        said = _TIME.sub(lambda found: str(int(found[0]) + _shift_s()), said)
        event: dict[str, Any] = json.loads(said)
        if copy:
            event["id"] += f"copy{copy}"
        return event

    def body(self, name: str) -> bytes:
        """One fixture as it comes over the wire."""
        return json.dumps(self.event(name)).encode()

    def object(self, name: str) -> dict[str, Any]:
        """What a fixture is about."""
        found: dict[str, Any] = self.event(name)["data"]["object"]
        return found

    @property
    def customer_id(self) -> str:
        return f"{_CUSTOMER}{self.tag}"


def tell() -> Story:
    """A new tenant with everything its events refer to."""
    place, other = make_place(credit_usd=0, plan="free"), make_place(credit_usd=0, plan="free")
    tag = f"T{new_id().hex[-12:]}"
    story = Story(tag, place, other, {called: new_id() for called in _ORDERS.values()})
    with db.transaction(TESTS) as session:
        session.execute(
            insert(OfferPrice)
            .values([
                {"price_id": price_id, "kind": kind, "code": code, "product_id": f"prod_{code}",
                 "price_minor": minor, "credits_nusd": usd * NANO_PER_USD, "current": False}
                for price_id, kind, code, minor, usd in _PRICES
            ])
            .on_conflict_do_nothing()
        )  # fmt: skip
        session.add(StripeCustomer(customer_id=story.customer_id, tenant_id=place.tenant_id))
        session.add(StripeCustomer(customer_id=f"{story.customer_id}b", tenant_id=other.tenant_id))
        session.add_all(_orders(story))
        session.add_all([_topup_terms(place), _topup_terms(other)])
    return story


def _orders(story: Story) -> list[Order]:
    named = {
        "paid": "checkout.session.completed.paid",
        "delayed": "checkout.session.completed.unpaid_async",
        "failing": "checkout.session.async_payment_failed",
        "expiring": "checkout.session.expired",
        "free": "checkout.session.completed.no_payment_required",
        "adaptive": "checkout.session.completed.adaptive_pricing",
        "plan": "checkout.session.completed.subscription",
    }
    made = []
    for called, name in named.items():
        plan = called == "plan"
        made.append(
            Order(
                tenant_id=story.place.tenant_id, order_id=story.orders[called], click_key=called,
                kind="plan" if plan else "package", code="starter" if plan else "pro",
                title="Starter" if plan else "Pro", price_minor=2000 if plan else 5000,
                price_id=_PRICES[1 if plan else 0][0], session_id=story.object(name)["id"],
                credits_nusd=0 if plan else 50 * NANO_PER_USD,
                bonus_nusd=0 if plan else 5 * NANO_PER_USD, ordered_by=story.place.user_id,
            )
        )  # fmt: skip
    return [
        *made,
        _topup(story.place, story.orders["topup"]),
        _topup(story.other, story.orders["topup_asked"]),
    ]


def _topup(place: Place, order_id: UUID) -> Order:
    return Order(
        tenant_id=place.tenant_id, order_id=order_id, click_key=order_id.hex, kind="topup",
        code="pm_1SUwCard", title="Top-up", price_minor=2000, credits_nusd=20 * NANO_PER_USD,
    )  # fmt: skip


def _topup_terms(place: Place) -> AutoTopup:
    return AutoTopup(
        tenant_id=place.tenant_id, enabled=True, threshold_nusd=5 * NANO_PER_USD, amount_minor=2000,
        daily_cap_minor=10_000, consent="charge my card", consent_by=place.user_id,
        consent_at=datetime.now(UTC),
    )  # fmt: skip


@lru_cache(maxsize=1)
def _shift_s() -> int:
    """So many whole days that the fixtures begin today, whenever the tests run."""
    return (int(time.time()) - _FIRST_DAY) // _DAY_S * _DAY_S


def jobs_for(event_id: str) -> int:
    """How many jobs wait to handle this event."""
    with db.transaction(TESTS) as session:
        return session.execute(
            text(
                "select count(*) from jobs.procrastinate_jobs"
                " where task_name = 'billing.handle_event' and args ->> 'event_id' = :event"
            ),
            {"event": event_id},
        ).scalar_one()
