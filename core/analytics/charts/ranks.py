"""Things beside each other, the costliest first: horizontal bars with their names and amounts."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from core.analytics.charts import paper
from core.analytics.charts.parts import Part, dollars, exact_usd, short, spelled
from core.money import show

_ROW_PX, _BAR_PX, _ROOM_PX, _LEAST_PX = 27, 20, 24, 120
_AMOUNT_SHARE = 0.4  # of the width, for the amount written after the longest bar


def ranked(parts: Sequence[Part], *, least_px: int = _LEAST_PX) -> go.Figure:
    """A bar for each part's nano-USD in the order given; the chart grows with their number."""
    height_px = max(least_px, _ROOM_PX + _ROW_PX * len(parts))
    row_px = (height_px - _ROOM_PX) / max(1, len(parts))
    lengths, places = [dollars(part.total) for part in parts], list(range(len(parts)))
    whole = sum(part.total for part in parts)
    figure = go.Figure(
        go.Bar(
            x=lengths, y=places, orientation="h", width=_BAR_PX / row_px,
            marker={"color": [part.color for part in parts]},
            text=[show(part.total) for part in parts], textposition="outside", cliponaxis=False,
            customdata=[[_said(part, whole), part.key] for part in parts],
            hovertemplate="%{customdata[0]}<extra></extra>",
        )
    )  # fmt: skip
    return paper.lay(
        figure,
        height_px=height_px,
        xaxis={"visible": False, "range": _reach(lengths)},
        yaxis={"tickmode": "array", "tickvals": places, "automargin": True, "showgrid": False,
               "ticktext": [short(part.name) for part in parts], "zeroline": False,
               "range": [len(parts) - 0.4, -0.6]},
    )  # fmt: skip


def _said(part: Part, whole: int) -> str:
    share = f" · {part.total / whole:.1%}" if whole > 0 and part.total >= 0 else ""
    return f"{spelled(part.name)}<br><b>{exact_usd(part.total)}</b>{share}"


def _reach(lengths: Sequence[float]) -> list[float]:
    """From the least to the most, with room for what is written after a bar."""
    most, least = max([0.0, *lengths]), min([0.0, *lengths])
    room = _AMOUNT_SHARE * ((most - least) or 1.0)
    return [least - (room if least else 0.0), most + room]
