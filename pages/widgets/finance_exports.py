"""Exports on the page: asking for a file, and what was asked for with its progress, its sum and the link to
it. The files themselves come over a route of their own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import streamlit as st

from core import db
from core.finance import exports
from core.finance.datasets import catalogue
from core.finance.exports import Asked, State
from core.finance.files import writing
from core.finance.months import State as Closing
from core.identity.access import Principal, Role, SignedIn
from core.periods import Period, month_of
from pages.widgets import acts, finance_desk, fragments, shown
from pages.widgets.finance_desk import Desk
from pages.widgets.text import plain

_EVERY_S = 2.0
_OWN = "Other days"
_ABOUT = {
    "usage": "Every call and correction, one row each.",
    "daily": "Sums by day, person, model and source.",
    "statement": "Every movement of the wallet, with the balance after it.",
    "chargeback": "Sums by cost centre, project and model.",
    "focus": "The FinOps cost and usage specification, for tools that read it.",
    "audit": "Who did what; for admins.",
}


def draw(desk: Desk) -> None:
    """The form, and what was asked for."""
    with st.container(border=True):
        st.markdown("**Ask for an export**")
        _form(desk)
    with db.transaction(desk.who) as session:
        found = exports.list_exports(session, desk.who, desk.tenant_id)
    waits = any(asked.state is State.BUILDING for asked in found)
    listed = fragments.fragment(run_every=_EVERY_S if waits else None)(_listed)
    listed(desk, waits=waits)


def ask_button(desk: Desk, kind: str, month: date) -> None:
    """Asks for a month of one export, and says where the file will be."""
    with st.popover("Export", icon=":material/download:", key=acts.fresh(f"export_{kind}")):
        name = st.selectbox(
            "Format", list(writing.FORMATS), format_func=_format, key=acts.fresh(f"format_{kind}")
        )
        if st.button("Ask for the file", type="primary", key=acts.fresh(f"ask_{kind}")):
            _ask(desk, kind, name, month_of(month), bom=False)


def _form(desk: Desk) -> None:
    first, second = st.columns(2)
    kinds = [kind for kind in catalogue.KINDS if _may(desk, kind)]
    kind = first.selectbox("Export", kinds, format_func=shown.export_name, key="export_kind")
    format_name = second.selectbox(
        "Format", list(writing.FORMATS), format_func=_format, key="export_format"
    )
    period = _period(desk)
    st.caption(_ABOUT.get(kind, ""))
    foot = st.container(horizontal=True, vertical_alignment="center")
    bom = format_name == "csv" and foot.checkbox(
        "With a byte order mark", key="export_bom",
        help="Older Excel needs it to read a CSV file as UTF-8.",
    )  # fmt: skip
    foot.space("stretch")
    if foot.button("Ask for the file", type="primary", icon=":material/file_download:",
                   key=acts.fresh("export_ask"), disabled=period is None) and period:  # fmt: skip
        _ask(desk, kind, format_name, period, bom=bom)


def _may(desk: Desk, kind: str) -> bool:
    """Whether this export is for whom looks; the core decides when it is asked for."""
    return kind != "audit" or not isinstance(desk.who, Principal) or desk.who.role is Role.ADMIN


def _period(desk: Desk) -> Period | None:
    """A month, or other days; None while only the first of them is chosen."""
    rows = finance_desk.months_of(desk)
    closed = {row.month for row in rows if row.state is Closing.CLOSED}
    months = [row.month for row in rows] or finance_desk.recent(desk.today)
    left, right = st.columns(2)
    chosen = left.selectbox(
        "Period", [*months, None], index=min(1, len(months) - 1), key="export_month",
        format_func=lambda month: _month(month, closed),
    )  # fmt: skip
    if isinstance(chosen, date):
        return month_of(chosen)
    days = right.date_input(
        "Days", (desk.today - timedelta(days=29), desk.today), key="export_days"
    )
    parts = days if isinstance(days, tuple) else (days,)
    return Period(parts[0], parts[1]) if len(parts) == 2 else None


def _month(month: date | None, closed: set[date]) -> str:
    if month is None:
        return _OWN
    return finance_desk.month_name(month) + (" (closed)" if month in closed else "")


def _ask(desk: Desk, kind: str, format_name: str, period: Period, *, bom: bool) -> None:
    asked = acts.attempt(
        desk.who,
        lambda session: exports.ask(
            session, desk.who, kind, format_name, period, tenant_id=desk.tenant_id, bom=bom
        ),
    )
    if asked is not None:
        ready = "is ready" if asked.state is State.READY else "is being made"
        acts.done(f"{shown.export_name(kind)} {ready}: see Exports.")


def _listed(found_now: SignedIn, desk: Desk, *, waits: bool) -> None:
    """What was asked for; drawn again every few seconds while a file is being made."""
    desk = desk.of(found_now)
    with db.transaction(desk.who) as session:
        found = exports.list_exports(session, desk.who, desk.tenant_id)
    if waits and not any(asked.state is State.BUILDING for asked in found):
        st.rerun()
    with st.container(border=True):
        st.markdown("**Files**")
        if not found:
            st.caption("Nothing was asked for yet. A file asked for above stands here for a week.")
        _lines(desk, found)


def _lines(desk: Desk, found: Sequence[Asked]) -> None:
    for asked in found:
        line = st.container(horizontal=True, vertical_alignment="center")
        line.markdown(_said(desk, asked), width="stretch")
        if asked.state is State.BUILDING and asked.file is not None:
            done, whole = asked.file.rows_done, asked.file.rows_total or 0
            st.progress(
                min(1.0, done / whole) if whole else 0.0, text=f"{done:,} of {whole:,} rows"
            )
        elif asked.state is State.FAILED:
            line.badge("Failed: ask again", icon=":material/error:", color="red")
        else:
            line.link_button(
                "Columns", f"/exports/{asked.export_id}?part=columns", type="tertiary",
                key=f"columns_{asked.export_id}", help="What each column holds.",
            )  # fmt: skip
            line.link_button(
                "Download", f"/exports/{asked.export_id}", icon=":material/download:",
                key=f"download_{asked.export_id}",
            )  # fmt: skip


def _said(desk: Desk, asked: Asked) -> str:
    """An export in two lines, safe to draw."""
    period = asked.period
    days = f"{period.first} to {period.last}"
    if period == month_of(period.first):
        days = finance_desk.month_name(period.first)
    asker = f"{'operator' if desk.operator else 'user'}:{asked.asked_by}"
    parts = [
        f"asked for {shown.ago(asked.asked_at)} by {desk.called(asker)}",
        f"here until {shown.moment(asked.expires_at)}",
    ]
    mark = " · with a byte order mark" if asked.bom else ""
    file = asked.file
    if file is not None and file.state is State.READY:
        parts.insert(0, f"{file.rows_total or 0:,} rows · {file.size_bytes or 0:,} bytes")
    kept = " · closed month" if file is not None and file.is_kept else ""
    text = (
        f"**{shown.export_name(asked.kind)}**, {plain(days)}, {_format(asked.format)}{mark}{kept}"
        f"  \n:gray[:small[{' · '.join(parts)}]]"
    )
    if file is not None and file.sha256:
        text += f"  \n:gray[:small[SHA-256 `{file.sha256}`]]"
    return text


def _format(name: str) -> str:
    return writing.FORMATS[name].title if name in writing.FORMATS else name
