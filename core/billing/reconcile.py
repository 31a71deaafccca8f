"""Finds what no webhook told us: events not delivered, paid sessions, refunds, subscriptions, payouts.

What is missing is booked through the same functions as events are, and noted as a difference with
its cause. What belongs to no customer of ours is only counted. It does nothing where nothing is sold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from core import clock, db, errors, jobs, telemetry
from core.billing import (
    comparisons,
    differences,
    inbox,
    payouts,
    stripe_api,
    subscriptions,
    webhooks,
)
from core.billing.comparisons import Outcome
from core.billing.differences import Difference, Kind
from core.billing.ledger import BILLING
from core.billing.sales_tables import ClawBack, Fulfilment, Subscription
from core.billing.stripe_api import StripeRefused
from core.billing.stripe_objects import CheckoutSession, Refund, Unreadable, refund
from core.jobs import Queue

Scope: TypeAlias = Literal["hourly", "daily", "all"]
Pass: TypeAlias = Literal["events", "sessions", "refunds", "subscriptions", "payouts"]
_LATELY, _EVER_LISTED = timedelta(hours=48), timedelta(days=30)
_WINDOW = timedelta(days=3)
_TYPES_AT_ONCE = 20

# What an odd object can cause: a refusal of ours, an unreadable or missing field, a broken constraint.
_FAILURES = (errors.Refusal, ValueError, LookupError, SQLAlchemyError)
T = TypeVar("T")
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Report:
    """What one run looked at and found. `foreign`: objects of no customer of ours; `refused`: what
    Stripe let us not read, such as 'payouts' with a key that has no right to them."""

    events_new: int
    sessions: int
    refunds: int
    subscriptions: int
    payouts: int
    foreign: int
    differences: tuple[Difference, ...]
    refused: tuple[Pass, ...] = ()


@dataclass(slots=True)
class Tally:
    """What one pass has compared so far."""

    checked: int = 0
    foreign: int = 0
    found: list[Difference] = field(default_factory=list)


_NOTHING = Tally()


def run(now: datetime, *, scope: Scope) -> Report:
    """Compare, and book what is missing. Opens its own transactions; raises StripeDown.

    hourly: events of 48 hours, sessions and refunds of 3 days. daily: events of 30 days,
    subscriptions, and payouts of 7 days. all: both. A pass that Stripe refuses keeps no other back.
    """
    events_since = now - (_LATELY if scope == "hourly" else _EVER_LISTED)
    passes: dict[Pass, Callable[[], Tally]] = {"events": lambda: receive_missed(events_since)}
    if scope != "daily":
        passes["sessions"] = lambda: compare_sessions(now - _WINDOW)
        passes["refunds"] = lambda: compare_refunds(now - _WINDOW)
    if scope != "hourly":
        passes["subscriptions"] = compare_subscriptions
        passes["payouts"] = lambda: compare_payouts(now)
    done = {name: tally for name, look in passes.items() if (tally := _tried(name, look))}
    tallies = [done.get(name, _NOTHING) for name in get_args(Pass)]
    events, sessions, refunded, subscribed, paid_out = (tally.checked for tally in tallies)
    return Report(
        events, sessions, refunded, subscribed, paid_out, sum(tally.foreign for tally in tallies),
        tuple(difference for tally in tallies for difference in tally.found),
        tuple(name for name in passes if name not in done),
    )  # fmt: skip


def _tried(name: Pass, look: Callable[[], Tally]) -> Tally | None:
    """What a pass found; None, with an alarm, where Stripe refuses to tell."""
    try:
        return look()
    except StripeRefused as refused:
        telemetry.alarm("reconcile_refused", kind=name, code=refused.code, status=refused.status)
        return None


def receive_missed(since: datetime) -> Tally:
    """Put events that Stripe could not deliver into the inbox; counts those that were new."""
    api, new = stripe_api.current(), 0
    for start in range(0, len(webhooks.LISTED_TYPES), _TYPES_AT_ONCE):
        types = webhooks.LISTED_TYPES[start : start + _TYPES_AT_ONCE]
        for payload in api.events(types=types, since=since, undelivered=True):
            try:
                with db.transaction(BILLING) as session:
                    new += inbox.receive(session, payload, came_by="reconciler")
            except Unreadable as error:
                telemetry.alarm("stripe_event_unreadable", reason=str(error))
    return Tally(new)


def compare_sessions(since: datetime) -> Tally:
    """Paid sessions against fulfilments, both ways."""
    api, tally, paid = stripe_api.current(), Tally(), set[str]()
    for found in _and_open("session", api.sessions_since(since), api.checkout_session):
        if found.is_paid and found.session_id not in paid:
            paid.add(found.session_id)
            compare = partial(comparisons.paid_session, found=found)
            _compare(tally, "session", found.session_id, compare)
    fulfilled = select(Fulfilment.stripe_id).where(
        Fulfilment.kind == "checkout_session", Fulfilment.fulfilled_at >= since
    )
    for stripe_id in sorted(_ids("fulfilment", fulfilled) - paid):
        now = _known(api.checkout_session, stripe_id)
        compare = partial(comparisons.fulfilment, stripe_id=stripe_id, found=now)
        _compare(tally, "fulfilment", stripe_id, compare)
    return tally


def compare_refunds(since: datetime) -> Tally:
    """Stripe's refunds against our claw-backs, both ways."""
    api, tally, listed = stripe_api.current(), Tally(), set[str]()
    for found in api.refunds_since(since):
        listed.add(found.refund_id)
        compare = partial(comparisons.refund, found=found)
        _compare(tally, "refund", found.refund_id, compare)
    clawed_back = select(ClawBack.stripe_id).where(
        ClawBack.kind == "refund", ClawBack.opened_at >= since
    )
    for stripe_id in sorted(_ids("refund", clawed_back) - listed):
        now = _known(_refund_now, stripe_id)
        if now is None:
            compare = partial(comparisons.unknown_refund, refund_id=stripe_id)
        else:
            compare = partial(comparisons.refund, found=now)
        _compare(tally, "refund", stripe_id, compare)
    return tally


def compare_subscriptions() -> Tally:
    """Status, price and period of every subscription that runs, or differed when last compared."""
    tally = Tally()
    running = select(Subscription.subscription_id).where(Subscription.ended_at.is_(None))
    for stripe_id in sorted(_ids("subscription", running)):
        asked = _known(subscriptions.ask, stripe_id)
        compare = partial(comparisons.subscription, subscription_id=stripe_id, asked=asked)
        _compare(tally, "subscription", stripe_id, compare)
    return tally


def compare_payouts(now: datetime) -> Tally:
    """Payouts of the last days against payments and claw-backs."""
    compared = payouts.compare_since(now - payouts.WINDOW)
    found = [difference for one in compared for difference in one.differences]
    return Tally(len(compared), sum(one.foreign for one in compared), found)


def _compare(
    tally: Tally, kind: Kind, stripe_id: str, compare: Callable[[Session], Outcome]
) -> None:
    """Compare one object in a transaction of its own, and keep what came of it."""
    tally.checked += 1
    try:
        with db.transaction(BILLING) as session:
            outcome = compare(session)
            _keep(session, tally, kind, stripe_id, outcome)
    except _FAILURES as error:  # one object that fails must not hide all others
        telemetry.alarm("reconcile_failed", kind=kind, source=stripe_id, error=type(error).__name__)


def _keep(session: Session, tally: Tally, kind: Kind, stripe_id: str, outcome: Outcome) -> None:
    if isinstance(outcome, Difference):
        tally.found.append(outcome)
        differences.note(session, outcome)
        return
    tally.foreign += outcome == "foreign"
    differences.resolve(session, kind, [stripe_id])


def _and_open(
    kind: Kind, listed: Iterable[CheckoutSession], read: Callable[[str], CheckoutSession]
) -> Iterator[CheckoutSession]:
    """What Stripe lists, then those that differed when last compared and may be older."""
    yield from listed
    with db.transaction(BILLING) as session:
        known_open = differences.open_ids(session, kind)
    for stripe_id in sorted(known_open):
        if (found := _known(read, stripe_id)) is not None:
            yield found


def _ids(kind: Kind, query: Any) -> set[str]:
    """The ids our rows name, and those that differed when last compared."""
    with db.transaction(BILLING) as session:
        return set(session.scalars(query)) | differences.open_ids(session, kind)


def _known(read: Callable[[str], T], stripe_id: str) -> T | None:
    """The object as Stripe says now; None where it knows none of that id."""
    try:
        return read(stripe_id)
    except StripeRefused as error:
        if error.status != 404:
            raise
        return None


def _refund_now(refund_id: str) -> Refund:
    return refund(stripe_api.current().fetch("refund", refund_id))


@jobs.periodic("35 * * * *", "billing.reconcile_hourly", Queue.LONG)
def _hourly() -> None:
    if stripe_api.configured():
        _report(run(clock.now(), scope="hourly"))


@jobs.periodic("50 2 * * *", "billing.reconcile_daily", Queue.LONG)
def _daily() -> None:
    if stripe_api.configured():
        _report(run(clock.now(), scope="daily"))


@jobs.task(webhooks.PAYOUTS, Queue.LONG)
def _payouts() -> None:
    if stripe_api.configured():
        compare_payouts(clock.now())


def _report(report: Report) -> None:
    """Say what was found; differences are an alarm, since each is money somebody should look at."""
    log.info("reconcile.done", count=report.sessions + report.refunds, rows=report.events_new)
    if report.differences:
        telemetry.alarm("stripe_differences", count=len(report.differences))
