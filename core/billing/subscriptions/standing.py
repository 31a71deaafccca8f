"""A tenant's plan as a subscription at Stripe: what is stored of it and which plan follows from it.

What is stored is always what Stripe says now, never what an event said then. No credit is granted
here: a month's allowance comes with its paid invoice. What a buyer does is in changes.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from core import db, errors, telemetry
from core.billing import customers, ledger, offers, stripe_api, stripe_objects
from core.billing.effects import Effect, Handled, Ignored, Waits
from core.billing.ledger import BILLING
from core.billing.sales_tables import Subscription
from core.identity import tenants
from core.identity.tables import Plan, Tenant

LIVE = ("trialing", "active", "past_due")
WITHDRAWN = ("unpaid", "canceled", "paused")
ENDED = ("canceled", "incomplete_expired")
FREE = "free"
_READS_MAX = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """What Stripe says now, and the version our row had before it was asked (0: no row)."""

    version: int
    now: stripe_objects.Subscription


def on_subscription(session: Session, now: stripe_objects.Subscription) -> Effect:
    """Store what Stripe says now and put the tenant on the plan that follows from it.

    Trialing, active or past due: the plan of the price, but a plan of lower rank than the one in
    force only from the next period on (`next_plan` until then). Unpaid, canceled or paused: free.
    Incomplete, and expired so: nothing was ever in force, the tenant's plan stays. A tenant's plan
    changes only when what its subscriptions say changes: a plan that an operator gave stays until then.
    """
    tenant_id = owner(session, now.customer_id, now.metadata.get("tenant_id"))
    if isinstance(tenant_id, Ignored):
        return tenant_id
    ledger.lock(session, tenant_id)
    before = _plan_bought(_plans(session, tenant_id))
    row = _store(session, tenant_id, now)
    if row.purpose == "usage":
        return Handled(f"usage is billed, {row.status}")
    known = _plans(session, tenant_id)
    _only_one(tenant_id, known)
    after = _plan_bought(known)
    if after is not None and after != before:
        _put_on(session, tenant_id, after)
    return Handled(f"{row.status}, plan {row.plan or 'unknown'}")


def write(session: Session, asked: Asked) -> Effect:
    """`on_subscription`, unless the row was written since Stripe was asked: then ask again."""
    tenant_id = customers.tenant_of(session, asked.now.customer_id)
    if tenant_id is not None:
        ledger.lock(session, tenant_id)
        if _version(session, asked.now.subscription_id) != asked.version:
            return Waits("it was read again meanwhile")
    return on_subscription(session, asked.now)


def ask(subscription_id: str) -> Asked:
    """What Stripe says of it now. Opens its own transaction; raises StripeDown, StripeRefused."""
    with db.transaction(BILLING) as session:
        version = _version(session, subscription_id)
    return Asked(version, stripe_api.current().subscription(subscription_id))


def read_again(subscription_id: str) -> None:
    """Store what Stripe says now. Opens its own transactions.

    Raises StripeDown, StripeRefused, and errors.Unavailable when others always were faster.
    """
    for _ in range(_READS_MAX):
        asked = ask(subscription_id)
        with db.transaction(BILLING) as session:
            if not isinstance(write(session, asked), Waits):
                return
    raise errors.Unavailable("The plan is being changed elsewhere. Please look again.")


def current(session: Session, tenant_id: UUID) -> Subscription | None:
    """The tenant's plan subscription: the newest in force, else the newest that has not ended."""
    return session.scalar(
        select(Subscription)
        .where(
            Subscription.tenant_id == tenant_id,
            Subscription.purpose == "plan",
            Subscription.status.not_in(ENDED),
        )
        .order_by(
            case((Subscription.status.in_(LIVE), 0), else_=1),
            Subscription.started_at.desc(),
            Subscription.subscription_id.desc(),
        )
        .limit(1)
        .execution_options(populate_existing=True)
    )


def owner(session: Session, customer_id: str | None, named: str | None) -> UUID | Ignored:
    """Whose an object of Stripe is, by its customer alone.

    Metadata that names another tenant is never followed: an alarm, and nothing is done.
    """
    tenant_id = customers.tenant_of(session, customer_id)
    if tenant_id is None:
        return Ignored("not a customer of ours")
    if named is not None and named != str(tenant_id):
        telemetry.alarm("stripe_tenant_mismatch", tenant_id=str(tenant_id))
        return Ignored("its metadata names another tenant than its customer")
    return tenant_id


def rank(session: Session, plan: str | None) -> int:
    """A plan's place in the order of plans; -1 for none."""
    found = session.get(Plan, plan) if plan is not None else None
    return -1 if found is None else found.rank


def _store(session: Session, tenant_id: UUID, now: stripe_objects.Subscription) -> Subscription:
    """Write the row: insert it, or raise its version."""
    row = session.get(Subscription, now.subscription_id, populate_existing=True)
    price = offers.of_price(session, now.price_id)
    if price is None:
        telemetry.alarm("stripe_price_unknown", tenant_id=str(tenant_id), source=now.price_id)
    priced = price.code if price is not None and price.kind == "plan" else None
    plan, next_plan = _in_force(session, row, now, priced)
    if row is None:
        row = Subscription(
            subscription_id=now.subscription_id, tenant_id=tenant_id, version=0,
            purpose="usage" if price is not None and price.kind == "usage" else "plan",
        )  # fmt: skip
        session.add(row)
    row.held_price_id = _held_price_id(row, next_plan)
    row.plan, row.next_plan = plan, next_plan
    row.status, row.item_id, row.price_id = now.status, now.item_id, now.price_id
    row.period_start, row.period_end = now.period_start, now.period_end
    row.cancel_at, row.ended_at, row.started_at = now.cancel_at, now.ended_at, now.started_at
    row.version += 1
    row.changed_at = session.execute(select(func.clock_timestamp())).scalar_one()
    session.flush()
    return row


def _in_force(
    session: Session,
    row: Subscription | None,
    now: stripe_objects.Subscription,
    priced: str | None,
) -> tuple[str | None, str | None]:
    """The plan in force and the one that follows it. `priced`: the plan of its price, if known."""
    held = row.plan if row is not None else None
    if now.status in WITHDRAWN:
        return FREE, None
    if now.status not in LIVE:
        return held, None
    if priced is None:
        return held, None
    same_period = row is not None and row.status in LIVE and row.period_end == now.period_end
    if same_period and held is not None and rank(session, priced) < rank(session, held):
        return held, priced
    return priced, None


def _held_price_id(row: Subscription, next_plan: str | None) -> str | None:
    """The price the plan in force was sold at, while a downgrade waits. `row` is as it was before."""
    if next_plan is None:
        return None
    return row.held_price_id if row.next_plan is not None else row.price_id


def _plans(session: Session, tenant_id: UUID) -> Sequence[Subscription]:
    """Every plan subscription the tenant ever had, the newest first."""
    return session.scalars(
        select(Subscription)
        .where(Subscription.tenant_id == tenant_id, Subscription.purpose == "plan")
        .order_by(Subscription.started_at.desc(), Subscription.subscription_id.desc())
        .execution_options(populate_existing=True)
    ).all()


def _plan_bought(known: Sequence[Subscription]) -> str | None:
    """The plan that these subscriptions give: the newest in force decides, none in force means free,
    and None when none ever was."""
    for row in known:
        if row.status in LIVE and row.plan is not None:
            return row.plan
    return FREE if any(row.status in WITHDRAWN for row in known) else None


def _only_one(tenant_id: UUID, known: Sequence[Subscription]) -> None:
    count = sum(row.status in LIVE for row in known)
    if count > 1:
        telemetry.alarm("two_subscriptions", tenant_id=str(tenant_id), count=count)


def _put_on(session: Session, tenant_id: UUID, plan: str) -> None:
    tenant = session.get_one(Tenant, tenant_id, populate_existing=True)
    if tenant.plan != plan:
        tenants.set_plan(session, BILLING, tenant_id, plan)


def _version(session: Session, subscription_id: str) -> int:
    query = select(Subscription.version).where(Subscription.subscription_id == subscription_id)
    return session.scalar(query) or 0
