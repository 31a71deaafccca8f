"""Parts over time, stacked: cost by model or person, tokens by kind."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from core.analytics.charts import paper
from core.analytics.charts.colors import faded
from core.analytics.charts.parts import Part, Steps, Unit, hovers, spelled


def stacked(
    steps: Steps, parts: Sequence[Part], unit: Unit, *, dark: bool, legend: bool = False
) -> go.Figure:
    """Areas over each other; of a single step bars, because an area of one point has no width.

    Without a legend something beside it has to say which colour is what.
    """
    draw = _area if len(steps.begins) > 1 else _bar
    figure = go.Figure([draw(steps, part, unit, dark=dark) for part in parts])
    paper.lay(figure, xaxis=paper.time_axis(steps), yaxis=paper.value_axis(unit))
    if legend:
        paper.add_legend(figure)
    return figure


def _area(steps: Steps, part: Part, unit: Unit, *, dark: bool) -> go.Scatter:
    return go.Scatter(
        x=list(steps.begins), y=[unit.scaled(value) for value in part.values],
        customdata=_said(steps, part, unit), name=spelled(part.name), stackgroup="all",
        line={"width": 1.4, "color": part.color},
        fillcolor=faded(part.color, 0.55 if dark else 0.45),
        hovertemplate="%{customdata[0]}<extra></extra>", **paper.marks(part.color),
    )  # fmt: skip


def _bar(steps: Steps, part: Part, unit: Unit, *, dark: bool) -> go.Bar:
    del dark
    return go.Bar(
        x=list(steps.begins), y=[unit.scaled(value) for value in part.values],
        customdata=_said(steps, part, unit), name=spelled(part.name),
        marker={"color": part.color}, hovertemplate="%{customdata[0]}<extra></extra>",
    )  # fmt: skip


def _said(steps: Steps, part: Part, unit: Unit) -> list[list[str]]:
    name = spelled(part.name)
    texts = [
        f"{name}<br>{step}<br><b>{unit.written(value)}</b>"
        for step, value in zip(steps.written(), part.values, strict=True)
    ]
    return hovers(texts, part.key, steps.begins)
