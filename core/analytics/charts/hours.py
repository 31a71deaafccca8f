"""When people ask: calls by weekday and hour of the tenant's zone."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from core.analytics.charts import colors, paper
from core.analytics.charts.parts import exact_usd

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_HEIGHT_PX = 300
Cell = tuple[int, int]  # weekday (Monday is 0) and hour


def heat(cells: Mapping[Cell, tuple[int, int]], *, dark: bool) -> go.Figure:
    """Shades by the number of calls, of cells with (calls, nano-USD); hours without use are pale."""
    every = [(weekday, hour) for weekday in range(7) for hour in range(24)]
    shades = go.Heatmap(
        z=[[cells.get((weekday, hour), (0, 0))[0] for hour in range(24)] for weekday in range(7)],
        x=list(range(24)), y=list(range(7)), xgap=2, ygap=2, showscale=False, hoverinfo="skip",
        colorscale=colors.ramp(dark=dark), zmin=0,
    )  # fmt: skip
    # A heat map cannot be clicked: points that nobody sees lie on it.
    points = go.Scatter(
        x=[hour for _, hour in every], y=[weekday for weekday, _ in every], mode="markers",
        marker={"size": 14, "opacity": 0, "symbol": "square-open", "line": {"width": 3},
                "color": colors.warning(dark=dark)},
        selected={"marker": {"opacity": 1}}, unselected={"marker": {"opacity": 0}},
        customdata=[[_said(cell, *cells.get(cell, (0, 0))), f"{cell[0]}-{cell[1]}"] for cell in every],
        hovertemplate="%{customdata[0]}<extra></extra>",
    )  # fmt: skip
    return paper.lay(
        go.Figure([shades, points]),
        height_px=_HEIGHT_PX,
        xaxis={"tickvals": [0, 6, 12, 18], "ticktext": ["0 h", "6 h", "12 h", "18 h"],
               "showgrid": False, "zeroline": False, "range": [-0.5, 23.5]},
        yaxis={"tickvals": list(range(7)), "ticktext": list(WEEKDAYS), "range": [6.5, -0.5],
               "showgrid": False, "zeroline": False},
    )  # fmt: skip


def _said(cell: Cell, calls: int, cost_nusd: int) -> str:
    weekday, hour = cell
    noun = "call" if calls == 1 else "calls"
    return (
        f"{WEEKDAYS[weekday]}, {hour}:00\N{EN DASH}{hour + 1}:00"
        f"<br><b>{calls:,} {noun}</b><br>{exact_usd(cost_nusd)}"
    )
