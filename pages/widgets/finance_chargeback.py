"""Chargeback of a month: what each cost centre and project used, with the way to its calls, and the file of
the same rows. Cost centres are set by admins, never by who calls."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from core import db
from core.analytics import parameters
from core.analytics.selection import Group
from core.finance import chargeback
from core.finance.chargeback import Share
from core.money import show
from core.periods import month_of
from pages.widgets import finance_desk, finance_exports, shown
from pages.widgets.finance_desk import Desk

_MANY = 15
_NOT_SET = "Not set"


def draw(desk: Desk) -> None:
    """The month, its sums, its cost centres."""
    month = finance_desk.pick_month(desk, finance_desk.months_of(desk))
    with db.transaction(desk.who) as session:
        shares = chargeback.read(session, desk.who, month_of(month), tenant_id=desk.tenant_id)
    _sums(shares)
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown(
            f"**{finance_desk.month_name(month)} by cost centre and project**", width="stretch"
        )
        if not shares:
            st.caption("Nothing was used in this month. Choose another one.")
            return
        with head:
            finance_exports.ask_button(desk, "chargeback", month)
        st.caption("Follow a row's link to see its calls, which add up to it.")
        _table(desk, month, shares)


def _sums(shares: Sequence[Share]) -> None:
    billed = sum(share.billed_nusd for share in shares)
    unset = sum(share.billed_nusd for share in shares if share.cost_center is None)
    listed = [share.list_nusd for share in shares if share.list_nusd is not None]
    with st.grid(4 if listed else 3, min_column_width=160, gap="small"):
        st.metric("Charged", show(billed), border=True)
        if listed:
            st.metric("List cost", show(sum(listed)), border=True)
        centers = {(share.tenant_id, share.cost_center) for share in shares if share.cost_center}
        st.metric("Cost centres", f"{len(centers):,}", border=True)
        st.metric("Without one", show(unset), border=True,
                  help="Calls made when neither the key, the person nor the team had one.")  # fmt: skip


def _table(desk: Desk, month: date, shares: Sequence[Share]) -> None:
    column = st.column_config
    st.dataframe(
        _frame(desk, month, shares), hide_index=True, key="chargeback",
        height="content" if len(shares) <= _MANY else 560,
        alt="Calls, tokens and cost of each cost centre and project, the costliest first",
        column_config={
            "tenant": column.TextColumn("Tenant", width=140),
            "center": column.TextColumn("Cost centre", width=135),
            "project": column.TextColumn("Project", width=110),
            "link": column.LinkColumn("", display_text="Calls", width=60),
            "billed": column.TextColumn("Charged", alignment="right", width=120),
            "list": column.TextColumn("List cost", alignment="right", width=120),
            "markup": column.TextColumn("Markup", alignment="right", width=110),
            "share": column.ProgressColumn(
                "Share", format="percent", min_value=0, max_value=1, width=110
            ),
            "requests": column.NumberColumn("Calls", format="localized", width=75),
            "tokens": column.NumberColumn("Tokens", format="localized", width=95),
        },
    )  # fmt: skip


def _frame(desk: Desk, month: date, shares: Sequence[Share]) -> pd.DataFrame:
    billed = sum(share.billed_nusd for share in shares)
    frame = pd.DataFrame(
        {
            "tenant": [share.tenant_name for share in shares],
            "center": [share.cost_center or _NOT_SET for share in shares],
            "project": [share.project or _NOT_SET for share in shares],
            "link": [_calls(desk, month, share) for share in shares],
            "billed": [shown.usd_exact(share.billed_nusd) for share in shares],
            "list": [shown.usd_exact(share.list_nusd or 0) for share in shares],
            "markup": [
                shown.usd_exact(share.billed_nusd - (share.list_nusd or 0)) for share in shares
            ],
            "share": [share.billed_nusd / billed if billed else 0 for share in shares],
            "requests": [share.requests for share in shares],
            "tokens": [share.tokens for share in shares],
        }
    )
    hidden = ["share"] if desk.tenant_id is None else ["tenant"]
    return frame.drop(columns=hidden + ([] if desk.operator else ["list", "markup"]))


def _calls(desk: Desk, month: date, share: Share) -> str:
    """The address of the calls a row is made of."""
    selected = finance_desk.selection(
        desk, month, cost_center=share.cost_center, project=share.project
    )
    if desk.operator is not None:
        selected = selected.only(Group.TENANT, share.tenant_id)
    return f"/usage?{urlencode(parameters.write(selected), doseq=True)}"
