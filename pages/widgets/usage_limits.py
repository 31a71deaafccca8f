"""The month's budget with its forecast, and the limits used. Says of each what is used, of how
much, and when it starts anew."""

from __future__ import annotations

import streamlit as st

from core.analytics.budgets import LimitUse, MonthUse
from core.analytics.report import Report
from core.identity.access import Principal
from core.identity.limits import LimitName
from pages.widgets import shown
from pages.widgets.text import plain

_TITLES = {
    LimitName.MONTHLY_MESSAGES: "messages",
    LimitName.MONTHLY_TOKENS: "tokens",
    LimitName.MONTHLY_NUSD: "spend",
}


def draw(who: Principal, report: Report) -> None:
    """Both cards."""
    _budget(report)
    _limits(who, report.month)


def _budget(report: Report) -> None:
    outlook, limit = report.outlook(), report.budget
    whose = {"user": "Your", "tenant": "Team"}[limit.scope]
    with st.container(border=True):
        line = st.container(horizontal=True, vertical_alignment="center")
        line.markdown(f"**{whose} budget for {report.today:%B}**", width="stretch")
        if limit.maximum is None:
            line.badge("No budget of its own" if whose == "Team" else "No budget of your own",
                       color="gray")  # fmt: skip
            spent, forecast = shown.usd(outlook.spent_nusd), shown.usd(outlook.forecast_nusd)
            st.markdown(f"{spent} spent · forecast {forecast}")
            return
        over = not outlook.on_track
        line.badge(
            "Over budget by month end" if over else "On track",
            icon=":material/warning:" if over else ":material/check:",
            color="orange" if over else "green",
        )
        held = f" · {shown.usd(limit.held)} held by running calls" if limit.held else ""
        st.progress(
            _part(limit),
            text=f"{shown.usd(limit.used)} of {shown.usd(limit.maximum)} spent · forecast"
            f" {shown.usd(outlook.forecast_nusd)}{held}",
        )


def _limits(who: Principal, month: MonthUse) -> None:
    limited = [use for use in month.uses if use.maximum is not None]
    with st.container(border=True):
        st.markdown("**Limits this month**")
        with st.grid(3, min_column_width=230, gap="medium"):
            for use in limited:
                st.progress(_part(use), text=_sentence(use))
        if not limited:
            st.markdown("No monthly limits are set.")
        rates = [
            f"{count:,} requests {unit}"
            for count, unit in ((month.per_minute, "a minute"), (month.per_hour, "an hour"))
            if count is not None
        ]
        resets = f"Starts anew on {shown.moment(month.resets_at, who.time_zone)}"
        rate = f" You may send {' and '.join(rates)}." if rates else ""
        st.caption(f"{resets} ({plain(who.time_zone)}).{rate}")


def _sentence(use: LimitUse) -> str:
    whose = {"user": "Your", "tenant": "Team"}[use.scope]
    number = shown.usd if use.name is LimitName.MONTHLY_NUSD else "{:,}".format
    return f"{whose} {_TITLES[use.name]}: {number(use.counted)} of {number(use.maximum or 0)}"


def _part(use: LimitUse) -> float:
    """How much of a limit is used, from 0 to 1; a limit of nothing is all used."""
    return min(1.0, max(0.0, use.counted / use.maximum)) if use.maximum else 1.0
