"""Figures of a selection: totals, series, breakdowns, hours, people, estimates. Each is the sum of the
events that details.py shows for the same selection, to the last digit. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import clock
from core.analytics import labels, parameters, sources
from core.analytics.scope import Scope, scope_of
from core.analytics.selection import Grain, Group, Selection, Value
from core.analytics.sources import SUMS, Source
from core.identity import zones
from core.identity.access import Actor
from core.periods import Period, last_days

OTHER = "Other"
ACTIVE_DAYS = 30  # over which the active people of a month are counted


@dataclass(frozen=True, slots=True)
class Totals:
    """What a selection comes to. Cached and written tokens are part of the prompt's, reasoning of the
    answer's; `list_nusd` is None for those who do not see the list cost."""

    requests: int = 0
    messages: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    billed_nusd: int = 0
    list_nusd: int | None = None

    @property
    def tokens(self) -> int:
        """Tokens of prompts and answers together."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def nusd_per_1k_tokens(self) -> int | None:
        """Billed nano-USD per thousand tokens, to the nearest; None when there were no tokens."""
        return round(Fraction(self.billed_nusd * 1000, self.tokens)) if self.tokens > 0 else None

    @property
    def cache_hit_rate(self) -> Fraction | None:
        """The part of the prompts' tokens that came from the provider's cache."""
        return _part(self.cached_tokens, self.prompt_tokens)

    @property
    def error_rate(self) -> Fraction | None:
        """The part of the requests that failed or timed out."""
        return _part(self.errors, self.requests)

    def __add__(self, other: Totals) -> Totals:
        """The sums of both."""
        both = {name: getattr(self, name) + getattr(other, name) for name in SUMS[:-1]}
        if self.list_nusd is None or other.list_nusd is None:
            return Totals(**both)
        return Totals(**both, list_nusd=self.list_nusd + other.list_nusd)


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One part of a breakdown; of the rest that is summed up, `is_rest` is set and `value` None."""

    value: Value
    label: str
    totals: Totals
    is_rest: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of time, or one part of it, comes to. `bucket` is its first day (also where that
    lies before the period), or the naive local hour; an hour that the clock goes through twice is one.
    `group` is the part's value as text, None for what has none and where nothing is grouped by."""

    bucket: date
    group: str | None
    totals: Totals


@dataclass(frozen=True, slots=True)
class Hour:
    """The calls of one local hour of the week; Monday is 0."""

    weekday: int
    hour: int
    requests: int
    billed_nusd: int


@dataclass(frozen=True, slots=True)
class Active:
    """How many different people made requests: on `day`, in the 30 days that end with it, and on each
    day of the period, in order, that had any."""

    day: date
    day_people: int
    month_people: int
    by_day: tuple[tuple[date, int], ...]


@dataclass(frozen=True, slots=True)
class Estimates:
    """Calls whose cost may still change, and what is billed for them so far."""

    calls: int
    billed_nusd: int


def totals(session: Session, who: Actor, selection: Selection) -> Totals:
    """The sums of a selection."""
    return totals_of(session, sources.pick(session, scope_of(who, selection), selection))


def totals_of(session: Session, source: Source) -> Totals:
    """The sums of a source."""
    row = session.execute(text(f"select {source.sums} {source.rows}"), source.bound).one()
    return Totals(*row)


def series(
    session: Session, who: Actor, selection: Selection, grain: Grain, group: Group | None = None
) -> tuple[Step, ...]:
    """Every step, or part of a step, that has any use, in order.

    Raises errors.BadInput for hours of a long period.
    """
    parameters.require_grain(selection.period, grain)
    source = _source(session, who, selection, group, by_hour=grain is Grain.HOUR)
    value = f"{source.value(group)}::text" if group else "null::text"
    rows = session.execute(
        text(f"select {source.bucket(grain)}, {value}, {source.sums} {source.rows}"
             " group by 1, 2 order by 1, 2"), source.bound,
    ).all()  # fmt: skip
    return tuple(Step(bucket, value, Totals(*sums)) for bucket, value, *sums in rows)


def groups(
    session: Session, who: Actor, selection: Selection, group: Group
) -> tuple[GroupRow, ...]:
    """Every part of a selection, the costliest first."""
    scope = scope_of(who, selection)
    source = sources.pick(session, scope, selection, {group})
    rows = session.execute(
        text(f"select {source.value(group)}, {source.sums} {source.rows}"
             " group by 1 order by billed_nusd desc, requests desc, 1"), source.bound,
    ).all()  # fmt: skip
    named = labels.of(session, scope, selection.period, group, [row[0] for row in rows])
    return tuple(GroupRow(row[0], named[row[0]], Totals(*row[1:])) for row in rows)


def top(rows: Sequence[GroupRow], count: int = 20) -> tuple[GroupRow, ...]:
    """The first `count` rows; what comes after them summed into one more, where there are several."""
    if len(rows) <= count + 1:
        return tuple(rows)
    rest = rows[count].totals
    for row in rows[count + 1 :]:
        rest += row.totals
    return (*rows[:count], GroupRow(None, OTHER, rest, is_rest=True))


def hours(session: Session, who: Actor, selection: Selection) -> tuple[Hour, ...]:
    """The hours of the week that have any use, in order."""
    source = sources.events(session, scope_of(who, selection), selection)
    asked = _HOURS.format(hour=source.hour, rows=source.rows)
    return tuple(Hour(*row) for row in session.execute(text(asked), source.bound))


def active(session: Session, who: Actor, selection: Selection) -> Active:
    """Who made requests, each person counted once, also where they are in several tenants.

    `day` is the last of the period, or today where that is still to come.
    """
    scope = scope_of(who, selection)
    days = selection.period
    day = min(days.last, today(session, scope))
    month = last_days(ACTIVE_DAYS, day)
    reach = Period(min(days.first, month.first), days.last)
    source = sources.people(session, scope, replace(selection, period=reach))
    asked = _PEOPLE.format(day=source.day, rows=source.rows, used=source.used)
    bound = source.bound | {"month_first": month.first, "month_last": day}
    counted = dict(tuple(row) for row in session.execute(text(asked), bound))
    month_people = counted.pop(None)
    by_day = tuple((on, people) for on, people in sorted(counted.items()) if days.first <= on)
    return Active(day, counted.get(day, 0), month_people, by_day)


def estimates(session: Session, who: Actor, selection: Selection) -> Estimates:
    """Calls whose true cost is still being asked for at the provider."""
    source = sources.events(session, scope_of(who, selection), selection)
    asked = _ESTIMATES.format(relation=source.relation, condition=source.condition)
    return Estimates(*session.execute(text(asked), source.bound).one())


def choices(
    session: Session, who: Actor, selection: Selection, group: Group
) -> tuple[tuple[Value, str], ...]:
    """What occurs in the period to filter by, with its label, in the order of labels.

    The other filters do not narrow it, but for the tenant.
    """
    wide = Selection(selection.period)
    if group is not Group.TENANT and Group.TENANT in selection.filters:
        wide = wide.only(Group.TENANT, *selection.filters[Group.TENANT])
    scope = scope_of(who, wide)
    source = sources.pick(session, scope, wide, {group})
    rows = session.scalars(
        text(f"select {source.value(group)} {source.rows} group by 1"),
        source.bound,
    ).all()
    named = labels.of(session, scope, wide.period, group, rows)
    return tuple(
        sorted(named.items(), key=lambda pair: (pair[0] is None, pair[1].lower(), pair[1]))
    )


def today(session: Session, scope: Scope) -> date:
    """The day it is for whom is asked about: of one tenant its own, else that of UTC."""
    if scope.tenant_ids and len(scope.tenant_ids) == 1:
        for calendar in zones.calendars(session, scope.tenant_ids).values():
            return calendar.today()
    return clock.now().date()


def _source(
    session: Session, who: Actor, selection: Selection, group: Group | None, *, by_hour: bool
) -> Source:
    scope = scope_of(who, selection)
    if by_hour:
        return sources.events(session, scope, selection)
    return sources.pick(session, scope, selection, {group} if group else frozenset())


def _part(some: int, whole: int) -> Fraction | None:
    return Fraction(some, whole) if whole > 0 else None


# The zone is asked once for each row, the rest once for each hour.
_HOURS = """
select extract(isodow from hour)::int - 1, extract(hour from hour)::int, sum(requests)::bigint,
  sum(billed_nusd)::bigint
from (
  select {hour} as hour, count(*) filter (where u.kind = 'call') as requests,
    sum(u.billed_nusd) as billed_nusd
  {rows} group by 1) as hours
group by 1, 2 order by 1, 2
"""

# Each day's people once; the month's are counted in two steps, three times as fast as count(distinct).
_PEOPLE = """
with used as materialized (
  select {day} as bucket, u.user_id {rows} and {used} group by 1, 2)
select bucket, count(*) from used group by bucket
union all
select null, count(*) from (
  select user_id from used where bucket between :month_first and :month_last group by user_id) as people
"""

# Begins with the few calls that are looked up, not with the period's: as charges.is_final says it.
_ESTIMATES = """
select count(*), coalesce(sum(u.billed_nusd), 0)::bigint from {relation}
join app.lookups l on l.tenant_id = u.tenant_id and l.call_id = u.call_id
where {condition} and u.kind = 'call'
"""
