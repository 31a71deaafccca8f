"""What became of a payment page, told by an event, by the buyer's return or by a look at Stripe.

Every function may be called any number of times, in any order and by many at once. None calls
Stripe, and none believes metadata: the order says what is granted.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.orm import Session

from core.billing import customers, orders
from core.billing.effects import Effect, Handled, Ignored
from core.billing.orders import Paid
from core.billing.sales_tables import Order
from core.billing.stripe_objects import CheckoutSession

_MODES = {"package": "payment", "topup": "payment", "plan": "subscription"}
_MAY_STILL_PAY = frozenset({"open", "needs_action", "expired", "canceled"})
_STRANGE = Ignored("not a page of ours")


def take(session: Session, found: CheckoutSession) -> Effect:
    """A page as Stripe says it is now, whatever that is."""
    return on_expired(session, found) if found.status == "expired" else fulfil(session, found)


def fulfil(session: Session, found: CheckoutSession) -> Effect:
    """A page was completed: grant what was ordered if it is paid, wait if the bank takes its time.

    A page that does not fit its order in every respect puts the order under review, ungranted.
    """
    order, tenant_id = _order_of(session, found)
    if order is None:
        return _STRANGE
    if found.status != "complete":
        return Handled("not completed yet")
    if not found.is_paid:
        return _await(session, order, found)
    paid = Paid(
        "checkout_session", found.session_id, found.total_minor or 0, found.currency or "",
        found.payment_intent_id, found.invoice_id,
    )  # fmt: skip
    if orders.is_settled(order):
        is_theirs = tenant_id == order.tenant_id
        return orders.paid_besides(session, order, paid) if is_theirs else Handled("settled before")
    if tenant_id != order.tenant_id:
        return orders.review(session, order, "paid by a customer who is not this team's", None)
    if reason := _mismatch(order, found):
        return orders.review(session, order, reason, paid)
    order.session_id = found.session_id
    return orders.fulfil(session, order, paid)


def on_failed(session: Session, found: CheckoutSession) -> Effect:
    """A delayed payment did not come: its order has failed."""
    order, _ = _order_of(session, found)
    if order is None:
        return _STRANGE
    if orders.is_settled(order) or not _is_page_of(order, found) or order.state == "failed":
        return Handled("changes nothing")
    order.session_id = found.session_id
    orders.close(session, order, "failed", "The payment did not arrive.")
    return Handled("the payment failed")


def on_expired(session: Session, found: CheckoutSession) -> Effect:
    """Nobody paid on the page in time. A top-up that needs its buyer goes on waiting for them."""
    order, _ = _order_of(session, found)
    if order is None:
        return _STRANGE
    if not _is_page_of(order, found) or order.state not in {"open", "needs_action"}:
        return Handled("changes nothing")
    if order.kind == "topup":
        order.session_id = order.session_url = None
        session.flush()
        return Handled("the buyer may open another page")
    order.session_id = found.session_id
    orders.close(session, order, "expired")
    return Handled("nobody paid in time")


def _order_of(session: Session, found: CheckoutSession) -> tuple[Order | None, UUID | None]:
    """The page's order, locked, and whose the customer is who was on it."""
    tenant_id = customers.tenant_of(session, found.customer_id)
    order = orders.of_reference(session, found.client_reference_id, tenant_id)
    if order is None:
        return None, tenant_id
    return orders.locked(session, order.tenant_id, order.order_id), tenant_id


def _await(session: Session, order: Order, found: CheckoutSession) -> Effect:
    """Completed and not paid: a bank debit, for example, that takes days to say yes or no."""
    is_open = order.state in _MAY_STILL_PAY and not orders.is_settled(order)
    if _is_page_of(order, found) and is_open:
        order.session_id = found.session_id
        order.state, order.reason, order.ended_at = "awaiting", None, None
        session.flush()
    return Handled("waits for the bank")


def _is_page_of(order: Order, found: CheckoutSession) -> bool:
    """Whether it is the order's page; one whose opening was not noted (a crash) is."""
    return order.session_id in (None, found.session_id)


def _mismatch(order: Order, found: CheckoutSession) -> str | None:
    """What of a paid page is not as ordered. Tax and codes change the total, not the subtotal."""
    if found.mode != _MODES[order.kind]:
        return "paid in another mode"
    if not _is_page_of(order, found):
        return "paid on another page"
    if found.currency != order.currency:
        return "paid in another currency"
    if found.subtotal_minor != order.price_minor:
        return "another amount than ordered"
    return None
