"""Which table answers a question of usage, and the FROM and WHERE that fit it. Takes the smallest that
can: sums by model, sums by person, else the events; all three give the same numbers.

Values are bound, never written into a statement. Days are each tenant's own.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.analytics.scope import Scope
from core.analytics.selection import IDS, Grain, Group, Selection, Value
from core.identity import zones
from core.identity.zones import Segment

_BY_MODEL = frozenset({Group.TENANT, Group.MODEL, Group.SOURCE})
_BY_PERSON = _BY_MODEL | {Group.USER}
_TOKENS = ("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens",
           "reasoning_tokens", "billed_nusd")  # fmt: skip
SUMS = ("requests", "messages", "errors", *_TOKENS, "list_nusd")


@dataclass(frozen=True, slots=True)
class Source:
    """A table narrowed to what was asked for and may be seen. Its rows are called `u`."""

    of_events: bool
    relation: str
    condition: str
    bound: dict[str, object]
    day: str  # the tenant's own day of a row
    hour: str  # the local hour of a row; of events only
    sees_list_cost: bool

    @property
    def rows(self) -> str:
        """FROM and WHERE."""
        return f"from {self.relation} where {self.condition}"

    @property
    def used(self) -> str:
        """The condition that a row counts requests, rather than only corrects some."""
        return "u.kind = 'call'" if self.of_events else "u.requests > 0"

    @property
    def sums(self) -> str:
        """The expressions of SUMS, in their order."""
        counted = _OF_EVENTS if self.of_events else _OF_DAYS
        summed = [f"coalesce(sum(u.{name}), 0)::bigint as {name}" for name in _TOKENS]
        cost = "coalesce(sum(u.list_nusd), 0)::bigint" if self.sees_list_cost else "null::bigint"
        return ", ".join([counted, *summed, f"{cost} as list_nusd"])

    def value(self, group: Group) -> str:
        """The expression of what a row belongs to."""
        return _column(group, of_events=self.of_events)

    def bucket(self, grain: Grain) -> str:
        """The expression of the step a row falls into: its first day, or its hour."""
        match grain:
            case Grain.HOUR:
                return self.hour
            case Grain.DAY:
                return self.day
            case Grain.WEEK | Grain.MONTH:
                return f"date_trunc('{grain}', {self.day})::date"


def pick(
    session: Session, scope: Scope, selection: Selection, groups: AbstractSet[Group] = frozenset()
) -> Source:
    """The smallest table that has the days, filters and `groups`."""
    _settle_in(session)
    needed = selection.filtered | groups
    if scope.user_id is not None:
        needed |= {Group.USER}
    if selection.hour is None and selection.slot is None and needed <= _BY_PERSON:
        table = "usage_daily_models" if needed <= _BY_MODEL else "usage_daily"
        return _days(scope, selection, table)
    return _events(session, scope, selection)


def people(session: Session, scope: Scope, selection: Selection) -> Source:
    """The smallest table that also says who."""
    return pick(session, scope, selection, {Group.USER})


def events(session: Session, scope: Scope, selection: Selection) -> Source:
    """The events themselves."""
    _settle_in(session)
    return _events(session, scope, selection)


def _events(session: Session, scope: Scope, selection: Selection) -> Source:
    where = _Where(of_events=True)
    where.narrow(scope, selection)
    found = [] if scope.is_empty else _pieces(session, scope, selection)
    relation, day, hour = _dated(where, found)
    if selection.hour is not None:
        where.add(f"{hour} = :hour", hour=selection.hour)
    if selection.slot is not None:
        where.add(f"extract(isodow from {hour}) = :weekday", weekday=selection.slot.weekday + 1)
        where.add(f"extract(hour from {hour}) = :of_day", of_day=selection.slot.hour)
    return where.source(relation, day, hour, scope)


def _settle_in(session: Session) -> None:
    """Let the transaction sort and hash a month of events in memory, and have each question planned for
    what it asks: a plan for any period would look up a month row by row."""
    session.execute(text(_SETTINGS))


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of one tenant's time within one zone."""

    tenant_id: UUID
    segment: Segment


class _Where:
    """Conditions being put together, with what is bound in them."""

    def __init__(self, *, of_events: bool) -> None:
        self.of_events = of_events
        self.conditions: list[str] = []
        self.bound: dict[str, object] = {}

    def add(self, condition: str, **bound: object) -> None:
        """One more condition that every row has to meet."""
        self.conditions.append(condition)
        self.bound |= bound

    def narrow(self, scope: Scope, selection: Selection) -> None:
        """What may be seen, and what is filtered by."""
        if scope.tenant_ids is not None and len(scope.tenant_ids) == 1:
            self.add("u.tenant_id = :of_tenant", of_tenant=scope.tenant_ids[0])
        elif scope.tenant_ids is not None:
            self.add("u.tenant_id = any(cast(:of_tenants as uuid[]))",
                     of_tenants=list(scope.tenant_ids))  # fmt: skip
        if scope.user_id is not None:
            self.add("u.user_id = :of_user", of_user=scope.user_id)
        for group, values in selection.filters.items():
            if group is not Group.TENANT:  # answered by the scope
                self._let_through(group, values)

    def source(self, relation: str, day: str, hour: str, scope: Scope) -> Source:
        """The finished source."""
        return Source(
            of_events=self.of_events, relation=relation, condition=" and ".join(self.conditions),
            bound=self.bound, day=day, hour=hour, sees_list_cost=scope.sees_list_cost,
        )  # fmt: skip

    def _let_through(self, group: Group, values: tuple[Value, ...]) -> None:
        column = _column(group, of_events=self.of_events)
        kind = "uuid" if group in IDS else "text"
        name = f"filter_{group}"
        condition = f"{column} = any(cast(:{name} as {kind}[]))"
        if None in values:
            condition = f"({condition} or {column} is null)"
        self.add(condition, **{name: [value for value in values if value is not None]})


def _days(scope: Scope, selection: Selection, table: str) -> Source:
    where = _Where(of_events=False)
    where.narrow(scope, selection)
    days = selection.period
    where.add("u.day between :first and :last", first=days.first, last=days.last)
    return where.source(f"app.{table} u", "u.day", "", scope)


def _pieces(session: Session, scope: Scope, selection: Selection) -> list[_Piece]:
    calendars = zones.calendars(session, scope.tenant_ids)
    return [
        _Piece(tenant_id, segment)
        for tenant_id, calendar in calendars.items()
        for segment in calendar.segments(selection.period)
    ]


def _dated(where: _Where, pieces: list[_Piece]) -> tuple[str, str, str]:
    """The relation, and the expressions of a row's own day and hour; adds the bounds in time.

    Constants where everybody's time is cut alike; else the tenants' pieces are joined, and the outer
    bounds let the database leave out whole months.
    """
    if not pieces:
        where.add("false")
        return "app.usage_events u", "null::date", "null::timestamp"
    segments = {piece.segment for piece in pieces}
    where.add(
        "u.occurred_at >= :begins and u.occurred_at < :ends",
        begins=min(segment.begins for segment in segments),
        ends=max(segment.ends for segment in segments),
    )
    clamped = any(segment.first_day > date.min for segment in segments)
    if len(segments) == 1:
        (segment,) = segments
        where.bound |= {"zone": segment.time_zone, "first_day": segment.first_day}
        day, hour = _own("cast(:zone as text)", "cast(:first_day as date)", clamped=clamped)
        return "app.usage_events u", day, hour
    where.add(_WITHIN_PIECE)
    where.bound |= {
        "piece_tenants": [piece.tenant_id for piece in pieces],
        "piece_begins": [piece.segment.begins for piece in pieces],
        "piece_ends": [piece.segment.ends for piece in pieces],
        "piece_zones": [piece.segment.time_zone for piece in pieces],
        "piece_days": [piece.segment.first_day for piece in pieces],
    }
    return _JOINED, *_own("piece.zone", "piece.first_day", clamped=clamped)


def _own(zone: str, first_day: str, *, clamped: bool) -> tuple[str, str]:
    """The expressions of a row's own day and of its local hour."""
    local = f"(u.occurred_at at time zone {zone})"
    day, hour = f"{local}::date", f"date_trunc('hour', {local})"
    if not clamped:
        return day, hour
    return f"greatest({day}, {first_day})", f"greatest({hour}, {first_day}::timestamp)"


def _column(group: Group, *, of_events: bool) -> str:
    match group:
        case Group.TENANT:
            return "u.tenant_id"
        case Group.USER:
            return "u.user_id"
        case Group.MODEL:
            return "u.model_served" if of_events else "u.model"
        case Group.KEY:
            return "u.api_key_id"
        case _:
            return f"u.{group}"


_SETTINGS = """select set_config('work_mem', '32MB', true),
  set_config('plan_cache_mode', 'force_custom_plan', true)"""
_OF_EVENTS = """count(*) filter (where u.kind = 'call') as requests,
  count(*) filter (where u.kind = 'call' and u.source = 'chat') as messages,
  count(*) filter (where u.kind = 'call' and u.outcome in ('error', 'timeout')) as errors"""
_OF_DAYS = """coalesce(sum(u.requests), 0)::bigint as requests,
  coalesce(sum(u.requests) filter (where u.source = 'chat'), 0)::bigint as messages,
  coalesce(sum(u.errors), 0)::bigint as errors"""
# Left to itself the database goes through the key tenant by tenant, in one process, which takes longer than
# reading the months once with several. So neither condition is one that an index could answer: what narrows
# to some tenants, and the outer bounds in time, can.
_WITHIN_PIECE = (
    "case when u.occurred_at >= piece.begins then u.occurred_at < piece.ends else false end"
)
_JOINED = """app.usage_events u
  join unnest(cast(:piece_tenants as uuid[]), cast(:piece_begins as timestamptz[]),
    cast(:piece_ends as timestamptz[]), cast(:piece_zones as text[]), cast(:piece_days as date[]))
    as piece(tenant_id, begins, ends, zone, first_day) on piece.tenant_id = greatest(u.tenant_id)"""
