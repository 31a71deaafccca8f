"""The job queue on a real Postgres: one transaction with the caller, retries, rescue, restart."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from core import db, jobs
from core.db import Database, System
from core.jobs import Queue
from tests.connections import drop_connections
from tests.factories import make_place

WHO = System("tests")
ran: list[tuple[str, object]] = []


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the jobs a test registers, so that no other room's job runs here."""
    monkeypatch.setattr(jobs, "_registered", {})
    ran.clear()


@contextmanager
def a_worker(url: str, queue: Queue = Queue.MONEY) -> Iterator[None]:
    """A worker on a loop of its own thread, stopped at the end as the lifespan stops it."""
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(
        target=loop.run_until_complete, args=(jobs.run_worker(url, queue, stop),)
    )
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        assert not thread.is_alive()
        loop.close()


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def rows(url: str, statement: str, *arguments: object) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True, options="-c search_path=jobs") as connection:
        cursor = connection.execute(statement, arguments)
        return cursor.fetchall() if cursor.description else []


def test_a_deferred_job_exists_only_when_the_transaction_commits(
    database: Database, database_url: str
) -> None:
    name, kept = f"t.{uuid4().hex}", uuid4()
    with suppress(ZeroDivisionError), db.transaction(WHO) as session:
        jobs.defer(session, name, call_id=uuid4())
        raise ZeroDivisionError
    with db.transaction(WHO) as session:
        jobs.defer(session, name, call_id=kept)
    found = rows(database_url, "select args from procrastinate_jobs where task_name = %s", name)
    assert found == [({"call_id": str(kept)},)]


def test_the_web_role_may_defer_but_not_read(database: Database, database_url: str) -> None:
    name, who = f"t.{uuid4().hex}", make_place().who
    with db.transaction(who) as session:
        assert jobs.defer(session, name, count=3)
    assert rows(database_url, "select args from procrastinate_jobs where task_name = %s", name) == [
        ({"count": 3},)
    ]
    with pytest.raises(ProgrammingError, match="permission denied"), db.transaction(who) as session:
        session.execute(text("select args from jobs.procrastinate_jobs"))


def test_the_search_path_is_as_before_after_a_defer(database: Database) -> None:
    with db.transaction(WHO) as session:
        before = session.scalar(text("select current_setting('search_path')"))
        jobs.defer(session, f"t.{uuid4().hex}")
        assert session.scalar(text("select current_setting('search_path')")) == before
    with db.transaction(WHO) as session:
        assert session.scalar(text("select current_setting('search_path')")) == before


def test_text_that_is_no_id_is_refused(database: Database) -> None:
    with db.transaction(WHO) as session, pytest.raises(ValueError, match="too long to be an id"):
        jobs.defer(session, "t.long", content="x" * 101)


def test_two_jobs_of_one_name_are_refused() -> None:
    jobs.task("t.twice", Queue.MONEY)(lambda: None)
    with pytest.raises(ValueError, match="already"):
        jobs.periodic("* * * * *", "t.twice", Queue.MONEY)(lambda: None)


def test_the_worker_runs_a_job_with_its_ids_and_forgets_it(
    database: Database, database_url: str
) -> None:
    name, call_id = f"t.{uuid4().hex}", uuid4()
    jobs.task(name, Queue.MONEY)(lambda call_id: ran.append((name, UUID(call_id))))
    with a_worker(database_url):
        with db.transaction(WHO) as session:
            jobs.defer(session, name, call_id=call_id)
        wait_for(lambda: ran)
    assert ran == [(name, call_id)]
    assert rows(database_url, "select 1 from procrastinate_jobs where task_name = %s", name) == []


def test_a_job_can_use_its_own_transaction(database: Database, database_url: str) -> None:
    name = f"t.{uuid4().hex}"

    @jobs.task(name, Queue.MONEY)
    def look() -> None:
        with db.transaction(WHO) as session:
            ran.append((name, session.scalar(text("select current_user"))))

    with db.transaction(WHO) as session:
        jobs.defer(session, name)
    with a_worker(database_url):
        wait_for(lambda: ran)
    assert ran == [(name, "app_jobs")]


def test_a_failing_job_is_tried_as_often_as_allowed_and_stays_visible(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_RETRY_BASE_S", 0)
    name = f"t.{uuid4().hex}"

    @jobs.task(name, Queue.MONEY, attempts_max=2)
    def fail() -> None:
        ran.append((name, None))
        raise RuntimeError("a poisoned job")

    with db.transaction(WHO) as session:
        jobs.defer(session, name)
    with a_worker(database_url):
        wait_for(lambda: _status(database_url, name) == "failed")
    assert len(ran) == 2


def test_a_periodic_job_comes_round_without_arguments(
    database: Database, database_url: str
) -> None:
    jobs.periodic("* * * * * */1", "t.tick", Queue.MONEY)(lambda: ran.append(("tick", None)))
    with a_worker(database_url):
        wait_for(lambda: len(ran) >= 2)


def test_jobs_of_a_killed_worker_run_again_until_they_had_their_attempts(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, poison = f"t.{uuid4().hex}", f"t.{uuid4().hex}"
    for job in (name, poison):
        jobs.task(job, Queue.MONEY)(lambda job=job: ran.append((job, None)))
    with db.transaction(WHO) as session:
        jobs.defer(session, name)
        jobs.defer(session, poison)
    _leave_behind(database_url, name, attempts=0)
    _leave_behind(database_url, poison, attempts=jobs.ATTEMPTS_MAX - 1)
    with a_worker(database_url):
        rows(
            database_url,
            "select procrastinate_defer_jobs_v1(array[row('default', 'jobs.rescue', 0, null, null,"
            """ '{"timestamp": 0}', null)::procrastinate_job_to_defer_v1])""",
        )
        wait_for(lambda: ran)
        wait_for(lambda: _status(database_url, poison) == "failed")
    assert ran == [(name, None)]


def test_the_worker_works_again_after_its_connections_were_cut(
    database: Database, database_url: str
) -> None:
    name = f"t.{uuid4().hex}"
    jobs.task(name, Queue.MONEY)(lambda n: ran.append((name, n)))
    with a_worker(database_url):
        with db.transaction(WHO) as session:
            jobs.defer(session, name, n=1)
        wait_for(lambda: (name, 1) in ran)
        rows(
            database_url,
            "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
            " and datname = current_database()",
        )
        with db.transaction(WHO) as session:
            jobs.defer(session, name, n=2)
        wait_for(lambda: (name, 2) in ran)
    drop_connections(database)


def _status(url: str, name: str) -> object:
    found = rows(url, "select status from procrastinate_jobs where task_name = %s", name)
    return found[0][0] if found else None


def _leave_behind(url: str, name: str, *, attempts: int) -> None:
    """The row as a worker leaves it that was killed while it ran the job."""
    rows(
        url,
        "with dead as (insert into procrastinate_workers(last_heartbeat)"
        " values (now() - interval '5 minutes') returning id)"
        " update procrastinate_jobs set status = 'doing', attempts = %s,"
        " worker_id = (select id from dead) where task_name = %s",
        attempts, name,
    )  # fmt: skip


def test_a_job_that_was_given_up_runs_once_more_when_put_back(
    database: Database, database_url: str
) -> None:
    @jobs.task("test.given_up", Queue.MONEY, attempts_max=1)
    def given_up(number: int) -> None:
        ran.append(("given_up", number))
        if len(ran) == 1:
            raise ValueError("the first time")

    with a_worker(database_url):
        with database.transaction(WHO) as session:
            job_id = jobs.defer(session, "test.given_up", number=7)
        wait_for(lambda: _status(database_url, "test.given_up") == "failed")
        with database.transaction(WHO) as session:
            (entry,) = [e for e in jobs.entries(session, status="failed") if e.job_id == job_id]
            assert (entry.name, entry.arguments) == ("test.given_up", {"number": 7})
            assert jobs.put_back(session, job_id) == "test.given_up"
        wait_for(lambda: len(ran) == 2)
        with database.transaction(WHO) as session:
            assert jobs.put_back(session, job_id) is None  # it runs or is done
