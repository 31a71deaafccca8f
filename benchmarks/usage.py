"""The questions of the Usage page over made-up months: how long each takes, for the tenant with the most
events and for all tenants, and how long the same takes on the raw events; what keeping the sums costs.

Runs the product's own queries in this process, each in a transaction of its own, warm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from uuid import UUID

import psycopg
from sqlalchemy.orm import Session

from benchmarks import events
from benchmarks.events import Made, Size
from benchmarks.quantiles import median, quantiles
from core import db, settings
from core.analytics import conversations, details, figures, latencies, outlook, sources
from core.analytics.selection import Grain, Group, Selection
from core.db import Database, System
from core.identity.access import Actor, Principal, Role
from core.metering import rollups
from core.periods import last_days

EVERYONE = System("benchmark")
Question = Callable[[Session, Actor, Selection], object]

QUESTIONS: dict[str, Question] = {
    "totals": figures.totals,
    "totals of the period before": lambda s, w, of: figures.totals(
        s, w, of.within(of.period.before)
    ),
    "days by model": lambda s, w, of: figures.series(s, w, of, Grain.DAY, Group.MODEL),
    "cost by model": lambda s, w, of: figures.groups(s, w, of, Group.MODEL),
    "cost by person": lambda s, w, of: figures.groups(s, w, of, Group.USER),
    "cost by tenant": lambda s, w, of: figures.groups(s, w, of, Group.TENANT),
    "cost by cost centre": lambda s, w, of: figures.groups(s, w, of, Group.COST_CENTER),
    "hours of the week": figures.hours,
    "active people": figures.active,
    "estimates": figures.estimates,
    "first token and duration": latencies.overall,
    "percentiles by model": lambda s, w, of: latencies.by(s, w, of, Group.MODEL),
    "length of conversations": conversations.average_length,
    "burn of the month": lambda s, w, of: outlook.read(s, w, of, 0),
    "first page of rows": details.rows,
    "sum of the rows": details.sums,
    "people to choose from": lambda s, w, of: figures.choices(s, w, of, Group.USER),
}
_LONG = ("totals", "days by model", "cost by model", "cost by tenant", "cost by person")


@dataclass(frozen=True, slots=True)
class Answered:
    """One question: 95 of a hundred answers took at most `p95_ms`; once on raw events: `raw_ms`."""

    question: str
    p95_ms: float
    median_ms: float
    raw_ms: float


@dataclass(frozen=True, slots=True)
class Kept:
    """Milliseconds for the sums of one event, and for an event itself in its settlement, in an empty
    month of a database with few events and after the last of many."""

    sums_ms: float
    first_event_ms: float
    last_event_ms: float


@contextmanager
def filled(dsn: str, size: Size, last_month: date) -> Iterator[Made]:
    """A migrated database with that much usage and its sums, used by this process meanwhile."""
    made = events.make(dsn, size, last_month)
    database = Database(settings.current(), dsn)
    db.install(database)
    try:
        with database.transaction(EVERYONE) as session:
            rollups.rebuild(session)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("vacuum analyze app.usage_daily, app.usage_daily_models")
            connection.execute("vacuum analyze app.usage_conversations")
            connection.execute("checkpoint")  # else it goes on beside the first questions
        yield made
    finally:
        database.close()


def admin(made: Made) -> Principal:
    """An admin of the tenant with the most events."""
    return Principal(
        made.tenant_id, made.admin_id, Role.ADMIN, "admin@example.com", "Admin", "Largest",
        "enterprise", "postpaid", "UTC",
    )  # fmt: skip


def month(who: Actor, last: date, repeats: int) -> Iterator[Answered]:
    """Every question over 30 days, as it is answered."""
    selection = Selection(last_days(30, last))
    for name, question in QUESTIONS.items():
        p95_ms, median_ms = _times(question, who, selection, repeats)
        with _on_raw_events():
            raw_ms = _once(question, who, selection)
        yield Answered(name, p95_ms, median_ms, raw_ms)


def year_p95_ms(who: Actor, last: date, repeats: int) -> float:
    """The longest of the questions over 12 months."""
    year = Selection(last_days(365, last))
    return max(_times(QUESTIONS[name], who, year, repeats)[0] for name in _LONG)


def keep(dsn: str, empty_dsn: str, made: Made) -> Kept:
    """Add events as settlement does, one statement each."""
    pairs = [(_add_ms(empty_dsn, made.tenant_id), _add_ms(dsn, made.tenant_id)) for _ in range(3)]
    return Kept(
        sums_ms=_sums_ms(dsn, made.tenant_id),
        first_event_ms=median([first for first, _ in pairs]),
        last_event_ms=median([last for _, last in pairs]),
    )


def _times(
    question: Question, who: Actor, selection: Selection, repeats: int
) -> tuple[float, float]:
    _once(question, who, selection)
    times = [_once(question, who, selection) for _ in range(repeats)]
    return quantiles(times, 1).p95, median(times)


def _once(question: Question, who: Actor, selection: Selection) -> float:
    started = time.perf_counter()
    with db.transaction(who) as session:
        question(session, who, selection)
    return (time.perf_counter() - started) * 1000


@contextmanager
def _on_raw_events() -> Iterator[None]:
    """Let every question be answered from the events, as if there were no sums."""
    picked, by_people = sources.pick, sources.people

    def events_only(session: Session, scope: object, selection: Selection, *_: object) -> object:
        return sources.events(session, scope, selection)  # type: ignore[arg-type]

    sources.pick = sources.people = events_only  # type: ignore[assignment]
    try:
        yield
    finally:
        sources.pick, sources.people = picked, by_people


# As the job runs it each second, over this many events of a tenant.
_BATCH_EVENTS = 50
_QUEUE = """
insert into app.usage_pending select tenant_id, event_id, occurred_at from app.usage_events
  where tenant_id = %(tenant)s order by occurred_at desc offset %(n)s limit %(batch)s
"""
_SUM = "select verbs.sum_usage(%(tenant)s, %(batch)s, true)"
_ADD_EVENT = """
insert into app.usage_events(tenant_id, occurred_at, kind, call_id, user_id, tenant_label_id,
  user_label_id, source, purpose, provider, model_requested, model_served, price_id, prompt_tokens,
  cached_tokens, cache_write_tokens, completion_tokens, reasoning_tokens, list_nusd, billed_nusd,
  cost_source, outcome, latency_ms)
values (%(tenant)s, now(), 'call', gen_random_uuid(), %(tenant)s, %(tenant)s, %(tenant)s, 'api', 'bench',
  'openrouter', 'm', 'm', 1, %(n)s, 0, 0, 1, 0, 1, 1, 'provider', 'ok', 1)
"""


def _sums_ms(dsn: str, tenant_id: UUID) -> float:
    """What adding one event to the sums takes, of a batch: the median."""
    times = []
    with _as_settlement(dsn) as connection:
        connection.execute("set search_path = app, verbs")
        for n in range(20):
            asked = {"tenant": tenant_id, "n": n * _BATCH_EVENTS, "batch": _BATCH_EVENTS}
            connection.execute(_QUEUE, asked)
            started = time.perf_counter()
            connection.execute(_SUM, asked)
            times.append((time.perf_counter() - started) * 1000 / _BATCH_EVENTS)
    return median(times)


def _add_ms(dsn: str, tenant_id: UUID) -> float:
    """What one event takes in a settlement, without its commit: the median."""
    times = []
    with _as_settlement(dsn) as connection:
        for n in range(500):
            started = time.perf_counter()
            connection.execute(_ADD_EVENT, {"tenant": tenant_id, "n": n % 50})
            times.append((time.perf_counter() - started) * 1000)
    return median(times)


@contextmanager
def _as_settlement(dsn: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("set synchronous_commit = off")  # the settlement's commit is one for all
        yield connection
