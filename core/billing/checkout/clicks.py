"""A press on "buy": one order with the terms of that moment, however often it is pressed or sent.

Everything here opens its own transactions. Refuses whoever may not buy, and a second plan beside one
that runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import clock, db, errors
from core.billing import customers, ledger, offers, orders, stripe_api, subscriptions
from core.billing.checkout import pages
from core.billing.ledger import BILLING
from core.billing.offers import Kind
from core.billing.sales_tables import Order, Subscription
from core.billing.stripe_api import StripeRefused
from core.db import new_id
from core.identity import audit, names
from core.identity.access import Actor, Principal
from core.identity.tables import Tenant

_KEY_LENGTH_MAX = 100
_REPEATABLE_FOR = timedelta(minutes=4)  # then the page's end would come too soon for Stripe
_PAGE_OPEN_FOR = timedelta(minutes=35)
_KNOWN_WITHIN = timedelta(days=1)  # by then the reconciler has fetched what no webhook told
_CLOCKS_DIFFER = timedelta(hours=1)
_TURNS_MAX = 10
_DONE = frozenset({"fulfilled", "awaiting", "review"})
_ENDED = "This order has ended. Please choose again."
_PLAN_RUNS = "A plan is running. Change that one instead."


@dataclass(frozen=True, slots=True)
class _Click:
    """What a person pressed; the same `key` is the same press."""

    kind: Kind
    code: str
    key: str
    save_card: bool = False


def start_package(
    who: Actor | None, code: str, *, click_key: str, save_card: bool = False
) -> Order:
    """The order of a package, with the page to pay on (`session_url`).

    The same click again is the same order. Raises errors.Forbidden, NotFound, Conflict (the key was
    used for something else, or its order has ended), and Unavailable: press again with the same key.
    """
    return _start(who, _Click("package", code, click_key, save_card))


def start_plan(who: Actor | None, plan: str, *, click_key: str) -> Order:
    """The order of a plan, with the page to subscribe on; as `start_package`.

    Pages of the tenant's other plan orders are closed. Raises errors.Conflict also where a plan is
    running or being paid for, and errors.BadInput for a plan that costs nothing.
    """
    return _start(who, _Click("plan", plan, click_key))


def _start(who: Actor | None, click: _Click) -> Order:
    with audit.denials(who, "order.open", f"{click.kind}:{click.code[:40]}"):
        principal = pages.buyer(who)
        names.name(click.key, "click key", length_max=_KEY_LENGTH_MAX)
        stripe_api.current()  # without Stripe not even an order is placed
        with db.transaction(BILLING) as session:
            _check_tenant(session, principal)
            order = _clicked(session, principal, click)
    if order is None:
        offers.sellable(click.kind, click.code)
        order = _ordered(principal, click)
    return _to_page(order, principal, save_card=click.save_card)


def _ordered(principal: Principal, click: _Click) -> Order:
    """The new order. Other plan orders are given up for it, unless one of them was paid meanwhile.

    It is placed once no page of theirs can be paid any more: two pages, both paid, would be two
    subscriptions.
    """
    for _ in range(_TURNS_MAX):
        with db.transaction(BILLING) as session:
            ledger.lock(session, principal.tenant_id)
            others = _give_up_others(session, principal, click) if click.kind == "plan" else []
            if not others:
                return _place(session, principal, click)
        if any(pages.shut(other).state in _DONE for other in others):
            raise errors.Conflict(_PLAN_RUNS)
    raise errors.Unavailable("Another plan is being chosen. Please try again.", retry_after_s=1)


def _to_page(order: Order, principal: Principal, *, save_card: bool) -> Order:
    """The order with its page: the one it has, or one opened now."""
    age = clock.now() - order.created_at
    if order.session_url and order.state == "open" and age > _PAGE_OPEN_FOR:
        order = _looked_up(order)
    if order.state in _DONE:
        return order
    if order.state != "open":
        raise errors.Conflict(_ENDED)
    if order.session_url:
        return order
    customer_id = customers.ensure(
        order.tenant_id, name=principal.tenant_name, email=principal.email
    )
    if age > _REPEATABLE_FOR:
        with db.transaction(BILLING) as session:
            order = orders.locked(session, order.tenant_id, order.order_id)
            if order.session_url or order.state != "open":
                raise errors.Conflict("This was pressed twice. Please look again.")
            order.attempt += 1
    return pages.open_page(order, customer_id, save_card=save_card)


def _looked_up(order: Order) -> Order:
    try:
        return pages.look_again(order)
    except StripeRefused:
        raise errors.Unavailable("Your payment cannot be looked up. Please try again.") from None


def _check_tenant(session: Session, principal: Principal) -> None:
    """Raises errors.Forbidden where nothing is sold."""
    tenant = session.get(Tenant, principal.tenant_id)
    if tenant is None or tenant.status != "active":
        raise errors.Forbidden("This team is suspended.")
    if tenant.mode == "internal":
        raise errors.Forbidden("Nothing is sold to internal teams: their budgets decide.")


def _clicked(session: Session, principal: Principal, click: _Click) -> Order | None:
    """The order this click made before. Raises errors.Conflict for a click on something else."""
    order = session.scalar(
        select(Order).where(Order.tenant_id == principal.tenant_id, Order.click_key == click.key)
    )
    if order is not None and (order.kind, order.code) != (click.kind, click.code):
        raise errors.Conflict("This click was for something else. Please choose again.")
    return order


def _give_up_others(session: Session, principal: Principal, click: _Click) -> list[Order]:
    """End the tenant's other plan orders; those whose page may still be open, to be shut.

    Raises errors.BadInput for a plan that costs nothing, errors.Conflict where one is paid for.
    """
    if offers.plan(session, click.code).price_minor == 0:
        raise errors.BadInput("This plan costs nothing; there is nothing to buy.", param="plan")
    running = subscriptions.current(session, principal.tenant_id)
    if running is not None and running.status != "incomplete":
        raise errors.Conflict(_PLAN_RUNS)
    plan_orders = select(Order).where(
        Order.tenant_id == principal.tenant_id, Order.kind == "plan", Order.click_key != click.key
    )
    if session.scalar(plan_orders.where(_starts()).limit(1)) is not None:
        raise errors.Conflict("A plan was just paid for. It starts in a moment.")
    # A page that could not be shut when its order was canceled still has its address here.
    is_unshut = (Order.state == "canceled") & Order.session_url.is_not(None)
    is_pending = Order.state.in_(("open", "awaiting"))
    others = session.scalars(plan_orders.where(is_pending | is_unshut).with_for_update()).all()
    if any(order.state == "awaiting" for order in others):
        raise errors.Conflict("A plan is being paid for. Please wait until your bank has answered.")
    for order in others:
        if order.state == "open":
            orders.close(session, order, "canceled", "Another plan was chosen.")
    return list(others)


def _starts() -> ColumnElement[bool]:
    """Whether a plan's order was paid, and its subscription is not known here yet."""
    known = exists().where(
        Subscription.tenant_id == Order.tenant_id, Subscription.purpose == "plan",
        Subscription.started_at > Order.created_at - _CLOCKS_DIFFER,
    )  # fmt: skip
    is_new = Order.ended_at > func.now() - _KNOWN_WITHIN
    return (Order.state == "fulfilled") & is_new & ~known


def _place(session: Session, principal: Principal, click: _Click) -> Order:
    """Write down what was ordered with the terms of now; the loser of a double click reads it."""
    price = offers.fitting(session, click.kind, click.code)
    if price is None:
        raise errors.Unavailable("The offer changed just now. Please try again.", retry_after_s=1)
    made = insert(Order).values(
        tenant_id=principal.tenant_id, order_id=new_id(), click_key=click.key, kind=click.kind,
        code=click.code, price_id=price.price_id, price_minor=price.price_minor,
        credits_nusd=price.credits_nusd, ordered_by=principal.user_id, **_terms(session, click),
    )  # fmt: skip
    is_new = session.scalar(made.on_conflict_do_nothing().returning(Order.order_id)) is not None
    order = _clicked(session, principal, click)
    if order is None:
        raise errors.Unavailable("The order could not be placed. Please try again.")
    if is_new:
        audit.record(
            session, principal, "order.open", f"order:{order.order_id}",
            tenant_id=principal.tenant_id,
            after={"kind": order.kind, "code": order.code, "price_minor": order.price_minor,
                   "credits_nusd": order.credits_nusd, "bonus_nusd": order.bonus_nusd},
        )  # fmt: skip
    return order


def _terms(session: Session, click: _Click) -> dict[str, Any]:
    """The columns that the offer adds to its price."""
    if click.kind == "plan":
        return {"title": f"{offers.plan(session, click.code).title} plan"}
    offer = offers.package(session, click.code)
    return {
        "title": offer.title, "bonus_nusd": offer.bonus_nusd,
        "expires_after_days": offer.expires_after_days,
        "bonus_expires_after_days": offer.bonus_expires_after_days,
    }  # fmt: skip
