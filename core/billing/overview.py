"""What a buyer looks at, in one reading: what is for sale, what was bought, how it is paid.

Reads only, as whoever asks: row security bounds it to their tenant. The balance is read elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.billing import offers, subscriptions
from core.billing.offers import PlanForSale
from core.billing.sales_tables import (
    AutoTopup,
    Invoice,
    Order,
    Package,
    StripeCustomer,
    Subscription,
)
from core.identity.access import Principal, Role, require
from core.identity.tables import PlanLimit

SHOWN_MAX = 50


@dataclass(frozen=True, slots=True)
class PlanCard:
    """A plan for sale and what it allows; a limit that is missing here is unlimited."""

    offer: PlanForSale
    limits: tuple[PlanLimit, ...]

    def limit(self, scope: str, name: str) -> int | None:
        """The plan's default of one limit; None for unlimited."""
        found = (row for row in self.limits if (row.scope, row.limit_name) == (scope, name))
        return next((row.maximum for row in found), None)


@dataclass(frozen=True, slots=True)
class Sales:
    """Everything of a tenant that is bought or for sale, newest first; at most SHOWN_MAX of each."""

    packages: tuple[Package, ...]
    plans: tuple[PlanCard, ...]
    subscription: Subscription | None
    customer: StripeCustomer | None
    topup: AutoTopup | None
    orders: tuple[Order, ...]
    invoices: tuple[Invoice, ...]

    @property
    def card(self) -> str | None:
        """What the saved card is known by; None where none is saved."""
        held = self.customer
        return (held.card or "saved") if held and held.payment_method_id else None


def read(session: Session, who: Principal) -> Sales:
    """The page's other half. Raises errors.Forbidden for members."""
    require(who, Role.ADMIN, Role.FINANCE)
    limits = session.scalars(select(PlanLimit)).all()
    orders = select(Order).where(Order.tenant_id == who.tenant_id)
    invoices = select(Invoice).where(Invoice.tenant_id == who.tenant_id, Invoice.status != "draft")
    return Sales(
        tuple(offers.packages(session)),
        tuple(
            PlanCard(offer, tuple(row for row in limits if row.plan == offer.plan))
            for offer in offers.plans(session)
        ),
        subscriptions.current(session, who.tenant_id),
        session.scalar(
            select(StripeCustomer).where(
                StripeCustomer.tenant_id == who.tenant_id, StripeCustomer.deleted_at.is_(None)
            )
        ),
        session.get(AutoTopup, who.tenant_id),
        tuple(session.scalars(orders.order_by(Order.created_at.desc()).limit(SHOWN_MAX))),
        tuple(session.scalars(invoices.order_by(Invoice.created_at.desc()).limit(SHOWN_MAX))),
    )
