"""Invoices of plans and of postpaid use: what is to be paid, and the credit that a paid one brings.

Credit comes from our own price rows, once per paid line or upgrade, in whatever order and number its
events arrive. Purchases of packages are not granted here: their invoices are receipts only.
"""

from __future__ import annotations

import calendar
import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import telemetry
from core.billing import ledger, offers, refunds, subscriptions
from core.billing.effects import Effect, Handled, Ignored, Waits
from core.billing.ledger import BILLING
from core.billing.sales_tables import Fulfilment, Invoice, OfferPrice, Payment, PlanOffer
from core.billing.stripe_objects import Invoice as Found
from core.billing.stripe_objects import InvoiceLine, InvoicePayment
from core.identity import audit
from core.money import show

_SECOND = timedelta(seconds=1)
NUSD_PER_UNIT = 1000  # one unit of a usage meter is a micro-USD
_ORDER = ("draft", "open", "uncollectible", "void", "paid")
_ACTOR = audit.name_of(BILLING)


def on_invoice(session: Session, found: Found, event_type: str) -> Effect:
    """Note an invoice as it is, and book what it brings once it is paid.

    - Whose it is follows from its customer; metadata naming another tenant: alarm, ignored.
    - A paid line of a plan, no proration and more than 0: the credit of its price, once per line and
      once per subscription item and period. A trial's first invoice (0) and a package's bring none.
    - Paid upgrade: see `upgrade_nusd`, once per invoice. Credit ends with the paid period, or now
      when that is over, plus the plan's grace.
    - A paid line of metered use: what it billed is not receivable any more.
    - Its payment may have been refunded before: then the refund is taken from what was just granted.
    """
    tenant_id = subscriptions.owner(session, found.customer_id, found.tenant_named)
    if isinstance(tenant_id, Ignored):
        return tenant_id
    is_paid = found.status == "paid"
    if is_paid and not found.lines_complete:
        return Waits("not all of its lines are here")
    ledger.lock(session, tenant_id)
    _note(session, tenant_id, found, event_type)
    if not is_paid:
        return Handled(f"{found.status}, {found.attempts} attempts")
    notes = [_line(session, tenant_id, found, line) for line in found.lines]
    if found.billing_reason == "subscription_update":
        notes.append(_upgrade(session, tenant_id, found))
    _rebalance(session, tenant_id, found.invoice_id)
    return Handled("; ".join(note for note in notes if note) or "paid; nothing to grant")


def on_invoice_payment(session: Session, found: InvoicePayment) -> Effect:
    """Note which payment paid an invoice of ours, so that its refunds find the credit it brought.

    A package's payment belongs to its order and is noted there.
    """
    if found.status != "paid" or found.payment_intent_id is None or found.paid_minor <= 0:
        return Ignored("nothing was charged")
    known = session.get(Payment, found.payment_intent_id)
    if known is not None and known.invoice_id is None:
        return Ignored("its order has this payment")
    tenant_id = session.scalar(
        select(Invoice.tenant_id).where(Invoice.invoice_id == found.invoice_id)
    )
    if tenant_id is None:
        return Waits("its invoice did not come yet")
    ledger.lock(session, tenant_id)
    row = session.get_one(Invoice, found.invoice_id, populate_existing=True)
    if row.subscription_id is None:
        return Ignored("a receipt: its order has this payment")
    session.execute(
        insert(Payment)
        .values(
            payment_intent_id=found.payment_intent_id, tenant_id=tenant_id,
            invoice_id=found.invoice_id, total_minor=found.paid_minor, currency=found.currency,
        )
        .on_conflict_do_nothing()
    )  # fmt: skip
    _rebalance(session, tenant_id, found.invoice_id)
    return Handled("the payment is known")


def upgrade_nusd(parts: Sequence[tuple[InvoiceLine, OfferPrice]]) -> int:
    """The credit a paid upgrade brings: ceil((new - old) * remaining / period), never below 0.

    `parts` are its proration lines with their prices: the new plan's charged, the old one's given
    back. remaining is the line's period; period is the calendar month up to its end (as Stripe
    counts, the day clamped to the month), whatever was heard of the subscription before.
    """
    total = Fraction(0)
    for line, price in parts:
        share = _rest_of_month(line.period_start, line.period_end) * price.credits_nusd
        total += share if line.amount_minor > 0 else -share
    return max(0, math.ceil(total))


def upgrade_ahead_nusd(old_nusd: int, new_nusd: int, at: datetime, until: datetime) -> int:
    """About what an upgrade at `at` would bring, in a period that ends at `until`: the same sum as
    `upgrade_nusd`, before there is an invoice. Stripe decides to the second what is left."""
    return max(0, math.ceil((new_nusd - old_nusd) * _rest_of_month(min(at, until), until)))


def _note(session: Session, tenant_id: UUID, found: Found, event_type: str) -> None:
    """Write the row. It only moves forward: by status, then by attempts; an older copy adds nothing.

    `needs_action`: the bank wants the buyer for the newest attempt.
    """
    row = session.get(Invoice, found.invoice_id, populate_existing=True)
    if row is None:
        row = Invoice(
            invoice_id=found.invoice_id, tenant_id=tenant_id, status="draft", attempts=-1,
            needs_action=False, created_at=found.created_at,
        )  # fmt: skip
        session.add(row)
    if _progress(found.status, found.attempts) >= _progress(row.status, row.attempts):
        row.number, row.page_url = found.number or row.number, found.page_url or row.page_url
        row.total_minor, row.currency = found.total_minor, found.currency
        row.subscription_id = found.subscription_id
        row.status = found.status
    if found.attempts > row.attempts:
        row.attempts, row.needs_action = found.attempts, False
        row.next_attempt_at = found.next_attempt_at
    elif found.attempts == row.attempts:
        known = (at for at in (row.next_attempt_at, found.next_attempt_at) if at is not None)
        row.next_attempt_at = max(known, default=None)
    if event_type == "invoice.payment_action_required" and found.attempts == row.attempts:
        row.needs_action = True
    if row.status != "open":
        row.needs_action, row.next_attempt_at = False, None
    row.changed_at = session.execute(select(func.clock_timestamp())).scalar_one()
    session.flush()


def _progress(status: str, attempts: int) -> tuple[int, int]:
    """How far an invoice is; a status we do not know is as good as none."""
    return (_ORDER.index(status) if status in _ORDER else 0, attempts)


def _line(session: Session, tenant_id: UUID, found: Found, line: InvoiceLine) -> str:
    """Book what one paid line brings; says what, or why nothing."""
    if line.subscription_item_id is None:
        return "a receipt: granted with its order"
    if line.is_proration:
        return ""
    price = offers.of_price(session, line.price_id) if line.price_id is not None else None
    if price is None:
        telemetry.alarm("stripe_price_unknown", tenant_id=str(tenant_id), source=line.price_id)
        return "a price we do not know: nothing granted"
    if price.kind == "usage":
        return _used(session, tenant_id, line)
    if price.kind != "plan" or price.credits_nusd <= 0:
        return "its price brings no credit"
    if line.amount_minor <= 0:
        return "nothing was charged: nothing granted"
    return _month(session, tenant_id, found, line, price)


def _used(session: Session, tenant_id: UUID, line: InvoiceLine) -> str:
    amount_nusd = line.quantity * NUSD_PER_UNIT
    if amount_nusd <= 0:
        return "no use billed"
    ledger.receive_payment(
        session, tenant_id, amount_nusd, key=f"invoice:{line.line_id}", actor=_ACTOR,
        reason="Use paid by invoice", source=("invoice_line", line.line_id),
    )  # fmt: skip
    return f"{show(amount_nusd)} of use paid"


def _month(
    session: Session, tenant_id: UUID, found: Found, line: InvoiceLine, price: OfferPrice
) -> str:
    """A month's allowance, unless this line or another one of its period brought it before."""
    fulfilment = Fulfilment(
        stripe_id=line.line_id, tenant_id=tenant_id, kind="invoice_line",
        invoice_id=found.invoice_id, subscription_item_id=line.subscription_item_id,
        period_start=line.period_start, granted_nusd=price.credits_nusd,
    )  # fmt: skip
    other = session.scalar(
        select(Fulfilment.stripe_id).where(
            Fulfilment.tenant_id == tenant_id,
            Fulfilment.subscription_item_id == line.subscription_item_id,
            Fulfilment.period_start == line.period_start,
        )
    )
    if other is not None and other != line.line_id:
        telemetry.alarm("period_paid_twice", tenant_id=str(tenant_id), source=line.line_id)
        return "another line brought this period's credit"
    reason = f"Plan {price.code}: a month"
    return _grant(session, fulfilment, price, line.period_end, reason)


def _upgrade(session: Session, tenant_id: UUID, found: Found) -> str:
    lines = [line for line in found.lines if line.is_proration and line.amount_minor]
    parts = [
        (line, price)
        for line in lines
        if line.subscription_item_id is not None
        and line.price_id is not None
        and (price := offers.of_price(session, line.price_id)) is not None
        and price.kind == "plan"
    ]
    charged = [part for part in parts if part[0].amount_minor > 0]
    if len(parts) < len(lines) or not charged or len(charged) == len(parts):
        return "no upgrade between plans we know: nothing granted"
    amount_nusd = upgrade_nusd(parts)
    if amount_nusd == 0:
        return "no more credit than before"
    line, price = charged[0]
    fulfilment = Fulfilment(
        stripe_id=found.invoice_id, tenant_id=tenant_id, kind="invoice",
        invoice_id=found.invoice_id, granted_nusd=amount_nusd,
    )  # fmt: skip
    reason = f"Plan {price.code}: rest of the month"
    return _grant(session, fulfilment, price, line.period_end, reason)


def _grant(
    session: Session, fulfilment: Fulfilment, price: OfferPrice, until: datetime, reason: str
) -> str:
    """Grant once what a Stripe object brings, with the row that says so. Callers hold the account."""
    if session.get(Fulfilment, fulfilment.stripe_id) is not None:
        return "granted before"
    session.add(fulfilment)
    session.flush()
    ledger.grant(
        session, fulfilment.tenant_id, fulfilment.granted_nusd, kind="plan",
        key=f"{fulfilment.kind}:{fulfilment.stripe_id}", actor=_ACTOR, reason=reason,
        expires_at=_ends_at(session, price.code, until),
        source=(fulfilment.kind, fulfilment.stripe_id),
    )  # fmt: skip
    return f"{show(fulfilment.granted_nusd)} granted"


def _ends_at(session: Session, plan: str, until: datetime) -> datetime:
    """When a plan's credit ends: some days of grace after its period, since renewals are charged late.
    What is paid for when the period is over can be used for that long too."""
    offer = session.get(PlanOffer, plan)
    now: datetime = session.execute(select(func.now())).scalar_one()
    return max(until, now) + timedelta(days=offer.grace_days if offer is not None else 0)


def _rebalance(session: Session, tenant_id: UUID, invoice_id: str) -> None:
    """Take back what was refunded, if the payment is known; it looks at all payments of the invoice."""
    payment = session.scalar(
        select(Payment)
        .where(Payment.tenant_id == tenant_id, Payment.invoice_id == invoice_id)
        .order_by(Payment.payment_intent_id)
        .limit(1)
    )
    if payment is not None:
        refunds.rebalance(session, payment, _ACTOR)


def _rest_of_month(start: datetime, end: datetime) -> Fraction:
    """Which part of the calendar month up to `end` begins at `start`, in whole seconds."""
    return Fraction((end - start) // _SECOND, (end - _month_before(end)) // _SECOND)


def _month_before(end: datetime) -> datetime:
    """The same time one calendar month earlier, the day clamped to the month's last."""
    year, month = (end.year, end.month - 1) if end.month > 1 else (end.year - 1, 12)
    day = min(end.day, calendar.monthrange(year, month)[1])
    return end.replace(year=year, month=month, day=day)
