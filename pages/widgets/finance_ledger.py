"""How the usage of a month ties to the ledger, as a small statement with a leg for every difference of
date, and what does not tie, if anything."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core import db
from core.finance import bridge
from core.finance.bridge import Bridge, Offence
from core.identity.access import Principal
from core.periods import month_of
from pages.widgets import finance_desk, shown
from pages.widgets.finance_desk import Desk
from pages.widgets.text import plain


def draw(desk: Desk) -> None:
    """A month of one tenant."""
    if desk.tenant_id is None:
        finance_desk.choose_tenant()
        return
    month = finance_desk.pick_month(desk, finance_desk.months_of(desk))
    period = month_of(month)
    with db.transaction(desk.who) as session:
        found = bridge.read(session, desk.who, desk.tenant_id, period)
        offences: tuple[Offence, ...] = ()
        if found.difference_nusd:
            offences = bridge.offences(session, desk.who, desk.tenant_id, period)
    with st.container(border=True):
        st.markdown(f"**Usage and ledger of {finance_desk.month_name(month)}**")
        st.caption(
            "Usage is dated by the moment a call was made, the ledger by the moment it was booked:"
            " some seconds later, or when the provider's word on its cost came. What cost nothing has"
            " no entry."
        )
        _statement(found)
        _says(found, offences)
        with st.container(horizontal=True):
            finance_desk.usage_link(desk, month, "The calls in Usage")
            if isinstance(desk.who, Principal):
                st.page_link(
                    "billing.py", label="The entries in the statement", icon=":material/receipt_long:",
                    query_params={"section": "Statement"},
                )  # fmt: skip


def _statement(found: Bridge) -> None:
    lines = [
        ("Booked by the ledger in the month", found.booked.count, found.booked.amount_nusd),
        ("Less: for use of other months", found.used_elsewhere.count,
         -found.used_elsewhere.amount_nusd),
        ("Plus: booked in other months for use of this one", found.booked_elsewhere.count,
         found.booked_elsewhere.amount_nusd),
        ("Used in the month", found.used.count, found.used.amount_nusd),
        ("Difference", None, found.difference_nusd),
    ]  # fmt: skip
    st.dataframe(
        pd.DataFrame(
            {
                "line": [line for line, _, _ in lines],
                "count": pd.array([count for _, count, _ in lines], dtype="Int64"),
                "amount": [shown.usd_exact(amount) for _, _, amount in lines],
            }
        ),
        hide_index=True, key="bridge", height="content", placeholder="",
        alt="What the ledger booked, less and plus what belongs to other months, and what was used",
        column_config={
            "line": st.column_config.TextColumn("", width=330),
            "count": st.column_config.NumberColumn("Entries", format="localized", width=80),
            "amount": st.column_config.TextColumn("USD", alignment="right", width=150),
        },
    )  # fmt: skip


def _says(found: Bridge, offences: tuple[Offence, ...]) -> None:
    if not found.difference_nusd:
        st.markdown(":green[:material/check_circle:] The ledger agrees to the last digit.")
        return
    amount = plain(shown.usd_exact(found.difference_nusd))
    st.error(
        f"The ledger differs from the usage by {amount}. These calls do not tie; your operator has"
        " to look at them before the month can be closed.",
        icon=":material/error:",
    )
    st.dataframe(
        pd.DataFrame(
            {
                "call": [str(one.call_id) for one in offences],
                "kind": [one.kind for one in offences],
                "used": [shown.usd_exact(one.used_nusd) for one in offences],
                "booked": [shown.usd_exact(one.booked_nusd) for one in offences],
            }
        ),
        hide_index=True, key="offences", height="content" if len(offences) < 10 else 380,
        alt="Each call for which usage and ledger differ",
        column_config={
            "call": "Call", "kind": "Kind",
            "used": st.column_config.TextColumn("Used", alignment="right"),
            "booked": st.column_config.TextColumn("Booked", alignment="right"),
        },
    )  # fmt: skip
