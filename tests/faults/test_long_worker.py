"""Long jobs in a process of their own: they take nobody's slots, give way, and outlive no kill."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db, errors, jobs, lanes, schema, settings, worker, worker_process
from core.db import Database, System
from core.finance.exports import State
from core.identity.access import Role
from core.jobs import Queue
from core.quota import gate, standing
from core.quota.costs import Cost
from core.quota.gate import Ask, OpenCall, Receipt
from tests.factories import Place, make_model, make_place
from tests.finance.books import keeper
from tests.finance.exporting import ask, content_of, now, part_of
from tests.finance.files_read import sheets_of

pytestmark = pytest.mark.faults
ROOT = Path(__file__).parents[2]
WHO = System("tests")
JOB = "identity.leftovers"  # it waits for a lock that the tests can hold
_LOCK = "lock table app.sessions in access exclusive mode"


@pytest.fixture
def own_url(
    fresh_database_url: Callable[[str], str], database: Database, data_dir: Path,
    monkeypatch: pytest.MonkeyPatch, worker_id: str,
) -> Iterator[str]:  # fmt: skip
    """A database without other tests' jobs, which the process of long jobs uses too."""
    url = fresh_database_url(f"long_{worker_id}")
    schema.migrate(url)
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("APP_ENV", "development")
    mine = Database(settings.load(), url)
    db.install(mine)
    yield url
    db.install(database)
    mine.close()


@contextmanager
def running(*works: Callable[[asyncio.Event], object]) -> Iterator[None]:
    """Some of a web process's tasks, on a loop of their own, ended as the lifespan ends them."""
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work(stop))  # type: ignore[arg-type]

    thread = threading.Thread(target=loop.run_until_complete, args=(all_of_them(),))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        assert not thread.is_alive()
        loop.close()


def wait_for(condition: Callable[[], object], seconds: float = 40) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.1)


def states() -> list[str]:
    with db.transaction(WHO) as session:
        return [entry.status for entry in jobs.entries(session) if entry.name == JOB]


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if _is_long(one)]


def _is_long(process: psutil.Process) -> bool:
    try:
        return "--until-idle" in process.cmdline()
    except psutil.Error:
        return False


def defer() -> None:
    assert JOB in jobs.names(), worker.ROOMS_WITH_JOBS  # whoever defers knows in which queue
    with db.transaction(WHO) as session:
        jobs.defer(session, JOB)


def test_a_process_is_started_for_long_jobs_gives_way_and_ends_with_its_parent(
    own_url: str,
) -> None:
    with running(lambda stop: worker_process.keep(stop, {})):
        time.sleep(1.5)
        assert not children(), "there is nothing to do"
        with psycopg.connect(own_url) as blocking:
            blocking.execute(_LOCK)
            defer()
            wait_for(lambda: states() == ["doing"])
            (process,) = children()
            assert process.nice() >= min(19, psutil.Process().nice() + 10)
        wait_for(lambda: states() == [])
    assert not process.is_running()


def test_a_job_whose_process_was_killed_is_run_by_the_next(
    own_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(own_url) as blocking:
        blocking.execute(_LOCK)
        defer()
        with running(lambda stop: worker_process.keep(stop, {})):
            wait_for(lambda: states() == ["doing"])
            (process,) = children()
            process.kill()
            blocking.rollback()
            monkeypatch.setattr(jobs, "_registered", {})  # this worker only rescues
            with running(lambda stop: jobs.run_worker(own_url, Queue.MONEY, stop)):
                wait_for(lambda: states() == [], 60)


def test_a_file_whose_process_was_killed_is_built_by_the_next_and_leaves_no_folder(
    own_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    place = make_place()
    who = keeper(place, Role.ADMIN)
    asked = ask(who, place, part_of(place), kind="audit", form="xlsx")
    with psycopg.connect(own_url) as blocking:
        blocking.execute("lock table app.audit_log in access exclusive mode")
        with running(lambda stop: worker_process.keep(stop, {})):
            wait_for(lambda: list(temporary.glob("*/*")))  # it waits for its rows
            (process,) = children()
            process.kill()
            blocking.rollback()
            monkeypatch.setattr(jobs, "_registered", {})  # this worker only rescues
            with running(lambda stop: jobs.run_worker(own_url, Queue.MONEY, stop)):
                wait_for(lambda: now(who, asked).state is State.READY, 60)
            assert not list(temporary.iterdir())
    assert "Columns" in sheets_of(content_of(who, now(who, asked)))


def test_long_jobs_take_no_slot_of_those_that_money_waits_for(
    own_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, lanes.Lane]] = []
    goes_on = threading.Event()
    monkeypatch.setattr(jobs, "_registered", {})
    jobs.task("t.long", Queue.LONG)(lambda n: goes_on.wait(30))
    jobs.task("t.money", Queue.MONEY)(lambda: ran.append(("money", lanes.current())))
    with db.transaction(WHO) as session:
        for number in range(10):
            jobs.defer(session, "t.long", n=number)
    with running(
        lambda stop: jobs.run_worker(own_url, Queue.MONEY, stop),
        lambda stop: jobs.run_worker(own_url, Queue.LONG, stop),
    ):
        with db.transaction(WHO) as session:
            wait_for(lambda: len(_of(session, "doing")) == 2)
            jobs.defer(session, "t.money")
            session.commit()
        began = time.monotonic()
        wait_for(lambda: ran)
        assert time.monotonic() - began < 3
        assert ran == [("money", lanes.Lane.MONEY)]
        goes_on.set()


def _of(session: Session, status: str) -> tuple[jobs.Entry, ...]:
    return jobs.entries(session, status=status)


def test_a_job_that_comes_round_never_runs_beside_itself(
    own_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, most = 0, 0
    monkeypatch.setattr(jobs, "_registered", {})

    def slow() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        time.sleep(3)
        now -= 1

    jobs.periodic("* * * * * */1", "t.slow", Queue.MONEY)(slow)
    with running(lambda stop: jobs.run_worker(own_url, Queue.MONEY, stop)):
        wait_for(lambda: most)
        time.sleep(6)
    assert most == 1


_STOPPED = """
import sys, time
from sqlalchemy import text
from core import db, settings
from core.db import Database, Lane, System
database = Database(settings.load(), sys.argv[1])
with db.use_lane(Lane.MONEY), database.transaction(System("tests")) as session:
    session.execute(text("select from app.accounts where tenant_id = :t for update"), {"t": sys.argv[2]})
    print("held", flush=True)
    time.sleep(120)
"""


def test_a_stopped_process_loses_its_locks_and_the_others_go_on(own_url: str) -> None:
    """SIGSTOP while it holds the row that every settlement of a tenant needs."""
    place, other, model = make_place(), make_place(), make_model()
    mine, theirs = (
        gate.open_call(standing.of_member(one.who, model), Ask("api", "test", 100, max_tokens=100))
        for one in (place, other)
    )
    stopped = subprocess.Popen(
        [sys.executable, "-c", _STOPPED, own_url, str(place.tenant_id)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert stopped.stdout is not None
        assert stopped.stdout.readline() == "held\n"
        stopped.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        with db.use_lane(lanes.Lane.ENGINE):
            assert _settle(theirs).code == "ok"
            assert time.monotonic() - began < 1, "another tenant does not notice"
            wait_for(lambda: _settled(mine), 20)
        assert time.monotonic() - began < lanes.LIMITS[lanes.Lane.MONEY].idle_ms / 1000 + 4
    finally:
        stopped.kill()
        stopped.wait()


_SLACK_S = 1.0  # others use this machine too
_RESCUED_S = 15 + 10 + 5.0  # without a heartbeat, until who rescues comes round, and runs it again


@contextmanager
def money_worker() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "core", "worker", "--queue", "money"], cwd=ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _use(place: Place, model: str) -> None:
    asked = Ask("api", "test", 100, max_tokens=100)
    call = gate.open_call(standing.of_member(place.who, model), asked)
    with db.use_lane(lanes.Lane.ENGINE):
        assert _settle(call).code == "ok"


def _summed(place: Place) -> int:
    found = "select coalesce(sum(requests), 0) from app.usage_daily where tenant_id = :t"
    with db.transaction(WHO) as session:
        return int(session.scalar(text(found), {"t": place.tenant_id}) or 0)


def test_a_worker_stopped_in_mid_job_loses_its_locks_and_the_job_to_another(own_url: str) -> None:
    """SIGSTOP while it adds up the sums, which nobody else may do meanwhile."""
    place, model = make_place(), make_model()
    _use(place, model)
    free = "select pg_try_advisory_xact_lock(hashtextextended(%s, 7031))"  # as verbs.sum_usage
    waiting = (
        "select count(*) from pg_locks where not granted and relation = 'app.usage_daily'::regclass"
    )
    with psycopg.connect(own_url, autocommit=True) as watching, money_worker() as stopped:
        with psycopg.connect(own_url) as blocking:
            blocking.execute("lock table app.usage_daily in access exclusive mode")
            wait_for(lambda: watching.execute(waiting).fetchone() == (1,))
            stopped.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        tenant = str(place.tenant_id)
        assert watching.execute(free, (tenant,)).fetchone() == (False,), "it goes on holding them"
        with running(lambda stop: jobs.run_worker(own_url, Queue.MONEY, stop)):
            wait_for(lambda: watching.execute(free, (tenant,)).fetchone() == (True,))
            assert time.monotonic() - began < lanes.LIMITS[lanes.Lane.MONEY].idle_ms / 1000 + 4
            wait_for(lambda: _summed(place) == 1)
            assert time.monotonic() - began < _RESCUED_S
            stopped.send_signal(signal.SIGCONT)
            _use(place, model)
            wait_for(lambda: _summed(place) > 1)
            time.sleep(2)
            assert _summed(place) == 2, "what it was at when it was stopped is not done again"


def test_a_settled_call_is_in_the_sums_within_two_seconds(own_url: str) -> None:
    place, model = make_place(), make_model()
    with money_worker():
        _use(place, model)
        wait_for(lambda: _summed(place) == 1)
        for number in range(2, 10):
            time.sleep(0.13 * (number % 5))  # at other moments of the second
            _use(place, model)
            settled = time.monotonic()
            wait_for(lambda count=number: _summed(place) == count)  # type: ignore[misc]
            assert time.monotonic() - settled < 2 + _SLACK_S


def _settle(call: OpenCall) -> Receipt:
    cost = Cost(Decimal("0.00001"), "provider", False, Decimal("0.00001"), 10, 0, 0, 5, 0)
    return gate.close(gate.settlement(call, cost, outcome="ok", gave_output=True, latency_ms=5))


def _settled(call: OpenCall) -> bool:
    try:
        return _settle(call).code == "ok"
    except errors.Busy:
        return False
