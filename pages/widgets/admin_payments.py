"""What one tenant paid, for operators: refunds and disputes of each payment, and giving money back."""

from __future__ import annotations

from uuid import UUID

import streamlit as st

from core import db, errors
from core.analytics.overview import TenantRow
from core.billing import payments, refunds, stripe_api
from core.billing.payments import PaidFor
from core.db import new_id
from core.identity.access import Operator
from core.money import NANO_PER_USD, parse_usd
from pages.widgets import acts, shown
from pages.widgets import session as tab
from pages.widgets.text import plain

_CENT_NUSD = NANO_PER_USD // 100
_SHOWN = 10


def draw(operator: Operator, row: TenantRow) -> None:
    """The newest payments; nothing where nothing was paid."""
    with db.transaction(operator) as session:
        found = payments.of_tenant(session, operator, row.tenant_id, limit=_SHOWN + 1)
    if not found:
        return
    st.markdown("**Payments**")
    for paid in found[:_SHOWN]:
        _line(operator, row, paid)
    if len(found) > _SHOWN:
        st.caption("Stripe lists the older ones.")


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
            "Amount in USD", f"{unspent_minor // 100}.{unspent_minor % 100:02}",
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
            operator, row.tenant_id, of, _cents(amount), reason=reason, force=force,
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


def _cents(amount: str) -> int:
    """What was typed as whole cents. Raises NotMoney or errors.BadInput."""
    cents, rest = divmod(parse_usd(amount), _CENT_NUSD)
    if rest:
        raise errors.BadInput("A refund is in whole cents.", param="amount")
    return cents
