"""What a tenant paid and what of it came back, as operators see it before they refund. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.billing import refunds
from core.billing.refunds import Refundable
from core.billing.sales_tables import ClawBack, Invoice, Order, Payment, RefundRequest
from core.identity.access import Actor, require_operator


@dataclass(frozen=True, slots=True)
class PaidFor:
    """One payment, what it was for, what came back of it and what still can. Amounts in cents."""

    payment_intent_id: str
    title: str
    total_minor: int
    paid_at: datetime
    claw_backs: tuple[ClawBack, ...]
    asked: tuple[RefundRequest, ...]
    refundable: Refundable


def of_tenant(session: Session, who: Actor, tenant_id: UUID, *, limit: int) -> tuple[PaidFor, ...]:
    """The newest payments of a tenant first; what can still come back of each is read one by one."""
    require_operator(who)
    rows = session.execute(
        select(Payment, Order.title, Invoice.number)
        .outerjoin(
            Order, (Order.tenant_id == Payment.tenant_id) & (Order.order_id == Payment.order_id)
        )
        .outerjoin(Invoice, Invoice.invoice_id == Payment.invoice_id)
        .where(Payment.tenant_id == tenant_id)
        .order_by(Payment.paid_at.desc(), Payment.payment_intent_id)
        .limit(limit)
    ).all()
    shown = [payment.payment_intent_id for payment, _, _ in rows]
    backs = session.scalars(
        select(ClawBack)
        .where(ClawBack.tenant_id == tenant_id, ClawBack.payment_intent_id.in_(shown))
        .order_by(ClawBack.opened_at)
    ).all()
    asked = session.scalars(
        select(RefundRequest)
        .where(RefundRequest.tenant_id == tenant_id, RefundRequest.state != "sent")
        .where(RefundRequest.payment_intent_id.in_(shown))
        .order_by(RefundRequest.asked_at)
    ).all()
    return tuple(
        PaidFor(
            payment.payment_intent_id, title or f"Invoice {number or payment.invoice_id}",
            payment.total_minor, payment.paid_at,
            tuple(b for b in backs if b.payment_intent_id == payment.payment_intent_id),
            tuple(a for a in asked if a.payment_intent_id == payment.payment_intent_id),
            refunds.refundable(session, payment.payment_intent_id),
        )
        for payment, title, number in rows
    )  # fmt: skip
