"""Which tenant a Stripe customer is: one live customer per tenant, made before the first purchase.

Whose an event is follows from here alone, never from metadata. No card number comes near this file,
only Stripe's reference to a card and the label people know it by.
"""

from __future__ import annotations

from functools import partial
from typing import Literal
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import db, errors, jobs, settings, telemetry
from core.billing import stripe_api
from core.billing.effects import Effect, Handled, Ignored
from core.billing.ledger import BILLING
from core.billing.sales_tables import StripeCustomer
from core.billing.stripe_api import StripeRefused
from core.identity import audit
from core.identity.access import Actor, Role, require, require_person
from core.jobs import Queue

Flow = Literal["payment_method_update"]
REFRESH = "billing.refresh_card"
_KEY_WAS_USED = "idempotency_error"


def ensure(tenant_id: UUID, *, name: str, email: str) -> str:
    """The tenant's customer at Stripe, made if there is none. Opens its own transactions.

    Whoever loses a race reads the winner's. Raises errors.Unavailable when Stripe cannot make one.
    """
    with db.transaction(BILLING) as session:
        if live := of_tenant(session, tenant_id):
            return live.customer_id
        made = _count(session, tenant_id)
    customer_id = _create(tenant_id, name=name, email=email, number=made + 1)
    with db.transaction(BILLING) as session:
        session.execute(
            insert(StripeCustomer)
            .values(customer_id=customer_id, tenant_id=tenant_id)
            .on_conflict_do_nothing()
        )
        live = of_tenant(session, tenant_id)
    if live is None:
        raise errors.Unavailable("Buying does not work right now. Please try again.")
    return live.customer_id


def tenant_of(session: Session, customer_id: str | None) -> UUID | None:
    """Whose customer this is or was; None for a stranger."""
    found = session.get(StripeCustomer, customer_id) if customer_id else None
    return found.tenant_id if found else None


def of_tenant(session: Session, tenant_id: UUID) -> StripeCustomer | None:
    """The tenant's live customer, with its card as last heard of."""
    return session.scalar(
        select(StripeCustomer)
        .where(StripeCustomer.tenant_id == tenant_id, StripeCustomer.deleted_at.is_(None))
        .execution_options(populate_existing=True)
    )


def portal(who: Actor, *, flow: Flow | None = None) -> str:
    """The address of Stripe's portal for this buyer, made anew for every click and never kept.

    Opens its own transactions. Raises errors.Conflict before the first purchase.
    """
    principal = require(who, Role.ADMIN, Role.FINANCE)
    require_person(principal)
    with db.transaction(BILLING) as session:
        live = of_tenant(session, principal.tenant_id)
        if live is None:
            raise errors.Conflict("There is nothing to manage yet: nothing was bought so far.")
        audit.record(
            session, principal, "billing.portal", f"stripe_customer:{live.customer_id}",
            tenant_id=principal.tenant_id,
        )  # fmt: skip
    return stripe_api.current().portal_url(
        live.customer_id, return_url=f"{settings.current().app_url}/billing", flow=flow
    )


def refresh_card(tenant_id: UUID) -> None:
    """Note the card Stripe would charge now. Opens its own transactions; raises StripeDown."""
    with db.transaction(BILLING) as session:
        live = of_tenant(session, tenant_id)
    if live is None:
        return
    card = stripe_api.current().default_card(live.customer_id)
    with db.transaction(BILLING) as session:
        row = session.get(StripeCustomer, live.customer_id, with_for_update=True)
        if row is not None and row.deleted_at is None:
            row.payment_method_id = card.payment_method_id if card else None
            row.card = card.label if card else None


def on_changed(session: Session, customer_id: str | None) -> Effect:
    """Its card may be another one now: that is read by a job, after this transaction."""
    tenant_id = tenant_of(session, customer_id)
    if tenant_id is None:
        return Ignored("not a customer of ours")
    jobs.defer(session, REFRESH, tenant_id=tenant_id)
    return Handled("the card is read anew")


def on_deleted(session: Session, customer_id: str) -> Effect:
    """The customer is gone at Stripe: nothing more can be charged to it, its past stays known."""
    row = session.get(StripeCustomer, customer_id, with_for_update=True)
    if row is None:
        return Ignored("not a customer of ours")
    row.deleted_at = row.deleted_at or session.scalar(select(func.now()))
    row.payment_method_id = row.card = None
    return Handled("the customer was deleted")


def _create(tenant_id: UUID, *, name: str, email: str, number: int) -> str:
    """A key that was used with another name or e-mail (a racer's, or before a crash) is refused: once
    more under a key of its own, since one customer too many at Stripe does no harm."""
    create = partial(
        stripe_api.current().create_customer, tenant_id=tenant_id, name=name, email=email
    )
    key = f"customer:{tenant_id}:{number}"
    try:
        try:
            return create(key=key)
        except StripeRefused as refused:
            if refused.code != _KEY_WAS_USED:
                raise
            return create(key=f"{key}:again")
    except StripeRefused as refused:
        telemetry.alarm("stripe_customer_refused", tenant_id=str(tenant_id), code=refused.code)
        raise errors.Unavailable("Buying does not work right now. Please try later.") from refused


def _count(session: Session, tenant_id: UUID) -> int:
    query = select(func.count()).where(StripeCustomer.tenant_id == tenant_id)
    return session.scalar(query) or 0


@jobs.task(REFRESH, Queue.MONEY)
def _refresh(tenant_id: str) -> None:
    if stripe_api.configured():
        refresh_card(UUID(tenant_id))
