"""One figure on a card: its course, and its change against the days before. Reads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import streamlit as st

from core.analytics.latencies import Percentiles
from pages.widgets import shown
from pages.widgets.usage_view import Sight

_POINTS_MAX = 100  # of a line: a card is not wider


def change(now: int | Fraction | None, before: int | Fraction | None) -> float | None:
    """The change as a fraction of what was before; None where nothing can be compared."""
    if now is None or before is None or before <= 0:
        return None
    return float(Fraction(now - before) / Fraction(before))


def card(
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


def share(
    sight: Sight,
    label: str,
    now: Fraction | None,
    before: Fraction | None,
    line: Sequence[float],
    *,
    about: str,
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
        help=about,
    )  # fmt: skip


def time(label: str, now: Percentiles | None, before: Percentiles | None, of: str) -> None:
    delta = change(now.p50_ms, before.p50_ms) if now and before else None
    st.metric(
        label, shown.NONE if now is None else f"{now.p50_ms / 1000:,.2f} s", shown.percent(delta),
        border=True, delta_color="inverse" if delta else "off", height="stretch",
        delta_description=None if now is None else f"p95 {now.p95_ms / 1000:,.2f} s",
        help=f"Of the calls that were answered, {of}. The change is the median's.",
    )  # fmt: skip


def dense(values: Sequence[float]) -> list[float]:
    """A course of at most some hundred points: the means of as many stretches."""
    size = -(-len(values) // _POINTS_MAX) or 1
    return [sum(values[at : at + size]) / size for at in range(0, len(values), size)]
