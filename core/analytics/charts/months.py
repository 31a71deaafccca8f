"""A month as it adds up: against its budget with where it is heading, and against the month before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import plotly.graph_objects as go

from core.analytics.charts import colors, paper
from core.analytics.charts.parts import USD, dollars, exact_usd
from core.analytics.outlook import Cumulative, Outlook
from core.money import show
from core.periods import month_of

_HEIGHT_PX = 260


def burn(outlook: Outlook, *, dark: bool) -> go.Figure:
    """The sums up to each day so far, the way to the month's end with its band, and the budget."""
    month = month_of(outlook.by_day[0][0])
    color = colors.accent(dark=dark)
    figure = go.Figure(_ahead(outlook, month.last, color))
    spent = _way(outlook.by_day, [day for day, _ in outlook.by_day], color)
    figure.add_trace(spent.update(fill="tozeroy", fillcolor=colors.faded(color, 0.12)))
    if outlook.budget_nusd is not None:
        limit = colors.warning(dark=dark)
        figure.add_hline(
            y=dollars(outlook.budget_nusd), line={"color": limit, "width": 1.4, "dash": "dot"},
            annotation={"text": f"Budget {show(outlook.budget_nusd)}", "xanchor": "left", "x": 0,
                        "font": {"color": limit}},
        )  # fmt: skip
    days = [month.first.isoformat(), month.last.isoformat()]
    return _laid(figure, {"type": "date", "tickformat": "%b %-d", "nticks": 6, "range": days})


def against(outlook: Outlook, *, dark: bool) -> go.Figure:
    """The sums of this month so far and of the one before it, day by day of the month."""
    figure = go.Figure()
    for sums, color, dash in (
        (outlook.last_month, colors.neutral(dark=dark), "dot"),
        (outlook.by_day, colors.accent(dark=dark), "solid"),
    ):
        line = _way(sums, [day.day for day, _ in sums], color)
        figure.add_trace(line.update(line={"dash": dash}, name=f"{sums[0][0]:%B}"))
    axis = {"tickvals": [1, 8, 15, 22, 29], "range": [0.7, 31.3], "zeroline": False}
    figure = _laid(figure, axis)
    paper.add_legend(figure)
    return figure


def _ahead(outlook: Outlook, last: date, color: str) -> list[go.Scatter]:
    """Lines from today's sum to the month's end: the band's two edges, then what is likely."""
    today, spent = outlook.by_day[-1]
    if outlook.forecast_nusd is None:
        return []
    lines = [("likely", outlook.forecast_nusd, 1.6, "")]
    if outlook.low_nusd is not None and outlook.high_nusd is not None:
        edges = [("low", outlook.low_nusd, 0.0, ""), ("high", outlook.high_nusd, 0.0, "tonexty")]
        lines = [*edges, *lines]
    return [
        go.Scatter(
            x=[today, last], y=[dollars(spent), dollars(end)], mode="lines", name=name, fill=fill or None,
            line={"color": color, "width": width, "dash": "dash"},
            fillcolor=colors.faded(color, 0.18),
            text=["", f"{last:%b} {last.day}, {name}<br><b>{exact_usd(end)}</b>"],
            hovertemplate="%{text}<extra></extra>",
        )
        for name, end, width, fill in lines
    ]  # fmt: skip


def _way(sums: Cumulative, at: Sequence[date] | Sequence[int], color: str) -> go.Scatter:
    """A line through the sums; a click on one of its points says the day up to which it goes."""
    return go.Scatter(
        x=list(at), y=[dollars(amount) for _, amount in sums], name="spent",
        line={"color": color, "width": 2},
        customdata=[[f"Up to {day:%b} {day.day}<br><b>{exact_usd(amount)}</b>", day.isoformat()]
                    for day, amount in sums],
        hovertemplate="%{customdata[0]}<extra></extra>", **paper.marks(color),
    )  # fmt: skip


def _laid(figure: go.Figure, axis: dict[str, Any]) -> go.Figure:
    return paper.lay(figure, height_px=_HEIGHT_PX, xaxis=axis, yaxis=paper.value_axis(USD))
