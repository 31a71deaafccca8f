"""core/analytics/outlook.py: the forecast, worked out by hand where it is said how it is made."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from math import isqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import db
from core.analytics import figures, outlook
from core.analytics.outlook import of_days
from core.analytics.selection import Group, Selection
from core.identity.access import Role
from core.periods import Period, month_of
from tests.analytics.using import colleague, use
from tests.factories import make_model, make_place

TODAY = date(2026, 3, 11)  # a Wednesday; twenty days of March are left after it


def every_day(cost: int, today: date = TODAY, days: int = 28) -> dict[date, int]:
    return {today - timedelta(days=n): cost for n in range(1, days + 1)}


def test_steady_use_goes_on_as_it_is_and_leaves_no_doubt() -> None:
    found = of_days(every_day(70) | {TODAY: 30}, TODAY, 10_000)
    assert found.spent_nusd == 10 * 70 + 30
    assert found.forecast_nusd == 31 * 70  # today fills up to its mean
    assert (found.low_nusd, found.high_nusd) == (31 * 70, 31 * 70)
    assert found.on_track is True


def test_a_dear_day_is_kept_and_does_not_repeat_itself() -> None:
    found = of_days(every_day(70) | {TODAY: 1_000}, TODAY)
    assert found.forecast_nusd == 10 * 70 + 1_000 + 20 * 70


def test_weekends_are_forecast_as_weekends() -> None:
    week = {day: 0 if day.weekday() >= 5 else 100 for day in every_day(1)}
    found = of_days(week, TODAY)
    left = [TODAY + timedelta(days=n) for n in range(21)]
    spent = sum(cost for day, cost in week.items() if day.month == 3)
    assert found.forecast_nusd == spent + sum(100 for day in left if day.weekday() < 5)
    assert found.low_nusd == found.high_nusd == found.forecast_nusd


def test_the_band_is_the_one_that_is_described() -> None:
    """Mondays cost 100 and 300 in turn, other days nothing: the means are 200 and 0."""
    mondays = [date(2026, 2, 16), date(2026, 2, 23), date(2026, 3, 2), date(2026, 3, 9)]
    cost = dict(zip(mondays, (100, 300, 100, 300), strict=True))
    cost |= {TODAY - timedelta(days=28): 1}  # the window begins with its first day of use
    found = of_days(cost, TODAY)
    residuals = 4 * 100**2 + 3 * Fraction(1, 4) ** 2 + Fraction(3, 4) ** 2
    variance = residuals / (28 - 7)
    left = 21 + Fraction(7 * 3**2, 4)  # three of each weekday ahead, four of each behind
    margin = isqrt(round(variance * left * Fraction(12_816, 10_000) ** 2))
    assert found.forecast_nusd == 400 + 3 * 200 + round(3 * Fraction(1, 4))
    assert found.high_nusd == found.forecast_nusd + margin
    assert found.low_nusd == max(400, found.forecast_nusd - margin)


def test_use_that_began_lately_is_not_thinned_by_the_days_before_it() -> None:
    found = of_days({TODAY - timedelta(days=2): 60, TODAY - timedelta(days=1): 30}, TODAY)
    tuesday, monday, mean = 30, 60, 45
    left = [TODAY + timedelta(days=n) for n in range(21)]
    rest = sum({0: monday, 1: tuesday}.get(day.weekday(), mean) for day in left)
    assert found.forecast_nusd == 90 + rest
    assert (found.low_nusd, found.high_nusd) == (None, None)  # two days say nothing of their spread


@pytest.mark.parametrize("day", [1, 4])
def test_before_the_fifth_nothing_is_forecast(day: int) -> None:
    today = TODAY.replace(day=day)
    found = of_days(every_day(70, today), today, 5)
    assert (found.forecast_nusd, found.low_nusd, found.high_nusd) == (None, None, None)
    assert found.on_track is None
    assert of_days(every_day(70, TODAY.replace(day=5)), TODAY.replace(day=5)).forecast_nusd


def test_without_a_whole_day_of_use_nothing_is_forecast() -> None:
    assert of_days({TODAY: 40}, TODAY).forecast_nusd is None
    assert of_days({}, TODAY).forecast_nusd is None


def test_the_last_day_of_a_month_has_only_itself_left() -> None:
    last = month_of(TODAY).last
    found = of_days(every_day(70, last, 30) | {last: 100}, last, 30 * 70 + 100)
    assert found.forecast_nusd == found.spent_nusd == 30 * 70 + 100
    assert found.on_track is True


def test_a_month_that_overspends_is_not_on_track() -> None:
    assert of_days(every_day(70), TODAY, 31 * 70 - 1).on_track is False


def test_spend_is_summed_day_by_day_for_this_month_and_the_last() -> None:
    found = of_days(
        {date(2026, 2, 1): 1, date(2026, 2, 28): 2, date(2026, 3, 1): 4, TODAY: 8}, TODAY
    )
    assert found.by_day[0] == (date(2026, 3, 1), 4)
    assert found.by_day[-1] == (TODAY, 12)
    assert (len(found.by_day), len(found.last_month)) == (11, 28)
    assert found.last_month[0] == (date(2026, 2, 1), 1)
    assert found.last_month[-1] == (date(2026, 2, 28), 3)


@given(
    st.dates(date(2020, 1, 1), date(2030, 1, 1)),
    st.lists(st.integers(-10, 10**15) | st.just(0), max_size=70),
)
def test_the_forecast_is_whole_and_within_its_band(today: date, costs: list[int]) -> None:
    by_day: Mapping[date, int] = {today - timedelta(days=n): cost for n, cost in enumerate(costs)}
    found = of_days(by_day, today)
    assert found.spent_nusd == sum(
        cost for day, cost in by_day.items() if day >= today.replace(day=1)
    )
    if found.forecast_nusd is None:
        assert found.low_nusd is None and found.high_nusd is None
        return
    assert type(found.forecast_nusd) is int
    assert found.forecast_nusd >= found.spent_nusd
    if found.low_nusd is not None and found.high_nusd is not None:
        assert found.spent_nusd <= found.low_nusd <= found.forecast_nusd <= found.high_nusd


def test_it_is_read_from_the_figures_of_what_one_sees(database: object) -> None:
    place = make_place(role="admin")
    member, model = colleague(place, Role.MEMBER), make_model()
    use(place.who, model, "0.25")
    use(member, model, "0.001")
    use(place.who, model, "0.5", days_ago=40)
    today = datetime.now(UTC).date()
    for who, cost_nusd in ((place.who, 251_000_000), (member, 1_000_000)):
        with db.transaction(who) as session:
            asked = Selection(Period(date(2020, 1, 1), date(2020, 1, 2)))
            found = outlook.read(session, who, asked, 10**9)
            month = asked.within(Period(today.replace(day=1), today))
            assert found.spent_nusd == figures.totals(session, who, month).billed_nusd == cost_nusd
        assert (found.by_day[-1], found.budget_nusd) == ((today, cost_nusd), 10**9)
    with db.transaction(place.who) as session:
        narrowed = outlook.read(session, place.who, asked.only(Group.USER, member.user_id))
    assert narrowed.spent_nusd == 1_000_000
