"""The life of a web process: what it starts before the first request, and ends after the last.

It brings the database to head, fills the catalogue on a first start, and owns engine and worker. It
refuses to run where row security would not hold. It knows no Streamlit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import structlog
from sqlalchemy import NullPool, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, OperationalError, ProgrammingError

from core import clock, db, errors, postgres, schema, settings, telemetry, worker
from core.billing import connection
from core.catalog import demo, registry, sync
from core.chat import engine
from core.chat.engine import Engine
from core.db import Database, DatabaseRefused, System
from core.demonstration import seed
from core.http import connections, machine
from core.http.machine import Drain
from core.metering import partitions
from core.settings import Settings

DRAIN_S = 8.0
_WORKER_PATIENCE_S = 12.0
_COMPARE_EVERY_S = 60.0
FIRST_START = System("first start")
_CLOCK = System("clock")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the database is for the web, for jobs and for migrations."""

    web: str
    jobs: str
    owner: str


@asynccontextmanager
async def running(configured: Settings, *, warm: Sequence[str] = ()) -> AsyncIterator[Engine]:
    """Everything a web process needs, from here to the end of the block.

    `warm` names modules to import in the background. Raises SettingsRefused, DatabaseRefused and
    EmbeddedServerFailed; each says what to do.
    """
    telemetry.configure(configured.log_level)
    machine.adopt_loggers()
    machine.raise_descriptor_limit()
    machine.send_at_once()
    connections.bound()
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(_open_database, configured, stack)
        clients = registry.connect(configured, demo_url=await _start_demo(configured, stack))
        for client in clients.values():
            stack.push_async_callback(client.close)
        await stack.enter_async_context(connection.serving(configured))
        if configured.run_worker:
            _start_worker(configured, stack)
        watching = asyncio.create_task(_watch_clock())
        stack.callback(watching.cancel)
        made = Engine(clients)
        engine.install(made)
        stack.callback(engine.install, None)
        drain = Drain(made, DRAIN_S)
        stack.push_async_callback(drain.done)
        stack.callback(machine.on_end_signals(drain.begin))
        machine.adopt_loggers()
        keeping = asyncio.create_task(machine.keep_memory_tidy(warm))
        stack.callback(keeping.cancel)
        log.info("process.ready", provider=",".join(clients), version=schema.head())
        yield made


def addresses(configured: Settings, stack: AsyncExitStack) -> Addresses:
    """The configured database, or the embedded one, which `stack` will leave."""
    if configured.database_url is None:
        server = postgres.start(configured.purser_data_dir)
        stack.callback(server.stop)
        return Addresses(server.url_of(db.RW), server.url_of(db.JOBS), server.url)
    web = configured.database_url.get_secret_value()
    jobs, owner = configured.database_jobs_url, configured.database_owner_url
    return Addresses(
        web, jobs.get_secret_value() if jobs else web, owner.get_secret_value() if owner else web
    )


def _open_database(configured: Settings, stack: AsyncExitStack) -> None:
    where = addresses(configured, stack)
    try:
        if not _is_at_head(where.owner):
            schema.migrate(where.owner)
    except schema.MigrationFailed as failure:
        raise DatabaseRefused(str(failure)) from None
    except OperationalError as error:
        if not error.connection_invalidated and error.statement is not None:
            raise
        raise DatabaseRefused(
            "the database does not answer; see DATABASE_URL and DATABASE_OWNER_URL"
        ) from None
    database = Database(configured, where.web, where.jobs)
    stack.callback(database.close)
    database.verify_roles()
    db.install(database)
    _compare_clock()
    _fill(configured)


def _compare_clock() -> None:
    with db.transaction(_CLOCK) as session:
        clock.compare(session)


async def _watch_clock() -> None:
    """Compare now and then, also where nobody asks whether this process is ready."""
    while True:
        await asyncio.sleep(_COMPARE_EVERY_S)
        with suppress(errors.Refusal, DatabaseError):  # whoever asks then says so
            await asyncio.to_thread(_compare_clock)


def _is_at_head(url: str) -> bool:
    """Whether nothing is to be done: then a login that owns nothing can start the process too."""
    made = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    try:
        with made.connect() as connection:
            return schema.at_head(connection)
    except ProgrammingError:
        return False  # an empty database
    finally:
        made.dispose()


def _fill(configured: Settings) -> None:
    """What a first start finds: this month's partitions, the catalogue and, to try, demo data."""
    now = clock.now()
    with db.use_lane(db.Lane.LONG), db.transaction(FIRST_START) as session:
        partitions.ensure_ahead(session)
        sync.seed(session, development=configured.development, now=now)
        if configured.development:
            seed.seed(session, configured, now)


async def _start_demo(configured: Settings, stack: AsyncExitStack) -> str | None:
    """The demo provider's address; None in production, where it is not."""
    if not configured.development:
        return None
    server = await demo.serve()
    stack.push_async_callback(server.close)
    return server.url


def _start_worker(configured: Settings, stack: AsyncExitStack) -> None:
    stop = asyncio.Event()
    working = asyncio.create_task(worker.run(configured, stop))
    working.add_done_callback(_say_why)

    async def end() -> None:
        stop.set()
        with suppress(TimeoutError, settings.SettingsRefused):
            await asyncio.wait_for(working, _WORKER_PATIENCE_S)

    stack.push_async_callback(end)


def _say_why(working: asyncio.Task[None]) -> None:
    if not working.cancelled() and (error := working.exception()) is not None:
        telemetry.alarm("worker_ended", error=type(error).__name__)
        log.error("worker.ended", exc_info=error)
