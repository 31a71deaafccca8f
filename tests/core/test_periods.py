"""core/periods.py"""

from __future__ import annotations

from datetime import date

import pytest

from core.periods import Period, following_month, last_days, month_of


@pytest.mark.parametrize(
    ("month", "after"),
    [(date(2026, 1, 31), date(2026, 2, 1)), (date(2026, 11, 1), date(2026, 12, 1)),
     (date(2026, 12, 9), date(2027, 1, 1))],
)  # fmt: skip
def test_the_month_after(month: date, after: date) -> None:
    assert following_month(month) == after


@pytest.mark.parametrize(
    ("period", "before"),
    [
        (month_of(date(2026, 3, 9)), month_of(date(2026, 2, 1))),
        (Period(date(2026, 1, 1), date(2026, 3, 31)), Period(date(2025, 10, 1), date(2025, 12, 31))),
        (last_days(7, date(2026, 3, 2)), Period(date(2026, 2, 17), date(2026, 2, 23))),
        (Period(date(2026, 3, 1), date(2026, 3, 30)), Period(date(2026, 1, 30), date(2026, 2, 28))),
    ],
)  # fmt: skip
def test_months_are_compared_with_months_and_days_with_days(period: Period, before: Period) -> None:
    assert period.before == before


def test_the_month_of_a_leap_day_has_twenty_nine() -> None:
    assert month_of(date(2028, 2, 29)) == Period(date(2028, 2, 1), date(2028, 2, 29))
    assert len(month_of(date(2028, 2, 1)).each_day()) == 29
