"""Payment pages at Stripe: opened for one attempt of an order, looked at again, closed.

Everything here opens its own transactions and has none open while it asks Stripe. Addresses to come
back to are made from the configured one; nothing the client says is redirected to.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import func, select, tuple_
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from core import db, errors, jobs, settings, telemetry
from core.billing import attempts, customers, offers, stripe_api
from core.billing import orders as rows
from core.billing.checkout import outcomes
from core.billing.ledger import BILLING
from core.billing.sales_tables import Order
from core.billing.stripe_api import CheckoutAsk, StripeDown, StripeRefused
from core.billing.stripe_objects import CheckoutSession
from core.identity import audit
from core.identity.access import Actor, Principal, Role, require, require_person
from core.jobs import Queue

_LISTED_MAX = 200
_ASK_AFTER = timedelta(hours=1)  # every page has ended by then, and events have had their time
_ASKED_AT_ONCE = 200
_FROM_THE_FIRST = (datetime.min.replace(tzinfo=UTC), UUID(int=0))
_SESSION_ID = re.compile(r"cs_[A-Za-z0-9_]{1,250}", re.ASCII)
_TO_BE_PAID = frozenset({"open", "needs_action"})
_NO_SUCH = "There is no such order."
_KEY_WAS_USED = "idempotency_error"
_PRICE = "[price]"  # as a parameter's name ends; its amount's is "[price_data]..."
log = structlog.get_logger(__name__)


def buyer(who: Actor | None) -> Principal:
    """Who may buy: a person with the admin's or finance's role. Raises errors.Forbidden."""
    principal = require(who, Role.ADMIN, Role.FINANCE)
    require_person(principal)
    return principal


def orders(session: Session, who: Actor | None) -> list[Order]:
    """The tenant's orders, newest first."""
    principal = require(who, Role.ADMIN, Role.FINANCE)
    query = select(Order).where(Order.tenant_id == principal.tenant_id)
    return list(session.scalars(query.order_by(Order.created_at.desc()).limit(_LISTED_MAX)))


def confirm(who: Actor | None, session_id: str) -> Order:
    """The order of the page the buyer came back from, fulfilled if it is paid.

    As it was while Stripe cannot be asked. Raises errors.NotFound for another tenant's page.
    """
    principal = buyer(who)
    if not _SESSION_ID.fullmatch(session_id):
        raise errors.NotFound(_NO_SUCH)
    with db.transaction(principal) as session:
        known = session.scalar(select(Order).where(Order.session_id == session_id))
    if known is not None and known.state == "fulfilled":
        return known
    try:
        found = stripe_api.current().checkout_session(session_id)
    except StripeRefused:
        if known is None:
            raise errors.NotFound(_NO_SUCH) from None
        return known
    except errors.Unavailable:
        if known is None:
            raise
        return known
    with db.transaction(BILLING) as session:
        order = rows.of_reference(session, found.client_reference_id, principal.tenant_id)
        if order is None or order.tenant_id != principal.tenant_id:
            raise errors.NotFound(_NO_SUCH)
        outcomes.take(session, found)
        return rows.locked(session, principal.tenant_id, order.order_id)


def cancel(who: Actor | None, order_id: UUID) -> Order:
    """Drop an order that is not paid, and close its page or its payment at Stripe.

    What was paid meanwhile is fulfilled. An order that ended, or whose debit is under way, is
    returned as it is. Raises errors.NotFound.
    """
    principal = buyer(who)
    with db.transaction(BILLING) as session:
        order = rows.locked(session, principal.tenant_id, order_id)
        if order.state not in _TO_BE_PAID:
            return order
        rows.close(session, order, "canceled")
        audit.record(
            session, principal, "order.cancel", f"order:{order_id}", tenant_id=principal.tenant_id
        )
    return shut(order)


def shut(order: Order) -> Order:
    """Make sure that an order given up is not paid any more; the order, fulfilled if it was.

    Its page's address is forgotten once Stripe has said that nobody can pay there.
    """
    api = stripe_api.current()
    page: CheckoutSession | None = None
    paid = attempts.call_off(order)
    if order.session_id is not None:
        with suppress(StripeRefused):
            page = api.expire_session(order.session_id)
    with db.transaction(BILLING) as session:
        row = rows.locked(session, order.tenant_id, order.order_id)
        if paid is not None:
            attempts.settle(session, row, paid)
        if page is not None:
            outcomes.take(session, page)
        row.session_url = None
        return row


def open_page(order: Order, customer_id: str, *, save_card: bool) -> Order:
    """Open the payment page of this attempt of an order and note its address.

    Raises errors.Unavailable, and errors.Conflict when the order was ended or opened again meanwhile.
    """
    order, page = _opened(order, customer_id, save_card=save_card)
    with db.transaction(BILLING) as session:
        row = rows.locked(session, order.tenant_id, order.order_id)
        if row.state in _TO_BE_PAID and row.attempt == order.attempt:
            row.session_id, row.session_url = page.session_id, page.url
            return row
    with suppress(StripeDown, StripeRefused):
        stripe_api.current().expire_session(page.session_id)
    raise errors.Conflict("This order has ended. Please choose again.")


def look_again(order: Order) -> Order:
    """The order, after Stripe was asked what became of its page; without a page it has expired.

    Raises stripe_api.StripeDown, and StripeRefused where Stripe does not say.
    """
    page: CheckoutSession | None = None
    if order.session_id is not None:
        try:
            page = stripe_api.current().checkout_session(order.session_id)
        except StripeRefused as refused:
            if refused.status != 404:
                raise
    with db.transaction(BILLING) as session:
        if page is not None:
            outcomes.take(session, page)
        row = rows.locked(session, order.tenant_id, order.order_id)
        if page is None and row.state == "open" and row.session_id == order.session_id:
            rows.close(session, row, "expired")
        return row


@jobs.periodic("25 * * * *", "billing.close_old_orders", Queue.MONEY)
def close_old() -> None:
    """Ask Stripe what became of pages that must have ended, and end orders that never had one.

    The oldest first. Raises stripe_api.StripeDown (the next hour's run goes on).
    """
    if not stripe_api.configured():
        return
    after = _FROM_THE_FIRST
    while old := _old(after):
        for order in old:
            _look_again_alone(order)
        after = (old[-1].created_at, old[-1].order_id)


def _old(after: tuple[datetime, UUID]) -> list[Order]:
    """The next of the orders whose pages must have ended."""
    with db.transaction(BILLING) as session:
        found = session.scalars(
            select(Order)
            .where(Order.state.in_(("open", "awaiting", "needs_action")))
            .where(Order.kind.in_(("package", "plan")) | Order.session_id.is_not(None))
            .where(Order.created_at < func.now() - _ASK_AFTER)
            .where(tuple_(Order.created_at, Order.order_id) > tuple_(*after))
            .order_by(Order.created_at, Order.order_id)
            .limit(_ASKED_AT_ONCE)
        )
        return list(found)


def _look_again_alone(order: Order) -> None:
    """What goes wrong with one order is told, and keeps no other waiting."""
    try:
        look_again(order)
    except errors.Unavailable:
        raise
    except (StripeRefused, errors.Refusal, DBAPIError) as error:
        code = error.code if isinstance(error, StripeRefused) else type(error).__name__
        log.warning("order.not_closed", tenant_id=str(order.tenant_id), code=code)


def _ask(order: Order, customer_id: str, *, save_card: bool) -> CheckoutAsk:
    """The first attempt's page ends so long after its order that the same request can be repeated."""
    base = f"{settings.current().app_url}/billing"
    return CheckoutAsk(
        mode="subscription" if order.kind == "plan" else "payment", tenant_id=order.tenant_id,
        order_id=order.order_id, attempt=order.attempt, kind=order.kind, customer_id=customer_id,
        price_id=order.price_id, amount_minor=None if order.price_id else order.price_minor,
        title=order.title, save_card=save_card,
        success_url=f"{base}?session_id={{CHECKOUT_SESSION_ID}}",
        cancel_url=f"{base}?order={order.order_id}",
        asked_at=order.created_at if order.attempt == 1 else None,
    )  # fmt: skip


def _opened(order: Order, customer_id: str, *, save_card: bool) -> tuple[Order, CheckoutSession]:
    """The page, and the order it is for: its next attempt where Stripe does not sell at its price any
    more, or took another wish under its key (the same press with the card to be saved, its answer
    lost)."""
    api = stripe_api.current()
    try:
        return order, api.open_checkout(_ask(order, customer_id, save_card=save_card))
    except StripeRefused as refused:
        if _PRICE in (refused.param or ""):  # unknown there, or archived: the codes differ
            again = _reprice(order)
        elif refused.code == _KEY_WAS_USED:
            again = _next_attempt(order, order.price_id)
        else:
            raise _refused(order, customer_id, refused) from None
    try:
        return again, api.open_checkout(_ask(again, customer_id, save_card=save_card))
    except StripeRefused as refused:
        raise _refused(again, customer_id, refused) from None


def _reprice(order: Order) -> Order:
    """The next attempt of an order, at a price of the same terms that Stripe knows.

    Raises errors.Conflict when the order ended, or the offer's terms are others by now.
    """
    if order.price_id is not None:
        offers.forget(order.price_id)
    price = offers.sellable("plan" if order.kind == "plan" else "package", order.code)
    if (price.price_minor, price.credits_nusd) != (order.price_minor, order.credits_nusd):
        raise errors.Conflict("The offer changed just now. Please choose again.")
    return _next_attempt(order, price.price_id)


def _next_attempt(order: Order, price_id: str | None) -> Order:
    """The order as another request. Raises errors.Conflict when it ended or has a page meanwhile."""
    with db.transaction(BILLING) as session:
        row = rows.locked(session, order.tenant_id, order.order_id)
        is_same = row.attempt == order.attempt and row.session_id is None
        if row.state in _TO_BE_PAID and is_same:
            row.price_id, row.attempt = price_id, row.attempt + 1
            return row
    raise errors.Conflict("This order was opened elsewhere or has ended. Please look again.")


def _refused(order: Order, customer_id: str, refused: StripeRefused) -> errors.Unavailable:
    """An order Stripe will never open a page for has failed; a lost customer is made anew next time."""
    telemetry.alarm("checkout_refused", tenant_id=str(order.tenant_id), code=refused.code)
    with db.transaction(BILLING) as session:
        row = rows.locked(session, order.tenant_id, order.order_id)
        if refused.code == "resource_missing" and "customer" in (refused.param or ""):
            customers.on_deleted(session, customer_id)
        if row.state == "open" and row.session_id is None:
            rows.close(session, row, "failed", "The payment page could not be opened.")
    return errors.Unavailable("The payment page cannot be opened. Please try again.")
