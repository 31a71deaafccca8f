"""Which usage is asked for: a period and filters, read from the parameters of an address and written
back to it. The pages and the API use the same names. Says nothing about who may see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    KEY = "key"


IDS = frozenset({Group.TENANT, Group.USER, Group.KEY})
Value = UUID | str | None  # None: those without a cost centre, project or key


@dataclass(frozen=True, slots=True)
class Selection:
    """Usage of a period; a filter lists the values let through, and without one all are."""

    period: Period
    filters: Mapping[Group, tuple[Value, ...]] = field(default_factory=dict)

    def only(self, group: Group, *values: Value) -> Selection:
        """The same, narrowed to these values of one group."""
        return Selection(self.period, {**self.filters, group: values})

    def within(self, period: Period) -> Selection:
        """The same filters over another period."""
        return Selection(period, self.filters)

    @property
    def filtered(self) -> frozenset[Group]:
        """What is filtered by."""
        return frozenset(self.filters)


Parameters = Mapping[str, Sequence[str]]
