"""Whose rows an export holds and of when: the days of one tenant, or each tenant's own days of all.

Gives the pieces of SQL that say so. Zones are worked out before the query, as constants, so that a row
costs no look-up and only the months asked for are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from core import errors
from core.identity.zones import Calendar
from core.periods import Period

_FIRST_DAY, _LAST_DAY, _DAYS_MAX = date(2000, 1, 1), date(2999, 12, 30), 3_660


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of a table in SQL: what stands after FROM, what after WHERE, and how a row's day is told."""

    source: str
    where: str
    day: str
    parameters: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Scope:
    """A period of one tenant, or without `tenant_id` of every tenant in `calendars`."""

    period: Period
    tenant_id: UUID | None
    calendars: Mapping[UUID, Calendar]
    for_operators: bool

    @property
    def zone(self) -> str:
        """The zone in which times are written: the tenant's at the end of the period, else UTC."""
        if self.tenant_id is None:
            return "UTC"
        return self.calendars[self.tenant_id].zone_of(self.period)

    @property
    def tenants(self) -> str:
        """A condition on `tenant_id` of the table `x`, for tables that have the tenant's own days."""
        return "true" if self.tenant_id is None else "x.tenant_id = %(tenant)s"

    def parameters(self, **more: object) -> dict[str, object]:
        """What the pieces of this scope are filled with: its days and tenant, and `more`."""
        days = {"tenant": self.tenant_id, "first": self.period.first, "last": self.period.last}
        return days | more

    def bounds(self) -> dict[UUID, tuple[datetime, datetime]]:
        """The first moment of the period and the first one after it, by tenant."""
        return {tenant: self.calendars[tenant].bounds(self.period) for tenant in self.calendars}

    def utc_bounds(self) -> tuple[datetime, datetime]:
        """The period in days of UTC, for what belongs to no tenant."""
        return Calendar.of_zone("UTC").bounds(self.period)

    def outer_bounds(self) -> tuple[datetime, datetime]:
        """What holds the period of every tenant."""
        of_each = [self.utc_bounds(), *self.bounds().values()]
        return min(begins for begins, _ in of_each), max(ends for _, ends in of_each)

    def events(self) -> Piece:
        """The usage events `e` of the period with the tenant's day each is on."""
        if self.tenant_id is None:
            return self._events_of_all()
        calendar = self.calendars[self.tenant_id]
        begins, ends = calendar.bounds(self.period)
        return Piece(
            "app.usage_events e",
            "e.tenant_id = %(tenant)s and e.occurred_at >= %(begins)s and e.occurred_at < %(ends)s",
            # A third of the time that a zone's own arithmetic takes for every row.
            "(%(first)s::date + width_bucket(e.occurred_at, %(starts)s::timestamptz[]) - 1)",
            self.parameters(
                begins=begins, ends=ends,
                starts=[calendar.start_of(day) for day in self.period.each_day()],
            ),
        )  # fmt: skip

    def _events_of_all(self) -> Piece:
        begins, ends = self.outer_bounds()
        cut = [(t, s) for t, c in self.calendars.items() for s in c.segments(self.period)]
        return Piece(
            """app.usage_events e
join (select * from unnest(%(tenants)s::uuid[], %(froms)s::timestamptz[],
    %(untils)s::timestamptz[], %(zones)s::text[], %(firsts)s::date[])
    as x(tenant_id, begins, ends, zone, first_day) order by tenant_id) as s
  on s.tenant_id = e.tenant_id and e.occurred_at >= s.begins and e.occurred_at < s.ends""",
            "e.occurred_at >= %(begins)s and e.occurred_at < %(ends)s",
            "greatest((e.occurred_at at time zone s.zone)::date, s.first_day)",
            self.parameters(
                begins=begins, ends=ends, tenants=[t for t, _ in cut],
                froms=[s.begins for _, s in cut], untils=[s.ends for _, s in cut],
                zones=[s.time_zone for _, s in cut], firsts=[s.first_day for _, s in cut],
            ),
        )  # fmt: skip


def check(period: Period) -> None:
    """Refuse a period that no export is made of. Raises errors.BadInput."""
    if period.first > period.last:
        raise errors.BadInput("The period ends before it begins.", param="to")
    for name, day in (("from", period.first), ("to", period.last)):
        if not _FIRST_DAY <= day <= _LAST_DAY:
            raise errors.BadInput("There are no books of this day.", param=name)
    if period.days > _DAYS_MAX:
        raise errors.BadInput("An export holds at most ten years.", param="to")
