"""The calls behind the figures of the Usage page, newest first, page by page. Their sum stands
above them, and it is the figure on the card when nothing is filtered."""

from __future__ import annotations

from uuid import UUID

import pandas as pd
import streamlit as st

from core.analytics import usage
from core.analytics.queries import CallRow, Cursor
from core.analytics.report import Report
from core.identity.access import Principal
from pages.widgets import cached, shown
from pages.widgets import session as tab
from pages.widgets.cached import CallsAsked, CallsPage
from pages.widgets.text import plain

_COLUMNS = (
    "time", "person", "model", "prompt", "answer", "cost", "outcome", "seconds", "source",
)  # fmt: skip
_OUTCOMES = {
    "ok": "Complete", "stopped": "Stopped", "cut": "Cut off", "error": "Failed",
    "timeout": "Timed out",
}  # fmt: skip
_SOURCES = {"chat": "Chat", "api": "API", "background": "Background"}


def draw(who: Principal, report: Report) -> None:
    """Filters, the table, its sum and the way to older calls."""
    with st.container(border=True):
        asked = _asked(report)
        trail = _trail(asked)
        page = cached.calls_page(who, _at(asked, trail))
        names = {person.user_id: person.name for person in report.people}
        _sums(page, asked, trail)
        _table(page, names)
        _turn(page, asked, trail)


def _asked(report: Report) -> CallsAsked:
    """What the filters above the table say."""
    head = st.container(horizontal=True, vertical_alignment="bottom")
    head.markdown("**Calls**", width="stretch")
    models = [share.model for share in usage.models(usage.within(report.daily, report.period))]
    model = head.selectbox(
        "Model", [None, *models], key="calls_model", width=230,
        format_func=lambda chosen: chosen or "All models",
    )  # fmt: skip
    person_id = None
    if report.whole_tenant and len(report.people) > 1:
        names = {person.user_id: person.name for person in report.people}
        person_id = head.selectbox(
            "Member", [None, *names], key="calls_person", width=200,
            format_func=lambda chosen: names[chosen] if chosen else "All members",
        )  # fmt: skip
    return CallsAsked(report.period, model=model, person_id=person_id)


def _trail(asked: CallsAsked) -> tuple[Cursor, ...]:
    """The ends of the pages before the one shown; none after the filters changed."""
    name, trail = tab.recall("calls_trail", ("", ()))
    return trail if name == repr(asked) else ()


def _at(asked: CallsAsked, trail: tuple[Cursor, ...]) -> CallsAsked:
    before = trail[-1] if trail else None
    return CallsAsked(asked.period, asked.model, asked.person_id, before, asked.limit)


def _table(page: CallsPage, names: dict[UUID, str]) -> None:
    """The rows; `names` are the people's where there are several to tell apart."""
    hidden = set() if names else {"person"}
    st.dataframe(
        _frame(page.rows, names), hide_index=True, key="calls", height="content",
        column_order=[column for column in _COLUMNS if column not in hidden],
        alt="Time, model, tokens, cost and outcome of each call, newest first",
        column_config={
            "time": st.column_config.DatetimeColumn(
                "Time", format="MMM D, HH:mm", timezone=shown.zone(), width=105
            ),
            "person": st.column_config.TextColumn("Member", width=120),
            "model": st.column_config.TextColumn("Model served"),
            "prompt": st.column_config.NumberColumn("Tokens in", format="localized", width=80),
            "answer": st.column_config.NumberColumn("Tokens out", format="localized", width=80),
            "cost": st.column_config.TextColumn(
                "Cost", alignment="right",
                help="Exact. ≈ marks an estimate until the provider's figure is known.",
            ),
            "outcome": st.column_config.TextColumn("Outcome", width=80),
            "seconds": st.column_config.NumberColumn("Seconds", format="%.1f", width=70),
            "source": st.column_config.TextColumn("From", width=60),
        },
    )  # fmt: skip


def _frame(rows: tuple[CallRow, ...], names: dict[UUID, str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "time": pd.to_datetime([row.occurred_at for row in rows], utc=True),
            "person": [names.get(row.user_id, row.person) for row in rows],
            "model": [row.model for row in rows],
            "prompt": [row.prompt_tokens for row in rows],
            "answer": [row.completion_tokens for row in rows],
            "cost": [("" if row.final else "≈ ") + shown.usd_exact(row.cost_nusd) for row in rows],
            "outcome": [_OUTCOMES.get(row.outcome, row.outcome) for row in rows],
            "seconds": [row.latency_ms / 1000 for row in rows],
            "source": [_SOURCES.get(row.source, row.source) for row in rows],
        }
    )


def _sums(page: CallsPage, asked: CallsAsked, trail: tuple[Cursor, ...]) -> None:
    """Which calls of how many are shown, and what all of them come to."""
    sums = page.sums
    first = len(trail) * asked.limit + 1
    noun = "call" if sums.calls == 1 else "calls"
    shown_now = f"{first:,}\N{EN DASH}{first + len(page.rows) - 1:,} of " if page.rows else ""
    st.caption(
        f"{shown_now}{sums.calls:,} {noun} · {sums.tokens:,} tokens ·"
        f" \\{shown.usd_exact(sums.cost_nusd)} in all. Times are {plain(shown.zone())}."
    )


def _turn(page: CallsPage, asked: CallsAsked, trail: tuple[Cursor, ...]) -> None:
    """The buttons to newer and older calls."""
    foot = st.container(horizontal=True, horizontal_alignment="right")
    newer = foot.button(
        "Newer", icon=":material/chevron_left:", key="calls_newer", disabled=not trail
    )
    older = foot.button(
        "Older", icon=":material/chevron_right:", key="calls_older", disabled=not page.more,
        icon_position="right",
    )  # fmt: skip
    if newer and trail:
        _go(asked, trail[:-1])
    elif older and page.more:
        _go(asked, (*trail, page.rows[-1].cursor))


def _go(asked: CallsAsked, trail: tuple[Cursor, ...]) -> None:
    tab.keep("calls_trail", (repr(asked), trail))
    st.rerun()
