"""core/analytics/charts.py"""

from __future__ import annotations

import re
from datetime import date, timedelta

import pandas as pd
import pytest

from core.analytics import charts
from core.analytics.usage import OTHER

DAYS = [date(2026, 3, 1) + timedelta(days=n) for n in range(3)]


def _wide(days: int = 3) -> pd.DataFrame:
    return pd.DataFrame(
        {"b/dear": [2_000_000_000, 0, 5], "a/cheap": [1, 2, 3]}, index=pd.Index(DAYS)
    ).iloc[:days]


def test_a_model_has_its_colour_whatever_else_is_drawn() -> None:
    alone = charts.cost_by_model(_wide()[["a/cheap"]], dark=False)
    together = charts.cost_by_model(_wide(), dark=False)
    colours = {trace.name: trace.line.color for trace in together.data}
    assert alone.data[0].line.color == colours["a/cheap"] == charts.color_of("a/cheap", dark=False)


def test_the_colour_does_not_change_from_one_start_to_the_next() -> None:
    assert charts.color_of("demo/purser", dark=False) == "#0284c7"
    assert charts.color_of("demo/purser", dark=True) == "#38bdf8"


def test_the_two_themes_have_shades_of_their_own() -> None:
    for model in ("a", "b", "openai/gpt-6", OTHER):
        light, dark = charts.color_of(model, dark=False), charts.color_of(model, dark=True)
        assert light != dark
        assert re.fullmatch("#[0-9a-f]{6}", light)


def test_each_area_carries_its_dollars_and_says_them_exactly() -> None:
    dear, cheap = charts.cost_by_model(_wide(), dark=True).data
    assert list(dear.y) == [2.0, 0.0, 5e-9]
    assert list(dear.customdata) == ["$2.00", "$0.00", "$0.000000005"]
    assert {dear.stackgroup, cheap.stackgroup} == {"cost"}


@pytest.mark.parametrize(("days", "kind"), [(1, "bar"), (2, "scatter")])
def test_a_single_day_is_a_bar(days: int, kind: str) -> None:
    assert {trace.type for trace in charts.cost_by_model(_wide(days), dark=False).data} == {kind}
