"""The running month: what it has cost against its budget, where it is heading and by which method, and
how it stands beside the month before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import streamlit as st

from core.analytics import budgets, outlook
from core.analytics.charts import months
from core.analytics.outlook import FIRST_DAY, METHOD, Outlook
from core.analytics.selection import Selection
from core.identity.limits import percent_used
from core.periods import Period, month_of
from pages.widgets import cached, shown, usage_chart
from pages.widgets.usage_address import Rest
from pages.widgets.usage_view import Sight, part

BURN, AGAINST = "burn", "against"


def draw(sight: Sight) -> None:
    """Both charts. They are of the running month whatever the period, with the view's filters."""
    left, right = st.columns(2, gap="small")
    with left:
        _burn(sight)
    with right:
        _against(sight)


@part()
def _burn(sight: Sight) -> None:
    words = f"The running month, {sight.zone}"
    with usage_chart.card(f"Budget of {sight.today:%B}", words):
        with usage_chart.waiting():
            found = _read(sight)
        _state(found)
        figure = months.burn(found, dark=sight.dark)
        usage_chart.draw(sight, BURN, figure, _up_to(sight), "Cost of the month up to each day")
        if found.forecast_nusd is not None:
            st.caption(f"Forecast: {METHOD}")
        else:
            st.caption(f"A forecast is made from day {FIRST_DAY} of the month on.")


@part()
def _against(sight: Sight) -> None:
    title = f"{sight.today:%B} beside {month_of(sight.today).before.first:%B}"
    with usage_chart.card(title, f"Cost up to each day of the month, {sight.zone}"):
        with usage_chart.waiting():
            found = _read(sight)
        figure = months.against(found, dark=sight.dark)
        usage_chart.draw(sight, AGAINST, figure, _up_to(sight), f"Cost up to each day: {title}")
        st.caption(_beside(found))


def _beside(found: Outlook) -> str:
    """How the month stands on its present day beside the same day of the month before."""
    day, spent = found.by_day[-1]
    then, earlier = found.last_month[min(day.day, len(found.last_month)) - 1]
    difference = spent - earlier
    said = f"{shown.usd(abs(difference))} {'more' if difference > 0 else 'less'} than"
    if difference == 0:
        said = "as much as"
    whole = shown.usd(found.last_month[-1][1])
    return (
        f"{shown.usd(spent)} up to {day:%b} {day.day}: {said} up to {then:%b} {then.day}."
        f" All of {then:%B} came to {whole}."
    )


def _read(sight: Sight) -> Outlook:
    return cached.read(outlook.read, sight.who, sight.selection, _budget(sight))


def _budget(sight: Sight) -> int | None:
    """The month's budget of what is seen; none where only a part of it is looked at."""
    if sight.who is not sight.principal or sight.selection.filters:
        return None
    month = cached.read(budgets.this_month, sight.principal)
    return budgets.budget_of(month, whole_tenant=sight.sees_many).maximum


def _state(found: Outlook) -> None:
    """The month in a line: spent, of how much, and where it will end."""
    budget = "" if found.budget_nusd is None else f" of {shown.usd(found.budget_nusd)}"
    parts = [f"{shown.usd(found.spent_nusd)}{budget} spent"]
    if found.forecast_nusd is not None:
        band = ""
        if found.low_nusd is not None and found.high_nusd is not None:
            band = f" ({shown.usd(found.low_nusd)}\N{EN DASH}{shown.usd(found.high_nusd)})"
        parts.append(f"forecast {shown.usd(found.forecast_nusd)}{band}")
    line = st.container(horizontal=True, vertical_alignment="center")
    line.markdown(" · ".join(parts), width="stretch")
    if found.budget_nusd is None:
        line.badge("No budget set", color="gray")
    elif found.is_over:
        used = percent_used(found.spent_nusd, found.budget_nusd)
        line.badge(f"Over budget: {used:,} % spent", icon=":material/error:", color="red")
    elif found.on_track is not None:
        over = not found.on_track
        line.badge(
            "Over budget by month end" if over else "On track",
            icon=":material/warning:" if over else ":material/check:",
            color="orange" if over else "green",
        )


def _up_to(sight: Sight) -> usage_chart.Narrow:
    def narrow(said: Sequence[str]) -> tuple[Selection, Rest | None]:
        day = date.fromisoformat(said[0])
        return sight.selection.within(Period(day.replace(day=1), day)), None

    return narrow
