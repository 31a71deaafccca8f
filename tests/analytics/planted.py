"""Events written straight into the books, as settlement would have, for proofs over many of them: any
moment, any zone, any change of zone. Everything is forgotten at the end of an example."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db
from core.analytics.selection import Grain, Group, Selection, Value
from core.demonstration import records
from core.identity import members, zones
from core.identity.access import Role
from core.identity.zones import Calendar
from core.metering import rollups
from core.periods import Period
from tests.analytics.using import add_person
from tests.factories import TESTS, make_model, make_place
from tests.identity.clocks import zone_names

FIRST, LAST = datetime(2025, 1, 1), datetime(2026, 12, 31)  # noqa: DTZ001 - the zone is added


@dataclass(frozen=True, slots=True)
class Event:
    """A call or a correction, with the places its tenant, person, model and key have in `Ground`."""

    at: datetime
    tenant: int
    person: int
    model: int
    key: int | None
    kind: str
    source: str
    provider: str
    purpose: str
    cost_center: str | None
    project: str | None
    outcome: str
    prompt_tokens: int
    completion_tokens: int
    billed_nusd: int
    list_nusd: int


@dataclass(frozen=True, slots=True)
class Ground:
    """Two tenants with a person in both and one of their own each, a key of each, and two models."""

    tenants: tuple[UUID, UUID]
    people: tuple[UUID, UUID, UUID]  # the first is in both tenants
    keys: tuple[UUID, UUID]
    models: tuple[str, str]
    labels: dict[tuple[UUID, UUID], UUID] = field(default_factory=dict)
    calendars: tuple[Calendar, Calendar] = (Calendar.of_zone("UTC"),) * 2

    def day_of(self, event: Event) -> date:
        """The tenant's own day of an event."""
        return self.calendars[event.tenant].day_of(event.at)

    def hour_of(self, event: Event) -> datetime:
        """The local hour of an event, not before the first day of the zone in force."""
        span = self.calendars[event.tenant].span_at(event.at)
        local = event.at.astimezone(zoneinfo.ZoneInfo(span.time_zone)).replace(tzinfo=None)
        cut = local.replace(minute=0, second=0, microsecond=0)
        return max(cut, datetime.combine(span.starts_on, datetime.min.time()))

    def value(self, event: Event, group: Group) -> Value:
        """What an event belongs to."""
        match group:
            case Group.TENANT:
                return self.tenants[event.tenant]
            case Group.USER:
                return self.person(event)
            case Group.MODEL:
                return self.models[event.model]
            case Group.KEY:
                return None if event.key is None else self.keys[event.tenant]
            case _:
                found: str | None = getattr(event, group)
                return found

    def person(self, event: Event) -> UUID:
        """Who made a call: a person of that tenant."""
        return self.people[0] if event.person == 0 else self.people[1 + event.tenant]

    def bucket(self, event: Event, grain: Grain) -> date:
        """The step an event falls into."""
        day = self.day_of(event)
        match grain:
            case Grain.HOUR:
                return self.hour_of(event)
            case Grain.DAY:
                return day
            case Grain.WEEK:
                return day - timedelta(days=day.weekday())
            case Grain.MONTH:
                return day.replace(day=1)

    def matching(self, events: Sequence[Event], selection: Selection) -> list[Event]:
        """The events of a selection."""
        days = selection.period
        return [
            event
            for event in events
            if days.first <= self.day_of(event) <= days.last
            and all(self.value(event, by) in values for by, values in selection.filters.items())
        ]


def ground() -> Ground:
    """Fresh tenants, people, keys and models."""
    first, second = make_place(role="admin"), make_place(role="admin")
    tenants = (first.tenant_id, second.tenant_id)
    third = add_person(first.tenant_id, Role.MEMBER, "Third")
    with db.transaction(TESTS) as session:
        members.add(session, TESTS, second.tenant_id, first.user_id, Role.MEMBER, confirmed=True)
        keys = (db.new_id(), db.new_id())
        for tenant_id, key_id, user_id in zip(
            tenants, keys, (first.user_id, second.user_id), strict=True
        ):
            session.execute(
                text(
                    "insert into app.api_keys(tenant_id, key_id, user_id, name, prefix, scopes)"
                    " values (:t, :k, :u, 'robot', 'sk', '{chat}')"
                ),
                {"t": tenant_id, "k": key_id, "u": user_id},
            )
        rows = session.execute(
            text(
                "select tenant_id, user_id as subject, label_id from app.memberships"
                " where tenant_id = any(:t) union all"
                " select tenant_id, tenant_id, label_id from app.tenants where tenant_id = any(:t)"
            ),
            {"t": list(tenants)},
        )
        labels = {(row.tenant_id, row.subject): row.label_id for row in rows}
    people = (first.user_id, third, second.user_id)
    return Ground(tenants, people, keys, (make_model(), make_model()), labels)


@contextmanager
def planted(
    on: Ground, calendars: tuple[Calendar, Calendar], events: Sequence[Event]
) -> Iterator[tuple[Session, Ground]]:
    """A transaction in which the tenants have these calendars and events, and rolls them back."""
    with db.transaction(TESTS) as session:
        point = session.begin_nested()
        for tenant_id, calendar in zip(on.tenants, calendars, strict=True):
            _set(session, tenant_id, calendar)
        rows = [_row(on, event) for event in events]
        records.insert(session, "calls", [_call(row) for row in rows])
        records.insert(session, "usage_events", rows)
        for tenant_id in on.tenants:
            rollups.rebuild(session, tenant_id)
        yield session, replace(on, calendars=calendars)
        point.rollback()


def _set(session: Session, tenant_id: UUID, calendar: Calendar) -> None:
    first, *changed = calendar.spans
    session.execute(
        text("update app.tenants set first_time_zone = :z where tenant_id = :t"),
        {"z": first.time_zone, "t": tenant_id},
    )
    for span in changed:
        session.execute(
            text(
                "insert into app.zone_changes(tenant_id, starts_on, starts_at, time_zone)"
                " values (:t, :on, :at, :z)"
            ),
            {"t": tenant_id, "on": span.starts_on, "at": span.starts_at, "z": span.time_zone},
        )


def _row(on: Ground, event: Event) -> records.Row:
    tenant_id, call_id, person = on.tenants[event.tenant], db.new_id(), on.person(event)
    return {
        "tenant_id": tenant_id, "call_id": call_id, "occurred_at": event.at, "kind": event.kind,
        "recorded_at": event.at, "cached": False,
        "adjusts_call_id": call_id if event.kind == "adjustment" else None,
        "user_id": person, "api_key_id": on.value(event, Group.KEY),
        "tenant_label_id": on.labels[tenant_id, tenant_id],
        "user_label_id": on.labels[tenant_id, person], "cost_center": event.cost_center,
        "project": event.project, "source": event.source, "purpose": event.purpose,
        "conversation_id": None, "provider": event.provider,
        "model_requested": on.models[event.model], "model_served": on.models[event.model],
        "price_id": 1, "prompt_tokens": event.prompt_tokens, "cached_tokens": event.prompt_tokens // 2,
        "cache_write_tokens": 1, "completion_tokens": event.completion_tokens,
        "reasoning_tokens": event.completion_tokens // 3, "list_nusd": event.list_nusd,
        "billed_nusd": event.billed_nusd, "cost_source": "provider", "outcome": event.outcome,
        "latency_ms": event.completion_tokens, "first_token_ms": None,
    }  # fmt: skip


def _call(row: records.Row) -> records.Row:
    shared = ("tenant_id", "call_id", "user_id", "api_key_id", "tenant_label_id", "user_label_id",
              "source", "purpose", "provider", "model_requested", "price_id", "outcome")  # fmt: skip
    at = row["occurred_at"]
    return {name: row[name] for name in shared} | {
        "markup": 0, "prompt_tokens_guess": 1, "answer_tokens_max": 1, "tokens_held": 1,
        "hold_nusd": 0, "period": date(2026, 1, 1), "state": "settled", "lease_token": row["call_id"],
        "lease_until": at, "deadline_at": at, "opened_at": at, "settled_at": at, "gave_output": True,
        "delivered_tokens": 0,
    }  # fmt: skip


moments = st.datetimes(FIRST, LAST, timezones=st.just(UTC))


@st.composite
def calendars(draw: st.DrawFn) -> Calendar:
    """A zone, and up to two changes of it."""
    calendar = Calendar.of_zone(draw(zone_names))
    for at in sorted(draw(st.lists(moments, max_size=2))):
        if at >= calendar.spans[-1].starts_at:
            span = zones.next_change(calendar, draw(zone_names), at)
            calendar = Calendar((*calendar.spans, span))
    return calendar


@st.composite
def histories(draw: st.DrawFn) -> tuple[tuple[Calendar, Calendar], list[Event], Period]:
    """Calendars, a period that often has a change of zone in it, and events around the edges of both."""
    made = (draw(calendars()), draw(calendars()))
    first = draw(st.dates(FIRST.date(), LAST.date()))
    changed = [span.starts_on for calendar in made for span in calendar.spans[1:]]
    if changed and draw(st.integers(0, 3)):
        first = draw(st.sampled_from(changed)) - timedelta(days=draw(st.integers(0, 3)))
    period = Period(first, first + timedelta(days=draw(st.integers(0, 70))))
    placed = st.integers(0, 1).flatmap(
        lambda tenant: _events(tenant, _around(made[tenant], period))
    )
    return made, draw(st.lists(placed, min_size=8, max_size=16)), period


def _around(calendar: Calendar, period: Period) -> st.SearchStrategy[datetime]:
    """Moments at the edges of a period and of zones, in the hours before and after them, and between."""
    edges = [*calendar.bounds(period), *(span.starts_at for span in calendar.spans[1:])]
    hours = [timedelta(hours=hours) for hours in (-26, -1, 1, 3, 26)]
    beside = st.sampled_from([timedelta(0), timedelta(microseconds=-1), *hours])
    near = st.builds(lambda edge, off: edge + off, st.sampled_from(edges), beside)
    inside = st.builds(lambda s: edges[0] + timedelta(seconds=s), st.integers(0, 86_400 * 70))
    return near | near | inside


def _events(tenant: int, at: st.SearchStrategy[datetime]) -> st.SearchStrategy[Event]:
    amounts = st.integers(0, 10**12) | st.sampled_from([0, 1, 2**53 + 1])
    return st.builds(
        Event, at=at, tenant=st.just(tenant), person=st.integers(0, 1), model=st.integers(0, 1),
        key=st.sampled_from([None, 0]), kind=st.sampled_from(["call", "call", "adjustment"]),
        source=st.sampled_from(["chat", "api", "background"]),
        provider=st.sampled_from(["openrouter", "demo"]), purpose=st.sampled_from(["turn", "title"]),
        cost_center=st.sampled_from([None, "4711", "none"]), project=st.sampled_from([None, "Apollo"]),
        outcome=st.sampled_from(["ok", "stopped", "cut", "error", "timeout"]),
        prompt_tokens=st.integers(-50, 10**6), completion_tokens=st.integers(0, 10**6),
        billed_nusd=amounts, list_nusd=amounts,
    )  # fmt: skip
