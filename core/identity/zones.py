"""A tenant's calendar: which moment belongs to which of its days, also where its zone was changed.

A change takes effect with the next month, at the moment the old zone's month ends; from then on no
moment belongs to a day before that month. So days never overlap, and none is left out. The same
arithmetic in SQL is in zones.sql; a property test holds them together.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core import clock, errors
from core.identity.tables import Tenant, ZoneChange
from core.periods import Period, following_month

_AREAS = (
    "Africa/", "America/", "Antarctica/", "Arctic/", "Asia/", "Atlantic/", "Australia/", "Europe/",
    "Indian/", "Pacific/",
)  # fmt: skip
_NO_PLACE = ("localtime", "Factory")  # zone files that mean another thing on another machine
_BEGINNING, _END = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Span:
    """A zone and from when it holds; `starts_on` is the first day that a moment in it can have."""

    time_zone: str
    starts_at: datetime = _BEGINNING
    starts_on: date = date.min


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of time within one zone: `begins` included, `ends` not."""

    begins: datetime
    ends: datetime
    time_zone: str
    first_day: date


@dataclass(frozen=True, slots=True)
class Calendar:
    """The zones of a tenant in order; there is always one."""

    spans: tuple[Span, ...]

    @classmethod
    def of_zone(cls, time_zone: str) -> Calendar:
        """The calendar of a tenant that never changed its zone."""
        return cls((Span(time_zone),))

    def span_at(self, at: datetime) -> Span:
        """The zone in force at a moment."""
        return self.spans[bisect_right([span.starts_at for span in self.spans], at) - 1]

    def day_of(self, at: datetime) -> date:
        """The day a moment belongs to."""
        span = self.span_at(at)
        return max(at.astimezone(ZoneInfo(span.time_zone)).date(), span.starts_on)

    def coming(self, at: datetime) -> Span | None:
        """The change of zone that is still to come at a moment, if there is one."""
        return next((span for span in self.spans if span.starts_at > at), None)

    def said(self, at: datetime) -> str:
        """The zone in force for people: 'Europe/Berlin, from Dec 1: America/New_York'."""
        zone, coming = self.span_at(at).time_zone, self.coming(at)
        if coming is None:
            return zone
        return f"{zone}, from {coming.starts_on:%b} {coming.starts_on.day}: {coming.time_zone}"

    def today(self) -> date:
        """The day it is now."""
        return self.day_of(clock.now())

    def start_of(self, day: date) -> datetime:
        """The first moment of a day, in UTC; of a day that has none, that of the next."""
        span = self.spans[bisect_right([span.starts_on for span in self.spans], day) - 1]
        if day == span.starts_on:
            return span.starts_at
        return max(_midnight(day, span.time_zone), span.starts_at)

    def bounds(self, period: Period) -> tuple[datetime, datetime]:
        """The first moment of a period and the first one after it, in UTC."""
        return self.start_of(period.first), self.start_of(period.last + timedelta(days=1))

    def zone_of(self, period: Period) -> str:
        """The zone in which times of a period are written: the one in force on its last day."""
        return self.span_at(self.start_of(period.last)).time_zone

    def segments(self, period: Period) -> tuple[Segment, ...]:
        """A period cut where the zone changes; without any moment it has none."""
        begins, ends = self.bounds(period)
        cuts = [*(span.starts_at for span in self.spans[1:]), _END]
        found = []
        for span, until in zip(self.spans, cuts, strict=True):
            first, last = max(begins, span.starts_at), min(ends, until)
            if first < last:
                found.append(Segment(first, last, span.time_zone, span.starts_on))
        return tuple(found)


def calendar_of(session: Session, tenant_id: UUID) -> Calendar:
    """A tenant's calendar. Raises errors.NotFound."""
    found = calendars(session, (tenant_id,)).get(tenant_id)
    if found is None:
        raise errors.NotFound("There is no such tenant.")
    return found


def calendars(session: Session, tenant_ids: Sequence[UUID] | None = None) -> dict[UUID, Calendar]:
    """The calendars of these tenants, or of all that the transaction may see."""
    zones = select(Tenant.tenant_id, Tenant.first_time_zone)
    changes = select(ZoneChange).order_by(ZoneChange.tenant_id, ZoneChange.starts_on)
    if tenant_ids is not None:
        zones = zones.where(Tenant.tenant_id.in_(tenant_ids))
        changes = changes.where(ZoneChange.tenant_id.in_(tenant_ids))
    spans = {row.tenant_id: [Span(row.first_time_zone)] for row in session.execute(zones)}
    for change in session.scalars(changes):
        spans[change.tenant_id].append(Span(change.time_zone, change.starts_at, change.starts_on))
    return {tenant_id: Calendar(tuple(found)) for tenant_id, found in spans.items()}


def next_change(calendar: Calendar, time_zone: str, now: datetime) -> Span:
    """What a change of zone asked for now comes to: from the next month of the zone in force on."""
    starts_on = following_month(calendar.day_of(now))
    return Span(time_zone, _midnight(starts_on, calendar.span_at(now).time_zone), starts_on)


@lru_cache(maxsize=1)
def places() -> tuple[str, ...]:
    """The zones that people choose from: UTC, then those named for places."""
    return "UTC", *sorted(name for name in available_timezones() if name.startswith(_AREAS))


def require_zone(session: Session, time_zone: str) -> str:
    """A zone that Python and Postgres both know: each computes days and months.

    Raises errors.BadInput.
    """
    if time_zone == "UTC":
        return time_zone  # known everywhere; reading Postgres's list of names takes 15 ms
    known = False
    with suppress(ZoneInfoNotFoundError, ValueError, OSError):
        ZoneInfo(time_zone)
        query = text("select exists (select from pg_timezone_names where name = :zone)")
        known = session.execute(query, {"zone": time_zone}).scalar_one()
    if not known or time_zone in _NO_PLACE or time_zone.startswith(("posix", "right/")):
        raise errors.BadInput("There is no such time zone.", param="time_zone")
    if not _known_alike(session, time_zone):
        raise errors.BadInput(
            "This server's two tables of time zones disagree about this one.", param="time_zone"
        )
    return time_zone


def _known_alike(session: Session, time_zone: str) -> bool:
    """Whether Python and Postgres read the same clock. They do not where one has an older table, nor for
    CET, EET, MET and WET, which Postgres takes for offsets that know no summer."""
    rows = session.execute(text(_CLOCK), {"zone": time_zone})
    place = ZoneInfo(time_zone)
    return all(at.astimezone(place).replace(tzinfo=None) == local for at, local in rows)


def _midnight(day: date, time_zone: str) -> datetime:
    """The first moment of a day of that zone; of two midnights the earlier, of none what follows."""
    return datetime.combine(day, time(), tzinfo=ZoneInfo(time_zone)).astimezone(UTC)


_CLOCK = """
select at, at at time zone cast(:zone as text)
from generate_series(now() - interval '10 years', now() + interval '10 years', interval '7 days') as at
"""
