"""What a buyer does with a plan: another one, cancel, go on after all.

Upgrades take effect and are charged at once, downgrades with the next period; who stays after all keeps
the price of before. Each act asks Stripe between transactions and then stores what Stripe says; nothing
is changed here by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from core import db, errors
from core.billing import offers, stripe_api, stripe_objects
from core.billing.ledger import BILLING
from core.billing.sales_tables import Invoice, PlanOffer
from core.billing.stripe_api import StripeApi
from core.billing.subscriptions import standing
from core.identity import audit
from core.identity.access import Actor, Principal, Role, require, require_person

_REFUSED = "Stripe did not accept this change. Nothing was changed."
_NOT_PAID = (
    "The payment did not go through, so your plan was not changed."
    " Check your payment method and try again."
)
_UNPAID = "An invoice of your plan is not paid yet. Pay it first: the Billing page shows it."


@dataclass(frozen=True, slots=True)
class _Held:
    """The subscription as it is before the act, read in a transaction of its own."""

    tenant_id: UUID
    subscription_id: str
    item_id: str
    version: int
    plan: str
    next_plan: str | None
    held_price_id: str | None
    is_ending: bool
    is_in_force: bool

    def key(self, act: str) -> str:
        """The idempotency key of one act on this version."""
        return f"plan:{self.subscription_id}:{self.version}:{act}"


@dataclass(frozen=True, slots=True)
class _Act:
    """One wish of a buyer: its name in the log, the plan it leads to, and how Stripe is asked.

    `price_id`: what the subscription must be on afterwards, or the payment did not go through.
    """

    name: str
    plan: str
    asking: Callable[[StripeApi], stripe_objects.Subscription]
    price_id: str | None = None


def change_plan(who: Actor, plan: str) -> None:
    """Put the buyer's tenant on another plan. Opens its own transactions.

    Higher rank: now, for the rest of the period, charged in proportion; when that payment fails,
    nothing changes. Lower rank: from the next period on. 'free' cancels. The plan one has undoes a
    downgrade that waits, at the price it had. Raises errors.BadInput, errors.Conflict (no plan yet,
    ending, unpaid invoice, payment failed), errors.Forbidden, StripeDown.
    """
    if plan == standing.FREE:
        cancel(who)
        return
    buyer = _buyer(who)
    with db.transaction(BILLING) as session:
        held = _held_in_force(session, buyer)
        is_upgrade = _is_upgrade(session, held, plan)
        if is_upgrade:
            _nothing_unpaid(session, held.tenant_id, held.subscription_id)
    price_id = _price_id(held, plan)
    if is_upgrade and held.next_plan is not None:
        held = _without_downgrade(buyer, held)
    _do(buyer, held, _changing(held, plan, price_id, prorate=is_upgrade))


def cancel(who: Actor) -> None:
    """End the plan with its period; until then everything stays. Opens its own transactions.

    One that is not in force, because it was not paid or is paused, ends now: then another one can be
    bought. Raises errors.Conflict without a plan, errors.Forbidden, StripeDown.
    """
    buyer = _buyer(who)
    with db.transaction(BILLING) as session:
        held = _held(session, buyer)
    if held.is_in_force:
        _end_with_period(buyer, held, "subscription.cancel", ends=True)
    else:
        _do(buyer, held, _Act("subscription.cancel", held.plan, _ending_now(held)))


def resume(who: Actor) -> None:
    """Undo `cancel` before the period ends. Opens its own transactions. Raises as `cancel`, and
    errors.Conflict for a plan that is not in force."""
    buyer = _buyer(who)
    with db.transaction(BILLING) as session:
        held = _held_in_force(session, buyer)
    _end_with_period(buyer, held, "subscription.resume", ends=False)


def _end_with_period(buyer: Principal, held: _Held, name: str, *, ends: bool) -> None:
    if held.is_ending == ends:
        return

    def asking(api: StripeApi) -> stripe_objects.Subscription:
        key = held.key("cancel" if ends else "resume")
        return api.set_cancel_at_period_end(held.subscription_id, ends, key=key)

    _do(buyer, held, _Act(name, held.plan, asking))


def _ending_now(held: _Held) -> Callable[[StripeApi], stripe_objects.Subscription]:
    return lambda api: api.cancel_now(held.subscription_id)


def _buyer(who: Actor) -> Principal:
    buyer = require(who, Role.ADMIN, Role.FINANCE)
    require_person(buyer)
    return buyer


def _held(session: Session, buyer: Principal) -> _Held:
    row = standing.current(session, buyer.tenant_id)
    if row is None:
        raise errors.Conflict("There is no plan yet: subscribe first.")
    is_in_force = row.status in standing.LIVE
    if row.plan is None or not (is_in_force or row.status in standing.WITHDRAWN):
        raise errors.Conflict("This plan was not paid for yet. Please wait a moment.")
    return _Held(
        row.tenant_id, row.subscription_id, row.item_id, row.version, row.plan, row.next_plan,
        row.held_price_id, row.cancel_at is not None, is_in_force,
    )  # fmt: skip


def _held_in_force(session: Session, buyer: Principal) -> _Held:
    held = _held(session, buyer)
    if not held.is_in_force:
        _nothing_unpaid(session, held.tenant_id, held.subscription_id)
        raise errors.Conflict("This plan is not in force; it can only be canceled.")
    return held


def _price_id(held: _Held, plan: str) -> str:
    """What the plan is sold at now; the one in force for whom a downgrade waits, as it was sold then."""
    if plan == held.plan and held.held_price_id is not None:
        return held.held_price_id
    return offers.sellable("plan", plan).price_id


def _is_upgrade(session: Session, held: _Held, plan: str) -> bool:
    """Whether `plan` ranks higher. Raises for what cannot be asked for in the present state."""
    offer = session.get(PlanOffer, plan)
    if offer is None or not offer.active:
        raise errors.BadInput("There is no such plan.", param="plan")
    if held.is_ending:
        raise errors.Conflict("Your plan is ending. Resume it first.")
    if plan == (held.next_plan or held.plan):
        raise errors.Conflict("You are on this plan already.", param="plan")
    return standing.rank(session, plan) > standing.rank(session, held.plan)


def _nothing_unpaid(session: Session, tenant_id: UUID, subscription_id: str) -> None:
    unpaid = exists().where(
        Invoice.tenant_id == tenant_id, Invoice.subscription_id == subscription_id,
        Invoice.status == "open", Invoice.page_url.is_not(None),
    )  # fmt: skip
    if session.scalar(select(unpaid)):
        raise errors.Conflict(_UNPAID)


def _changing(held: _Held, plan: str, price_id: str, *, prorate: bool) -> _Act:
    def asking(api: StripeApi) -> stripe_objects.Subscription:
        return api.change_price(
            held.subscription_id, held.item_id, price_id, prorate=prorate, key=held.key(plan)
        )

    return _Act("subscription.change", plan, asking, price_id)


def _without_downgrade(buyer: Principal, held: _Held) -> _Held:
    """Undo a waiting downgrade first: what is charged then starts from the plan in force."""
    price_id = _price_id(held, held.plan)
    _do(buyer, held, _changing(held, held.plan, price_id, prorate=False))
    with db.transaction(BILLING) as session:
        return _held_in_force(session, buyer)


def _do(buyer: Principal, held: _Held, act: _Act) -> None:
    """Ask Stripe, log the act as it went, store what Stripe says now: its version keys the next act,
    since Stripe repeats its answer to a key, a refusal too."""
    try:
        found = act.asking(stripe_api.current())
    except (stripe_api.CardDeclined, stripe_api.StripeRefused) as error:
        _log(buyer, held, act, "failed")
        standing.read_again(held.subscription_id)
        is_declined = isinstance(error, stripe_api.CardDeclined)
        raise errors.Conflict(_NOT_PAID if is_declined else _REFUSED) from error
    is_done = act.price_id in {None, found.price_id}
    _log(buyer, held, act, "done" if is_done else "failed")
    standing.read_again(held.subscription_id)
    if not is_done:
        raise errors.Conflict(_NOT_PAID)


def _log(buyer: Principal, held: _Held, act: _Act, outcome: audit.Outcome) -> None:
    with db.transaction(BILLING) as session:
        audit.record(
            session, buyer, act.name, f"subscription:{held.subscription_id}", outcome,
            tenant_id=held.tenant_id, before={"plan": held.plan, "next_plan": held.next_plan},
            after={"plan": act.plan},
        )  # fmt: skip
