"""What a tenant should know about its billing now, each with the way on. Derived from state in every
reading: a notice ends when its cause does, and nothing here is stored, sent or acknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from core import errors
from core.billing import balance
from core.billing.sales_tables import AutoTopup, ClawBack, Invoice, Order, Subscription
from core.identity import zones
from core.identity.access import Principal, Role
from core.identity.zones import Calendar
from core.money import show, show_minor

Weight: TypeAlias = Literal["stop", "warn", "tell"]
Way: TypeAlias = Literal["add_credit", "update_card", "pay_now", "open_invoice", "auto_topup"]
_LOSSES_SAID = 3
_UNPAID = ("past_due", "unpaid", "incomplete")


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to know. `title` and `message` are plain text. `stop`: calls are refused until it is
    settled; `warn`: they will be; `tell`: nothing is lost by waiting.

    `way` is None where only time or the house can help. `order_id` is the order to pay for
    ('pay_now'), `page_url` Stripe's page of the invoice ('open_invoice', 'update_card').
    """

    name: str
    weight: Weight
    title: str
    message: str
    way: Way | None = None
    order_id: UUID | None = None
    page_url: str | None = None


def of(session: Session, who: Principal) -> tuple[Notice, ...]:
    """Everything that is up, the gravest first. Members hear only of what stops their own work."""
    wallet = list(_of_wallet(session))
    if who.role is Role.MEMBER:
        return tuple(notice for notice in wallet if notice.weight == "stop")
    calendar = zones.calendar_of(session, who.tenant_id)
    found = [
        *wallet, *_of_expiry(session, who, calendar), *_of_plan(session, calendar),
        *_of_topup(session), *_of_orders(session),
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda notice: ("stop", "warn", "tell").index(notice.weight)))


def _of_wallet(session: Session) -> Iterator[Notice]:
    row = session.execute(text(_WALLET)).one_or_none()
    if row is None:
        return
    if row.frozen:
        yield Notice(
            "disputed", "stop", "A payment is disputed",
            "Your team's account is held until the dispute is decided, and new calls are refused. If"
            " it was raised by mistake, ask your bank to withdraw it; your balance is kept.",
        )  # fmt: skip
    if row.debt_nusd:
        yield Notice(
            "debt", "stop", f"{show(row.debt_nusd)} is owed",
            "More was used than your credit covered, or a payment was taken back. New calls start"
            " again once credit is added; it pays this first.", "add_credit",
        )  # fmt: skip
    elif row.mode == "prepaid" and row.available_nusd < row.low_balance_nusd:
        empty = row.available_nusd <= 0
        yield Notice(
            "low_balance", "stop" if empty else "warn",
            "No credit is left" if empty else f"{show(row.available_nusd)} of credit is left",
            "Calls that cost money are refused; free models still answer." if empty
            else f"That is less than {show(row.low_balance_nusd)}. Add credit before calls are refused.",
            "add_credit",
        )  # fmt: skip
    elif row.mode == "postpaid" and row.available_nusd <= 0:
        yield Notice(
            "credit_limit",
            "stop",
            "The credit limit is reached",
            "Calls that cost money are refused until an invoice is paid; free models still answer.",
        )


def _of_expiry(session: Session, who: Principal, calendar: Calendar) -> Iterator[Notice]:
    """Credit that will end unused before long, if use goes on as it did."""
    with suppress(errors.NotFound):
        found = balance.read(session, who)
        soon = found.read_at + timedelta(days=balance.EXPIRING_DAYS)
        losses = [loss for loss in found.course.losses if loss.expires_at <= soon]
        if losses:
            lost = sum(loss.amount_nusd for loss in losses)
            ends = [
                f"{show(loss.amount_nusd)} on {calendar.day_of(loss.expires_at):%-d %B %Y}"
                for loss in losses[:_LOSSES_SAID]
            ]
            more = f" and {len(losses) - _LOSSES_SAID} more times" * (len(losses) > _LOSSES_SAID)
            yield Notice(
                "credit_expires", "warn", f"{show(lost)} of credit will expire unused",
                f"At {show(found.pace_nusd)} a day, the mean of the last {balance.PACE_DAYS} days, what"
                f" is not used by then is lost: {', '.join(ends)}{more}."
                f" {show(losses[-1].left_nusd)} is left after that.",
            )  # fmt: skip


def _of_plan(session: Session, calendar: Calendar) -> Iterator[Notice]:
    """Invoices that were not paid, and a plan whose invoice is not known here (yet)."""
    told: set[str | None] = set()
    # A purchase's own invoice is its receipt: what is open of it is said by its order.
    due = select(Invoice).where(Invoice.status == "open", Invoice.subscription_id.is_not(None))
    for invoice in session.scalars(due.order_by(Invoice.created_at)):
        if notice := _of_invoice(invoice, calendar):
            told.add(invoice.subscription_id)
            yield notice
    unpaid = select(Subscription).where(
        Subscription.purpose == "plan",
        Subscription.status.in_(_UNPAID),
        Subscription.ended_at.is_(None),
    )
    for subscription in session.scalars(unpaid):
        if subscription.subscription_id not in told:
            yield Notice(
                "past_due", "warn", "Your plan's last payment failed",
                "What you have stays usable; no new credit comes until it is paid.", "update_card",
            )  # fmt: skip


def _of_invoice(invoice: Invoice, calendar: Calendar) -> Notice | None:
    named = f"Invoice {invoice.number}" if invoice.number else "An invoice"
    total = show_minor(invoice.total_minor)
    if invoice.needs_action:
        return Notice(
            "invoice_action", "warn", f"{named} waits for you",
            f"Your bank wants you to confirm the payment of {total}.", "open_invoice",
            page_url=invoice.page_url,
        )  # fmt: skip
    if invoice.attempts > 0:
        return Notice(
            "invoice_failed", "warn", f"{named} could not be paid",
            f"The payment of {total} failed. What you have stays usable; no new credit comes until"
            f" it is paid. {_next_try(invoice.next_attempt_at, calendar)}", "update_card",
            page_url=invoice.page_url,
        )  # fmt: skip
    if invoice.next_attempt_at is None:
        return Notice(
            "invoice_due", "tell", f"{named} is due", f"{total} is to be paid.", "open_invoice",
            page_url=invoice.page_url,
        )  # fmt: skip
    return None  # it is about to be charged by itself


def _next_try(at: datetime | None, calendar: Calendar) -> str:
    if at is None:
        return "It is not tried again by itself."
    return f"The next try is on {calendar.day_of(at):%-d %B}."


def _of_topup(session: Session) -> Iterator[Notice]:
    row = session.scalar(select(AutoTopup))
    if row is not None and row.stopped_reason:
        yield Notice(
            "topup_stopped", "warn", "Automatic top-up has stopped",
            f"{row.stopped_reason.rstrip('.')}. Settle that, or update your card; then switch it on again.",
            "auto_topup",
        )  # fmt: skip


def _of_orders(session: Session) -> Iterator[Notice]:
    """Orders that are neither open nor ended: they wait for the buyer, a bank, or the house, which
    has settled it when all the money went back."""
    gone_minor = select(func.coalesce(func.sum(ClawBack.amount_minor), 0)).where(
        ClawBack.tenant_id == Order.tenant_id, ClawBack.counts,
        ClawBack.payment_intent_id == Order.payment_intent_id,
    )  # fmt: skip
    is_settled = Order.total_minor <= gone_minor.scalar_subquery()
    waiting = select(Order).where(
        Order.state.in_(("needs_action", "awaiting"))
        | ((Order.state == "review") & is_settled.is_not(True))
    )
    for order in session.scalars(waiting.order_by(Order.created_at)):
        minor = order.price_minor if order.total_minor is None else order.total_minor
        paid = show_minor(minor)
        if order.state == "needs_action":
            yield Notice(
                "topup_action", "warn", "Your bank wants you to confirm a top-up",
                f"The automatic top-up of {paid} waits for you; nothing was charged yet.", "pay_now",
                order_id=order.order_id,
            )  # fmt: skip
        elif order.state == "awaiting":
            yield Notice(
                "order_awaiting", "tell", f"{order.title}: payment on its way",
                f"Your bank was asked for {paid}. That can take some days; the credit comes by"
                " itself as soon as it is paid.", order_id=order.order_id,
            )  # fmt: skip
        else:
            yield Notice(
                "order_review", "warn", f"{order.title}: we are looking into it",
                f"A payment of {paid} came that does not fit the order, so nothing was credited yet."
                " Nothing is lost: an operator settles it.", order_id=order.order_id,
            )  # fmt: skip


_WALLET = """
select t.mode, a.frozen, a.debt_nusd, terms.low_balance_nusd,
  greatest(0, a.posted_nusd - a.held_nusd - a.floor_nusd) as available_nusd
from app.accounts a join app.tenants t on t.tenant_id = a.tenant_id
cross join app.billing_terms terms
where a.tenant_id = app.tenant()
"""
