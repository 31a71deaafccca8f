"""The figures on top of the Usage page, each with its days and its change against the days before. The
groups of cards are read at the same time, each on cards that are there before."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import date
from fractions import Fraction

import streamlit as st

from core.analytics import conversations, figures, latencies
from core.analytics.figures import Totals
from core.analytics.latencies import Percentiles
from core.analytics.selection import Grain
from core.money import NANO_PER_USD, show
from pages.widgets import cached, shown
from pages.widgets.text import plain
from pages.widgets.usage_view import Sight, days

_HEIGHT_PX = 150
_COLUMNS, _LEAST_PX = 4, 160


def draw(sight: Sight) -> None:
    """All cards, and what of them is not final yet."""
    _sums(sight)
    _rates(sight)
    _times(sight)
    _estimates(sight)


@st.fragment(parallel=True)
def _sums(sight: Sight) -> None:
    with st.skeleton(height=_HEIGHT_PX):
        now, before = _both(sight)
        by_day = _by_day(sight)
    with st.grid(_COLUMNS, min_column_width=_LEAST_PX, gap="small"):
        _card(sight, "Cost", show(now.billed_nusd), change(now.billed_nusd, before.billed_nusd),
              _line(sight, by_day, lambda day: day.billed_nusd / NANO_PER_USD), costs=True,
              about=_list_cost(now))  # fmt: skip
        for label, count in _COUNTS.items():
            _card(sight, label, count(now), change(count(now), count(before)),
                  _line(sight, by_day, count), about=_ABOUT.get(label))  # fmt: skip


@st.fragment(parallel=True)
def _rates(sight: Sight) -> None:
    with st.skeleton(height=_HEIGHT_PX):
        now, before = _both(sight)
        by_day = _by_day(sight)
        active = cached.read(figures.active, sight.who, sight.selection)
    price, earlier = now.nusd_per_1k_tokens, before.nusd_per_1k_tokens
    people = {
        day: int(count)
        for day, count in zip(active.by_day["bucket"], active.by_day["people"], strict=True)
    }
    with st.grid(_COLUMNS, min_column_width=_LEAST_PX, gap="small"):
        _card(sight, "Cost per 1k tokens", shown.NONE if price is None else shown.rate(price),
              change(price, earlier), _line(sight, by_day, _price), costs=True)  # fmt: skip
        st.metric(
            "Active users", f"{active.day_people:,} · {active.month_people:,}", border=True,
            chart_data=_dense([people.get(day, 0) for day in sight.selection.period.each_day()]),
            chart_type="area", delta="day · 30 days", delta_color="off", delta_arrow="off",
            help=f"People who made requests on {plain(days_of(active.day))}, and in the"
            f" {figures.ACTIVE_DAYS} days up to then.",
        )  # fmt: skip
        _share(sight, "Cache hit rate", now.cache_hit_rate, before.cache_hit_rate,
               _line(sight, by_day, lambda day: float(day.cache_hit_rate or 0)))  # fmt: skip
        _share(sight, "Error rate", now.error_rate, before.error_rate,
               _line(sight, by_day, lambda day: float(day.error_rate or 0)), costs=True)  # fmt: skip


@st.fragment(parallel=True)
def _times(sight: Sight) -> None:
    with st.skeleton(height=_HEIGHT_PX):
        found = cached.read(latencies.overall, sight.who, sight.selection)
        earlier = cached.read(latencies.overall, sight.who, sight.before)
        length = cached.read(conversations.average_length, sight.who, sight.selection)
        length_before = cached.read(conversations.average_length, sight.who, sight.before)
    of = plain(days(found.period))
    with st.grid(3, min_column_width=_LEAST_PX, gap="small"):
        _time("First token, median", found.latency.first_token, earlier.latency.first_token, of)
        _time("Answer, median", found.latency.duration, earlier.latency.duration, of)
        _card(sight, "Calls per conversation",
              shown.NONE if length is None else f"{float(length):.1f}",
              change(length, length_before), [], about=_ABOUT["Length"])  # fmt: skip


@st.fragment(parallel=True)
def _estimates(sight: Sight) -> None:
    found = cached.read(figures.estimates, sight.who, sight.selection)
    if found.calls:
        noun = "call is an estimate" if found.calls == 1 else "calls are estimates"
        st.caption(
            f"\N{ALMOST EQUAL TO} Of this, {found.calls:,} {noun} until the provider says the"
            f" true cost: {shown.usd(found.billed_nusd)} so far."
        )


def change(now: int | Fraction | None, before: int | Fraction | None) -> float | None:
    """The change as a fraction of what was before; None where nothing can be compared."""
    if now is None or before is None or before <= 0:
        return None
    return float(Fraction(now - before) / Fraction(before))


def days_of(day: date) -> str:
    """A day as people say it."""
    return f"{day:%b} {day.day}"


def _both(sight: Sight) -> tuple[Totals, Totals]:
    return (
        cached.read(figures.totals, sight.who, sight.selection),
        cached.read(figures.totals, sight.who, sight.before),
    )


def _by_day(sight: Sight) -> dict[date, Totals]:
    frame = cached.read(figures.series, sight.who, sight.selection, Grain.DAY)
    return dict(zip(frame["bucket"], map(_totals, frame.to_dict("records")), strict=True))


def _totals(row: Mapping[Hashable, int]) -> Totals:
    return Totals(**{name: int(row[name]) for name in Totals.__slots__ if name in row})


def _line(
    sight: Sight, by_day: dict[date, Totals], figure: Callable[[Totals], float]
) -> list[float]:
    nothing = Totals()
    every = sight.selection.period.each_day()
    return _dense([figure(by_day.get(day, nothing)) for day in every if day <= sight.today])


def _dense(values: Sequence[float]) -> list[float]:
    """At most some hundred points: a card is not wider."""
    size = -(-len(values) // 100) or 1
    return [sum(values[at : at + size]) / size for at in range(0, len(values), size)]


def _price(day: Totals) -> float:
    return (day.nusd_per_1k_tokens or 0) / NANO_PER_USD


def _card(
    sight: Sight,
    label: str,
    value: int | str,
    delta: float | None,
    line: Sequence[float],
    *,
    costs: bool = False,
    about: str | None = None,
) -> None:
    """One figure; a rise is bad news where it costs money, and neither good nor bad elsewhere."""
    percent = shown.percent(delta)
    st.metric(
        label, value, percent, format="compact" if isinstance(value, int) else None, border=True,
        chart_data=list(line) if len(line) > 1 else None, chart_type="area",
        delta_color="inverse" if costs and percent else "off", help=about,
        height="stretch",
        delta_description=sight.beside if percent else None,
    )  # fmt: skip


def _share(
    sight: Sight,
    label: str,
    now: Fraction | None,
    before: Fraction | None,
    line: Sequence[float],
    *,
    costs: bool = False,
) -> None:
    """A part of a whole; its change is in points of a hundred."""
    points = None if now is None or before is None else float(now - before) * 100
    st.metric(
        label, shown.NONE if now is None else f"{float(now):.1%}", border=True,
        delta=None if points is None else f"{points:+.1f} pts", chart_type="area",
        chart_data=list(line) if len(line) > 1 else None,
        delta_color="inverse" if costs else "off",
        delta_description=None if points is None else sight.beside, height="stretch",
        help=_ABOUT[label],
    )  # fmt: skip


def _time(label: str, now: Percentiles | None, before: Percentiles | None, of: str) -> None:
    delta = change(now.p50_ms, before.p50_ms) if now and before else None
    st.metric(
        label, shown.NONE if now is None else f"{now.p50_ms / 1000:,.2f} s", shown.percent(delta),
        border=True, delta_color="inverse" if delta else "off", height="stretch",
        delta_description=None if now is None else f"p95 {now.p95_ms / 1000:,.2f} s",
        help=f"Of the calls that were answered, {of}. The change is the median's.",
    )  # fmt: skip


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
_ABOUT = {
    "Messages": "Requests from chats, rather than through the API or in the background.",
    "Tokens": "Of prompts and answers together.",
    "Cache hit rate": "The part of the prompts' tokens that came from the provider's cache.",
    "Error rate": "The part of the requests that failed or timed out.",
    "Length": "Calls of the period that belong to a conversation, by the number of conversations.",
}
