"""The paper every chart is drawn on: margins, axes, what a pointer and a click do. No data."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from core.analytics.charts.parts import Steps, Unit

HEIGHT_PX = 300
_REACH_PX = 40  # how near a pointer must come to a point

# What st.plotly_chart is told beside the figure: nothing to zoom, nothing to send anywhere.
CONFIG = {"displayModeBar": False, "scrollZoom": False, "doubleClick": False}


def lay(figure: go.Figure, *, height_px: int = HEIGHT_PX, **more: Any) -> go.Figure:
    """Give a figure the common paper, and what `more` says of its own."""
    figure.update_layout(
        height=height_px, margin={"l": 0, "r": 0, "t": 8, "b": 0}, showlegend=False,
        hovermode="closest", hoverdistance=_REACH_PX, clickmode="event+select", dragmode=False,
        bargap=0.25, barmode="relative", hoverlabel={"align": "left", "namelength": -1}, **more,
    )  # fmt: skip
    figure.update_xaxes(fixedrange=True)
    figure.update_yaxes(fixedrange=True)
    return figure


def add_legend(figure: go.Figure) -> None:
    """Say above the drawing which colour is what; it hides nothing when clicked."""
    figure.update_layout(
        showlegend=True,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "itemclick": False,
                "itemdoubleclick": False, "traceorder": "normal"},
    )  # fmt: skip


def time_axis(steps: Steps) -> dict[str, Any]:
    """The axis of time."""
    axis: dict[str, Any] = {"nticks": 6, "tickformat": steps.tick_format, "type": "date"}
    if len(steps.begins) <= 6:  # else Plotly would put ticks between the few there are
        axis |= {"tickmode": "array", "tickvals": list(steps.begins)}
    return axis


def value_axis(unit: Unit) -> dict[str, Any]:
    """The axis of amounts or counts."""
    return {
        "tickprefix": unit.axis_prefix, "tickformat": unit.axis_format, "nticks": 5,
        "rangemode": "tozero", "automargin": True,
    }  # fmt: skip


def marks(color: str) -> dict[str, Any]:
    """Points that are seen only once clicked, and give a line something to click on."""
    return {
        "mode": "lines+markers",
        "marker": {"color": color, "size": 9, "opacity": 0},
        "selected": {"marker": {"opacity": 1}},
        "unselected": {"marker": {"opacity": 0}},
    }
