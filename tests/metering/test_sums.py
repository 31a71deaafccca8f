"""Usage events wait a moment for their sums: each is added once, whoever adds, dies or waits meanwhile,
and the gate never waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db, invariants
from core.billing import ledger
from core.metering import rollups
from core.quota import gate
from tests.factories import TESTS, Place, make_model, make_place, sum_up
from tests.quota.test_gate import close, cost, open_call

pytestmark = pytest.mark.usefixtures("database")
_TABLES = ("usage_daily", "usage_daily_models", "usage_conversations")


def requests(tenant_id: UUID) -> int:
    """What the sums say by now."""
    with db.transaction(TESTS) as session:
        found = text("select coalesce(sum(requests), 0) from app.usage_daily where tenant_id = :t")
        return int(session.scalar(found, {"t": tenant_id}) or 0)


def pending(tenant_id: UUID) -> int:
    with db.transaction(TESTS) as session:
        found = text("select count(*) from app.usage_pending where tenant_id = :t")
        return int(session.scalar(found, {"t": tenant_id}) or 0)


def offences(tenant_id: UUID) -> list[str]:
    with db.transaction(TESTS) as session:
        rows = [
            row[0]
            for name in (*_TABLES, "usage_pending")
            for row in session.connection().exec_driver_sql(invariants.queries()[name])
        ]
    return [row for row in rows if str(tenant_id) in row]


def used(calls: int = 3) -> Place:
    """A tenant with so many settled calls that nobody summed yet."""
    place, model = make_place(), make_model()
    for _ in range(calls):
        close(open_call(place, model), cost("0.001"))
    return place


@contextmanager
def held_open() -> Iterator[Session]:
    """A transaction that goes on while the test does other things."""
    with db.transaction(TESTS) as session:
        yield session


def test_a_settlement_writes_no_sums_and_moves_wallet_and_counters_at_once() -> None:
    place = used(3)
    assert (requests(place.tenant_id), pending(place.tenant_id)) == (0, 3)
    with db.transaction(TESTS) as session:
        spent = ledger.wallet(session, place.tenant_id).posted_nusd
        counted = session.execute(
            text("select spent_nusd, tokens from app.counters where subject_id = :t"),
            {"t": place.tenant_id},
        ).one()
        booked = session.scalar(
            text("select sum(amount_nusd) from app.entries where tenant_id = :t"),
            {"t": place.tenant_id},
        )
    assert (spent, tuple(counted)) == (booked, (3_000_000, 450))
    assert offences(place.tenant_id) == []
    sum_up()
    assert (requests(place.tenant_id), pending(place.tenant_id)) == (3, 0)
    sum_up()
    assert requests(place.tenant_id) == 3
    assert offences(place.tenant_id) == []


def test_a_correction_waits_for_its_sums_too() -> None:
    place, model = make_place(), make_model()
    guessed = open_call(place, model)
    close(guessed, cost("0.002", "estimate", needs_lookup=True), generation_id=str(guessed.call_id))
    sum_up()
    gate.correct(
        gate.settlement(guessed, cost("0.003"), outcome="ok", gave_output=True, latency_ms=1)
    )
    assert pending(place.tenant_id) == 1
    assert offences(place.tenant_id) == []
    sum_up()
    with db.transaction(TESTS) as session:
        row = session.execute(
            text(
                "select sum(requests), sum(billed_nusd) from app.usage_daily where tenant_id = :t"
            ),
            {"t": place.tenant_id},
        ).one()
    assert tuple(row) == (1, 3_000_000)
    assert offences(place.tenant_id) == []


def test_many_that_add_while_calls_settle_add_each_event_once() -> None:
    place, model = make_place(), make_model()
    calls = [open_call(place, model) for _ in range(60)]
    with ThreadPoolExecutor(8) as pool:
        work: list[Future[object]] = []
        for number, call in enumerate(calls):
            work.append(pool.submit(close, call, cost("0.001")))
            if number % 3 == 0:
                work.append(pool.submit(rollups.add_pending))
            if number % 7 == 0:
                work.append(pool.submit(sum_up))
            if number % 20 == 0:
                work.append(pool.submit(_rebuild, place.tenant_id))
        for done in work:
            done.result()
    rollups.add_pending()
    assert (requests(place.tenant_id), pending(place.tenant_id)) == (60, 0)
    assert offences(place.tenant_id) == []


def test_who_dies_while_adding_leaves_everything_to_the_next() -> None:
    place = used(2)
    with held_open() as session:
        assert rollups.flush(session, place.tenant_id) == 2
        session.rollback()
    assert (requests(place.tenant_id), pending(place.tenant_id)) == (0, 2)
    rollups.add_pending()
    assert (requests(place.tenant_id), pending(place.tenant_id)) == (2, 0)


def test_a_tenant_that_another_is_adding_up_keeps_nobody_else_waiting() -> None:
    slow, other = used(2), used(1)
    with held_open() as session:
        rollups.flush(session, slow.tenant_id)
        rollups.add_pending()
        assert (requests(other.tenant_id), requests(slow.tenant_id)) == (1, 0)
        model = make_model()
        assert close(open_call(slow, model), cost("0.001")).code == "ok"
    rollups.add_pending()
    assert (requests(slow.tenant_id), pending(slow.tenant_id)) == (3, 0)


def test_who_needs_exact_sums_waits_for_those_that_are_being_added() -> None:
    place = used(2)

    def exact() -> int:
        with db.transaction(TESTS) as session:
            rollups.flush(session, place.tenant_id)
        return requests(place.tenant_id)

    with ThreadPoolExecutor(1) as pool:
        with held_open() as session:
            rollups.flush(session, place.tenant_id)
            asked = pool.submit(exact)
            with pytest.raises(TimeoutError):
                asked.result(timeout=0.3)
        assert asked.result(timeout=30) == 2


def test_a_person_adds_up_their_own_tenant_alone() -> None:
    place, other = used(1), used(1)
    with db.transaction(place.who) as session:
        rollups.flush(session, other.tenant_id)
    assert (pending(place.tenant_id), pending(other.tenant_id)) == (0, 1)


def _rebuild(tenant_id: UUID) -> None:
    with db.transaction(TESTS) as session:
        rollups.rebuild(session, tenant_id)
