"""How long answers took, by model and by provider: until their first token, and as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from core.analytics import latencies
from core.analytics.charts import colors, speeds
from core.analytics.charts.speeds import Speed
from core.analytics.latencies import Breakdown, Latency
from core.analytics.selection import Group, Selection
from pages.widgets import cached, usage_chart, usage_parts
from pages.widgets.text import plain
from pages.widgets.usage_address import Rest
from pages.widgets.usage_view import GROUPS, Sight, days, part

FIRST_TOKEN, DURATION = "first_token", "duration"
_ROWS_MAX = 12
_ANSWERED = ("ok", "stopped", "cut")  # failed calls take no part in the percentiles
_TITLES = {FIRST_TOKEN: "Time to the first token", DURATION: "Time of the whole answer"}


def charts() -> list[str]:
    """The names of these charts."""
    return [f"{kind}_{group}" for kind in _TITLES for group in (Group.MODEL, Group.PROVIDER)]


def draw(sight: Sight) -> None:
    """Both kinds of times beside each other."""
    left, right = st.columns(2, gap="small")
    with left:
        _times(sight, FIRST_TOKEN)
    with right:
        _times(sight, DURATION)


@part()
def _times(sight: Sight, kind: str) -> None:
    words = "circle: median · diamond: p95 · stroke: p99"
    with usage_chart.card(_TITLES[kind], words):
        for group in (Group.MODEL, Group.PROVIDER):
            with usage_chart.waiting():
                found = cached.read(latencies.by, sight.who, sight.selection, group)
            st.caption(f"By {GROUPS[group]}, {plain(days(found.period))}, {sight.zone}")
            _draw(sight, kind, group, found)


def _draw(sight: Sight, kind: str, group: Group, found: Breakdown) -> None:
    drawn = _speeds(sight, kind, group, found.rows)
    if not drawn:
        st.caption("No answer came in this period.")
        return

    def narrow(said: Sequence[str]) -> tuple[Selection, Rest | None]:
        answered = sight.selection.filters.get(Group.OUTCOME) or _ANSWERED
        kept = [outcome for outcome in answered if outcome in _ANSWERED]
        narrowed, _ = usage_chart.of_value(sight, group, said[0], 0)
        narrowed = narrowed.only(Group.OUTCOME, *kept)
        is_whole = found.period == sight.selection.period
        return narrowed if is_whole else narrowed.within(found.period), None

    usage_chart.draw(
        sight, f"{kind}_{group}", speeds.spread(drawn, dark=sight.dark), narrow,
        f"{_TITLES[kind]} by {GROUPS[group]}: median, p95 and p99",
    )  # fmt: skip


def _speeds(sight: Sight, kind: str, group: Group, rows: Sequence[Latency]) -> tuple[Speed, ...]:
    """The models or providers with most calls that have such times."""
    keys = [usage_parts.key_of(row.value) for row in rows]
    shades = colors.apart(keys, dark=sight.dark)
    if group is Group.MODEL:
        shades = {key: colors.color_of(key, dark=sight.dark) for key in keys}
    found = []
    for key, row in zip(keys, rows, strict=True):
        times = row.first_token if kind == FIRST_TOKEN else row.duration
        if times is not None:
            found.append(
                Speed(key, key, shades[key], row.calls, times.p50_ms, times.p95_ms, times.p99_ms)
            )
    return tuple(found[:_ROWS_MAX])
