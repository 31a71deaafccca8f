"""Lanes: no kind of work, and no tenant, takes the connections of another; errors say what they are."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from core import db, errors, jobs, lanes, settings
from core.db import JOBS, RW, Database, Lane, Reader, System
from tests.connections import drop_connections
from tests.factories import TESTS, Place, make_place

WEB_PROCESS = (Lane.WEB, Lane.ENGINE, Lane.API, Lane.ANALYTICS, Lane.MONEY)
_COUNT = "select count(*) from pg_stat_activity where application_name like 'purser %%'"


@pytest.fixture
def mine(database: Database, database_url: str) -> Iterator[Database]:
    """A process's connections of its own, with little patience, so that a test need not wait."""
    limits = {lane: replace(one, wait_s=0.2, idle_ms=60_000) for lane, one in lanes.LIMITS.items()}
    made = Database(settings.current(), database_url, limits=limits)
    yield made
    made.close()


@contextmanager
def all_taken(database: Database, lane: Lane, who: db.Who, count: int) -> Iterator[None]:
    """So many transactions of `who` on a lane, open at once."""
    with ExitStack() as stack, db.use_lane(lane):
        for _ in range(count):
            stack.enter_context(database.transaction(who))
        yield


_LOCK = "select pg_advisory_xact_lock(hashtextextended(%s::text, 0))"


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """What a tenant's calls need is held by somebody else."""
    with db.transaction(TESTS) as session:
        session.connection().exec_driver_sql(_LOCK, (str(place.tenant_id),))
        yield


def seconds(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


def test_a_process_may_open_as_many_connections_as_are_written_down_and_no_more(
    mine: Database, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as watcher, ExitStack() as stack:
        before = watcher.execute(_COUNT).fetchone()
        for lane, limits in lanes.LIMITS.items():
            for who, most in ((Reader(), limits.rw_max), (System("t"), limits.jobs_max)):
                stack.enter_context(all_taken(mine, lane, who, most))
                with db.use_lane(lane), pytest.raises(errors.Busy), mine.transaction(who):
                    pass
                with db.use_lane(lane), pytest.raises(errors.Busy):
                    mine.call("select 1", (), role=who.db_role)
        after = watcher.execute(_COUNT).fetchone()
    assert before and after
    assert after[0] - before[0] == lanes.connections_max(*Lane)
    assert lanes.connections_max(*WEB_PROCESS) + jobs.CONNECTIONS_MAX <= 50
    assert lanes.connections_max(*Lane) + 2 * jobs.CONNECTIONS_MAX < 60


@pytest.mark.parametrize("full", list(Lane))
def test_a_lane_without_a_free_connection_keeps_no_other_waiting(
    mine: Database, full: Lane
) -> None:
    limits = lanes.LIMITS[full]
    with (
        all_taken(mine, full, Reader(), limits.rw_max),
        all_taken(mine, full, System("t"), limits.jobs_max),
    ):
        for other in set(Lane) - {full}:
            with db.use_lane(other):
                for role in (RW, JOBS):
                    assert seconds(lambda role=role: mine.call("select 1", (), role=role)) < 0.4


def test_one_tenant_never_holds_the_connections_of_the_others(mine: Database) -> None:
    place, other = make_place(), make_place()
    most = lanes.LIMITS[Lane.ENGINE].tenant_max
    with all_taken(mine, Lane.ENGINE, place.who, most), db.use_lane(Lane.ENGINE):
        with pytest.raises(errors.Busy, match="Your team"), mine.transaction(place.who):
            pass
        with pytest.raises(errors.Busy, match="Your team"):
            mine.call("select 1", (), tenant_id=place.tenant_id)
        with mine.transaction(other.who) as session:
            assert session.scalar(text("select 1")) == 1
    with db.use_lane(Lane.ENGINE), mine.transaction(place.who) as session:
        assert session.scalar(text("select 1")) == 1


def test_a_lock_on_one_tenant_keeps_no_other_tenants_call_waiting(mine: Database) -> None:
    place, other = make_place(), make_place()

    def admit(who: Place) -> float:
        began = time.monotonic()
        with pytest.raises(errors.Busy) if who is place else ExitStack():
            mine.call_again(_LOCK, (str(who.tenant_id),), tenant_id=who.tenant_id)
        return time.monotonic() - began

    with (
        locked(place),
        ThreadPoolExecutor(40, initializer=db.enter_lane, initargs=(Lane.ENGINE,)) as pool,
    ):
        waiting = [pool.submit(admit, place) for _ in range(20)]
        others = [pool.submit(admit, other) for _ in range(10)]
        assert max(future.result() for future in others) < 0.45, "less than one wait for a lock"
        assert max(future.result() for future in waiting) < 2.5


def test_a_busy_database_is_asked_once(mine: Database) -> None:
    place = make_place()
    with locked(place), db.use_lane(Lane.ENGINE):
        before = db.counted.statements
        with pytest.raises(errors.Busy, match="busy") as refusal:
            mine.call_again(_LOCK, (str(place.tenant_id),))
        assert db.counted.statements == before + 1
    assert (refusal.value.code, refusal.value.status) == ("busy", 503)
    assert refusal.value.retry_after_s
    assert "reachable" not in refusal.value.message


_RAISE = "do $$ begin raise exception using errcode = '{}'; end $$"
_AS_BUSY = ("55P03", "57014", "40P01", "40001", "53300", "53200", "25P03", "25P04")


@pytest.mark.parametrize("state", _AS_BUSY)
def test_what_waiting_helps_against_is_busy(mine: Database, state: str) -> None:
    with pytest.raises(errors.Busy), mine.transaction(TESTS) as session:
        session.execute(text(_RAISE.format(state)))


@pytest.mark.parametrize("state", ["53100", "58030", "25006"])
def test_what_cannot_record_is_neither_busy_nor_away_and_not_repeated(
    mine: Database, state: str
) -> None:
    before = db.counted.statements
    with pytest.raises(errors.Unavailable) as refusal:
        mine.call_again(_RAISE.format(state), ())
    assert not isinstance(refusal.value, errors.Busy | errors.DatabaseAway)
    assert db.counted.statements == before + 1


@pytest.mark.parametrize("state", ["08006", "57P01", "57P03"])
def test_a_lost_database_is_away(mine: Database, state: str) -> None:
    with pytest.raises(errors.DatabaseAway), mine.transaction(TESTS) as session:
        session.execute(text(_RAISE.format(state)))


def test_a_fault_of_ours_stays_one(mine: Database) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        mine.call("select 1 / 0", ())


def _end_all(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as watcher:
        watcher.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name like 'purser %%' and datname = current_database()"
        )


def test_connections_lost_while_nobody_used_them_are_replaced_unseen(
    mine: Database, database: Database, database_url: str
) -> None:
    with all_taken(mine, Lane.WEB, Reader(), 5):
        pass
    _end_all(database_url)
    for _ in range(5):
        with mine.transaction(Reader()) as session:
            assert session.scalar(text("select 1")) == 1
    with all_taken(mine, Lane.WEB, Reader(), 5):
        pass
    _end_all(database_url)
    assert mine.call_again("select 1 as one", ()) == {"one": 1}
    drop_connections(database)


def test_whoever_stops_in_a_transaction_loses_its_locks(mine: Database) -> None:
    place = make_place()
    lock = text("select from app.accounts where tenant_id = :t for update")
    soon = text("select set_config('idle_in_transaction_session_timeout', '200ms', true)")
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(errors.Busy))
        session = stack.enter_context(mine.transaction(TESTS))
        session.execute(soon)
        session.execute(lock, {"t": place.tenant_id})
        time.sleep(1)
        with db.transaction(TESTS) as other:
            other.execute(text("set local lock_timeout = '50ms'"))
            other.execute(lock, {"t": place.tenant_id})
        session.execute(text("select 1"))


def test_a_lane_belongs_to_the_thread_that_does_the_work() -> None:
    seen: list[Lane] = []
    with ThreadPoolExecutor(1, initializer=db.enter_lane, initargs=(Lane.ENGINE,)) as pool:
        seen += [pool.submit(lanes.current).result() for _ in range(2)]
    with db.use_lane(Lane.API):
        seen.append(lanes.current())
        other = threading.Thread(target=lambda: seen.append(lanes.current()))
        other.start()
        other.join()
    assert [*seen, lanes.current()] == [Lane.ENGINE, Lane.ENGINE, Lane.API, Lane.WEB, Lane.WEB]


_TIMEOUTS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
_SHOW = "select " + ", ".join(
    f"(select setting from pg_settings where name = '{name}') as {name}" for name in _TIMEOUTS
)


def _bounds_of(lane: Lane) -> dict[str, Any]:
    return {name: lanes.LIMITS[lane].timeouts()[name] for name in _TIMEOUTS}


@pytest.mark.parametrize("pooler", ["", "transaction"])
@pytest.mark.parametrize("lane", list(Lane))
def test_every_transaction_and_every_call_is_bounded_behind_a_pooler_too(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch, pooler: str, lane: Lane
) -> None:
    monkeypatch.setitem(os.environ, "DATABASE_POOLER", pooler)
    login = {role: database_url.replace("//postgres:", f"//{role}:") for role in (RW, JOBS)}
    made = Database(settings.load(), login[RW], login[JOBS])
    try:
        with db.use_lane(lane):
            for who in (Reader(), System("t")):
                with made.transaction(who) as session:
                    assert dict(session.execute(text(_SHOW)).one()._mapping) == _bounds_of(lane)
                assert made.call(_SHOW, (), role=who.db_role) == _bounds_of(lane)
                with made.engine(who.db_role).connect() as connection:
                    left = connection.execute(text("show lock_timeout")).scalar()
                assert (left == "0") == bool(pooler), "nothing is left behind in a pooler's session"
    finally:
        made.close()
