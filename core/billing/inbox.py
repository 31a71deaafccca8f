"""The inbox of Stripe's events: stored first, then each applied once, with its state, in one transaction.

Nothing is lost by a crash: an event waits until its effect is committed, is tried again while what
it is about has not come yet, and is given up loudly. It never orders events by time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal, TypeAlias

import structlog
from prometheus_client import Gauge
from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, defer

from core import db, errors, jobs, telemetry
from core.billing import stripe_api, stripe_objects, webhooks
from core.billing.effects import Effect, Handled, Waits
from core.billing.ledger import BILLING
from core.billing.stripe_objects import Json, Unreadable
from core.billing.stripe_tables import StripeEvent
from core.identity import audit
from core.identity.access import Actor, require_operator
from core.jobs import Queue

CameBy: TypeAlias = Literal["webhook", "reconciler"]
State: TypeAlias = Literal["waiting", "handled", "ignored", "dead"]
HANDLE = "billing.handle_event"
STATES: tuple[State, ...] = ("waiting", "handled", "ignored", "dead")
ATTEMPTS_MAX = 500  # more than three days of trying: age ends an event first
_AGE_MAX = timedelta(days=3)
_ATTEMPTS_MIN = 5  # before age alone ends an event: the worker may have been away for days
_FIRST_WAIT_S, _WAIT_MAX_S = 5, 600
_OVERDUE = timedelta(minutes=15)
_PAYLOAD_KEPT = timedelta(days=90)  # Stripe itself lists an event for 30
_BATCH = 50
_ID_LENGTH_MAX = 100
_REASON_LENGTH_MAX = 300
_PAGE_MAX = 500

log = structlog.get_logger(__name__)
events_gauge = Gauge(
    "purser_stripe_events", "Events from Stripe by state", ["state"], registry=telemetry.registry
)


@dataclass(frozen=True, slots=True)
class Received:
    """One event as operators see it: what it is about and what became of it."""

    event_id: str
    type: str
    object_id: str | None
    created_at: datetime
    received_at: datetime
    came_by: str
    deliveries: int
    state: str
    attempts: int
    due_at: datetime | None
    reason: str | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many events are in each state; `overdue`: waiting 15 minutes longer than they should."""

    waiting: int
    handled: int
    ignored: int
    dead: int
    overdue: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """A waiting event as read before anything is locked. `attempts` tells whether it was touched."""

    event_id: str
    attempts: int
    payload: Json


def receive(session: Session, payload: Mapping[str, Any], *, came_by: CameBy) -> bool:
    """Store an event whose signature was verified, with its job. A copy is only counted.

    Returns whether it is new. Raises Unreadable for what has no event's shape.
    """
    found = stripe_objects.event(payload)
    if len(found.event_id) > _ID_LENGTH_MAX:
        raise Unreadable("id")
    stored = session.scalar(
        insert(StripeEvent)
        .values(
            event_id=found.event_id, type=_storable(found.type), api_version=found.api_version,
            object_id=_storable(found.object_id), created_at=found.created_at,
            payload=_storable(payload), came_by=came_by,
        )
        .on_conflict_do_nothing()
        .returning(StripeEvent.event_id)
    )  # fmt: skip
    if stored is None:
        session.execute(
            update(StripeEvent)
            .where(StripeEvent.event_id == found.event_id)
            .values(deliveries=StripeEvent.deliveries + 1)
        )
        return False
    jobs.defer(session, HANDLE, event_id=found.event_id)
    return True


@jobs.task(HANDLE, Queue.MONEY)
def handle(event_id: str) -> None:
    """Apply one event if it still waits. Opens its own transactions; safe to repeat and to kill.

    What must be read from Stripe is read first. Then the event's row, its effect and its state are
    one transaction. Raises only errors.Unavailable, when the database is away.
    """
    seen = _waiting(event_id)
    if seen is None:
        return
    try:
        event = stripe_objects.event(seen.payload)
        need = webhooks.needed(event)
        fetched = webhooks.read(need) if need else None
        with db.transaction(BILLING) as session:
            row = _claim(session, seen)
            if row is not None:
                _close(
                    session,
                    row,
                    webhooks.tried(session, partial(webhooks.apply, session, event, fetched)),
                )
    except Exception as error:  # one event's failure is its own: counted, and tried again
        log.warning("inbox.failed", kind=seen.payload.get("type"), exc_info=error)
        with db.transaction(BILLING) as session:
            row = _claim(session, seen)
            if row is not None:
                _postpone(session, row, _named(error))


@jobs.periodic("* * * * * */30", "billing.inbox", Queue.MONEY)
def sweep() -> None:
    """Apply what is due, each event by itself; count states, and raise an alarm over what is late."""
    with db.transaction(BILLING) as session:
        due = session.scalars(
            select(StripeEvent.event_id)
            .where(StripeEvent.state == "waiting", StripeEvent.due_at <= func.now())
            .order_by(StripeEvent.due_at)
            .limit(_BATCH)
            .with_for_update(skip_locked=True)
        ).all()
    for event_id in due:
        handle(event_id)
    with db.transaction(BILLING) as session:
        found = _counts(session)
    for state in STATES:
        events_gauge.labels(state=state).set(getattr(found, state))
    if found.overdue:
        telemetry.alarm("stripe_events_overdue", count=found.overdue)


@jobs.periodic("10 3 * * *", "billing.forget_payloads", Queue.LONG)
def forget_payloads() -> None:
    """Clear the content of events that ended 90 days ago: it names people. What became of them stays."""
    with db.transaction(BILLING) as session:
        session.execute(
            update(StripeEvent)
            .where(StripeEvent.ended_at < func.now() - _PAYLOAD_KEPT, StripeEvent.payload != {})
            .values(payload={})
        )


def replay(session: Session, who: Actor, event_id: str) -> None:
    """Apply an event again, whatever became of it: effects are booked once, so this cannot double one.

    Audited. Raises errors.NotFound, and errors.Conflict for an event whose content was cleared.
    """
    operator = require_operator(who)
    row = session.get(StripeEvent, event_id, with_for_update=True)
    if row is None:
        raise errors.NotFound("There is no such event.")
    if not row.payload:
        raise errors.Conflict(
            f"This event's content was cleared {_PAYLOAD_KEPT.days} days after its end: it cannot be"
            " applied again."
        )
    before = {"state": row.state, "attempts": row.attempts, "reason": row.reason}
    now = _now(session)
    row.due_at, row.ended_at = now, None
    row.state, row.attempts = "waiting", 0
    audit.record(
        session, operator, "stripe_event.replay", f"stripe_event:{event_id}", before=before,
        after={"state": "waiting"},
    )  # fmt: skip
    jobs.defer(session, HANDLE, event_id=event_id)


def recent(
    session: Session,
    who: Actor,
    *,
    state: State | None = None,
    limit: int = 100,
) -> tuple[Received, ...]:
    """The newest events first, of one state or all. Never their content."""
    require_operator(who)
    query = select(StripeEvent).options(defer(StripeEvent.payload))
    query = query.order_by(StripeEvent.received_at.desc(), StripeEvent.event_id)
    if state is not None:
        query = query.where(StripeEvent.state == state)
    return tuple(_shown(r) for r in session.scalars(query.limit(min(max(limit, 1), _PAGE_MAX))))


def one(session: Session, who: Actor, event_id: str) -> Received:
    """One event. Raises errors.NotFound."""
    require_operator(who)
    row = session.get(StripeEvent, event_id, options=[defer(StripeEvent.payload)])
    if row is None:
        raise errors.NotFound("There is no such event.")
    return _shown(row)


def counts(session: Session, who: Actor) -> Counts:
    """How many events are in each state."""
    require_operator(who)
    return _counts(session)


def _counts(session: Session) -> Counts:
    row = session.execute(
        text(
            "select count(*) filter (where state = 'waiting') as waiting,"
            " count(*) filter (where state = 'handled') as handled,"
            " count(*) filter (where state = 'ignored') as ignored,"
            " count(*) filter (where state = 'dead') as dead,"
            " count(*) filter (where due_at < now() - :late) as overdue from app.stripe_events"
        ),
        {"late": _OVERDUE},
    ).one()
    return Counts(row.waiting, row.handled, row.ignored, row.dead, row.overdue)


def _shown(r: StripeEvent) -> Received:
    return Received(
        r.event_id, r.type, r.object_id, r.created_at, r.received_at, r.came_by, r.deliveries,
        r.state, r.attempts, r.due_at, r.reason, r.ended_at,
    )  # fmt: skip


def _waiting(event_id: str) -> _Seen | None:
    with db.transaction(BILLING) as session:
        row = session.get(StripeEvent, event_id)
        if row is None or row.state != "waiting":
            return None
        return _Seen(row.event_id, row.attempts, row.payload)


def _claim(session: Session, seen: _Seen) -> StripeEvent | None:
    """The event's row, locked; None when another worker has it, or had it since it was read."""
    return session.scalar(
        select(StripeEvent)
        .where(
            StripeEvent.event_id == seen.event_id, StripeEvent.state == "waiting",
            StripeEvent.attempts == seen.attempts,
        )
        .with_for_update(skip_locked=True)
    )  # fmt: skip


def _close(session: Session, row: StripeEvent, effect: Effect) -> None:
    if isinstance(effect, Waits):
        _postpone(session, row, effect.reason)
        return
    said = effect.note if isinstance(effect, Handled) else effect.reason
    now = _now(session)
    row.due_at, row.ended_at = None, now
    row.state = "handled" if isinstance(effect, Handled) else "ignored"
    row.attempts, row.reason = row.attempts + 1, said[:_REASON_LENGTH_MAX]


def _postpone(session: Session, row: StripeEvent, reason: str) -> None:
    """Try again later: 5 s, then twice as long each time, 10 minutes at most; or give it up."""
    now = _now(session)
    wait_s = min(_WAIT_MAX_S, _FIRST_WAIT_S * 2 ** min(row.attempts, 10))
    row.attempts += 1
    row.reason = reason[:_REASON_LENGTH_MAX]
    is_old = now - row.received_at > _AGE_MAX and row.attempts >= _ATTEMPTS_MIN
    if row.attempts < ATTEMPTS_MAX and not is_old:
        row.due_at = now + timedelta(seconds=wait_s)
        return
    row.state, row.due_at, row.ended_at = "dead", None, now
    telemetry.alarm(
        "stripe_event_dead", kind=row.type, source=row.event_id, attempts=row.attempts,
        reason=row.reason,
    )  # fmt: skip


def _now(session: Session) -> datetime:
    """The database's time; asked for before a row is changed, since asking writes what is changed."""
    return session.execute(select(func.now())).scalar_one()


def _named(error: Exception) -> str:
    """An error as it may be kept: its class, and Stripe's code; its text may hold anything."""
    if isinstance(error, stripe_api.StripeRefused) and error.code:
        return f"StripeRefused: {error.code}"
    return type(error).__name__


def _storable(value: Any) -> Any:
    """The value without what Postgres cannot keep as JSON: NUL, lone surrogates, NaN."""
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_storable(str(k)): _storable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_storable(v) for v in value]
    return value
