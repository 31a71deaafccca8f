"""Tenants that are Stripe's customers, and the event fixtures made theirs: every id gets a suffix of
the tenant's own, so that many tests can tell the same story in one database."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import select, text, update

from core import db
from core.billing import ledger, stripe_objects
from core.billing.ledger import BILLING
from core.billing.sales_tables import Fulfilment, Invoice, OfferPrice, StripeCustomer, Subscription
from core.billing.tables import Lot
from core.identity.access import Principal, Role
from core.identity.tables import Tenant
from core.money import NANO_PER_USD
from tests.factories import Place, make_place

USD = NANO_PER_USD
FIXTURES = Path(__file__).parent.parent / "fixtures" / "stripe"
TENANT, CUSTOMER = "8f14e45f-ceea-467f-a8d1-0d4a5e1c7b21", "cus_TSx9Kq2mZr4Vb7"
PRO, TEAM = "price_1SUsubB7WZ01zgkWproM20", "price_1SUsubB7WZ01zgkWteamM50"
_IDS = re.compile(r'"((?:evt|sub|in|il|ii|pi|inpay|price)_[0-9][A-Za-z0-9]+|si_TS[A-Za-z0-9]+)"')


def a_customer(*, plan: str = "free", mode: str = "prepaid", credit_usd: int = 0) -> Place:
    """A tenant that is a customer of Stripe, with the two plan prices of the fixtures: 'pro' brings
    20 USD a month, 'enterprise' 50."""
    place = make_place(credit_usd=credit_usd, plan=plan, mode=mode, role="finance",
                       credit_limit_nusd=1000 * USD if mode == "postpaid" else 0)  # fmt: skip
    with db.transaction(BILLING) as session:
        session.add(StripeCustomer(customer_id=customer_id(place), tenant_id=place.tenant_id))
        for price, code, usd in ((PRO, "pro", 20), (TEAM, "enterprise", 50)):
            session.add(
                OfferPrice(
                    price_id=own(place, price), kind="plan", code=code, product_id="prod_1",
                    price_minor=usd * 100, credits_nusd=usd * USD, current=False,
                )
            )  # fmt: skip
    return place


@contextmanager
def own_prices() -> Iterator[None]:
    """No price is current at first: whatever Stripe is installed makes its own. Afterwards those of
    other tests are again."""
    current = update(OfferPrice).where(OfferPrice.current)
    with db.transaction(BILLING) as session:
        ids = current.values(current=False).returning(OfferPrice.price_id)
        others = session.scalars(ids).all()
    yield
    with db.transaction(BILLING) as session:
        session.execute(current.values(current=False))
        again = update(OfferPrice).where(OfferPrice.price_id.in_(others))
        session.execute(again.values(current=True))


def customer_id(place: Place) -> str:
    return f"cus_{place.tenant_id.hex}"


def own(place: Place, stripe_id: str) -> str:
    """A fixture's id as this tenant's."""
    return f"{stripe_id}{place.tenant_id.hex[-12:]}"


def event(place: Place, name: str) -> dict[str, Any]:
    """The event of a fixture file, as if it were about this tenant."""
    raw = (FIXTURES / f"{name}.json").read_text()
    raw = raw.replace(TENANT, str(place.tenant_id)).replace(CUSTOMER, customer_id(place))
    return json.loads(_IDS.sub(lambda found: f'"{own(place, found[1])}"', raw))  # type: ignore[no-any-return]


def an_invoice(place: Place, name: str) -> stripe_objects.Invoice:
    return stripe_objects.invoice(event(place, name)["data"]["object"])


def a_payment(place: Place, name: str = "invoice_payment.paid") -> stripe_objects.InvoicePayment:
    return stripe_objects.invoice_payment(event(place, name)["data"]["object"])


def a_subscription(place: Place, name: str, **changes: Any) -> stripe_objects.Subscription:
    found = stripe_objects.subscription(event(place, name)["data"]["object"])
    return replace(found, **changes)


def buyer(place: Place, role: Role = Role.FINANCE) -> Principal:
    return replace(place.who, role=role)


def lots(place: Place) -> list[Lot]:
    """The lots of plans, oldest source first."""
    with db.transaction(BILLING) as session:
        found = [
            lot for lot in ledger.lots(session, place.tenant_id, limit=None) if lot.kind == "plan"
        ]
    return sorted(found, key=lambda lot: lot.source_id)


def granted_usd(place: Place) -> list[int]:
    """What plans brought so far, in whole USD, smallest first."""
    return sorted(lot.granted_nusd // USD for lot in lots(place))


def fulfilments(place: Place) -> list[Fulfilment]:
    with db.transaction(BILLING) as session:
        mine = select(Fulfilment).where(Fulfilment.tenant_id == place.tenant_id)
        return list(session.scalars(mine.order_by(Fulfilment.stripe_id)))


def invoice_row(place: Place, invoice_id: str) -> Invoice:
    with db.transaction(BILLING) as session:
        row = session.get_one(Invoice, invoice_id)
        assert row.tenant_id == place.tenant_id
        return row


def row_of(place: Place, subscription_id: str | None = None) -> Subscription:
    """The tenant's subscription row (the named one, or its only one)."""
    with db.transaction(BILLING) as session:
        mine = select(Subscription).where(Subscription.tenant_id == place.tenant_id)
        if subscription_id is not None:
            mine = mine.where(Subscription.subscription_id == subscription_id)
        return session.scalars(mine).one()


def plan_of(place: Place) -> str:
    with db.transaction(BILLING) as session:
        return session.get_one(Tenant, place.tenant_id).plan


def audited(tenant_id: UUID) -> list[tuple[str, str]]:
    """Actions and outcomes in the log, oldest first."""
    with db.transaction(BILLING) as session:
        rows = session.execute(
            text("select action, outcome from app.audit_log where of_tenant = :t"
                 " order by audit_id"),
            {"t": tenant_id},
        )  # fmt: skip
        return [(row.action, row.outcome) for row in rows]
