"""The job queues: work that is deferred in the caller's transaction, and work that comes round.

What money waits for is short and in one queue, what may take long in another, for a process of its own.

Imports no room: rooms register their functions by name. Arguments are ids, never content, and a
job may run twice (its worker was killed), so every one must be safe to repeat.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import TypeAlias, TypeVar
from uuid import UUID

import psycopg
import structlog
from procrastinate import App, JobContext, PsycopgConnector, RetryStrategy, SyncPsycopgConnector
from procrastinate.exceptions import ConnectorException, UniqueViolation
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.tasks import configure_task
from prometheus_client import Gauge
from psycopg import sql
from psycopg_pool import PoolTimeout
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from core import clock, lanes, telemetry
from core.db import JOBS
from core.lanes import Lane

ATTEMPTS_MAX = 5
_SCHEMA = "jobs"
CONNECTIONS_MAX = 3  # of the queue itself, in each process that runs jobs
_HEARTBEAT_S = 3.0
_STALLED_AFTER_S = 15.0
_RESCUE_CRON, _RESCUE_PATIENCE_S = "* * * * * */10", 8.0
DRAIN_S = 10.0
_START_AGAIN_S = 2.0
_KEEP_FAILED_H = 14 * 24
_TEXT_LENGTH_MAX = 100
_RETRY_BASE_S = 3  # waits 3, 9, 27, 81 seconds

Argument: TypeAlias = UUID | int | str


class Queue(StrEnum):
    """Where a job waits: each has a worker, connections and slots of its own."""

    MONEY = "money"  # seconds at most: leases, events, top-ups, settlements
    LONG = "long"  # any length: files, imports, comparisons, checks, retention


_LANES = {Queue.MONEY: Lane.MONEY, Queue.LONG: Lane.LONG}
_SLOTS = {Queue.MONEY: 4, Queue.LONG: 2}
_BEFORE = "default"  # where jobs waited before there were two queues
Function = TypeVar("Function", bound=Callable[..., object])

log = structlog.get_logger(__name__)
jobs_gauge = Gauge(
    "purser_jobs", "Jobs that wait or were given up", ["status"], registry=telemetry.registry
)


@dataclass(frozen=True, slots=True)
class _Registered:
    """A room's function under its name; with a `cron` it comes round by itself."""

    name: str
    queue: Queue
    function: Callable[..., object]
    attempts_max: int
    cron: str | None


_registered: dict[str, _Registered] = {}


def task(
    name: str, queue: Queue, *, attempts_max: int = ATTEMPTS_MAX
) -> Callable[[Function], Function]:
    """Register a synchronous function as the job `name`; it opens its own transactions.

    A job that raises is tried again after 3, 9, 27, ... seconds; UUIDs arrive as text.
    """
    return partial(_register, name, queue, attempts_max, None)


def periodic(cron: str, name: str, queue: Queue) -> Callable[[Function], Function]:
    """Register a function without arguments to run by `cron` (a sixth field: seconds), in UTC.

    Once per tick, however many workers run, and never beside itself; one that fails waits for its
    next tick.
    """
    return partial(_register, name, queue, 1, cron)


def defer(session: Session, name: str, **arguments: Argument) -> int:
    """Add a job to the caller's transaction: it exists when, and only when, that commits.

    Returns the job's id. Raises ValueError for an argument too long to be an id.
    """
    values: dict[str, int | str] = {
        key: value if isinstance(value, int) else _id_text(key, value)
        for key, value in arguments.items()
    }
    before = session.scalar(text("select current_setting('search_path')"))
    _search(session, _SCHEMA)
    job_id = configure_task(
        name=name, job_manager=JobManager(SyncPsycopgConnector()), queue=_queue_of(name),
        connection=session.connection().connection.driver_connection,
    ).defer(**values)  # fmt: skip
    _search(session, before or "")
    return job_id


@dataclass(frozen=True, slots=True)
class Entry:
    """A job in the queue; `arguments` are ids. `since` is when it came to be in this state."""

    job_id: int
    name: str
    status: str
    arguments: dict[str, int | str]
    attempts: int
    scheduled_at: datetime | None
    since: datetime | None


def entries(
    session: Session, *, status: str | None = None, before_id: int | None = None, limit: int = 50
) -> tuple[Entry, ...]:
    """The newest jobs of the queue, of one status or all; those done are not kept.

    Needs a transaction of the jobs role; page on with the last `job_id`.
    """
    rows = session.execute(
        text(_ENTRIES), {"status": status, "before": before_id, "limit": min(max(limit, 1), 200)}
    )
    return tuple(Entry(*row) for row in rows)


def put_back(session: Session, job_id: int) -> str | None:
    """Let a job that was given up run again, now; its name, or None when it is not given up.

    It has one more attempt. Needs a transaction of the jobs role.
    """
    before = session.scalar(text("select current_setting('search_path')"))
    _search(session, _SCHEMA)  # the library's triggers name no schema either
    found = session.execute(text(_PUT_BACK), {"job": job_id}).scalar()
    _search(session, before or "")
    return None if found is None else str(found)


_ENTRIES = """
select j.id, j.task_name, j.status::text, j.args, j.attempts, j.scheduled_at,
  (select max(e.at) from jobs.procrastinate_events e where e.job_id = j.id)
from jobs.procrastinate_jobs j
where (cast(:status as text) is null or j.status::text = :status)
  and (cast(:before as bigint) is null or j.id < :before)
order by j.id desc limit :limit
"""
_PUT_BACK = """
update jobs.procrastinate_jobs set status = 'todo', attempts = attempts + 1, scheduled_at = null,
  worker_id = null
where id = :job and status = 'failed' returning task_name
"""


def waits(session: Session, queue: Queue, *, running: bool) -> bool:
    """Whether the queue has a job that could begin now; with `running` also one that has. Needs the
    jobs role."""
    return bool(session.scalar(text(_WAITS), {"queue": queue, "running": running}))


# A job waits for others of its lock; a worker would find nothing to do.
_WAITS = """
select exists (
  select from jobs.procrastinate_jobs j
  where j.queue_name = :queue and (:running and j.status = 'doing' or j.status = 'todo'
    and (j.scheduled_at is null or j.scheduled_at <= now())
    and not exists (select from jobs.procrastinate_jobs o where o.lock = j.lock and o.status = 'doing')))
"""


async def run_worker(url: str, queue: Queue, stop: asyncio.Event) -> None:
    """Run the jobs of a queue until `stop` is set, then let running ones end. `url` leads to
    Postgres itself.

    A lost database ends nothing: the worker starts again as soon as it is back.
    """
    while not stop.is_set():
        try:
            await _work(url, queue, stop)
        except (ConnectorException, psycopg.Error, PoolTimeout) as error:
            log.warning("worker.database_lost", error=type(error).__name__)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _START_AGAIN_S)


def names() -> frozenset[str]:
    """The names of all registered jobs."""
    return frozenset(_registered) | {_RESCUE, _FORGET}


def _register(
    name: str, queue: Queue, attempts_max: int, cron: str | None, function: Function
) -> Function:
    if name in names():
        raise ValueError(f"there is a job {name!r} already")
    _registered[name] = _Registered(name, queue, function, attempts_max, cron)
    return function


def _queue_of(name: str) -> Queue:
    """Where a job waits; one that this process does not know is found by whoever does."""
    return _registered[name].queue if name in _registered else Queue.MONEY


def _id_text(key: str, value: UUID | str) -> str:
    if len(str(value)) > _TEXT_LENGTH_MAX:
        raise ValueError(f"the argument {key!r} is too long to be an id")
    return str(value)


def _search(session: Session, path: str) -> None:
    """Set the search path for the rest of the transaction; the library's SQL names no schema."""
    session.execute(text("select set_config('search_path', :path, true)"), {"path": path})


async def _work(url: str, queue: Queue, stop: asyncio.Event) -> None:
    """One worker, until it is stopped or the library gives up (a lost connection)."""
    app = _app(url, queue)
    queues = [queue, _BEFORE] if queue is Queue.MONEY else [queue]
    async with app.open_async():
        worker = asyncio.create_task(
            app.run_worker_async(
                queues=queues, concurrency=_SLOTS[queue], install_signal_handlers=False,
                delete_jobs="successful",
                shutdown_graceful_timeout=DRAIN_S, update_heartbeat_interval=_HEARTBEAT_S,
                stalled_worker_timeout=_STALLED_AFTER_S,
            )
        )  # fmt: skip
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({worker, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker


def _app(url: str, queue: Queue) -> App:
    """The library's app with every registered job, not yet connected. The worker of `money` also
    sees to what comes round, of both queues, and to the jobs of killed workers."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    app = App(
        connector=PsycopgConnector(
            conninfo=plain, min_size=1, max_size=CONNECTIONS_MAX, configure=_configure
        )
    )
    for job in _registered.values():
        if job.queue is queue or queue is Queue.MONEY:
            _add(app, job, comes_round=queue is Queue.MONEY)
    if queue is Queue.MONEY:
        # No `lock`: that of a rescue whose worker was killed would keep every later one waiting.
        for name, function, cron in (
            (_RESCUE, _rescue, _RESCUE_CRON), (_FORGET, _forget, "20 3 * * *"),
        ):  # fmt: skip
            added = app.task(name=name, queue=queue, pass_context=True, queueing_lock=name)(
                function
            )
            app.periodic(cron=cron)(added)
    return app


def _add(app: App, job: _Registered, *, comes_round: bool) -> None:
    run = partial(_run, job)
    if job.cron is None:
        again = job.attempts_max - 1  # for the library, none means without end
        retry = (
            RetryStrategy(max_attempts=again, exponential_wait=_RETRY_BASE_S) if again else False
        )
        app.task(name=job.name, queue=job.queue, retry=retry)(run)
        return
    added = app.task(name=job.name, queue=job.queue, lock=job.name, queueing_lock=job.name)(run)
    if comes_round:
        app.periodic(cron=job.cron)(added)


def _run(job: _Registered, **arguments: Argument) -> None:
    """One run of a job, in a thread of the worker; a failure is named here and counted there."""
    telemetry.new_request_id()
    if job.cron is not None:
        arguments.pop("timestamp", None)
    try:
        with lanes.use(_LANES[job.queue]):
            job.function(**arguments)
    except Exception as error:
        log.error("job.failed", job=job.name, exc_info=error)  # noqa: TRY400 - named, not printed
        raise


async def _configure(connection: psycopg.AsyncConnection[object]) -> None:
    """A connection of the queue: one statement at a time, as app_jobs, in schema `jobs`."""
    await connection.set_autocommit(True)
    cursor = await connection.execute("select current_user")
    row = await cursor.fetchone()
    if row != (JOBS,):
        await connection.execute(sql.SQL("set role {}").format(sql.Identifier(JOBS)))
    await connection.execute(sql.SQL("set search_path = {}").format(sql.Identifier(_SCHEMA)))


_RESCUE, _FORGET = "jobs.rescue", "jobs.forget"
_COUNT = """
select count(*) filter (where status = 'todo') as todo,
  count(*) filter (where status = 'failed') as failed from procrastinate_jobs
"""


async def _rescue(context: JobContext, timestamp: int) -> None:  # noqa: ARG001 - the library's call
    """Put the jobs of killed workers back, or give them up after too many attempts."""
    async with asyncio.timeout(_RESCUE_PATIENCE_S):  # never so long that the next one begins
        await _put_all_back(context)


async def _put_all_back(context: JobContext) -> None:
    manager = context.app.job_manager
    for job in await manager.get_stalled_jobs(seconds_since_heartbeat=_STALLED_AFTER_S):
        try:
            await _put_back(manager, job)
        except ConnectorException as error:
            log.warning("job.not_rescued", job=job.task_name, error=type(error).__name__)
    await manager.prune_stalled_workers(_STALLED_AFTER_S)
    counted = await context.app.connector.execute_query_one_async(_COUNT)
    for status in ("todo", "failed"):
        jobs_gauge.labels(status=status).set(counted[status])


async def _put_back(manager: JobManager, job: Job) -> None:
    if job.attempts + 1 >= ATTEMPTS_MAX:
        await manager.finish_job(job, Status.FAILED, delete_job=False)
        telemetry.alarm("job_given_up", job=job.task_name, attempts=job.attempts + 1)
        return
    try:
        await manager.retry_job(job, retry_at=clock.now())
    except UniqueViolation:  # the next one of its kind waits already and does the same
        await manager.finish_job(job, Status.FAILED, delete_job=True)
    log.warning("job.rescued", job=job.task_name, attempts=job.attempts + 1)


async def _forget(context: JobContext, timestamp: int) -> None:  # noqa: ARG001 - the library's call
    """Delete what failed long ago."""
    await context.app.job_manager.delete_old_jobs(
        nb_hours=_KEEP_FAILED_H, include_failed=True, include_cancelled=True, include_aborted=True
    )
