"""Refunds and disputes: credit follows the money back, and comes again when the money does.

What is clawed back is a function of what is known of the payment, so any order of events ends the
same. Never takes more than a payment granted, and never asks Stripe for the same refund twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from core import clock, db, errors, jobs, telemetry
from core.billing import claw_backs, ledger, stripe_api
from core.billing.claw_backs import Heard
from core.billing.effects import Effect, Handled, Ignored, Waits
from core.billing.ledger import BILLING
from core.billing.sales_tables import AutoTopup, Fulfilment, Payment, RefundRequest, StripeCustomer
from core.billing.stripe_objects import Dispute, Refund
from core.billing.tables import Entry, Lot
from core.db import new_id
from core.identity import audit, names
from core.identity.access import Actor, require_operator
from core.jobs import Queue
from core.money import show_minor

_DISPUTED = "A payment is disputed."
_REASON_LENGTH_MAX = 500
_ERROR_LENGTH_MAX = 500
_REPEAT_AFTER = timedelta(seconds=30)  # the one who asked is still waiting for the answer before
_KEY_KEPT = timedelta(hours=20)  # Stripe keeps an idempotency key for 24 hours at least
_NO_ANSWER = ("unreadable", "too_many")  # done, or not known to be: its event will tell

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Refundable:
    """What of a payment can be given back: at most `rest_minor`; what its credit has left is worth
    `unspent_minor`. In cents."""

    unspent_minor: int
    rest_minor: int


def on_refund(session: Session, found: Refund) -> Effect:
    """A refund as Stripe says it is now. Waits while its payment may still be booked."""
    if found.payment_intent_id is None or found.amount_minor <= 0:
        return Ignored("not a refund of a payment of ours")
    payment = session.get(Payment, found.payment_intent_id)
    if payment is None:
        if found.customer_id is not None and not session.get(StripeCustomer, found.customer_id):
            return Ignored("not a payment of ours")
        return Waits("its payment is not booked yet")
    heard = Heard("refund", found.refund_id, found.status, found.amount_minor, found.reason)
    effect = _hear(session, payment, heard, found.currency)
    if isinstance(effect, Handled):
        _note_sent(session, payment.tenant_id, found)
    return effect


def on_dispute(session: Session, found: Dispute) -> Effect:
    """A dispute as Stripe says it is now: while it is undecided, the tenant's account is frozen.

    Once it is formal, automatic top-ups are off until the buyer agrees anew, however it ends.
    """
    if found.payment_intent_id is None or found.amount_minor <= 0:
        return Ignored("not a dispute of a payment of ours")
    payment = session.get(Payment, found.payment_intent_id)
    if payment is None:
        return Waits("its payment is not booked yet")
    heard = Heard("dispute", found.dispute_id, found.status, found.amount_minor, found.reason)
    ledger.lock(session, payment.tenant_id)
    is_opened = heard.is_formal and not claw_backs.is_formal(session, found.dispute_id)
    effect = _hear(session, payment, heard, found.currency)
    if isinstance(effect, Handled):
        if is_opened:
            _stop_topup(session, payment.tenant_id)
        frozen = claw_backs.is_disputed(session, payment.tenant_id)
        ledger.set_frozen(session, payment.tenant_id, frozen)
    return effect


def on_early_warning(session: Session, object: Mapping[str, Any]) -> Effect:  # noqa: A002 - Stripe's
    """A bank thinks that a payment is fraud. Nothing is booked: an operator may refund it in time."""
    intent = object.get("payment_intent")
    named = intent.get("id") if isinstance(intent, Mapping) else intent
    payment = session.get(Payment, named) if isinstance(named, str) else None
    telemetry.alarm(
        "early_fraud_warning", source=named, kind=object.get("fraud_type"),
        tenant_id=payment and str(payment.tenant_id),
    )  # fmt: skip
    return Handled("operators were told")


def rebalance(session: Session, payment: Payment, actor: Actor | str) -> None:
    """Make what is clawed back of each lot of a payment its share of the money that went back.

    Also called when something is fulfilled: refunds may be known before what they refund.
    """
    ledger.lock(session, payment.tenant_id)
    money = claw_backs.standing(session, payment)
    named = actor if isinstance(actor, str) else audit.name_of(actor)
    for lot in _lots(session, payment):
        _claw(session, lot, money.share(lot.granted_nusd), named)


def refundable(session: Session, payment_intent_id: str) -> Refundable:
    """What can be given back of a payment now. Raises errors.NotFound."""
    payment = session.get(Payment, payment_intent_id)
    if payment is None:
        raise errors.NotFound("There is no such payment.")
    money = claw_backs.standing(session, payment)
    parts = session.scalars(select(Payment).where(*claw_backs.same_purpose(Payment, payment)))
    promised = {part.payment_intent_id: _promised_minor(session, part) for part in parts}
    rest_minor = payment.total_minor - claw_backs.counted_minor(session, payment)
    rest_minor = max(0, rest_minor - promised[payment_intent_id])
    lots = _lots(session, payment)
    granted_nusd = sum(lot.granted_nusd for lot in lots)
    remaining_nusd = sum(lot.remaining_nusd for lot in lots)
    worth_minor = money.due_minor * remaining_nusd // granted_nusd if granted_nusd else 0
    free_minor = money.spare_minor + worth_minor - sum(promised.values())
    return Refundable(max(0, min(rest_minor, free_minor)), rest_minor)


def refund(
    who: Actor,
    tenant_id: UUID,
    payment_intent_id: str,
    amount_minor: int,
    *,
    reason: str,
    force: bool = False,
    request_id: UUID | None = None,
) -> RefundRequest:
    """Give back part of a payment through Stripe; in transactions of its own. More than what its
    credit has left needs `force`: it is taken from other credit, else it is debt.

    The same `request_id` again is the same request. A request still 'asked' got no answer and is
    repeated by a job; a 'refused' one says why. Raises errors.BadInput, NotFound, Conflict, Unavailable.
    """
    require_operator(who)
    stripe_api.current()
    wish = RefundRequest(
        tenant_id=tenant_id, request_id=request_id or new_id(), amount_minor=amount_minor,
        payment_intent_id=payment_intent_id, forced=force, asked_by=audit.name_of(who),
        reason=names.name(reason, "reason", length_max=_REASON_LENGTH_MAX), state="asked",
    )  # fmt: skip
    with db.transaction(who) as session:
        request = _ask(session, who, wish)
    return _send(request) if request.state == "asked" else request


def send_waiting() -> None:
    """Repeat the requests whose answer was lost, under the key they had."""
    if not stripe_api.configured():
        return
    with db.transaction(BILLING) as session:
        due = select(RefundRequest).where(
            RefundRequest.state == "asked", RefundRequest.asked_at < func.now() - _REPEAT_AFTER
        )
        waiting = list(session.scalars(due.order_by(RefundRequest.asked_at)))
    for request in waiting:
        _send(request)


def _promised_minor(session: Session, payment: Payment) -> int:
    """What of a payment is to go back, and has not gone yet."""
    asked_minor = session.execute(
        select(func.coalesce(func.sum(RefundRequest.amount_minor), 0)).where(
            RefundRequest.tenant_id == payment.tenant_id, RefundRequest.state == "asked",
            RefundRequest.payment_intent_id == payment.payment_intent_id,
        )
    ).scalar_one()  # fmt: skip
    return int(asked_minor) + claw_backs.promised_minor(session, payment)


def _hear(session: Session, payment: Payment, heard: Heard, currency: str) -> Effect:
    """Keep what was heard of a payment and let its credit follow."""
    if not heard.is_known:
        return Waits(f"the status {heard.status[:50]} is not known to this version")
    ledger.lock(session, payment.tenant_id)
    amount_minor, fits = heard.amount_minor, True
    if currency != payment.currency:  # cents of another money cannot be compared: all of it, then
        amount_minor, fits = payment.total_minor, False
    told = Heard(heard.kind, heard.stripe_id, heard.status, amount_minor, heard.reason)
    changed = claw_backs.hear(session, payment, told)
    rebalance(session, payment, BILLING)
    if changed:
        _tell_operators(session, payment, heard, fits=fits)
    counted_minor = claw_backs.counted_minor(session, payment)
    return Handled(f"{heard.kind} {heard.status}: {counted_minor} of {payment.total_minor} back")


def _stop_topup(session: Session, tenant_id: UUID) -> None:
    """No card is charged by itself of whoever disputes what was charged."""
    row = session.get(AutoTopup, tenant_id, with_for_update=True, populate_existing=True)
    if row is None or not row.enabled:
        return
    changed_at = session.execute(select(func.now())).scalar_one()
    row.enabled, row.stopped_reason, row.changed_at = False, _DISPUTED, changed_at
    session.flush()
    audit.record(
        session, BILLING, "topup.stop", f"tenant:{tenant_id}", tenant_id=tenant_id,
        before={"enabled": True}, after={"enabled": False, "reason": _DISPUTED},
    )  # fmt: skip


def _tell_operators(session: Session, payment: Payment, heard: Heard, *, fits: bool) -> None:
    """Alarms for what somebody should look at: disputes, strange amounts, and money that goes back
    for what was no credit (used first and paid later): that is not booked as owed again."""
    alarms = {
        "dispute": heard.kind == "dispute",
        "claw_back_amount": not fits or heard.amount_minor > payment.total_minor,
        "claw_back_without_credit": not _lots(session, payment),
    }
    for name in (name for name, raised in alarms.items() if raised):
        telemetry.alarm(
            name, kind=heard.kind, source=heard.stripe_id, status=heard.status,
            tenant_id=str(payment.tenant_id),
        )  # fmt: skip


def _lots(session: Session, payment: Payment) -> list[Lot]:
    """What the payment was turned into, as it is now: bought credit and its bonus."""
    kinds = (Fulfilment.kind, Fulfilment.kind + "_bonus")
    bears = or_(*(Lot.source_type == kind for kind in kinds))
    query = (
        select(Lot)
        .join(Fulfilment, (Lot.tenant_id == Fulfilment.tenant_id)
              & (Lot.source_id == Fulfilment.stripe_id) & bears)
        .where(*claw_backs.same_purpose(Fulfilment, payment))
        .order_by(Lot.lot_id)
    )  # fmt: skip
    return list(session.scalars(query.execution_options(populate_existing=True)))


def _claw(session: Session, lot: Lot, share_nusd: int, actor: str) -> None:
    """Revoke or reinstate until `share_nusd` of the lot is clawed back, less what expired of it:
    that is gone already, and is not owed as if it had been spent."""
    clawed_nusd = ledger.clawed_back(session, lot.tenant_id, lot.lot_id)
    wanted_nusd = max(share_nusd - lot.expired_nusd, min(clawed_nusd, share_nusd))
    if wanted_nusd == clawed_nusd:
        return
    moves = session.scalar(
        select(func.count()).where(
            Entry.tenant_id == lot.tenant_id, Entry.lot_id == lot.lot_id,
            Entry.kind.in_(("revoke", "reinstate")),
        )
    )  # fmt: skip
    key = f"{lot.lot_id}:{moves}"
    if wanted_nusd > clawed_nusd:
        ledger.revoke(
            session, lot.tenant_id, lot.lot_id, wanted_nusd - clawed_nusd, key=key, actor=actor,
            reason="Its payment was refunded or is disputed",
        )  # fmt: skip
    else:
        ledger.reinstate(
            session, lot.tenant_id, lot.lot_id, clawed_nusd - wanted_nusd, key=key, actor=actor,
            reason="The refund failed or the dispute was won",
        )  # fmt: skip


def _note_sent(session: Session, tenant_id: UUID, found: Refund) -> None:
    """Mark the request this refund came of as sent, whichever way its answer reached us."""
    try:
        request_id = UUID(found.metadata.get("request_id", ""))
    except ValueError:  # made at Stripe, not here
        return
    request = session.get(RefundRequest, (tenant_id, request_id), populate_existing=True)
    if request is not None and request.state != "sent":
        request.state, request.refund_id, request.error = "sent", found.refund_id, None
        session.flush()


def _ask(session: Session, who: Actor, wish: RefundRequest) -> RefundRequest:
    """Keep the wish when it can be granted; the request that has its id, when there is one."""
    ledger.lock(session, wish.tenant_id)
    known = session.get(RefundRequest, (wish.tenant_id, wish.request_id))
    if known is not None:
        if (known.payment_intent_id, known.amount_minor) != (
            wish.payment_intent_id, wish.amount_minor
        ):  # fmt: skip
            raise errors.Conflict("This request was for another refund.", param="request_id")
        return known
    payment = session.get(Payment, wish.payment_intent_id)
    if payment is None or payment.tenant_id != wish.tenant_id:
        raise errors.NotFound("There is no such payment.")
    _check(wish, refundable(session, wish.payment_intent_id))
    session.add(wish)
    session.flush()
    audit.record(
        session, who, "refund.ask", f"refund_request:{wish.request_id}", tenant_id=wish.tenant_id,
        after={"payment_intent_id": wish.payment_intent_id, "amount_minor": wish.amount_minor,
               "currency": payment.currency, "reason": wish.reason, "forced": wish.forced},
    )  # fmt: skip
    return wish


def _check(wish: RefundRequest, possible: Refundable) -> None:
    amount_minor: object = wish.amount_minor
    whole = isinstance(amount_minor, int) and not isinstance(amount_minor, bool)
    if not whole or not 1 <= wish.amount_minor <= possible.rest_minor:
        raise errors.BadInput(
            f"Between $0.01 and {show_minor(possible.rest_minor)} of this payment can be refunded.",
            param="amount",
        )
    if wish.amount_minor > possible.unspent_minor and not wish.forced:
        raise errors.Conflict(
            f"Only {show_minor(possible.unspent_minor)} of this payment is unspent; a refund of more"
            " takes the tenant's other credit and leaves it in debt where there is none.", param="amount",
        )  # fmt: skip


def _send(request: RefundRequest) -> RefundRequest:
    """Ask Stripe, and book its answer; without one the request stays as it is."""
    api = stripe_api.current()
    try:
        found = _made_before(api, request) or api.refund(
            tenant_id=request.tenant_id, request_id=request.request_id,
            payment_intent_id=request.payment_intent_id, amount_minor=request.amount_minor,
        )  # fmt: skip
    except stripe_api.StripeDown:
        log.warning("refund.unanswered", tenant_id=str(request.tenant_id))
        return request
    except stripe_api.StripeRefused as refusal:
        if refusal.code in _NO_ANSWER:
            telemetry.alarm(
                "refund_unreadable", code=refusal.code, tenant_id=str(request.tenant_id)
            )
            return request
        return _end(request, None, str(refusal)[:_ERROR_LENGTH_MAX])
    return _end(request, found, None)


def _made_before(api: stripe_api.StripeApi, request: RefundRequest) -> Refund | None:
    """The refund an old request led to: past the life of its key, Stripe would make another."""
    if clock.now() - request.asked_at < _KEY_KEPT:
        return None
    since = request.asked_at - timedelta(minutes=5)  # the two clocks may differ
    named = str(request.request_id)
    refunds = api.refunds_since(since)
    return next((r for r in refunds if r.metadata.get("request_id") == named), None)


def _end(request: RefundRequest, found: Refund | None, error: str | None) -> RefundRequest:
    """Write Stripe's answer and what follows from it, in one transaction."""
    with db.transaction(BILLING) as session:
        ledger.lock(session, request.tenant_id)
        row = session.get_one(
            RefundRequest, (request.tenant_id, request.request_id), populate_existing=True
        )
        if found is not None:
            row.state, row.refund_id, row.error = "sent", found.refund_id, None
            on_refund(session, found)
        elif row.state == "asked":
            row.state, row.error = "refused", error
            audit.record(
                session, BILLING, "refund.refused", f"refund_request:{row.request_id}", "failed",
                tenant_id=row.tenant_id, after={"error": error},
            )  # fmt: skip
        session.flush()
        return row


@jobs.periodic("* * * * *", "billing.refunds", Queue.MONEY)
def _send_waiting() -> None:
    send_waiting()
