"""core/analytics/usage.py"""

from __future__ import annotations

from datetime import date

import pandas as pd
import pytest

from core.analytics import usage
from core.analytics.periods import Period

MARCH = Period(date(2026, 3, 1), date(2026, 3, 4))


def _daily(*rows: tuple[int, str, int, int]) -> pd.DataFrame:
    """Rows of (day of March, model, tokens, nano-USD), one request each."""
    return pd.DataFrame(
        [(date(2026, 3, day), model, 1, 0, tokens, cost) for day, model, tokens, cost in rows],
        columns=list(usage.COLUMNS),
    )


def test_sums_larger_than_a_float_holds_stay_exact() -> None:
    big = 2**53
    sums = usage.totals(_daily((1, "a", 1, big), (2, "a", 1, big + 1)))
    assert sums.cost_nusd == 2**54 + 1


def test_an_empty_frame_comes_to_nothing() -> None:
    empty = _daily().astype(dict.fromkeys(usage.COLUMNS[2:], "int64"))
    assert usage.totals(empty) == usage.Totals(0, 0, 0, 0)
    assert usage.totals(empty).nusd_per_1k_tokens is None
    assert list(usage.by_day(empty, MARCH)["cost_nusd"]) == [0, 0, 0, 0]


def test_days_without_use_are_zero_and_days_outside_are_left_out() -> None:
    days = usage.by_day(
        _daily((1, "a", 5, 10), (1, "b", 5, 1), (4, "a", 5, 7), (9, "a", 5, 99)), MARCH
    )
    assert list(days["cost_nusd"]) == [11, 0, 0, 7]
    assert list(days.index) == MARCH.each_day()


def test_the_price_of_a_thousand_tokens() -> None:
    assert usage.Totals(1, 0, 1_500, 3_000_000).nusd_per_1k_tokens == 2_000_000


def test_models_come_costliest_first() -> None:
    daily = _daily((1, "cheap", 9, 1), (2, "dear", 1, 50), (3, "cheap", 9, 1))
    assert [(m.model, m.cost_nusd) for m in usage.models(daily)] == [("dear", 50), ("cheap", 2)]


def test_the_wide_frame_adds_up_when_small_models_are_put_together() -> None:
    daily = _daily(*((1 + n % 4, f"m{n}", 1, 10 + n) for n in range(10)))
    wide = usage.cost_by_model(daily, MARCH, models_max=4)
    assert list(wide.columns) == ["m9", "m8", "m7", usage.OTHER]
    assert int(wide.to_numpy().sum()) == usage.totals(daily).cost_nusd


def test_as_many_models_as_fit_need_no_others() -> None:
    wide = usage.cost_by_model(_daily((1, "a", 1, 1), (2, "b", 1, 2)), MARCH, models_max=2)
    assert list(wide.columns) == ["b", "a"]


@pytest.mark.parametrize(
    ("now", "before", "change"),
    [(150, 100, 0.5), (50, 100, -0.5), (5, 0, None), (0, 0, None), (None, 3, None), (0, 10, -1.0)],
)
def test_a_change_needs_something_to_compare_with(
    now: int | None, before: int | None, change: float | None
) -> None:
    assert usage.change(now, before) == change
