"""Automatic top-ups: what a buyer agreed to, and the wallets that have fallen below their threshold.

Buys only with stored consent, one attempt at a time, within a cap per 24 hours, for prepaid tenants.
The attempt itself is in attempts.py.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from core import db, errors, jobs, telemetry
from core.billing import attempts, checkout, customers, ledger, orders, stripe_api
from core.billing.effects import Effect
from core.billing.ledger import BILLING
from core.billing.sales_tables import ORDER_PENDING, AutoTopup, Order, StripeCustomer
from core.billing.stripe_api import StripeDown, StripeRefused
from core.billing.stripe_objects import PaymentIntent
from core.billing.tables import Account
from core.db import new_id
from core.identity import audit
from core.identity.access import Actor
from core.identity.tables import Tenant
from core.jobs import Queue
from core.money import NANO_PER_CENT, NANO_PER_USD

THRESHOLD_NUSD_MAX = 10_000 * NANO_PER_USD
AMOUNT_MINOR_MIN, AMOUNT_MINOR_MAX = 500, 200_000
DAILY_CAP_MINOR_MAX = 2_000_000
_CONSENT_LENGTH_MAX = 2000
REST = timedelta(minutes=10)  # after a decline; a new consent ends it
_REPEATABLE_FOR = timedelta(hours=12)  # Stripe keeps an idempotency key for 24 hours at least
_SWEPT_MAX = 200
_SILENT_MAX = 3  # then Stripe is away, not one tenant's request odd
_TITLE = "Automatic top-up"
log = structlog.get_logger(__name__)


def configure(
    session: Session,
    who: Actor | None,
    *,
    threshold_nusd: int,
    amount_minor: int,
    daily_cap_minor: int,
    consent: str,
) -> AutoTopup:
    """Switch the tenant's automatic top-up on, with the words the buyer agreed to.

    `session` is one of BILLING: the web role writes no purchases. Raises errors.Forbidden, BadInput,
    and Conflict without a saved card or for a tenant that does not pay in advance.
    """
    principal = checkout.buyer(who)
    _check(threshold_nusd, "threshold", 0, THRESHOLD_NUSD_MAX)
    _check(amount_minor, "amount", AMOUNT_MINOR_MIN, AMOUNT_MINOR_MAX)
    _check(daily_cap_minor, "daily cap", amount_minor, DAILY_CAP_MINOR_MAX)
    if not consent.strip() or len(consent) > _CONSENT_LENGTH_MAX:
        raise errors.BadInput("Your consent is missing.", param="consent")
    ledger.lock(session, principal.tenant_id)
    tenant = session.get(Tenant, principal.tenant_id)
    if tenant is None or tenant.mode != "prepaid":
        raise errors.Conflict("Only a team that pays in advance tops up by itself.")
    if _card_of(session, principal.tenant_id) is None:
        raise errors.Conflict(
            "There is no saved card. Save one under payment methods, or tick to save the card with"
            " your next purchase."
        )
    row = _row(session, principal.tenant_id)
    before = _facts(row)
    row = row or AutoTopup(tenant_id=principal.tenant_id)
    row.enabled, row.declines, row.stopped_reason = True, 0, None
    row.threshold_nusd, row.amount_minor = threshold_nusd, amount_minor
    row.daily_cap_minor = daily_cap_minor
    row.consent, row.consent_by = consent.strip(), principal.user_id
    row.consent_at = row.changed_at = orders.now(session)
    session.add(row)
    session.flush()
    audit.record(
        session, principal, "topup.configure", f"tenant:{principal.tenant_id}",
        tenant_id=principal.tenant_id, before=before, after=_facts(row),
    )  # fmt: skip
    return row


def switch_off(session: Session, who: Actor | None) -> None:
    """End automatic top-ups from now on; `session` as for `configure`. Off already is well."""
    principal = checkout.buyer(who)
    ledger.lock(session, principal.tenant_id)
    row = _row(session, principal.tenant_id)
    if row is None:
        return
    before = _facts(row)
    row.enabled, row.stopped_reason, row.changed_at = False, None, orders.now(session)
    session.flush()
    audit.record(
        session, principal, "topup.switch_off", f"tenant:{principal.tenant_id}",
        tenant_id=principal.tenant_id, before=before, after=_facts(row),
    )  # fmt: skip


def of(session: Session, tenant_id: UUID) -> AutoTopup | None:
    """What the tenant's buyer agreed to, if anything."""
    return session.get(AutoTopup, tenant_id)


def on_payment(session: Session, found: PaymentIntent, event_type: str) -> Effect:  # noqa: ARG001
    """A payment was reported by an event. What counts is its state, not the event's name."""
    return attempts.on_payment(session, found)


@jobs.periodic("* * * * * */15", "billing.topups", Queue.MONEY)
def sweep() -> None:
    """Try each wallet below its threshold once, and repeat what got no answer; own transactions."""
    if not stripe_api.configured():
        return
    _give_up_unanswered()
    with db.transaction(BILLING) as session:
        due = session.scalars(text(_DUE), {"limit": _SWEPT_MAX}).all()
    silent = 0
    for tenant_id in due:
        try:
            _attempt(tenant_id)
            silent = 0
        except StripeDown:
            silent += 1
            log.warning("topup.no_answer", tenant_id=str(tenant_id))
        if silent == _SILENT_MAX:
            return


def pay_now(who: Actor | None, order_id: UUID) -> Order:
    """A page to pay a top-up on that the bank wants the buyer for; opens its own transactions.

    The payment the bank stopped is made impossible first; was it made meanwhile, the order comes back
    fulfilled. A page that is still open is given again. Raises errors.NotFound, Conflict, Unavailable.
    """
    principal = checkout.buyer(who)
    with db.transaction(BILLING) as session:
        order = orders.locked(session, principal.tenant_id, order_id)
        customer = customers.of_tenant(session, principal.tenant_id)
    if order.state == "needs_action":
        order = _settle_before(order)
    if order.state in {"fulfilled", "awaiting"}:
        return order
    if order.state == "needs_action" and order.session_url:
        return order
    if order.state != "needs_action" or customer is None:
        raise errors.Conflict("This top-up does not wait for you any more.")
    with db.transaction(BILLING) as session:
        row = orders.locked(session, principal.tenant_id, order_id)
        if row.state == "needs_action" and row.session_url:  # pressed twice
            return row
        if row.state != "needs_action" or row.attempt != order.attempt:
            raise errors.Conflict("This top-up is being paid elsewhere. Please look again.")
        row.attempt += 1
        audit.record(
            session, principal, "topup.pay", f"order:{order_id}", tenant_id=principal.tenant_id
        )
    return checkout.open_page(row, customer.customer_id, save_card=True)


def _settle_before(order: Order) -> Order:
    """The order as Stripe knows it: its last page if it has one, else its stopped payment."""
    if order.session_id is None:
        paid = attempts.call_off(order) if order.attempt == 1 else None
        with db.transaction(BILLING) as session:
            row = orders.locked(session, order.tenant_id, order.order_id)
            if paid is not None:
                attempts.settle(session, row, paid)
            return row
    try:
        page = stripe_api.current().checkout_session(order.session_id)
    except StripeRefused:
        raise errors.Unavailable("Your payment cannot be looked up. Please try again.") from None
    with db.transaction(BILLING) as session:
        checkout.take(session, page)
        return orders.locked(session, order.tenant_id, order.order_id)


def _attempt(tenant_id: UUID) -> None:
    with db.transaction(BILLING) as session:
        ledger.lock(session, tenant_id)
        customer = customers.of_tenant(session, tenant_id)
        order = _to_charge(session, tenant_id, customer)
    if order is not None and customer is not None:
        attempts.charge(order, customer.customer_id)


def _to_charge(session: Session, tenant_id: UUID, customer: StripeCustomer | None) -> Order | None:
    """The order without an answer, else a new one if one is due; everything is read under the lock."""
    row = _row(session, tenant_id)
    if row is None or not row.enabled:
        return None
    pending = session.scalar(
        select(Order)
        .where(Order.tenant_id == tenant_id, Order.kind == "topup")
        .where(Order.state.in_(ORDER_PENDING))
        .with_for_update()
    )
    if pending is not None:
        return pending if pending.state == "open" else None
    if (
        not _is_low(session, row)
        or _rests(session, row)
        or _bought_minor(session, row) + row.amount_minor > row.daily_cap_minor
    ):
        return None
    if customer is None or customer.payment_method_id is None:
        _stop(session, row, "There is no saved card any more.")
        return None
    order = Order(
        tenant_id=tenant_id, order_id=(order_id := new_id()), click_key=f"topup:{order_id}",
        kind="topup", code=customer.payment_method_id, title=_TITLE, price_minor=row.amount_minor,
        credits_nusd=row.amount_minor * NANO_PER_CENT, ordered_by=row.consent_by,
    )  # fmt: skip
    session.add(order)
    session.flush()
    return order


def _is_low(session: Session, row: AutoTopup) -> bool:
    account = session.get(Account, row.tenant_id, populate_existing=True)
    tenant = session.get(Tenant, row.tenant_id)
    if account is None or tenant is None or account.frozen:
        return False
    may_buy = tenant.mode == "prepaid" and tenant.status == "active"
    return may_buy and account.posted_nusd - account.held_nusd < row.threshold_nusd


def _rests(session: Session, row: AutoTopup) -> bool:
    """Whether an attempt failed a moment ago: a bank that is asked at once again only says no again."""
    failed = select(Order.order_id).where(
        Order.tenant_id == row.tenant_id, Order.kind == "topup", Order.state == "failed",
        Order.ended_at > func.greatest(func.now() - REST, row.consent_at),
    )  # fmt: skip
    return session.scalar(failed.limit(1)) is not None


def _bought_minor(session: Session, row: AutoTopup) -> int:
    """What top-ups of the last 24 hours cost or may still cost."""
    total = session.scalar(
        select(func.coalesce(func.sum(Order.price_minor), 0)).where(
            Order.tenant_id == row.tenant_id, Order.kind == "topup",
            Order.state.not_in(("failed", "canceled")),
            Order.created_at > func.now() - timedelta(hours=24),
        )
    )  # fmt: skip
    return int(total or 0)


def _give_up_unanswered() -> None:
    """An attempt too old to be repeated safely has failed; if it was paid, its event says so yet."""
    with db.transaction(BILLING) as session:
        old = session.scalars(
            select(Order)
            .where(Order.kind == "topup", Order.state == "open")
            .where(Order.created_at < func.now() - _REPEATABLE_FOR)
        ).all()
    for order in old:
        with db.transaction(BILLING) as session:
            row = orders.locked(session, order.tenant_id, order.order_id)
            if row.state == "open":
                orders.close(session, row, "failed", "The payment provider did not answer.")
                telemetry.alarm("topup_unanswered", tenant_id=str(order.tenant_id))


def _stop(session: Session, row: AutoTopup, reason: str) -> None:
    row.enabled, row.stopped_reason = False, reason
    session.flush()
    telemetry.alarm("topup_stopped", tenant_id=str(row.tenant_id), count=row.declines)


def _row(session: Session, tenant_id: UUID) -> AutoTopup | None:
    return session.get(AutoTopup, tenant_id, with_for_update=True, populate_existing=True)


def _card_of(session: Session, tenant_id: UUID) -> str | None:
    customer = customers.of_tenant(session, tenant_id)
    return customer.payment_method_id if customer else None


def _facts(row: AutoTopup | None) -> audit.Facts | None:
    if row is None:
        return None
    named = ("enabled", "threshold_nusd", "amount_minor", "daily_cap_minor", "consent")
    return {name: getattr(row, name) for name in named}


def _check(value: int, param: str, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise errors.BadInput(f"The {param} is out of range.", param=param)


_DUE = """
select t.tenant_id
from app.auto_topups t
join app.accounts a on a.tenant_id = t.tenant_id
join app.tenants n on n.tenant_id = t.tenant_id
left join app.orders o on o.tenant_id = t.tenant_id and o.kind = 'topup'
  and o.state in ('open', 'awaiting', 'needs_action')
where t.enabled and (o.state = 'open' or o.state is null
  and n.mode = 'prepaid' and n.status = 'active' and not a.frozen
  and a.posted_nusd - a.held_nusd < t.threshold_nusd
  and t.amount_minor + coalesce((  -- as _bought_minor, which decides: who may not buy takes no turn
    select sum(b.price_minor) from app.orders b
    where b.tenant_id = t.tenant_id and b.kind = 'topup' and b.state not in ('failed', 'canceled')
      and b.created_at > now() - interval '24 hours'), 0) <= t.daily_cap_minor)
order by a.posted_nusd - a.held_nusd
limit :limit
"""
