"""The figures of a run as one Markdown table, each judged against its bar.

A figure that was not measured says so; it is never left out and never counts as passed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

HEADER = "| metric | measured | pass | goal | verdict | minimal gateway | direct |"
RULE = "|---|---|---|---|---|---|---|"


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure must reach; at most these values, or at least, where more is better."""

    passes: float
    goal: float
    at_least: bool = False

    def verdict(self, value: float) -> str:
        """`goal`, `pass`, `MISS`, or `not measured` for NaN."""
        if math.isnan(value):
            return "not measured"
        for name, limit in (("goal", self.goal), ("pass", self.passes)):
            if value >= limit if self.at_least else value <= limit:
                return name
        return "MISS"


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: the product's value, and what the baselines did, all in `unit`; NaN: no value."""

    metric: str
    unit: str
    bar: Bar | None
    product: float = math.nan
    minimal: float = math.nan
    direct: float = math.nan

    @property
    def verdict(self) -> str:
        """The bar's verdict; a row without a bar is for information."""
        return self.bar.verdict(self.product) if self.bar else ""


def markdown(figures: Sequence[Figure]) -> str:
    """The table."""
    return "\n".join([HEADER, RULE, *(row(figure) for figure in figures)])


def row(figure: Figure) -> str:
    """The figure's line of the table."""
    unit = f", {figure.unit}" if figure.unit else ""
    sign = "≥" if figure.bar and figure.bar.at_least else "≤"
    bars = (
        [f"{sign} {number(b)}" for b in (figure.bar.passes, figure.bar.goal)] if figure.bar else []
    )
    cells = [
        figure.metric + unit,
        number(figure.product),
        *(bars or ["", ""]),
        figure.verdict,
        number(figure.minimal),
        number(figure.direct),
    ]
    return "| " + " | ".join(cells) + " |"


def number(value: float) -> str:
    """A value for reading: whole above 100, else three significant digits; a dash for NaN."""
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
