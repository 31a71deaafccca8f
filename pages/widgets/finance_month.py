"""One month of a team: what stands against closing it, with the rows; closing it; and once it is closed
who closed it, over what, with which sums and files."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core import db
from core.finance import checks, closing, months
from core.finance.checks import Check, Checks, Code, Level
from core.finance.closing import Closed
from core.finance.months import Month, State, StoredFile
from pages.widgets import acts, finance_desk, shown
from pages.widgets.finance_desk import Desk
from pages.widgets.text import plain

# What a check says when there is nothing, and when there is.
_WORDS = {
    Code.ENDED: (
        "The month has ended.", "The month has not ended, or did so only some minutes ago.",
    ),
    Code.OPEN_CALLS: ("No call is open.", "{count} still open, holding {amount}."),
    Code.UNRECONCILED: (
        "The cost of every call is final.", "The cost of {count} is not final; {amount} so far.",
    ),
    Code.ESTIMATES: (
        "No cost was worked out from the text.",
        "The cost of {count} was worked out from the text and is final, since the provider has no"
        " record: {amount}.",
    ),
    Code.DAILY_SUMS: (
        "The daily sums are those of the events.", "The daily sums differ from the events by {amount}.",
    ),
    Code.LEDGER: ("The ledger agrees to the last digit.", "The ledger differs by {amount}."),
}  # fmt: skip
_MARKS = {
    Level.OK: ":green[:material/check_circle:]",
    Level.WARNS: ":orange[:material/warning:]",
    Level.BLOCKS: ":red[:material/cancel:]",
}


def draw(desk: Desk, row: Month) -> None:
    """The month, closed or not."""
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown(f"**{finance_desk.month_name(row.month)}**", width="stretch")
        if row.state is State.CLOSED and row.closing is not None:
            _closed(desk, row, row.closing, head)
        else:
            _open(desk, row, head)
        finance_desk.usage_link(desk, row.month, "The calls in Usage")


def _open(desk: Desk, row: Month, head: DeltaGenerator) -> None:
    if desk.tenant_id is None:
        return
    with db.transaction(desk.who) as session:
        found = checks.read(session, desk.who, desk.tenant_id, row.month)
    if row.ended:
        _close(desk, row, found, head)
    if row.closing is not None and row.closing.reopened_at is not None:
        st.info(
            f"Reopened by {desk.called(row.closing.reopened_by)},"
            f" {shown.moment(row.closing.reopened_at)}: {plain(row.closing.reason or '')}",
            icon=":material/lock_open:",
        )
    st.caption(
        f"{row.requests:,} calls, {plain(shown.usd_exact(row.billed_nusd))} ·"
        f" {shown.moment(found.segment.begins, found.segment.time_zone)} to"
        f" {shown.moment(found.segment.ends, found.segment.time_zone)},"
        f" {plain(found.segment.time_zone)}."
    )
    with st.container(gap="xsmall"):
        for check in found.found:
            if check.code in _WORDS:
                _line(check)
                _rows(desk, row, check)


def _line(check: Check) -> None:
    count = f"{check.count:,} call{'' if check.count == 1 else 's'}"
    fine, amiss = _WORDS[check.code]
    said = fine
    if check.level is not Level.OK:
        amount = plain(shown.usd_exact(check.amount_nusd))
        said = amiss.format(count=count, amount=amount)
    st.markdown(f"{_MARKS[check.level]} {said}")


def _rows(desk: Desk, row: Month, check: Check) -> None:
    """What a finding is made of."""
    if check.level is Level.OK or check.code is Code.ENDED or desk.tenant_id is None:
        return
    opened = st.expander("Show the rows", key=f"rows_{check.code}", on_change="rerun")
    if not opened.open:
        return
    with opened:
        with db.transaction(desk.who) as session:
            found = checks.rows(session, desk.who, desk.tenant_id, row.month, check.code)
        st.dataframe(
            pd.DataFrame(
                {
                    "time": pd.Series([one.at for one in found], dtype="datetime64[us, UTC]"),
                    "person": [one.person or shown.NONE for one in found],
                    "model": [one.model or shown.NONE for one in found],
                    "amount": [shown.usd_exact(one.amount_nusd) for one in found],
                    "note": [one.note for one in found],
                    "call": [str(one.call_id or "") for one in found],
                }
            ),
            hide_index=True, key=f"table_{check.code}", height="content" if len(found) < 10 else 380,
            alt="Time, person, model, amount and what is the matter with each row",
            column_config={
                "time": st.column_config.DatetimeColumn(
                    "Time", format="MMM D, HH:mm", timezone=desk.time_zone, width=105
                ),
                "person": st.column_config.TextColumn("Person", width=130),
                "model": st.column_config.TextColumn("Model", width=170),
                "amount": st.column_config.TextColumn("Amount", alignment="right", width=110),
                "note": st.column_config.TextColumn("Note", width=220),
                "call": st.column_config.TextColumn("Call", width=120),
            },
        )  # fmt: skip
        if check.count > len(found):
            st.caption(f"The first {len(found):,} of {check.count:,}.")


def _close(desk: Desk, row: Month, found: Checks, head: DeltaGenerator) -> None:
    """The button, which asks once."""
    name = finance_desk.month_name(row.month)
    with head.popover("Close the month", icon=":material/lock:", key=acts.fresh("close")):
        st.markdown(
            f"From now on the usage of {name} stays as it is: {row.requests:,} calls,"
            f" {plain(shown.usd_exact(row.billed_nusd))}. What is learned later about its calls is"
            " booked in the month in which it comes. Nothing is deleted."
        )
        unsure = {check.code: check for check in found.blocking}.get(Code.UNRECONCILED)
        accepts = unsure is not None and st.checkbox(
            f"Also over {unsure.count:,} whose cost is not final", key=acts.fresh("close_accept")
        )
        blocked = [
            check for check in found.blocking if not (accepts and check.code is Code.UNRECONCILED)
        ]
        if blocked:
            st.caption(f"Not yet: {plain(closing.reasons(tuple(blocked)))}.")
        if st.button(
            f"Close {name}", type="primary", key=acts.fresh("close_now"), disabled=bool(blocked)
        ):
            _close_now(desk, row, accepts=accepts)


def _close_now(desk: Desk, row: Month, *, accepts: bool) -> None:
    if (tenant_id := desk.tenant_id) is None:
        return
    closed = acts.attempt(
        desk.who,
        lambda session: closing.close(
            session, desk.who, tenant_id, row.month, accept_unreconciled=accepts
        ),
    )
    if closed is not None:
        acts.done(
            f"{finance_desk.month_name(row.month)} is closed at"
            f" {plain(shown.usd_exact(closed.billed_nusd))}."
        )


def _closed(desk: Desk, row: Month, closed: Closed, head: DeltaGenerator) -> None:
    head.badge("Closed", icon=":material/lock:", color="green")
    if desk.operator is not None:
        _reopen(desk, row, head)
    facts = {
        "Closed": f"{shown.moment(closed.closed_at)}, by {desk.called(closed.closed_by)}",
        "Cost": plain(shown.usd_exact(closed.billed_nusd)),
        "Calls": f"{closed.requests:,} and {closed.events - closed.requests:,} corrections",
        "Tokens": f"{closed.tokens:,}",
        "Came late since": f"{row.late_count:,} · {plain(shown.usd_exact(row.late_nusd))}",
    }
    if closed.list_nusd is not None:
        facts["List cost"] = plain(shown.usd_exact(closed.list_nusd))
    with st.grid(min(len(facts), 6), min_column_width=150, gap="small"):
        for title, value in facts.items():
            with st.container(gap=None):
                st.caption(title)
                st.markdown(value)
    for warned in closed.warnings:
        _line(Check(warned.code, Level.WARNS, warned.count, warned.amount_nusd))
    _files(desk, closed)


def _files(desk: Desk, closed: Closed) -> None:
    with db.transaction(desk.who) as session:
        found = months.files(session, desk.who, closed.tenant_id, closed.closing_id)
    if not found:
        st.caption(
            "No file of this month yet. Ask for one under Exports: it is built once, kept, and the"
            " same at every download."
        )
        return
    st.caption("Files of this month, kept for good: each download is the same to the last byte.")
    st.dataframe(
        _files_frame(found), hide_index=True, key="month_files", height="content",
        alt="Kind, format, rows, size and SHA-256 of each file",
        column_config={
            "kind": st.column_config.TextColumn("File", width=120),
            "format": st.column_config.TextColumn("Format", width=75),
            "rows": st.column_config.NumberColumn("Rows", format="localized", width=75),
            "size": st.column_config.NumberColumn("Size", format="bytes", width=80),
            "sha256": st.column_config.TextColumn("SHA-256", width=480),
        },
    )  # fmt: skip


def _files_frame(found: tuple[StoredFile, ...]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "kind": [shown.export_name(file.kind) for file in found],
            "format": [file.format for file in found],
            "rows": [file.rows for file in found],
            "size": [file.size_bytes for file in found],
            "sha256": [file.sha256 for file in found],
        }
    )


def _reopen(desk: Desk, row: Month, head: DeltaGenerator) -> None:
    with (
        head.popover("Reopen", icon=":material/lock_open:", key=acts.fresh("reopen")),
        st.form(acts.fresh("reopen_form"), border=False),
    ):
        st.markdown(
            "Corrections that come from now on are dated in this month again, and it can be closed"
            " anew. This closing and its files are kept; adjustments in later months stay there."
        )
        reason = st.text_input("Reason", max_chars=500, key=acts.fresh("reopen_reason"))
        if st.form_submit_button("Reopen the month", type="primary"):
            _reopen_now(desk, row, reason)


def _reopen_now(desk: Desk, row: Month, reason: str) -> None:
    if (tenant_id := desk.tenant_id) is None:
        return
    reopened = acts.attempt(
        desk.who, lambda session: closing.reopen(session, desk.who, tenant_id, row.month, reason)
    )
    if reopened is not None:
        acts.done(f"{finance_desk.month_name(row.month)} is open again.")
