"""Who and what costs most, for operators: tenants, people, models. Every line opens the Usage page
narrowed to it, whose rows add up to the line."""

from __future__ import annotations

from urllib.parse import urlencode

import pandas as pd
import streamlit as st
from sqlalchemy.orm import Session

from core import clock, db
from core.analytics import figures, latencies, parameters
from core.analytics.figures import GroupRow
from core.analytics.parameters import Span
from core.analytics.selection import Group, Selection
from core.identity.access import Operator
from core.money import NANO_PER_USD
from pages.widgets import shown

_SPANS = {
    "This month": Span.THIS_MONTH, "Last month": Span.LAST_MONTH, "30 days": Span.DAYS_30,
    "90 days": Span.DAYS_90,
}  # fmt: skip
_PARTS = {Group.TENANT: "Tenants", Group.USER: "People", Group.MODEL: "Models"}
_ROWS = 20
_LINK = "usage"


def draw(operator: Operator) -> None:
    """The period, and a table of each kind."""
    head = st.container(horizontal=True, vertical_alignment="center")
    head.markdown("**Top consumers**", width="stretch")
    chosen = head.segmented_control(
        "Period", list(_SPANS), default="This month", required=True, key="consumers_span",
        bind="query-params", label_visibility="collapsed",
    )  # fmt: skip
    selection = Selection(
        parameters.period_of(_SPANS.get(str(chosen), Span.THIS_MONTH), clock.now().date())
    )
    days = selection.period
    st.caption(
        f"{days.first:%b %-d, %Y} to {days.last:%b %-d, %Y}; days are each tenant's own. The link of a"
        " line opens it in Usage."
    )
    with db.transaction(operator) as session:
        for group, title in _PARTS.items():
            _part(session, operator, selection, group, title)


def _part(
    session: Session, operator: Operator, selection: Selection, group: Group, title: str
) -> None:
    rows = figures.groups(session, operator, selection, group)
    with st.container(border=True):
        st.markdown(f"**{title}**")
        if not rows:
            st.caption("Nothing was used in this period.")
            return
        shown_rows = figures.top(rows, _ROWS)
        frame = _frame(shown_rows, selection, group)
        if group is Group.MODEL:
            durations = _durations(session, operator, selection, shown_rows)
            frame = pd.concat([frame, pd.DataFrame(durations)], axis=1)
        _table(frame, title)


def _frame(rows: tuple[GroupRow, ...], selection: Selection, group: Group) -> pd.DataFrame:
    totals = [row.totals for row in rows]
    return pd.DataFrame(
        {
            "name": [row.label for row in rows],
            "cost": [sums.billed_nusd / NANO_PER_USD for sums in totals],
            "margin": [
                (sums.billed_nusd - (sums.list_nusd or 0)) / NANO_PER_USD for sums in totals
            ],
            "requests": [sums.requests for sums in totals],
            "tokens": [sums.tokens for sums in totals],
            "failed": [shown.share(sums.error_rate) for sums in totals],
            _LINK: [None if row.is_rest else _address(row, selection, group) for row in rows],
        }
    )


def _durations(
    session: Session, operator: Operator, selection: Selection, rows: tuple[GroupRow, ...]
) -> dict[str, list[float | None]]:
    """Seconds that half and 95 of a hundred calls of each model took at most."""
    found = {row.value: row.duration for row in
             latencies.by(session, operator, selection, Group.MODEL).rows}  # fmt: skip
    of = [None if row.is_rest else found.get(row.value) for row in rows]
    return {
        "p50": [duration.p50_ms / 1000 if duration else None for duration in of],
        "p95": [duration.p95_ms / 1000 if duration else None for duration in of],
    }


def _address(row: GroupRow, selection: Selection, group: Group) -> str:
    narrowed = selection.only(group, row.value)
    return "usage?" + urlencode(parameters.write(narrowed), doseq=True)


def _table(frame: pd.DataFrame, title: str) -> None:
    column = st.column_config
    order = [*(name for name in frame.columns if name != _LINK), _LINK]
    st.dataframe(
        frame, column_order=order, hide_index=True, key=f"consumers_{title}", height="content",
        alt=f"Cost, margin, requests, tokens and failures of {title.lower()}",
        column_config={
            "name": column.TextColumn(title, pinned=True, width=190),
            "cost": column.NumberColumn("Cost", format="dollar"),
            "margin": column.NumberColumn(
                "Margin", format="dollar", help="What is billed less the list cost."
            ),
            "requests": column.NumberColumn("Requests", format="localized"),
            "tokens": column.NumberColumn("Tokens", format="compact"),
            "failed": column.TextColumn("Failed", alignment="right", width=70),
            "p50": column.NumberColumn(
                "p50", format="%.1f s", width=70, help="Half of its calls took this long at most."
            ),
            "p95": column.NumberColumn(
                "p95", format="%.1f s", width=70, help="95 of 100 calls took this long at most."
            ),
            _LINK: column.LinkColumn("Calls", display_text="Open", width=60),
        },
    )  # fmt: skip
