"""Which usage is asked for: a period and filters. The pages, the API and every query speak of it in
these words. Says nothing about who may see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from core.periods import Period


class Grain(StrEnum):
    """How long a step of a series is. Hours are of the tenant's zone, weeks begin on Monday."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class Group(StrEnum):
    """What figures are broken down by; also the names of the filters."""

    TENANT = "tenant"
    USER = "user"
    MODEL = "model"
    PROVIDER = "provider"
    SOURCE = "source"
    PURPOSE = "purpose"
    COST_CENTER = "cost_center"
    PROJECT = "project"
    OUTCOME = "outcome"
    KEY = "key_id"


IDS = frozenset({Group.TENANT, Group.USER, Group.KEY})
HOUR_DAYS_MAX = 31  # the longest period that is shown by the hour
Value = UUID | str | None  # None: those without a cost centre, project or key


@dataclass(frozen=True, slots=True)
class Slot:
    """An hour of the week in the tenant's zone; Monday is 0."""

    weekday: int
    hour: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Usage of a period; a filter lists the values let through, and without one all are.

    `hour` narrows to one hour of one day (naive, of the tenant's zone), `slot` to an hour of the week.
    """

    period: Period
    filters: Mapping[Group, tuple[Value, ...]] = field(default_factory=dict)
    hour: datetime | None = None
    slot: Slot | None = None

    def only(self, group: Group, *values: Value) -> Selection:
        """The same, narrowed to these values of one group."""
        return replace(self, filters={**self.filters, group: values})

    def within(self, period: Period) -> Selection:
        """The same filters over another period."""
        return replace(self, period=period, hour=None)

    def at_hour(self, hour: datetime) -> Selection:
        """The same filters over one hour of the tenant's own day."""
        return replace(self, period=Period(hour.date(), hour.date()), hour=hour)

    def in_slot(self, slot: Slot) -> Selection:
        """The same, narrowed to an hour of the week."""
        return replace(self, slot=slot)

    @property
    def filtered(self) -> frozenset[Group]:
        """What is filtered by."""
        return frozenset(self.filters)
