"""The charts of the Usage page. Each reads what it shows by itself, at the same time as the others, on
a card that is there before; every point of it opens the rows behind it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from core.analytics import figures
from core.analytics.charts import hours, paper, ranks, series
from core.analytics.charts.parts import TOKENS, USD
from core.analytics.figures import GroupRow
from core.analytics.selection import Group, Selection, Slot
from pages.widgets import cached, usage_chart, usage_parts
from pages.widgets.text import plain
from pages.widgets.usage_address import Rest
from pages.widgets.usage_view import GROUPS, Sight, days, part

OVER_TIME, BY_GROUP, TOKENS_BY_KIND, HOURS = "cost", "by_group", "tokens", "hours"
_OVER_TIME_MAX, _RANKED_MAX, _RANKED_PX = 8, 20, 160
_ALSO = (Group.MODEL, Group.USER, Group.COST_CENTER, Group.TENANT)
Narrowed = tuple[Selection, Rest | None]


def cost(sight: Sight) -> None:
    """Cost by the chosen group: over time, and in all."""
    left, right = st.columns([3, 2], gap="small")
    with left:
        _over_time(sight)
    with right:
        _ranked(sight, sight.view.group, BY_GROUP, least_px=paper.HEIGHT_PX)


def tokens(sight: Sight) -> None:
    """What tokens were used, and when people ask."""
    left, right = st.columns(2, gap="small")
    with left:
        _tokens(sight)
    with right:
        _hours(sight)


def others(sight: Sight) -> None:
    """Cost by what else tells usage apart, each with its twenty dearest."""
    groups = [group for group in _ALSO if group in sight.groups and group is not sight.view.group]
    with st.grid(2, min_column_width=330, gap="small"):
        for group in groups:
            _ranked(sight, group, name_of(group), least_px=_RANKED_PX)


def name_of(group: Group) -> str:
    """The name of the chart of one of the other groups."""
    return f"by_{group}"


@part()
def _over_time(sight: Sight) -> None:
    group, grain = sight.view.group, sight.view.grain
    title = f"Cost by {GROUPS[group]} per {grain}"

    def narrow(said: Sequence[str]) -> Narrowed:
        selection, rest = usage_chart.of_value(sight, group, said[0], _OVER_TIME_MAX)
        return usage_parts.step_at(selection, grain, said[1]), rest

    with usage_chart.card(title, _words(sight)):
        with usage_chart.waiting():
            rows = _top(sight, group, _OVER_TIME_MAX)
            read = cached.read(figures.series, sight.who, sight.selection, grain, group)
        steps = usage_parts.steps_of(sight.selection.period, grain)
        parts = usage_parts.over_time(group, rows, _shades(sight, group), read, steps)
        figure = series.stacked(steps, parts, USD, dark=sight.dark)
        usage_chart.draw(sight, OVER_TIME, figure, narrow, f"{title}, stacked")


@part()
def _ranked(sight: Sight, group: Group, on: str, *, least_px: int) -> None:
    title = f"Cost by {GROUPS[group]}"

    def narrow(said: Sequence[str]) -> Narrowed:
        return usage_chart.of_value(sight, group, said[0], _RANKED_MAX)

    with usage_chart.card(title, _words(sight)):
        with usage_chart.waiting():
            rows = _top(sight, group, _RANKED_MAX)
        parts = usage_parts.of_rows(group, rows, _shades(sight, group))
        figure = ranks.ranked(parts, least_px=least_px)
        usage_chart.draw(sight, on, figure, narrow, f"{title}, the dearest first")


@part()
def _tokens(sight: Sight) -> None:
    grain = sight.view.grain
    title = f"Tokens by kind per {grain}"

    def narrow(said: Sequence[str]) -> Narrowed:
        return usage_parts.step_at(sight.selection, grain, said[1]), None

    with usage_chart.card(title, _words(sight)):
        with usage_chart.waiting():
            read = cached.read(figures.series, sight.who, sight.selection, grain)
        steps = usage_parts.steps_of(sight.selection.period, grain)
        parts = usage_parts.token_kinds(read, steps, dark=sight.dark)
        figure = series.stacked(steps, parts, TOKENS, dark=sight.dark, legend=True)
        usage_chart.draw(sight, TOKENS_BY_KIND, figure, narrow, f"{title}, stacked")


@part()
def _hours(sight: Sight) -> None:

    def narrow(said: Sequence[str]) -> Narrowed:
        weekday, hour = said[0].split("-")
        return sight.selection.in_slot(Slot(int(weekday), int(hour))), None

    with usage_chart.card("Calls by weekday and hour", _words(sight)):
        with usage_chart.waiting():
            read = cached.read(figures.hours, sight.who, sight.selection)
        cells = {(of.weekday, of.hour): (of.requests, of.billed_nusd) for of in read}
        figure = hours.heat(cells, dark=sight.dark)
        usage_chart.draw(sight, HOURS, figure, narrow, "Heat map of calls by weekday and hour")


def _top(sight: Sight, group: Group, count: int) -> tuple[GroupRow, ...]:
    return figures.top(cached.read(figures.groups, sight.who, sight.selection, group), count)


def _shades(sight: Sight, group: Group) -> dict[str, str]:
    rows = cached.read(figures.groups, sight.who, sight.selection, group)
    return usage_parts.shades(group, rows, _OVER_TIME_MAX, dark=sight.dark)


def _words(sight: Sight) -> str:
    """Which days are shown, and whose they are."""
    return f"{plain(days(sight.selection.period))} · {sight.zone}"
