"""How long answers take: percentiles of the time to the first token and of the whole call, from the
events themselves, in whole milliseconds that some call really took. Failed calls do not count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.analytics import figures, sources
from core.analytics.scope import Scope, scope_of
from core.analytics.selection import Group, Selection, Value
from core.identity.access import Actor
from core.periods import Period, last_days

DAYS_MAX = 31  # over all tenants: the percentiles need every call of the period


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Half, 95 and 99 of a hundred calls took at most as long."""

    p50_ms: int
    p95_ms: int
    p99_ms: int


@dataclass(frozen=True, slots=True)
class Latency:
    """The calls of one model or provider (or of all: `value` None) that brought an answer.

    None where no call did, or none told when its first token came.
    """

    value: Value
    calls: int
    first_token: Percentiles | None
    duration: Percentiles | None


@dataclass(frozen=True, slots=True)
class Overall:
    """The percentiles of all calls, and of which days they are."""

    period: Period
    latency: Latency


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The percentiles of each part, the one with most calls first, and of which days they are."""

    period: Period
    rows: tuple[Latency, ...]


def overall(session: Session, who: Actor, selection: Selection) -> Overall:
    """The percentiles of a selection; over all tenants of its last 31 days."""
    period, found = _read(session, who, selection, None)
    return Overall(period, found[0])


def by(
    session: Session,
    who: Actor,
    selection: Selection,
    group: Literal[Group.MODEL, Group.PROVIDER],
) -> Breakdown:
    """The percentiles of each model or provider; over all tenants of the last 31 days."""
    return Breakdown(*_read(session, who, selection, group))


def _read(
    session: Session, who: Actor, selection: Selection, group: Group | None
) -> tuple[Period, tuple[Latency, ...]]:
    scope = scope_of(who, selection)
    period = _shown(session, scope, selection.period)
    shown = selection if period == selection.period else selection.within(period)
    source = sources.events(session, scope, shown)
    parts = {"relation": source.relation, "condition": source.condition}
    if group is None:
        statement = _OVERALL.format(**parts)
    else:
        statement = _BY_PART.format(value=source.value(group), **parts)
    found = session.execute(text(statement), source.bound)
    rows = (
        Latency(row.value, row.calls, _percentiles(row.first), _percentiles(row.whole))
        for row in found
    )
    return period, tuple(rows)


def _shown(session: Session, scope: Scope, period: Period) -> Period:
    """The days that are read: of many tenants the last ones that have begun."""
    if scope.tenant_ids is not None or period.days <= DAYS_MAX:
        return period
    last = max(min(period.last, figures.today(session, scope)), period.first)
    recent = last_days(DAYS_MAX, last)
    return Period(max(recent.first, period.first), last)


def _percentiles(found: list[int | None] | None) -> Percentiles | None:
    if found is None or None in found:
        return None
    return Percentiles(*(value for value in found if value is not None))


_OVERALL = """
select null::text as value, count(*) as calls,
  percentile_disc(array[0.5, 0.95, 0.99]) within group (order by u.first_token_ms) as first,
  percentile_disc(array[0.5, 0.95, 0.99]) within group (order by u.latency_ms) as whole
from {relation} where {condition} and u.kind = 'call' and u.outcome not in ('error', 'timeout')
"""

# The times are gathered by part before they are sorted: an ordered aggregate by part would have every
# row sorted by its part first.
_BY_PART = """
with timed as materialized (
  select {value} as value, count(*) as calls, array_agg(u.first_token_ms) as first,
    array_agg(u.latency_ms) as whole
  from {relation} where {condition} and u.kind = 'call' and u.outcome not in ('error', 'timeout')
  group by 1)
select value, calls,
  (select percentile_disc(array[0.5, 0.95, 0.99]) within group (order by ms)
    from (select unnest(first) as ms) as times) as first,
  (select percentile_disc(array[0.5, 0.95, 0.99]) within group (order by ms)
    from (select unnest(whole) as ms) as times) as whole
from timed order by 2 desc, 1
"""
