"""Whole days, months and what lies before them. Knows no time zone: when a day begins is said by the
tenant's calendar (core/identity/zones.py)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days, first and last included."""

    first: date
    last: date

    @property
    def days(self) -> int:
        """How many days it has."""
        return (self.last - self.first).days + 1

    @property
    def before(self) -> Period:
        """What to compare it with: of whole months as many months, else as many days, just before."""
        if self.is_whole_months:
            return Period(_months_later(self.first, -self.months), self.first - timedelta(days=1))
        last = self.first - timedelta(days=1)
        return Period(last - timedelta(days=self.days - 1), last)

    @property
    def is_whole_months(self) -> bool:
        """Whether it begins with the first and ends with the last day of a month."""
        return self.first.day == 1 and (self.last + timedelta(days=1)).day == 1

    @property
    def months(self) -> int:
        """How many calendar months it touches."""
        years = self.last.year - self.first.year
        return years * 12 + self.last.month - self.first.month + 1

    def each_day(self) -> list[date]:
        """Every day of it, in order."""
        return [self.first + timedelta(days=n) for n in range(self.days)]


def last_days(days: int, until: date) -> Period:
    """The `days` days that end with `until`."""
    return Period(until - timedelta(days=days - 1), until)


def month_of(day: date) -> Period:
    """The calendar month a day is in."""
    first = day.replace(day=1)
    return Period(first, following_month(first) - timedelta(days=1))


def following_month(day: date) -> date:
    """The first day of the month after that of `day`."""
    return _months_later(day.replace(day=1), 1)


def _months_later(first: date, months: int) -> date:
    count = first.year * 12 + first.month - 1 + months
    return date(count // 12, count % 12 + 1, 1)
