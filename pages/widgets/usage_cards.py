"""The figures on top of the Usage page, each with its days and its change against the days before. The
groups of cards are read at the same time, each on cards that are there before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from fractions import Fraction
from typing import TypeAlias

import streamlit as st

from core.analytics import conversations, figures, latencies
from core.analytics.figures import Active, Totals
from core.analytics.selection import Grain
from core.money import NANO_PER_USD, show
from core.periods import Period
from pages.widgets import cached, shown
from pages.widgets import usage_metrics as metrics
from pages.widgets.text import plain
from pages.widgets.usage_view import Sight, days, part

_HEIGHT_PX = 150
_COLUMNS, _LEAST_PX = 4, 160
Rate: TypeAlias = Callable[[Totals], Fraction | None]


def draw(sight: Sight) -> None:
    """All cards, and what of them is not final yet."""
    _sums(sight)
    _rates(sight)
    _times(sight)
    _estimates(sight)


@part()
def _sums(sight: Sight) -> None:
    with st.skeleton(height=_HEIGHT_PX):
        now, before = _both(sight)
        by_day = _by_day(sight)
    with st.grid(_COLUMNS, min_column_width=_LEAST_PX, gap="small"):
        metrics.card(
            sight, "Cost", show(now.billed_nusd),
            metrics.change(now.billed_nusd, before.billed_nusd),
            _line(sight, by_day, lambda day: day.billed_nusd / NANO_PER_USD),
            costs=True, about=_list_cost(now),
        )  # fmt: skip
        for label, count in _COUNTS.items():
            metrics.card(
                sight, label, count(now), metrics.change(count(now), count(before)),
                _line(sight, by_day, count), about=_ABOUT.get(label),
            )  # fmt: skip


@part()
def _rates(sight: Sight) -> None:
    with st.skeleton(height=_HEIGHT_PX):
        now, before = _both(sight)
        by_day = _by_day(sight)
        active = cached.read(figures.active, sight.who, sight.selection)
    price, earlier = now.nusd_per_1k_tokens, before.nusd_per_1k_tokens
    with st.grid(_COLUMNS, min_column_width=_LEAST_PX, gap="small"):
        metrics.card(
            sight, "Cost per 1k tokens", shown.NONE if price is None else shown.rate(price),
            metrics.change(price, earlier), _line(sight, by_day, _price), costs=True,
        )  # fmt: skip
        _active(sight, active)
        for label, rate in _RATES.items():
            metrics.share(
                sight, label, rate(now), rate(before),
                _line(sight, by_day, _numbered(rate)),
                about=_ABOUT[label], costs=label == "Error rate",
            )  # fmt: skip


def _active(sight: Sight, active: Active) -> None:
    people = dict(active.by_day)
    day = plain(days(Period(active.day, active.day)))
    st.metric(
        "Active users", f"{active.day_people:,} · {active.month_people:,}", border=True,
        chart_data=metrics.dense([people.get(day, 0) for day in _past_days(sight)]),
        chart_type="area", delta="day · 30 days", delta_color="off", delta_arrow="off",
        help=f"People who made requests on {day}, and in the {figures.ACTIVE_DAYS} days up to then.",
    )  # fmt: skip


@part()
def _times(sight: Sight) -> None:
    with st.skeleton(height=_HEIGHT_PX):
        found = cached.read(latencies.overall, sight.who, sight.selection)
        earlier = cached.read(latencies.overall, sight.who, sight.before)
        length = cached.read(conversations.average_length, sight.who, sight.selection)
        length_before = cached.read(conversations.average_length, sight.who, sight.before)
    of, now, before = plain(days(found.period)), found.latency, earlier.latency
    with st.grid(3, min_column_width=_LEAST_PX, gap="small"):
        metrics.time("First token, median", now.first_token, before.first_token, of)
        metrics.time("Answer, median", now.duration, before.duration, of)
        metrics.card(
            sight, "Calls per conversation",
            shown.NONE if length is None else f"{float(length):.1f}",
            metrics.change(length, length_before), [], about=_ABOUT["Length"],
        )  # fmt: skip


@part()
def _estimates(sight: Sight) -> None:
    found = cached.read(figures.estimates, sight.who, sight.selection)
    if found.calls:
        noun = "call is an estimate" if found.calls == 1 else "calls are estimates"
        st.caption(
            f"\N{ALMOST EQUAL TO} Of this, {found.calls:,} {noun} until the provider says the"
            f" true cost: {shown.usd(found.billed_nusd)} so far."
        )


def _both(sight: Sight) -> tuple[Totals, Totals]:
    return (
        cached.read(figures.totals, sight.who, sight.selection),
        cached.read(figures.totals, sight.who, sight.before),
    )


def _by_day(sight: Sight) -> dict[date, Totals]:
    found = cached.read(figures.series, sight.who, sight.selection, Grain.DAY)
    return {step.bucket: step.totals for step in found}


def _line(
    sight: Sight, by_day: dict[date, Totals], figure: Callable[[Totals], float]
) -> list[float]:
    nothing = Totals()
    return metrics.dense([figure(by_day.get(day, nothing)) for day in _past_days(sight)])


def _past_days(sight: Sight) -> list[date]:
    return [day for day in sight.selection.period.each_day() if day <= sight.today]


def _numbered(rate: Rate) -> Callable[[Totals], float]:
    return lambda day: float(rate(day) or 0)


def _price(day: Totals) -> float:
    return (day.nusd_per_1k_tokens or 0) / NANO_PER_USD


def _list_cost(now: Totals) -> str | None:
    """What the providers took of it, for those who may know."""
    if now.list_nusd is None:
        return None
    return f"At the providers' prices: {shown.usd(now.list_nusd)}."


_COUNTS: dict[str, Callable[[Totals], int]] = {
    "Requests": lambda totals: totals.requests,
    "Messages": lambda totals: totals.messages,
    "Tokens": lambda totals: totals.tokens,
}
_RATES: dict[str, Rate] = {
    "Cache hit rate": lambda totals: totals.cache_hit_rate,
    "Error rate": lambda totals: totals.error_rate,
}
_ABOUT = {
    "Messages": "Requests from chats, rather than through the API or in the background.",
    "Tokens": "Of prompts and answers together.",
    "Cache hit rate": "The part of the prompts' tokens that came from the provider's cache.",
    "Error rate": "The part of the requests that failed or timed out.",
    "Length": "Calls of the period that belong to a conversation, by the number of conversations.",
}
