"""The month's limits: of each what is used, of how much, and when it starts anew."""

from __future__ import annotations

import streamlit as st

from core.analytics import budgets
from core.analytics.budgets import LimitUse
from core.identity.access import SignedIn
from core.identity.limits import LimitName
from pages.widgets import cached, fragments, over_bar, shown
from pages.widgets.text import plain

_TITLES = {
    LimitName.MONTHLY_MESSAGES: "messages",
    LimitName.MONTHLY_TOKENS: "tokens",
    LimitName.MONTHLY_NUSD: "spend",
}
_SMALLEST_PX = 230


@fragments.fragment(parallel=True)
def draw(found: SignedIn) -> None:
    """The card of the limits that apply to a person and to their team."""
    who = found.in_tenant
    with st.container(border=True):
        st.markdown("**Quota used this month**")
        with st.skeleton(height=60):
            month = cached.read(budgets.this_month, who)
        limited = [use for use in month.uses if use.maximum is not None]
        with st.grid(3, min_column_width=_SMALLEST_PX, gap="medium"):
            for use in limited:
                _bar(use)
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


def _bar(use: LimitUse) -> None:
    """How much of a limit is used; one that was passed is red, and says by how much."""
    if use.is_passed:
        over_bar.draw(_sentence(use), key=f"over_{use.scope}_{use.name}")
    else:
        st.progress(min(100, use.percent or 0), text=_sentence(use))


def _sentence(use: LimitUse) -> str:
    whose = {"user": "Your", "tenant": "Team"}[use.scope]
    number = shown.usd if use.name is LimitName.MONTHLY_NUSD else "{:,}".format
    held = f", {number(use.held)} of it reserved" if use.held else ""
    if use.is_passed:
        return (
            f"{whose} {_TITLES[use.name]}: {number(use.counted)}, {use.percent:,} % of"
            f" {number(use.maximum or 0)}{held}"
        )
    return (
        f"{whose} {_TITLES[use.name]}: {number(use.counted)} of {number(use.maximum or 0)}"
        f" ({use.percent}%){held}"
    )
