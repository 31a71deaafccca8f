"""What refunds and disputes say about a payment's money, the same whatever order they are heard in.

A row only moves forward, to the latest status of its life that was ever heard. Books no credit:
refunds.py does, from all rows of a payment together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from core.billing.sales_tables import ClawBack, Fulfilment, Order, Payment

Kind: TypeAlias = Literal["refund", "dispute"]

# Each life in order, and where in it the money is not ours. A refund that fails gives it back to us.
# A dispute takes it when it becomes formal: a warning takes nothing yet, and a prevented one is a
# refund of its own. We may appeal what was lost (docs.stripe.com/api/disputes/object).
_LIFE: dict[Kind, tuple[str, ...]] = {
    "refund": ("requires_action", "pending", "succeeded", "canceled", "failed"),
    "dispute": (
        "warning_needs_response", "warning_under_review", "warning_closed", "needs_response",
        "under_review", "appeal_needs_response", "appeal_under_review", "lost", "prevented", "won",
    ),
}  # fmt: skip
_COUNTS: dict[Kind, frozenset[str]] = {
    "refund": frozenset({"pending", "succeeded"}),
    "dispute": frozenset(
        {"needs_response", "under_review", "appeal_needs_response", "appeal_under_review", "lost"}
    ),
}
UNDECIDED = ("needs_response", "under_review")
_FORMAL = _COUNTS["dispute"] | {"won"}


@dataclass(frozen=True, slots=True)
class Heard:
    """What Stripe said of one refund or dispute; `amount_minor` is in the payment's currency."""

    kind: Kind
    stripe_id: str
    status: str
    amount_minor: int
    reason: str | None

    @property
    def is_known(self) -> bool:
        """Whether the status is one of those above: Stripe may add others."""
        return self.status in _LIFE[self.kind]

    @property
    def is_formal(self) -> bool:
        """Whether it is, or was, a dispute that took the money: no warning, and none prevented."""
        return self.status in _FORMAL


@dataclass(frozen=True, slots=True)
class Standing:
    """The money of everything that paid for one order or invoice, in cents.

    `due_minor` is what its credit cost, `gone_minor` what of that went back. What was paid besides (an
    order paid twice) goes back first, and takes no credit: `spare_minor` is left of it.
    """

    due_minor: int
    gone_minor: int
    spare_minor: int

    def share(self, of: int) -> int:
        """The part of `of` whose money went back, rounded down."""
        return of * self.gone_minor // self.due_minor if self.due_minor else 0


def hear(session: Session, payment: Payment, heard: Heard) -> bool:
    """Keep what was heard, unless something later is known; whether anything changed.

    The caller holds the account's lock and has made sure that the status is known.
    """
    row = session.get(ClawBack, heard.stripe_id, populate_existing=True)
    life = _LIFE[heard.kind]
    if row is None:
        row = ClawBack(
            stripe_id=heard.stripe_id, tenant_id=payment.tenant_id, kind=heard.kind,
            payment_intent_id=payment.payment_intent_id, reason=heard.reason,
        )  # fmt: skip
        session.add(row)
    elif (life.index(row.status), row.amount_minor) >= (
        life.index(heard.status), heard.amount_minor
    ):  # fmt: skip
        return False
    row.status, row.amount_minor = heard.status, heard.amount_minor
    row.counts = heard.status in _COUNTS[heard.kind]
    row.changed_at = session.execute(select(func.now())).scalar_one()
    session.flush()
    return True


def counted_minor(session: Session, payment: Payment) -> int:
    """How much of a payment is not ours now; never more than was paid."""
    total = session.execute(
        select(func.coalesce(func.sum(ClawBack.amount_minor), 0)).where(
            ClawBack.tenant_id == payment.tenant_id,
            ClawBack.payment_intent_id == payment.payment_intent_id,
            ClawBack.counts,
        )
    ).scalar_one()
    return min(payment.total_minor, int(total))


def promised_minor(session: Session, payment: Payment) -> int:
    """Refunds that wait for the buyer before any money moves: promised, though not yet gone."""
    total = session.execute(
        select(func.coalesce(func.sum(ClawBack.amount_minor), 0)).where(
            ClawBack.tenant_id == payment.tenant_id,
            ClawBack.payment_intent_id == payment.payment_intent_id,
            ClawBack.status == "requires_action",
        )
    ).scalar_one()
    return int(total)


def standing(session: Session, payment: Payment) -> Standing:
    """What is left of the money that paid for the same as this payment, this payment included."""
    paid_minor, back_minor = 0, 0
    for part in session.scalars(select(Payment).where(*same_purpose(Payment, payment))):
        paid_minor += part.total_minor
        back_minor += counted_minor(session, part)
    order = payment.order_id and session.get(Order, (payment.tenant_id, payment.order_id))
    due_minor = order.total_minor if order and order.total_minor is not None else paid_minor
    spare_minor = max(0, paid_minor - due_minor)
    return Standing(
        due_minor, min(due_minor, max(0, back_minor - spare_minor)),
        max(0, spare_minor - back_minor),
    )  # fmt: skip


def same_purpose(
    table: type[Payment] | type[Fulfilment], payment: Payment
) -> tuple[ColumnElement[bool], ...]:
    """What the payment's order or invoice has in `table`: an invoice may be paid in parts."""
    if payment.order_id is not None:
        return table.tenant_id == payment.tenant_id, table.order_id == payment.order_id
    return table.tenant_id == payment.tenant_id, table.invoice_id == payment.invoice_id


def is_formal(session: Session, stripe_id: str) -> bool:
    """Whether it was heard of as a dispute that took the money."""
    row = session.get(ClawBack, stripe_id, populate_existing=True)
    return row is not None and row.status in _FORMAL


def is_disputed(session: Session, tenant_id: UUID) -> bool:
    """Whether a dispute of this tenant is undecided: its money is gone, and may come back."""
    found = select(ClawBack.stripe_id).where(
        ClawBack.tenant_id == tenant_id, ClawBack.kind == "dispute",
        ClawBack.status.in_(UNDECIDED),
    )  # fmt: skip
    return session.scalar(found.limit(1)) is not None
