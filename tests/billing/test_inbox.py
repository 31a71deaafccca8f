"""Every event has one effect, whatever copies, orders, failures and deaths befall its handling."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from core import db, errors
from core.billing import inbox, ledger, stripe_api, webhooks
from core.billing.effects import Effect, Handled, Waits
from core.billing.sales_tables import ClawBack, Fulfilment, Order
from core.billing.stripe_api import StripeApi, StripeDown, StripeRefused
from core.billing.stripe_objects import Event, Unreadable
from core.billing.stripe_tables import StripeEvent
from core.db import Database, new_id
from core.identity.access import Operator
from core.identity.tables import AuditEntry
from core.money import NANO_PER_USD
from tests.billing.purchases import alarms, offences
from tests.billing.story import SECRET, Story, jobs_for
from tests.factories import TESTS

PAID, PART, REST = (
    "checkout.session.completed.paid", "refund.created.partial", "refund.created.remainder"
)  # fmt: skip
PACK_NUSD = 55 * NANO_PER_USD
OPERATOR = Operator(user_id=new_id(), email="op@example.com", name="Op")


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(autouse=True)
def _stripe(database: Database) -> Iterator[None]:
    stripe_api.install(StripeApi("sk_test_x", base="http://127.0.0.1:1", webhook_secrets=(SECRET,)))
    yield
    stripe_api.install(None)


def receive(event: dict[str, Any]) -> str:
    with db.transaction(TESTS) as session:
        inbox.receive(session, event, came_by="webhook")
    return str(event["id"])


def take(story: Story, name: str) -> StripeEvent:
    """Receive one fixture and handle it once."""
    event_id = receive(story.event(name))
    inbox.handle(event_id)
    return row_of(event_id)


def row_of(event_id: str) -> StripeEvent:
    with db.transaction(TESTS) as session:
        return session.get_one(StripeEvent, event_id)


def make_due(event_id: str, **values: Any) -> None:
    with db.transaction(TESTS) as session:
        session.execute(
            update(StripeEvent)
            .where(StripeEvent.event_id == event_id)
            .values({"due_at": func.now() - timedelta(seconds=1)} | values)
        )


def posted(story: Story) -> int:
    with db.transaction(TESTS) as session:
        return ledger.wallet(session, story.place.tenant_id).posted_nusd


def count(table: Any, story: Story) -> int:
    with db.transaction(TESTS) as session:
        query = select(func.count()).where(table.tenant_id == story.place.tenant_id)
        return session.execute(query).scalar_one()


def assert_nothing_broken(story: Story) -> None:
    assert offences(story.place.tenant_id, story.other.tenant_id) == []


def test_an_event_and_its_effect_end_together(story: Story) -> None:
    row = take(story, PAID)
    assert (row.state, row.attempts, row.due_at) == ("handled", 1, None)
    assert row.ended_at is not None and row.reason
    assert posted(story) == PACK_NUSD
    assert_nothing_broken(story)


def test_forty_copies_at_once_have_one_effect(story: Story) -> None:
    event_id = receive(story.event(PAID))
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(inbox.handle, [event_id] * 40))
    inbox.handle(event_id)
    row = row_of(event_id)
    assert (row.state, row.attempts) == ("handled", 1)
    assert posted(story) == PACK_NUSD and count(Fulfilment, story) == 1
    assert_nothing_broken(story)


def test_forty_events_of_one_change_at_once_have_one_effect(story: Story) -> None:
    ids = [receive(story.event(PAID, copy=number)) for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(inbox.handle, ids))
    for event_id in ids:
        inbox.handle(event_id)
    assert {row_of(event_id).state for event_id in ids} == {"handled"}
    assert posted(story) == PACK_NUSD and count(Fulfilment, story) == 1
    assert_nothing_broken(story)


def test_a_copy_after_the_end_changes_nothing(story: Story) -> None:
    first = take(story, PAID)
    receive(story.event(PAID))
    row = row_of(first.event_id)
    assert (row.state, row.deliveries, row.ended_at) == ("handled", 2, first.ended_at)
    assert jobs_for(first.event_id) == 1


def test_refunds_before_their_purchase_wait_and_end_the_same(story: Story) -> None:
    waiting = [take(story, name) for name in (REST, PART)]
    for row in waiting:
        assert (row.state, row.attempts) == ("waiting", 1)
        assert row.due_at is not None and row.ended_at is None and row.reason
    assert count(ClawBack, story) == 0
    take(story, PAID)
    for row in waiting:
        inbox.handle(row.event_id)
        assert row_of(row.event_id).state == "handled"
    assert posted(story) == 0 and count(ClawBack, story) == 2
    assert_nothing_broken(story)


def test_an_event_that_waits_is_swept_up_once_it_is_due(story: Story) -> None:
    early = take(story, PART).event_id
    take(story, PAID)
    inbox.sweep()
    assert row_of(early).state == "waiting"  # not due yet
    make_due(early)
    inbox.sweep()
    assert row_of(early).state == "handled"


def test_what_waits_leaves_nothing_of_its_attempt(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half_done(session: Session, event: Event, fetched: object) -> Effect:
        ledger.grant(
            session, story.place.tenant_id, 1, kind="manual", key="half", actor="x", reason="x"
        )
        return Waits("something else")

    monkeypatch.setattr(webhooks, "apply", half_done)
    assert take(story, PAID).state == "waiting"
    assert posted(story) == 0


def test_a_handler_that_raises_is_rolled_back_and_tried_again(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply, failures = webhooks.apply, [ValueError("card 4242"), KeyError("x")]

    def failing(session: Session, event: Event, fetched: object) -> Effect:
        effect = apply(session, event, fetched)
        if failures:
            raise failures.pop(0)
        return effect

    monkeypatch.setattr(webhooks, "apply", failing)
    row = take(story, PAID)
    assert (row.state, row.attempts, row.reason) == ("waiting", 1, "ValueError")  # no text of it
    assert posted(story) == 0
    inbox.handle(row.event_id)
    assert row_of(row.event_id).reason == "KeyError"
    inbox.handle(row.event_id)
    assert row_of(row.event_id).state == "handled" and posted(story) == PACK_NUSD
    assert_nothing_broken(story)


def test_a_handler_killed_before_its_commit_leaves_nothing(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = webhooks.apply

    def killed(session: Session, event: Event, fetched: object) -> Effect:
        apply(session, event, fetched)
        raise Killed

    monkeypatch.setattr(webhooks, "apply", killed)
    event_id = receive(story.event(PAID))
    with pytest.raises(Killed):
        inbox.handle(event_id)
    row = row_of(event_id)
    assert (row.state, row.attempts) == ("waiting", 0)
    assert posted(story) == 0
    monkeypatch.undo()
    inbox.sweep()
    assert row_of(event_id).state == "handled" and posted(story) == PACK_NUSD
    assert_nothing_broken(story)


def test_a_handler_killed_after_its_commit_is_not_repeated(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction = db.transaction
    event_id = receive(story.event(PAID))

    class Dying:
        """The second transaction of a handler commits, and the process ends."""

        opened = 0

        def __init__(self, who: Any) -> None:
            Dying.opened += 1
            self.number, self.inner = Dying.opened, transaction(who)

        def __enter__(self) -> Session:
            return self.inner.__enter__()

        def __exit__(self, *error: Any) -> bool | None:
            handled = self.inner.__exit__(*error)
            if self.number == 2 and error[0] is None:
                raise Killed
            return handled

    monkeypatch.setattr(inbox.db, "transaction", Dying)
    with pytest.raises(Killed):
        inbox.handle(event_id)
    monkeypatch.undo()
    assert row_of(event_id).state == "handled" and posted(story) == PACK_NUSD
    inbox.handle(event_id)
    assert row_of(event_id).attempts == 1 and posted(story) == PACK_NUSD
    assert_nothing_broken(story)


def test_a_commit_that_fails_is_a_failure_like_any(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiling(session: Session, event: Event, fetched: object) -> Effect:
        session.execute(text("create temporary table once (x int unique deferrable"
                             " initially deferred) on commit drop"))  # fmt: skip
        session.execute(text("insert into once values (1), (1)"))
        return Handled("so it seems")

    monkeypatch.setattr(webhooks, "apply", spoiling)
    row = take(story, PAID)
    assert (row.state, row.attempts, row.reason) == ("waiting", 1, "IntegrityError")


def test_stripe_away_lets_the_event_wait_without_a_transaction(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(need: webhooks.Need) -> object:
        raise StripeDown("could not be reached")

    monkeypatch.setattr(webhooks, "read", away)
    row = take(story, "customer.subscription.created")
    assert (row.state, row.attempts, row.reason) == ("waiting", 1, "StripeDown")


def test_what_stripe_refuses_is_named_by_its_code(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(need: webhooks.Need) -> object:
        raise StripeRefused("resource_missing", status=404)

    monkeypatch.setattr(webhooks, "read", refused)
    row = take(story, "customer.subscription.created")
    assert (row.state, row.reason) == ("waiting", "StripeRefused: resource_missing")


def wait_s(row: StripeEvent, before: Any) -> float:
    assert row.due_at is not None
    return float((row.due_at - before).total_seconds())


@pytest.mark.parametrize(
    ("attempts", "expected_s"), [(0, 5), (1, 10), (3, 40), (6, 320), (7, 600), (58, 600)]
)
def test_the_wait_doubles_up_to_ten_minutes(story: Story, attempts: int, expected_s: int) -> None:
    event_id = receive(story.event(PART))
    make_due(event_id, attempts=attempts)
    with db.transaction(TESTS) as session:
        before = session.execute(select(func.now())).scalar_one()
    inbox.handle(event_id)
    row = row_of(event_id)
    assert row.attempts == attempts + 1
    assert expected_s <= wait_s(row, before) < expected_s + 3


def test_after_sixty_attempts_an_event_is_given_up_loudly(story: Story) -> None:
    event_id, before = receive(story.event(PART)), alarms("stripe_event_dead")
    make_due(event_id, attempts=inbox.ATTEMPTS_MAX - 1)
    inbox.handle(event_id)
    row = row_of(event_id)
    assert (row.state, row.attempts, row.due_at) == ("dead", inbox.ATTEMPTS_MAX, None)
    assert row.ended_at is not None and row.reason
    assert alarms("stripe_event_dead") == before + 1
    inbox.handle(event_id)
    assert row_of(event_id).attempts == inbox.ATTEMPTS_MAX


def test_after_three_days_an_event_is_given_up_but_never_untried(story: Story) -> None:
    event_id = receive(story.event(PART))
    make_due(event_id, received_at=func.now() - timedelta(days=4))
    inbox.handle(event_id)
    assert row_of(event_id).state == "waiting"  # its first attempt: the worker was away
    make_due(event_id, attempts=20)
    inbox.handle(event_id)
    assert row_of(event_id).state == "dead"


@pytest.mark.parametrize(("days", "kept"), [(89, True), (91, False)])
def test_the_content_of_an_event_is_forgotten_ninety_days_after_its_end(
    story: Story, days: int, kept: bool
) -> None:
    ended, waiting = take(story, PAID), receive(story.event(PART))
    old = func.now() - timedelta(days=days)
    with db.transaction(TESTS) as session:
        ids = StripeEvent.event_id.in_((ended.event_id, waiting))
        session.execute(update(StripeEvent).where(ids).values(received_at=old))
        session.execute(
            update(StripeEvent).where(StripeEvent.event_id == ended.event_id).values(ended_at=old)
        )
    inbox.forget_payloads()
    row = row_of(ended.event_id)
    assert bool(row.payload) is kept
    assert (row.state, row.reason, row.object_id) == ("handled", ended.reason, ended.object_id)
    assert row_of(waiting).payload


def test_an_event_whose_content_was_forgotten_is_not_replayed(story: Story) -> None:
    ended = take(story, PAID)
    with db.transaction(TESTS) as session:
        query = update(StripeEvent).where(StripeEvent.event_id == ended.event_id)
        session.execute(query.values(ended_at=func.now() - timedelta(days=91)))
    inbox.forget_payloads()
    with db.transaction(OPERATOR) as session, pytest.raises(errors.Conflict, match="90 days"):
        inbox.replay(session, OPERATOR, ended.event_id)
    receive(story.event(PAID))  # nor does a copy bring it back
    assert (row_of(ended.event_id).state, row_of(ended.event_id).payload) == ("handled", {})


def test_a_dead_event_is_replayed_by_an_operator_and_audited(story: Story) -> None:
    event_id = receive(story.event(PART))
    make_due(event_id, attempts=inbox.ATTEMPTS_MAX - 1)
    inbox.handle(event_id)
    take(story, PAID)
    with db.transaction(OPERATOR) as session:
        inbox.replay(session, OPERATOR, event_id)
    assert jobs_for(event_id) == 2
    assert row_of(event_id).state == "waiting"
    inbox.handle(event_id)
    assert row_of(event_id).state == "handled" and count(ClawBack, story) == 1
    with db.transaction(TESTS) as session:
        entry = session.scalars(
            select(AuditEntry).where(AuditEntry.object == f"stripe_event:{event_id}")
        ).one()
    assert entry.actor == f"operator:{OPERATOR.user_id}"
    assert entry.before is not None and entry.before["state"] == "dead"


def test_a_handled_event_replayed_has_no_second_effect(story: Story) -> None:
    event_id = take(story, PAID).event_id
    with db.transaction(OPERATOR) as session:
        inbox.replay(session, OPERATOR, event_id)
    inbox.handle(event_id)
    assert row_of(event_id).state == "handled" and posted(story) == PACK_NUSD
    assert_nothing_broken(story)


def test_only_operators_see_and_replay(story: Story, session: Session) -> None:
    event_id = receive(story.event(PAID))
    for act in (
        partial(inbox.replay, session, story.place.who, event_id),
        partial(inbox.recent, session, story.place.who),
        partial(inbox.counts, session, story.place.who),
    ):
        with pytest.raises(errors.Forbidden):
            act()
    with pytest.raises(errors.NotFound):
        inbox.replay(session, OPERATOR, "evt_of_nobody")


def test_the_list_shows_what_became_of_each_and_no_content(story: Story) -> None:
    early, done = take(story, PART).event_id, take(story, PAID).event_id
    ignored = take(story, "charge.succeeded").event_id
    with db.transaction(OPERATOR) as session:
        shown = {one.event_id: one for one in inbox.recent(session, OPERATOR, limit=20)}
        waiting = inbox.recent(session, OPERATOR, state="waiting")
        counts = inbox.counts(session, OPERATOR)
    assert [shown[one].state for one in (done, early, ignored)] == ["handled", "waiting", "ignored"]
    assert early in {one.event_id for one in waiting}
    assert {one.state for one in waiting} == {"waiting"}
    assert counts.handled >= 1 and counts.waiting >= 1 and counts.ignored >= 1
    assert not hasattr(shown[done], "payload")


def test_the_list_does_not_even_read_the_content(story: Story) -> None:
    event_id, read = receive(story.event(PAID)), list[str]()

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        read.append(statement)

    with db.transaction(OPERATOR) as session:
        connection = session.connection()
        sqlalchemy_event.listen(connection, "before_cursor_execute", note)
        inbox.recent(session, OPERATOR)
        inbox.one(session, OPERATOR, event_id)
    assert [sql for sql in read if "stripe_events" in sql]
    assert not [sql for sql in read if "payload" in sql]


def test_what_waits_too_long_raises_an_alarm(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck(event_id: str) -> None:
        """A handler that never gets to it."""

    event_id, before = receive(story.event(PAID)), alarms("stripe_events_overdue")
    make_due(event_id, due_at=func.now() - timedelta(minutes=16))
    monkeypatch.setattr(inbox, "handle", stuck)
    inbox.sweep()
    assert alarms("stripe_events_overdue") == before + 1
    monkeypatch.undo()
    inbox.handle(event_id)


def test_events_are_not_ordered_by_their_time(story: Story) -> None:
    """The end of a delayed payment comes before the report that it began."""
    take(story, "checkout.session.async_payment_succeeded")
    take(story, "checkout.session.completed.unpaid_async")
    with db.transaction(TESTS) as session:
        key = (story.place.tenant_id, story.orders["delayed"])
        assert session.get_one(Order, key).state == "fulfilled"
    assert posted(story) == PACK_NUSD


def test_an_event_without_an_events_shape_is_not_stored(session: Session) -> None:
    for payload in ({}, {"id": "evt_1"}, {"id": "e" * 200, "type": "x", "created": 1, "data": {}}):
        with pytest.raises(Unreadable):
            inbox.receive(session, payload, came_by="webhook")


def test_an_unreadable_object_waits_for_a_version_that_reads_it(story: Story) -> None:
    event = story.event(PAID)
    del event["data"]["object"]["payment_status"]
    event_id = receive(event)
    inbox.handle(event_id)
    row = row_of(event_id)
    assert (row.state, row.reason) == ("waiting", "Unreadable")


def test_handling_what_is_not_there_does_nothing(database: Database) -> None:
    inbox.handle("evt_of_nobody")


def test_ignored_events_say_why(story: Story) -> None:
    row = take(story, "charge.refunded.full")
    assert row.state == "ignored" and row.reason == "a running total: each refund is told by itself"
