"""How long answers take: median, p95 and p99 of models or providers, each on a line of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from core.analytics.charts import colors, paper
from core.analytics.charts.parts import short, spelled

_ROW_PX, _ROOM_PX, _LEAST_PX = 34, 40, 140
_SHAPES = (("median", "circle"), ("p95", "diamond"), ("p99", "line-ns-open"))


@dataclass(frozen=True, slots=True)
class Speed:
    """The percentiles of one thing, in milliseconds, of so many calls."""

    key: str
    name: str
    color: str
    calls: int
    p50_ms: int
    p95_ms: int
    p99_ms: int

    @property
    def marks_ms(self) -> tuple[int, int, int]:
        """From the median outwards."""
        return self.p50_ms, self.p95_ms, self.p99_ms


def spread(speeds: Sequence[Speed], *, dark: bool) -> go.Figure:
    """Three marks on a line for each: circle median, diamond p95, stroke p99."""
    figure = go.Figure([*(_reach(speed, place, dark=dark) for place, speed in enumerate(speeds))])
    for number, (label, symbol) in enumerate(_SHAPES):
        figure.add_trace(
            go.Scatter(
                x=[speed.marks_ms[number] / 1000 for speed in speeds],
                y=list(range(len(speeds))), mode="markers", name=label,
                marker={"symbol": symbol, "size": 12, "color": [s.color for s in speeds],
                        "line": {"width": 2, "color": [s.color for s in speeds]}},
                unselected={"marker": {"opacity": 1}},
                customdata=[[_said(speed), speed.key] for speed in speeds],
                hovertemplate="%{customdata[0]}<extra></extra>",
            )
        )  # fmt: skip
    return paper.lay(
        figure,
        height_px=max(_LEAST_PX, _ROOM_PX + _ROW_PX * len(speeds)),
        xaxis={"ticksuffix": " s", "rangemode": "tozero", "nticks": 6, "zeroline": False},
        yaxis={"tickmode": "array", "tickvals": list(range(len(speeds))), "automargin": True,
               "ticktext": [short(speed.name) for speed in speeds], "showgrid": False,
               "range": [len(speeds) - 0.5, -0.5], "zeroline": False},
    )  # fmt: skip


def _reach(speed: Speed, place: int, *, dark: bool) -> go.Scatter:
    return go.Scatter(
        x=[speed.p50_ms / 1000, speed.p99_ms / 1000], y=[place, place], mode="lines",
        line={"width": 3, "color": colors.faint(dark=dark)}, hoverinfo="skip",
    )  # fmt: skip


def _said(speed: Speed) -> str:
    median, p95, p99 = (f"{ms / 1000:,.2f} s" for ms in speed.marks_ms)
    return (
        f"{spelled(speed.name)}<br>median <b>{median}</b> · p95 <b>{p95}</b> · p99 <b>{p99}</b>"
        f"<br>{speed.calls:,} calls"
    )
