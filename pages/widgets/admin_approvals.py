"""Credit by hand that waits for a second operator: who asked, how much, why, and the decision."""

from __future__ import annotations

from uuid import UUID

import streamlit as st
from sqlalchemy.orm import Session

from core import db
from core.billing import credit
from core.billing.sales_tables import CreditRequest
from core.identity import audit
from core.identity.access import Operator
from pages.widgets import acts, shown
from pages.widgets.text import plain


def draw(operator: Operator, names: dict[UUID, str]) -> None:
    """What waits; nothing where nothing does. `names` are the tenants'."""
    with db.transaction(operator) as session:
        waiting = credit.waiting(session, operator)
    if not waiting:
        return
    with st.container(border=True):
        st.markdown(f"**Credit that waits for a second operator ({len(waiting)})**")
        for request in waiting:
            _line(operator, request, names.get(request.tenant_id, "a tenant"))


def _line(operator: Operator, request: CreditRequest, name: str) -> None:
    line = st.container(horizontal=True, vertical_alignment="center")
    line.markdown(
        f"{shown.usd(request.amount_nusd)} for {plain(name)}  \n:gray[:small[{plain(request.reason)}"
        f" · asked {shown.ago(request.asked_at)}]]",
        width="stretch",
    )
    if request.asked_by == audit.name_of(operator):
        line.badge("Another operator decides", icon=":material/group:", color="gray")
        return
    with line.popover("Decide", key=acts.fresh(f"credit_{request.request_id}")):
        st.markdown("Granted, it can be spent at once. Refused, nothing is booked.")
        said = None
        if st.button("Grant", type="primary", key=f"credit_grant_{request.request_id}"):
            said = acts.attempt(operator, lambda s: _decide(s, operator, request, grant=True))
        if st.button("Refuse", key=f"credit_refuse_{request.request_id}"):
            said = acts.attempt(operator, lambda s: _decide(s, operator, request, grant=False))
        if said is not None:
            acts.done(said)


def _decide(session: Session, operator: Operator, request: CreditRequest, *, grant: bool) -> str:
    credit.decide(session, operator, request.tenant_id, request.request_id, grant=grant)
    return f"{'Granted' if grant else 'Refused'} {shown.usd(request.amount_nusd)}."
