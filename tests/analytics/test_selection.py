"""core/analytics/selection.py"""

from __future__ import annotations

from datetime import date, datetime

from core.analytics.selection import Group, Selection, Slot
from core.periods import Period

MARCH = Period(date(2026, 3, 1), date(2026, 3, 31))
TEN = datetime(2026, 3, 5, 10)  # noqa: DTZ001 - a local hour


def test_narrowing_keeps_what_was_narrowed_before() -> None:
    found = Selection(MARCH).only(Group.MODEL, "a").in_slot(Slot(0, 9)).only(Group.SOURCE, "api")
    assert found.filters == {Group.MODEL: ("a",), Group.SOURCE: ("api",)}
    assert (found.period, found.slot) == (MARCH, Slot(0, 9))
    assert found.filtered == {Group.MODEL, Group.SOURCE}
    assert found.only(Group.MODEL, "b").filters[Group.MODEL] == ("b",)


def test_an_hour_is_of_its_day_and_not_taken_to_another_period() -> None:
    found = Selection(MARCH).only(Group.MODEL, "a").at_hour(TEN)
    assert (found.period, found.hour) == (Period(TEN.date(), TEN.date()), TEN)
    moved = found.within(MARCH)
    assert (moved.period, moved.hour, moved.filters) == (MARCH, None, found.filters)
