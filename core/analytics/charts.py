"""Frames of usage as Plotly figures. A model has one colour on every chart, worked out of its id,
in a light and a dark shade. Amounts become fractions of a dollar only here, to be drawn."""

from __future__ import annotations

import hashlib

import pandas as pd
import plotly.graph_objects as go

from core.analytics.usage import OTHER
from core.money import NANO_PER_USD, show

# Twelve hues, each in a shade for either theme.
_LIGHT = (
    "#4f46e5", "#0d9488", "#d97706", "#e11d74", "#0284c7", "#65a30d", "#9333ea", "#dc2626",
    "#854d0e", "#15803d", "#0e7490", "#a21caf",
)  # fmt: skip
_DARK = (
    "#818cf8", "#2dd4bf", "#fbbf24", "#f472b6", "#38bdf8", "#a3e635", "#c084fc", "#f87171",
    "#d6a354", "#4ade80", "#67e8f9", "#e879f9",
)  # fmt: skip
_SPREAD = 6524  # chosen so that the models used most often get hues of their own
_NEUTRAL = ("#64748b", "#94a3b8")
_HEIGHT_PX = 300


def color_of(model: str, *, dark: bool) -> str:
    """The colour of a model, the same in every process, on every page and in every company."""
    if model == OTHER:
        return _NEUTRAL[dark]
    place = hashlib.sha256(f"{_SPREAD}:{model}".encode()).digest()[0] % len(_LIGHT)
    return (_DARK if dark else _LIGHT)[place]


def cost_by_model(cost_nusd: pd.DataFrame, *, dark: bool) -> go.Figure:
    """Stacked areas of daily cost, of a frame of nano-USD by day (rows) and model (columns).

    The legend is the caller's: a table beside it says more and takes no room from the areas. A
    single day is drawn as a bar, because an area of one point has no width.
    """
    draw = _area if len(cost_nusd) > 1 else _bar
    figure = go.Figure([draw(cost_nusd[model], dark=dark) for model in cost_nusd.columns])
    figure.update_layout(
        height=_HEIGHT_PX,
        margin={"l": 0, "r": 0, "t": 8, "b": 0},
        hovermode="x unified",
        barmode="stack",
        showlegend=False,
        yaxis={"tickprefix": "$", "nticks": 5, "rangemode": "tozero", "fixedrange": True,
               "exponentformat": "none"},
        xaxis={"fixedrange": True, "nticks": 8, "tickformat": "%b %-d",
               "hoverformat": "%A, %B %-d"},
    )  # fmt: skip
    return figure


def _area(cost_nusd: pd.Series[int], *, dark: bool) -> go.Scatter:
    color = color_of(str(cost_nusd.name), dark=dark)
    return go.Scatter(
        x=list(cost_nusd.index), y=_dollars(cost_nusd), customdata=_shown(cost_nusd),
        name=str(cost_nusd.name), stackgroup="cost", mode="lines",
        line={"width": 1.4, "color": color}, fillcolor=_faded(color, 0.55 if dark else 0.45),
        hovertemplate="%{customdata}",
    )  # fmt: skip


def _bar(cost_nusd: pd.Series[int], *, dark: bool) -> go.Bar:
    return go.Bar(
        x=list(cost_nusd.index), y=_dollars(cost_nusd), customdata=_shown(cost_nusd),
        name=str(cost_nusd.name), marker={"color": color_of(str(cost_nusd.name), dark=dark)},
        hovertemplate="%{customdata}",
    )  # fmt: skip


def _dollars(cost_nusd: pd.Series[int]) -> list[float]:
    return [int(amount) / NANO_PER_USD for amount in cost_nusd]


def _shown(cost_nusd: pd.Series[int]) -> list[str]:
    return [show(int(amount)) for amount in cost_nusd]


def _faded(color: str, alpha: float) -> str:
    red, green, blue = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"
