"""The statement on the page: a period's opening balance, movements and closing balance, its lines page
by page, and what each line opens to. The file of the same lines has a route of its own."""

from __future__ import annotations

from datetime import date, timedelta
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from core import db
from core.billing import statement
from core.billing.statement import KINDS, Line, Statement, StatementAsk
from core.money import show_minor
from pages.widgets import billing_desk, paging, redirect, shown
from pages.widgets.billing_desk import Desk
from pages.widgets.text import plain

_THIS, _BEFORE, _30, _90, _OWN = "This month", "Last month", "30 days", "90 days", "Other days"
_PERIODS = (_THIS, _BEFORE, _30, _90, _OWN)
_LINES = 25
_LIST = "statement"
_FILE = "/billing/statement.csv"


def draw(desk: Desk) -> None:
    """Filters, the sums that make the closing balance, the lines and the open one."""
    with st.container(border=True):
        who = desk.who
        first, last, kinds = _filters(desk.balance.today)
        asked = StatementAsk(first, last, kinds, limit=_LINES)
        trail: tuple[int, ...] = paging.trail(_LIST, repr(asked))
        with db.transaction(who) as session:
            page = statement.read(
                session, who, StatementAsk(first, last, kinds, trail[-1] if trail else None, _LINES)
            )
        _sums(page, asked)
        if page.lines:
            chosen = _table(page, asked, trail)
            paging.turn(_LIST, repr(asked), trail, page.lines[-1].seq if page.more else None)
            if chosen is None:
                st.caption("Select a line to see the call, order or grant behind it.")
            else:
                details(desk, page.lines[chosen], page.time_zone)
        else:
            st.caption(
                "Nothing was booked in this period. Choose a longer one to see earlier lines."
            )


def _filters(today: date) -> tuple[date, date, tuple[str, ...]]:
    row = st.container(horizontal=True, vertical_alignment="bottom")
    row.markdown("**Statement**", width="stretch")
    period = row.selectbox("Period", _PERIODS, key="statement_period", width=150)
    first, last = days(period, today)
    if period == _OWN:
        chosen = row.date_input(
            "Days", (today - timedelta(days=30), today), key="statement_days", width=240
        )
        parts = chosen if isinstance(chosen, tuple) else (chosen,)
        first, last = (parts[0], parts[-1]) if parts else (today, today)
    kinds = row.multiselect(
        "Kinds", list(KINDS), format_func=KINDS.__getitem__, key="statement_kinds", width=240,
        placeholder="All movements",
    )  # fmt: skip
    file = {"from": first.isoformat(), "to": last.isoformat(), "kind": kinds}
    row.link_button(
        "CSV", f"{_FILE}?{urlencode(file, doseq=True)}", icon=":material/download:",
        key="statement_csv",
    )  # fmt: skip
    return first, last, tuple(kinds)


def days(period: str, today: date) -> tuple[date, date]:
    """The first and the last day of a named period; the current month for any other name."""
    month = today.replace(day=1)
    if period == _BEFORE:
        return (month - timedelta(days=1)).replace(day=1), month - timedelta(days=1)
    if period in {_30, _90}:
        return today - timedelta(days=int(period.split(" ", maxsplit=1)[0]) - 1), today
    return month, today


def _sums(page: Statement, asked: StatementAsk) -> None:
    """Opening, what moved by kind, closing: the first and the others make the last."""
    facts = [("Opening balance", shown.usd_exact(page.opening_nusd))]
    facts += [(KINDS.get(one.kind, one.kind), _signed(one.amount_nusd)) for one in page.sums]
    facts.append(("Closing balance", shown.usd_exact(page.closing_nusd)))
    with st.grid(min(len(facts), 6), min_column_width=140, gap="small"):
        for title, value in facts:
            with st.container(gap=None):
                st.caption(title)
                st.markdown(f"**{plain(value)}**" if "balance" in title else plain(value))
    count = f"{page.movements:,} movement{'' if page.movements == 1 else 's'}"
    if asked.kinds:
        count = f"filtered: {page.matching:,} of {count}"
    st.caption(
        f"{asked.first_day:%b} {asked.first_day.day} to {asked.last_day:%b} {asked.last_day.day},"
        f" {asked.last_day:%Y} ({plain(page.time_zone)}) · {count}."
    )


def _signed(amount_nusd: int) -> str:
    return ("+" if amount_nusd > 0 else "") + shown.usd_exact(amount_nusd)


def _table(page: Statement, asked: StatementAsk, trail: tuple[int, ...]) -> int | None:
    """Draw the lines; returns which of them is chosen."""
    chosen = st.dataframe(
        _frame(page.lines), hide_index=True, height="content", on_select="rerun",
        selection_mode="single-row", key=_table_key(asked, trail), placeholder="",
        alt="Time, kind, description, tokens, amount and balance of each movement, newest first",
        column_config={
            "time": st.column_config.DatetimeColumn(
                "Time", format="MMM D, HH:mm", timezone=page.time_zone, width=105
            ),
            "kind": st.column_config.TextColumn("Kind", width=110),
            "description": st.column_config.TextColumn("Description", width=215),
            "tokens": st.column_config.NumberColumn("Tokens", format="localized", width=75),
            "amount": st.column_config.TextColumn("Amount", alignment="right", width=110),
            "balance": st.column_config.TextColumn("Balance", alignment="right", width=120),
        },
    )  # fmt: skip
    return next((row for row in chosen["selection"]["rows"] if row < len(page.lines)), None)


def _table_key(asked: StatementAsk, trail: tuple[int, ...]) -> str:
    """A table of its own for every page, so that a line chosen on one is not chosen on the next."""
    parts = (asked.first_day, asked.last_day, *asked.kinds, *trail[-1:])
    return "_".join(["lines", *map(str, parts)])


def _frame(lines: tuple[Line, ...]) -> pd.DataFrame:
    tokens = [
        None if line.call is None or line.call.prompt_tokens is None
        else line.call.prompt_tokens + (line.call.completion_tokens or 0)
        for line in lines
    ]  # fmt: skip
    return pd.DataFrame(
        {
            "time": pd.to_datetime([line.occurred_at for line in lines], utc=True),
            "kind": [KINDS.get(line.kind, line.kind) for line in lines],
            "description": [line.description for line in lines],
            "tokens": pd.Series(tokens, dtype="Int64"),
            "amount": [_signed(line.amount_nusd) for line in lines],
            "balance": [shown.usd_exact(line.balance_after_nusd) for line in lines],
        }
    )


def details(desk: Desk, line: Line, time_zone: str) -> None:
    """What is behind a line: its call, its order, its grant."""
    facts = {
        "Movement": f"No. {line.seq:,}", "Time": shown.moment(line.occurred_at, time_zone),
        "Booked by": line.actor, "Reason": line.reason or shown.NONE,
    }  # fmt: skip
    if (call := line.call) is not None:
        facts |= {
            "Call": str(call.call_id), "Model": call.model, "Member": call.person or shown.NONE,
            "Tokens in": shown.NONE if call.prompt_tokens is None else f"{call.prompt_tokens:,}",
            "Tokens out": (
                shown.NONE if call.completion_tokens is None else f"{call.completion_tokens:,}"
            ),
            "Outcome": call.outcome or shown.NONE,
        }  # fmt: skip
    if (order := line.order) is not None:
        facts |= {
            "Order": order.title or shown.NONE, "Invoice": order.invoice_number or shown.NONE,
            "Paid": shown.NONE if order.total_minor is None
            else show_minor(order.total_minor),
            "Order id": str(order.order_id) if order.order_id else shown.NONE,
        }  # fmt: skip
    if (grant := line.grant) is not None:
        ends = billing_desk.end(grant.expires_at, desk)
        facts |= {
            "Granted": shown.usd_exact(grant.granted_nusd),
            "Left of it": shown.usd_exact(grant.remaining_nusd), "Expires": ends,
            "Grant": str(grant.lot_id),
        }  # fmt: skip
    with st.container(border=True):
        with st.grid(4, min_column_width=180, gap="small"):
            for title, value in facts.items():
                with st.container(gap=None):
                    st.caption(title)
                    st.markdown(plain(value))
        _ways(line)


def _ways(line: Line) -> None:
    row = st.container(horizontal=True)
    with row:
        if line.call is not None:
            st.page_link("usage.py", label="See calls in Usage", icon=":material/monitoring:")
        if line.order is not None:
            redirect.link("Open receipt", line.order.page_url, key=f"receipt_{line.seq}")
