"""Books for the tests of what buyers read: a wallet with purchases, usage and corrections of many
days, and the rows Stripe's events leave behind, written as the System."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from core import db
from core.billing import ledger
from core.billing.sales_tables import (
    AutoTopup,
    Fulfilment,
    Invoice,
    Order,
    StripeCustomer,
    Subscription,
)
from core.billing.tables import Lot
from core.db import new_id
from core.money import NANO_PER_USD
from tests.factories import TESTS, Place

USD = NANO_PER_USD


def an_order(place: Place, **fields: Any) -> Order:
    """An order of the package Pro; `fields` replace its own."""
    order = Order(**{
        "tenant_id": place.tenant_id, "order_id": new_id(), "click_key": new_id().hex,
        "kind": "package", "code": "pro", "title": "Pro", "price_minor": 5000,
        "credits_nusd": 50 * USD, "bonus_nusd": 5 * USD, "bonus_expires_after_days": 365,
        "state": "open", "ordered_by": place.user_id,
    } | fields)  # fmt: skip
    with db.transaction(TESTS) as session:
        session.add(order)
    return order


def bought(place: Place, **fields: Any) -> Order:
    """A fulfilled order with its lot, its bonus and its receipt."""
    stripe_id, invoice_id = f"cs_test_{new_id().hex}", f"in_{new_id().hex}"
    order = an_order(
        place, **{"state": "fulfilled", "session_id": stripe_id, "total_minor": 5000,
                  "invoice_id": invoice_id, "ended_at": datetime.now(UTC)} | fields,
    )  # fmt: skip
    with db.transaction(TESTS) as session:
        session.add(
            Fulfilment(
                stripe_id=stripe_id, tenant_id=place.tenant_id, kind="checkout_session",
                order_id=order.order_id, granted_nusd=order.credits_nusd + order.bonus_nusd,
            )
        )  # fmt: skip
        for kind, suffix, amount in (
            ("purchase", "", order.credits_nusd), ("promo", "_bonus", order.bonus_nusd),
        ):  # fmt: skip
            if amount:
                ledger.grant(
                    session, place.tenant_id, amount, kind=kind,  # type: ignore[arg-type]
                    key=f"{stripe_id}{suffix}", actor="stripe",
                    reason=f"{order.title}: bonus" if suffix else order.title,
                    source=(f"checkout_session{suffix}", stripe_id),
                )  # fmt: skip
    an_invoice(
        place,
        invoice_id=invoice_id,
        number="R-0001",
        status="paid",
        total_minor=5000,
        subscription_id=None,
    )
    return order


def an_invoice(place: Place, **fields: Any) -> Invoice:
    """An open invoice nobody has tried to charge."""
    invoice = Invoice(**{
        "invoice_id": f"in_{new_id().hex}", "tenant_id": place.tenant_id, "number": "P-0007",
        "subscription_id": "sub_of_tests",
        "status": "open", "total_minor": 7900, "currency": "usd", "attempts": 0,
        "page_url": "https://invoice.stripe.com/i/acct_1/test_1",
        "created_at": datetime.now(UTC),
    } | fields)  # fmt: skip
    with db.transaction(TESTS) as session:
        session.add(invoice)
    return invoice


def a_subscription(place: Place, **fields: Any) -> Subscription:
    """An active subscription to the plan Pro with three weeks to go."""
    now = datetime.now(UTC)
    row = Subscription(**{
        "subscription_id": f"sub_{new_id().hex}", "tenant_id": place.tenant_id, "purpose": "plan",
        "status": "active", "item_id": "si_1", "price_id": "price_1", "plan": "pro",
        "period_start": now - timedelta(days=9), "period_end": now + timedelta(days=21),
        "started_at": now - timedelta(days=9),
    } | fields)  # fmt: skip
    with db.transaction(TESTS) as session:
        session.add(row)
    return row


def a_topup(place: Place, **fields: Any) -> AutoTopup:
    """An agreement to buy $20 whenever less than $5 is left, at most $100 a day."""
    row = AutoTopup(**{
        "tenant_id": place.tenant_id, "enabled": True, "threshold_nusd": 5 * USD,
        "amount_minor": 2000, "daily_cap_minor": 10_000, "consent": "I agree.",
        "consent_by": place.user_id, "consent_at": datetime.now(UTC),
    } | fields)  # fmt: skip
    with db.transaction(TESTS) as session:
        session.add(row)
    return row


def a_customer(place: Place, **fields: Any) -> StripeCustomer:
    """A customer with a saved card."""
    row = StripeCustomer(**{
        "customer_id": f"cus_{new_id().hex}", "tenant_id": place.tenant_id,
        "payment_method_id": "pm_1", "card": "visa •••• 4242",
    } | fields)  # fmt: skip
    with db.transaction(TESTS) as session:
        session.add(row)
    return row


def lot_of(place: Place, kind: str) -> Lot:
    """The tenant's one lot of that kind."""
    with db.transaction(TESTS) as session:
        (found,) = [lot for lot in ledger.lots(session, place.tenant_id) if lot.kind == kind]
        return found


def set_times(database_url: str, tenant_id: UUID, times: list[datetime]) -> None:
    """Turn the clock of a tenant's entries: the nth was booked at the nth time. Only a superuser
    without triggers can: the books are append-only."""
    with psycopg.connect(database_url) as connection:
        connection.execute("set session_replication_role = replica")
        for seq, at in enumerate(times, 1):
            connection.execute(
                "update app.entries set occurred_at = %s where tenant_id = %s and seq = %s",
                (at, tenant_id, seq),
            )
