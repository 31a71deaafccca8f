"""Spans of a tenant's own days: the last so many, the ones before them, and the current month.
Knows nothing of a database; a day begins and ends in the tenant's time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo


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
        """The equally long period that ends the day before this one begins."""
        last = self.first - timedelta(days=1)
        return Period(last - timedelta(days=self.days - 1), last)

    def each_day(self) -> list[date]:
        """Every day of it, in order."""
        return [self.first + timedelta(days=n) for n in range(self.days)]

    def bounds(self, time_zone: str) -> tuple[datetime, datetime]:
        """Its first moment and the first one after it, in the zone the days belong to."""
        zone = ZoneInfo(time_zone)
        end = self.last + timedelta(days=1)
        return (
            datetime.combine(self.first, time(), tzinfo=zone),
            datetime.combine(end, time(), tzinfo=zone),
        )


def today(time_zone: str, now: datetime | None = None) -> date:
    """The date it is now in that zone."""
    return (now or datetime.now(UTC)).astimezone(ZoneInfo(time_zone)).date()


def last_days(days: int, until: date) -> Period:
    """The `days` days that end with `until`."""
    return Period(until - timedelta(days=days - 1), until)


def month_of(day: date) -> Period:
    """The calendar month a day is in."""
    first = day.replace(day=1)
    following = (first + timedelta(days=32)).replace(day=1)
    return Period(first, following - timedelta(days=1))
