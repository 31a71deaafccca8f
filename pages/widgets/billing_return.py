"""What a buyer sees who comes back from the payment page: processing until it is paid and its credit is
there, then thanks, or that nothing was charged. An id in the address is anybody's word: core finds it
or nobody does."""

from __future__ import annotations

import time
from dataclasses import dataclass
from uuid import UUID

import streamlit as st

from core import db, errors
from core.billing import checkout, ledger
from core.billing.sales_tables import Order
from core.identity.access import Principal, SignedIn
from pages.widgets import billing_payments, fragments, shown
from pages.widgets import session as tab
from pages.widgets.text import plain

_BACK = "billing_back"
_EVERY_S, _PATIENCE_S = 3.0, 120.0
_UNKNOWN = "This payment is not known here. If you have paid, your credit arrives by itself; nothing is lost."
_LATER = (
    "Your credit arrives by itself as soon as the payment is confirmed. You can leave this page."
)


@dataclass(frozen=True, slots=True)
class Back:
    """A return this tab is showing. `order` once it was found, `is_credited` once what it brings is on
    the balance; `said` once nothing more can come."""

    session_id: str = ""
    since_s: float = 0.0
    order: Order | None = None
    is_credited: bool = False
    said: str = ""


def take(who: Principal) -> None:
    """Take the ids out of the address, and draw what became of the payment."""
    if (canceled := st.query_params.pop("order", None)) is not None:
        tab.keep(_BACK, Back(said=_drop(who, str(canceled))))
    if (session_id := st.query_params.pop("session_id", None)) is not None:
        looked = _look(who, Back(str(session_id), time.monotonic()))
        tab.keep(_BACK, looked)
        if not _waits(looked) and not looked.said:
            st.rerun()  # the sidebar's balance was drawn before this payment was booked
    back = tab.holds(_BACK)
    if not isinstance(back, Back):
        return
    if _waits(back):
        _processing()
    else:
        _ended(back)


def _drop(who: Principal, order_id: str) -> str:
    """Cancel the order the buyer turned back from; the same words for a foreign and a missing one."""
    try:
        return billing_payments.closing(checkout.cancel(who, UUID(order_id)))
    except (ValueError, errors.NotFound, errors.Forbidden):
        return _UNKNOWN
    except errors.Unavailable:
        return "Nothing was charged. The order ends by itself."


def _look(who: Principal, back: Back) -> Back:
    """Ask once what became of the payment."""
    try:
        order = checkout.confirm(who, back.session_id)
    except (errors.NotFound, errors.Forbidden):
        return Back(back.session_id, back.since_s, said=_UNKNOWN)
    except errors.Unavailable:
        return back
    return Back(back.session_id, back.since_s, order, _is_credited(who, order))


def _is_credited(who: Principal, order: Order) -> bool:
    """Whether what was paid for is on the balance; a plan's credit comes with its invoice."""
    if order.kind != "plan" or order.state != "fulfilled":
        return order.state == "fulfilled"
    with db.transaction(who) as session:
        lots = ledger.lots(session, who.tenant_id)
    return any(lot.kind == "plan" and lot.effective_at >= order.created_at for lot in lots)


def _waits(back: Back) -> bool:
    """Whether another look may tell more."""
    if back.said or back.is_credited:
        return False
    return back.order is None or back.order.state in {"open", "awaiting", "fulfilled"}


@fragments.fragment(run_every=_EVERY_S)
def _processing(found: SignedIn) -> None:
    """Looks again every few seconds, for some minutes; the page is drawn anew when it is paid."""
    back = tab.holds(_BACK)
    if not isinstance(back, Back):
        return
    waited_s = time.monotonic() - back.since_s
    if _EVERY_S / 2 < waited_s < _PATIENCE_S:
        back = _look(found.in_tenant, back)
        tab.keep(_BACK, back)
        if not _waits(back):
            st.rerun()
    with st.container(border=True):
        if back.order is not None and back.order.state == "fulfilled":
            st.success(f"**Thank you.**  \n{credited(back.order)}", icon=":material/check_circle:")
        elif waited_s >= _PATIENCE_S:
            st.info(f"**The payment is still on its way.**  \n{_LATER}", icon=":material/schedule:")
        elif back.order is not None and back.order.state == "awaiting":
            st.info(
                f"**Your bank is processing the payment.**  \n{_LATER}", icon=":material/schedule:"
            )
        else:
            st.markdown(":shimmer[Processing your payment …]")
            st.caption("This takes some seconds. Please do not pay again.")
        _close()


def _ended(back: Back) -> None:
    row = st.container(horizontal=True, vertical_alignment="center")
    with row:
        order = back.order
        if back.said or order is None:
            st.info(back.said or _UNKNOWN, icon=":material/info:")
        elif order.state == "fulfilled":
            said = credited(order, is_here=back.is_credited)
            st.success(f"**Thank you.**  \n{said}", icon=":material/check_circle:")
        elif order.state == "review":
            st.warning(
                "**We are looking into this payment.** It does not fit the order, so nothing was"
                " credited yet. Nothing is lost.", icon=":material/warning:",
            )  # fmt: skip
        else:
            st.warning(
                "**This order was not paid.** Nothing was credited; you can choose again below.",
                icon=":material/info:",
            )
        _close()


def credited(order: Order, *, is_here: bool = False) -> str:
    """What a paid order brought; a plan's credit `is_here` a moment later."""
    title = plain(order.title)
    if order.kind == "plan":
        credit = "is on your balance" if is_here else "comes in a moment"
        return f"You are subscribed to the {title}. Its credit {credit}."
    bonus = f" and {shown.usd(order.bonus_nusd)} of bonus" if order.bonus_nusd else ""
    return f"{title}: {shown.usd(order.credits_nusd)} of credit{bonus} are on your balance."


def _close() -> None:
    if st.button("Close", key="billing_back_close"):
        tab.drop(_BACK)
        st.rerun()
