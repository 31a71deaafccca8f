"""core/analytics/periods.py"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from core.analytics.periods import Period, last_days, month_of, today


def test_seven_days_include_today_and_follow_the_seven_before() -> None:
    period = last_days(7, until=date(2026, 3, 10))
    assert (period.first, period.last, period.days) == (date(2026, 3, 4), date(2026, 3, 10), 7)
    assert period.before == Period(date(2026, 2, 25), date(2026, 3, 3))
    assert len(period.each_day()) == 7


def test_the_day_is_the_zones_own() -> None:
    just_before_midnight_utc = datetime(2026, 3, 10, 23, 30, tzinfo=UTC)
    assert today("Europe/Berlin", just_before_midnight_utc) == date(2026, 3, 11)
    assert today("America/New_York", just_before_midnight_utc) == date(2026, 3, 10)


def test_a_day_of_the_clock_change_has_twenty_three_hours() -> None:
    begins, ends = Period(date(2026, 3, 29), date(2026, 3, 29)).bounds("Europe/Berlin")
    assert ends.astimezone(UTC) - begins.astimezone(UTC) == timedelta(hours=23)


@pytest.mark.parametrize(
    ("day", "last"),
    [
        (date(2026, 2, 14), date(2026, 2, 28)),
        (date(2028, 2, 1), date(2028, 2, 29)),
        (date(2026, 12, 31), date(2026, 12, 31)),
    ],
)
def test_a_month_ends_with_its_own_last_day(day: date, last: date) -> None:
    assert month_of(day) == Period(day.replace(day=1), last)
