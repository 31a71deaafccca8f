"""core/analytics/charts/"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import Any

import plotly.graph_objects as go
import pytest

from core.analytics.charts import colors, hours, months, parts, ranks, series, speeds
from core.analytics.charts.parts import TOKENS, USD, Part, Steps
from core.analytics.charts.speeds import Speed
from core.analytics.outlook import of_days
from core.analytics.selection import Grain

DAYS = tuple(date(2026, 3, 1) + timedelta(days=n) for n in range(3))
DEAR = Part("b/dear", "b/dear", "#112233", (2_000_000_000, 0, 5))
CHEAP = Part("a/cheap", "a/cheap", "#445566", (1, 2, 3))


def said(trace: Any) -> list[list[str]]:
    return [list(point) for point in trace.customdata]


def test_the_colour_of_a_model_is_the_same_after_every_start() -> None:
    assert colors.color_of("demo/purser", dark=False) == "#0284c7"
    assert colors.color_of("demo/purser", dark=True) == "#38bdf8"


@pytest.mark.parametrize("model", ["a", "b", "openai/gpt-6", ""])
def test_the_two_themes_have_shades_of_their_own(model: str) -> None:
    light, dark = colors.color_of(model, dark=False), colors.color_of(model, dark=True)
    assert light != dark
    assert re.fullmatch("#[0-9a-f]{6}", light)


def test_what_is_no_model_gets_colours_apart_while_there_are_hues() -> None:
    twelve = [f"person {number}" for number in range(12)]
    assert len(set(colors.apart(twelve, dark=False).values())) == 12
    many = colors.apart([*twelve, "one more"], dark=False)
    assert {key: many[key] for key in twelve} == colors.apart(twelve, dark=False)
    assert many["one more"] in set(many.values())


def test_areas_carry_dollars_and_say_every_digit() -> None:
    dear, cheap = series.stacked(Steps(DAYS, Grain.DAY), [DEAR, CHEAP], USD, dark=True).data
    assert list(dear.y) == [2.0, 0.0, 5e-9]
    assert [text for text, _, _ in said(dear)] == [
        "b/dear<br>Sun, Mar 1<br><b>$2</b>", "b/dear<br>Mon, Mar 2<br><b>$0</b>",
        "b/dear<br>Tue, Mar 3<br><b>$0.000000005</b>",
    ]  # fmt: skip
    assert {dear.stackgroup, cheap.stackgroup} == {"all"}


def test_a_click_on_an_area_says_whose_it_is_and_which_step() -> None:
    (dear,) = series.stacked(Steps(DAYS, Grain.DAY), [DEAR], USD, dark=False).data
    assert [point[1:] for point in said(dear)] == [
        ["b/dear", "2026-03-01"], ["b/dear", "2026-03-02"], ["b/dear", "2026-03-03"],
    ]  # fmt: skip
    assert "markers" in dear.mode  # a line alone cannot be clicked
    assert dear.marker.opacity == 0


@pytest.mark.parametrize(("steps", "kind"), [(1, "bar"), (2, "scatter")])
def test_a_single_step_is_a_bar(steps: int, kind: str) -> None:
    part = Part("a", "a", "#445566", (1,) * steps)
    figure = series.stacked(Steps(DAYS[:steps], Grain.DAY), [part], TOKENS, dark=False)
    assert {trace.type for trace in figure.data} == {kind}


@pytest.mark.parametrize(
    ("begin", "grain", "words"),
    [
        (datetime(2026, 3, 1, 13), Grain.HOUR, "Sun, Mar 1, 13:00"),  # noqa: DTZ001 - local
        (date(2026, 3, 2), Grain.WEEK, "Week of Mar 2"),
        (date(2026, 3, 1), Grain.MONTH, "March 2026"),
    ],
)
def test_a_step_is_read_as_what_it_is(begin: date, grain: Grain, words: str) -> None:
    assert Steps((begin,), grain).written() == [words]


def test_bars_stand_in_order_with_share_and_all_digits() -> None:
    figure = ranks.ranked([Part("x", "X", "#111111", (3_000_000_001,)), CHEAP])
    (bars,) = figure.data
    assert list(bars.text) == ["$3.00", "$0.000000006"]
    assert said(bars)[0] == ["X<br><b>$3.000000001</b> · 100.0%", "x"]
    assert list(figure.layout.yaxis.ticktext) == ["X", "a/cheap"]
    assert figure.layout.xaxis.range[1] > 3


def test_a_name_with_signs_is_shown_and_not_obeyed() -> None:
    part = Part("id", "<a href='https://evil.example'>Ada</a>", "#111111", (1,))
    figure = ranks.ranked([part])
    assert "<a" not in str(figure.layout.yaxis.ticktext) + said(figure.data[0])[0][0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("anthropic/claude-sonnet-5.5", "claude-sonnet-5.5"),
        ("openai/gpt-6", "openai/gpt-6"),
        ("someone.with@a-long-domain.example", "someone.with"),
        ("One cost center with a long name", "One cost center with …"),
    ],
)
def test_a_long_name_is_cut_to_what_tells_it_apart(name: str, words: str) -> None:
    assert parts.short(name) == words


def test_every_hour_of_the_week_can_be_clicked() -> None:
    shades, points = hours.heat({(0, 13): (4, 1_500_000_000)}, dark=False).data
    assert shades.z[0][13] == 4
    assert sum(map(sum, shades.z)) == 4
    assert len(points.customdata) == 7 * 24
    assert said(points)[13] == ["Mon, 13:00\N{EN DASH}14:00<br><b>4 calls</b><br>$1.5", "0-13"]
    assert (points.x[13], points.y[13]) == (13, 0)


def test_speeds_show_three_marks_for_each_and_name_it_in_a_click() -> None:
    speed = Speed("m", "m", "#111111", 7, 500, 1_250, 2_000)
    figure = speeds.spread([speed], dark=False)
    marks = [trace for trace in figure.data if trace.mode == "markers"]
    assert [trace.x[0] for trace in marks] == [0.5, 1.25, 2.0]
    assert {said(trace)[0][1] for trace in marks} == {"m"}
    assert "7 calls" in said(marks[0])[0][0]


def outlook_figure(day: int, budget_nusd: int | None = None) -> go.Figure:
    costs = {date(2026, 3, n): 1_000_000_000 for n in range(1, day + 1)}
    return months.burn(of_days(costs, date(2026, 3, day), budget_nusd), dark=False)


def test_a_forecast_stands_on_the_chart_from_the_fifth_day_on() -> None:
    early, late = ({trace.name for trace in outlook_figure(day).data} for day in (4, 5))
    assert "likely" not in early
    assert "likely" in late


def test_the_band_encloses_what_is_likely() -> None:
    ends = {trace.name: trace.y[-1] for trace in outlook_figure(20).data}
    assert ends["low"] <= ends["likely"] <= ends["high"]


def test_the_budget_is_a_line() -> None:
    (line,) = outlook_figure(4, budget_nusd=9_000_000_000).layout.shapes
    assert line.y0 == line.y1 == 9.0
    assert not outlook_figure(4).layout.shapes


def test_the_sums_of_two_months_are_said_up_to_each_day() -> None:
    costs = {date(2026, 2, 28): 2_000_000_000, date(2026, 3, 1): 5, date(2026, 3, 2): 7}
    before, now = months.against(of_days(costs, date(2026, 3, 2)), dark=False).data
    assert said(now) == [
        ["Up to Mar 1<br><b>$0.000000005</b>", "2026-03-01"],
        ["Up to Mar 2<br><b>$0.000000012</b>", "2026-03-02"],
    ]
    assert said(before)[-1] == ["Up to Feb 28<br><b>$2</b>", "2026-02-28"]
    assert list(now.x) == [1, 2]
