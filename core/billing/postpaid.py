"""Stripe's side of a postpaid tenant: the customer, the meter, its price, and the usage subscription
that turns what was sent to the meter into a monthly invoice. Switches no mode by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import db, jobs, telemetry
from core.billing import customers, meters, stripe_api, subscriptions
from core.billing.ledger import BILLING
from core.billing.sales_tables import OfferPrice, Subscription
from core.billing.stripe_api import UsageTier
from core.identity.access import Role
from core.identity.tables import Membership, Tenant, User
from core.jobs import Queue

BEGIN, END = "billing.postpaid", "billing.prepaid_again"
_BUYERS = (Role.FINANCE, Role.ADMIN)


def ensure(tenant_id: UUID) -> None:
    """Give a postpaid tenant its usage subscription, once; billed is all it uses while postpaid.

    Opens its own transactions; safe to repeat. Without Stripe, or without anybody who gets the
    invoice, nothing is done (the hourly look tries again). Raises StripeDown, StripeRefused.
    """
    if not stripe_api.configured():
        return
    with db.transaction(BILLING) as session:
        tenant = session.get(Tenant, tenant_id)
        if tenant is None or tenant.mode != "postpaid" or _running(session, tenant_id):
            return
        email, before = _email(session, tenant_id), _count(session, tenant_id)
    if email is None:
        telemetry.alarm("postpaid_without_buyer", tenant_id=str(tenant_id))
        return
    made = stripe_api.current().subscribe_usage(
        tenant_id=tenant_id,
        customer_id=customers.ensure(tenant_id, name=tenant.name, email=email),
        price_id=_price_id(), key=f"usage:{tenant_id}:{before + 1}",
    )  # fmt: skip
    subscriptions.read_again(made.subscription_id)


def end(tenant_id: UUID) -> None:
    """End the usage subscription of a tenant that is not postpaid any more, its last use sent.

    Opens its own transactions; safe to repeat. Raises StripeDown, StripeRefused.
    """
    if not stripe_api.configured():
        return
    with db.transaction(BILLING) as session:
        tenant = session.get(Tenant, tenant_id)
        running = _running(session, tenant_id)
        if tenant is None or tenant.mode == "postpaid" or not running:
            return
        now = session.execute(select(func.now())).scalar_one()
        meters.collect(session, tenant_id, until=now)
    meters.send()
    for subscription_id in running:
        stripe_api.current().cancel_now(subscription_id)
        subscriptions.read_again(subscription_id)


def look_after() -> None:
    """Repair what a lost job left: postpaid tenants never subscribed, others that still are.

    One that was subscribed and is not any more was ended at Stripe: an alarm, for an operator.
    """
    if not stripe_api.configured():
        return
    with db.transaction(BILLING) as session:
        for found in session.execute(text(_ODD)):
            if found.running:
                jobs.defer(session, END, tenant_id=found.tenant_id)
            elif found.ever:
                telemetry.alarm("postpaid_without_meter", tenant_id=str(found.tenant_id))
            else:
                jobs.defer(session, BEGIN, tenant_id=found.tenant_id)


_ODD = """
select t.tenant_id, count(s.subscription_id) as ever, count(s.subscription_id) filter (
    where s.status not in ('canceled', 'incomplete_expired')) as running
from app.tenants t
left join app.subscriptions s on s.tenant_id = t.tenant_id and s.purpose = 'usage'
group by t.tenant_id
having (t.mode = 'postpaid') <> (count(s.subscription_id) filter (
    where s.status not in ('canceled', 'incomplete_expired')) > 0)
order by t.tenant_id
"""


def _price_id() -> str:
    """The price of the meter with the tiers of its row, made at Stripe where it is missing."""
    with db.transaction(BILLING) as session:
        row = meters.meter(session)
    api = stripe_api.current()
    meter_id = api.create_meter(event_name=row.event_name, title=row.title)
    tiers = tuple(
        UsageTier(
            None if tier["up_to"] == "inf" else int(tier["up_to"]),
            Decimal(tier["unit_amount_decimal"]),
        )
        for tier in row.tiers
    )
    price_id = api.create_usage_price(
        meter_id=meter_id, event_name=row.event_name, title=row.title, tiers=tiers
    )
    with db.transaction(BILLING) as session:
        _record(session, row.event_name, meter_id, price_id)
    return price_id


def _record(session: Session, event_name: str, meter_id: str, price_id: str) -> None:
    row = meters.meter(session)
    session.refresh(row, with_for_update=True)
    row.meter_id, row.price_id = meter_id, price_id
    session.execute(
        update(OfferPrice)
        .where(
            OfferPrice.kind == "usage", OfferPrice.code == event_name, OfferPrice.current,
            OfferPrice.price_id != price_id,
        )
        .values(current=False)
    )  # fmt: skip
    made = insert(OfferPrice).values(
        price_id=price_id, kind="usage", code=event_name, product_id=f"purser_usage_{event_name}",
        price_minor=0, credits_nusd=0,
    )  # fmt: skip
    session.execute(made.on_conflict_do_update(index_elements=["price_id"], set_={"current": True}))


def _running(session: Session, tenant_id: UUID) -> Sequence[str]:
    return session.scalars(
        select(Subscription.subscription_id).where(
            Subscription.tenant_id == tenant_id, Subscription.purpose == "usage",
            Subscription.status.not_in(subscriptions.ENDED),
        )
    ).all()  # fmt: skip


def _count(session: Session, tenant_id: UUID) -> int:
    query = select(func.count()).where(
        Subscription.tenant_id == tenant_id, Subscription.purpose == "usage"
    )
    return session.scalar(query) or 0


def _email(session: Session, tenant_id: UUID) -> str | None:
    """Who gets the invoices: the longest-known person of finance, else an admin."""
    return session.scalar(
        select(User.email)
        .join(Membership, Membership.user_id == User.user_id)
        .where(
            Membership.tenant_id == tenant_id, Membership.role.in_(_BUYERS),
            Membership.status == "active", User.status == "active",
        )
        .order_by(Membership.role.desc(), User.created_at, User.user_id)
        .limit(1)
    )  # fmt: skip


@jobs.task(BEGIN, Queue.MONEY)
def _begin(tenant_id: str) -> None:
    ensure(UUID(tenant_id))


@jobs.task(END, Queue.MONEY)
def _end(tenant_id: str) -> None:
    end(UUID(tenant_id))


@jobs.periodic("33 * * * *", "billing.look_after_postpaid", Queue.MONEY)
def _look_after() -> None:
    look_after()
