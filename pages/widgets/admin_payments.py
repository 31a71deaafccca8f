"""What one tenant paid, for operators: refunds and disputes of each payment, giving money back, and
ending the review of an order that was not paid as ordered."""

from __future__ import annotations

from uuid import UUID

import streamlit as st

from core import db
from core.analytics.overview import TenantRow
from core.billing import orders, payments, refunds, stripe_api
from core.billing.payments import PaidFor
from core.billing.sales_tables import Order
from core.db import new_id
from core.identity.access import Operator
from core.money import parse_minor
from pages.widgets import acts, shown
from pages.widgets import session as tab
from pages.widgets.text import plain

_SHOWN = 10


def draw(operator: Operator, row: TenantRow) -> None:
    """Orders under review, then the newest payments; nothing where nothing was paid."""
    with db.transaction(operator) as session:
        found = payments.of_tenant(session, operator, row.tenant_id, limit=_SHOWN + 1)
        reviewed = orders.in_review(session, operator, row.tenant_id)
    if reviewed:
        st.markdown("**Orders under review**")
    for order in reviewed:
        _in_review(operator, row, order)
    if not found:
        return
    st.markdown("**Payments**")
    for paid in found[:_SHOWN]:
        _line(operator, row, paid)
    if len(found) > _SHOWN:
        st.caption("Stripe lists the older ones.")


def _in_review(operator: Operator, row: TenantRow, order: Order) -> None:
    of = order.order_id
    line = st.container(horizontal=True, vertical_alignment="center")
    line.markdown(
        f"{plain(order.title)}, {shown.cents(order.price_minor)}: {plain(order.reason or '')}  \n"
        f":gray[:small[{shown.moment(order.created_at)} · `{of}`]]",
        width="stretch",
    )
    with (
        line.popover("Close", icon=":material/task_alt:", key=acts.fresh(f"review_{of}")),
        st.form(acts.fresh(f"review_form_{of}"), border=False),
    ):
        st.markdown(
            "Refund the payment or grant credit by hand first: nothing pays for it any more."
        )
        note = st.text_input(
            "Note", max_chars=500, key=acts.fresh(f"review_note_{of}"), help="The team reads it."
        )
        if st.form_submit_button("Close the order", type="primary"):
            ended = acts.attempt(
                operator,
                lambda session: orders.end_review(session, operator, row.tenant_id, of, note=note),
            )
            if ended is not None:
                acts.done(f"{plain(ended.title)} of {plain(row.name)} is closed.")


def _line(operator: Operator, row: TenantRow, paid: PaidFor) -> None:
    line = st.container(horizontal=True, vertical_alignment="center")
    said = [f"{shown.moment(paid.paid_at)}", f"`{paid.payment_intent_id}`"]
    said += [
        f"{back.kind} of {shown.cents(back.amount_minor)}: {plain(back.status)}"
        for back in paid.claw_backs
    ]
    said += [
        f"refund of {shown.cents(asked.amount_minor)}: "
        + ("is being sent" if asked.state == "asked" else f"refused ({plain(asked.error or '')})")
        for asked in paid.asked
    ]
    line.markdown(
        f"{plain(paid.title)}, {shown.cents(paid.total_minor)}  \n:gray[:small[{' · '.join(said)}]]",
        width="stretch",
    )
    if paid.refundable.rest_minor and stripe_api.configured():
        _refund(operator, row, paid, line)


def _refund(
    operator: Operator, row: TenantRow, paid: PaidFor, place: st.delta_generator.DeltaGenerator
) -> None:
    of, unspent_minor = paid.payment_intent_id, paid.refundable.unspent_minor
    with (
        place.popover("Refund", icon=":material/undo:", key=acts.fresh(f"refund_{of}")),
        st.form(acts.fresh(f"refund_form_{of}"), border=False),
    ):
        st.markdown(
            f"Of this payment {shown.cents(unspent_minor)} is unspent; at most"
            f" {shown.cents(paid.refundable.rest_minor)} can go back."
        )
        amount = st.text_input(
            "Amount in USD", shown.typed_cents(unspent_minor),
            key=acts.fresh(f"refund_amount_{of}"),
        )  # fmt: skip
        reason = st.text_input("Reason", max_chars=500, key=acts.fresh(f"refund_reason_{of}"))
        force = st.checkbox(
            "Also what was spent already", key=acts.fresh(f"refund_force_{of}"),
            help="The team then owes that part; its calls wait until it is paid.",
        )  # fmt: skip
        st.caption("Takes the credit back in the same proportion, bonus included.")
        if st.form_submit_button("Refund", type="primary"):
            _give_back(operator, row, of, amount, reason, force=force)


def _give_back(
    operator: Operator, row: TenantRow, of: str, amount: str, reason: str, *, force: bool
) -> None:
    request_id = _request_id(of)
    made = acts.attempt_alone(
        lambda: refunds.refund(
            operator, row.tenant_id, of, parse_minor(amount), reason=reason, force=force,
            request_id=request_id,
        )
    )  # fmt: skip
    if made is None:
        return
    if made.state == "refused":
        tab.drop(acts.fresh(f"refund_request_{of}"))  # asked for once more it is another request
        st.error(f"Stripe refused this: {plain(made.error or '')}", icon=":material/block:")
        return
    sent = "Refunded" if made.state == "sent" else "Asked Stripe to refund"
    acts.done(f"{sent} {shown.cents(made.amount_minor)} to {plain(row.name)}.")


def _request_id(of: str) -> UUID:
    """One id for all presses until the page is drawn anew: they ask for one refund."""
    name = acts.fresh(f"refund_request_{of}")
    known = tab.recall(name, new_id())
    tab.keep(name, known)
    return known
