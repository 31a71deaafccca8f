"""The database: table base, two engines (web and jobs), `transaction(who)` and one-statement calls.

Every transaction is bound to one role and, for the web, one tenant; nothing outlives it. It never
retries by itself and never opens a transaction without knowing who asks.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import psycopg
import structlog
from psycopg import sql
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolTimeout
from sqlalchemy import (
    DateTime,
    Engine,
    MetaData,
    NullPool,
    Uuid,
    create_engine,
    event,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as NoFreeConnection
from sqlalchemy.orm import DeclarativeBase, Session
from uuid_utils.compat import uuid7

from core import errors
from core.settings import Settings

RW, JOBS = "app_rw", "app_jobs"
_CONNECT_TIMEOUT_S = 5
_POOL_WAIT_S = 5.0
_STATEMENT_TIMEOUT_MS = 30_000
_LOCK_TIMEOUT_MS = 8_000

log = structlog.get_logger(__name__)


class Who(Protocol):
    """Whoever asks: a Principal (app_rw, one tenant), an Operator or the System (app_jobs)."""

    @property
    def db_role(self) -> str: ...
    @property
    def bound_tenant_id(self) -> UUID | None: ...


@dataclass(frozen=True, slots=True)
class System:
    """The product itself: jobs, the reaper, the command line. Sees all tenants by policy."""

    reason: str
    db_role: str = JOBS
    bound_tenant_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """The web role without a tenant: sees platform data such as the catalogue, and nobody's rows."""

    db_role: str = RW
    bound_tenant_id: UUID | None = None


class Base(DeclarativeBase):
    """All tables live in schema `app`; ids are UUIDs, times carry a zone."""

    metadata = MetaData(
        schema="app",
        naming_convention={
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s_check",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
            "pk": "%(table_name)s_pkey",
        },
    )
    type_annotation_map = {UUID: Uuid(), datetime: DateTime(timezone=True)}  # noqa: RUF012


def new_id() -> UUID:
    """A time-ordered id made by the client, so that every write can be repeated safely."""
    return uuid7()


class DatabaseRefused(Exception):
    """The database or its role must not be used; the message says why."""


class Database:
    """Engines and pools of one process. Made once at start, closed at the end."""

    def __init__(self, settings: Settings, url: str, jobs_url: str | None = None) -> None:
        pooled = settings.database_pooler == "transaction"
        self.url, self.jobs_url = url, jobs_url or url
        self._production = not settings.development
        self._engines = {
            RW: _engine(self.url, RW, pooled=pooled),
            JOBS: _engine(self.jobs_url, JOBS, pooled=pooled),
        }
        self._pools = {
            RW: _pool(self.url, RW, pooled=pooled, size_max=16),
            JOBS: _pool(self.jobs_url, JOBS, pooled=pooled, size_max=4),
        }

    def engine(self, role: str) -> Engine:
        """The SQLAlchemy engine whose connections run as `role`."""
        return self._engines[role]

    @contextmanager
    def transaction(self, who: Who) -> Iterator[Session]:
        """One transaction as `who`: commits at the end, rolls back on any exception.

        Raises errors.Unavailable when the database cannot be reached in time.
        """
        with Session(self._engines[who.db_role], expire_on_commit=False) as session:
            try:
                with session.begin():
                    _bind(session, who)
                    yield session
            except (OperationalError, InterfaceError) as error:
                raise _unavailable(error.orig) from error
            except NoFreeConnection as error:
                raise _unavailable(error) from error

    def call(
        self,
        statement: str,
        arguments: Sequence[object] | Mapping[str, object],
        *,
        role: str = RW,
    ) -> dict[str, Any] | None:
        """One statement in autocommit on its own; returns its first row. Raises errors.Unavailable.

        For the hot path only: functions in schema `verbs` that bind their tenant themselves.
        """
        try:
            with self._pools[role].connection(timeout=_POOL_WAIT_S) as connection:
                counted.statements += 1
                return connection.execute(statement, arguments).fetchone()  # type: ignore[no-any-return]
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
            raise _unavailable(error) from error

    def call_again(
        self,
        statement: str,
        arguments: Sequence[object] | Mapping[str, object],
        *,
        role: str = RW,
    ) -> dict[str, Any] | None:
        """`call`, once more when the connection was lost. Only for statements keyed by the caller."""
        try:
            return self.call(statement, arguments, role=role)
        except errors.Unavailable as error:
            if isinstance(error.__cause__, PoolTimeout):
                raise
            self._pools[role].check()
            return self.call(statement, arguments, role=role)

    def verify_roles(self) -> None:
        """Refuse to run where row security would not hold. Raises DatabaseRefused."""
        for role, engine in self._engines.items():
            try:
                with engine.connect() as connection:
                    row = connection.execute(text(_WHO_AM_I)).one()
            except (ProgrammingError, psycopg.ProgrammingError):
                setting = "DATABASE_JOBS_URL" if role == JOBS else "DATABASE_URL"
                raise DatabaseRefused(
                    f"the login of {setting} may not act as {role}: grant {role} to it"
                ) from None
            if row.current_user != role:
                raise DatabaseRefused(f"connected as {row.current_user}, not as {role}")
            if self._production and (row.login_super or row.login_bypass):
                raise DatabaseRefused(
                    f"the login role {row.session_user} is a superuser or bypasses row security:"
                    " give DATABASE_URL a role that is a member of app_rw"
                )

    def close(self) -> None:
        """Close every connection of this process."""
        for pool in self._pools.values():
            pool.close()
        for engine in self._engines.values():
            engine.dispose()


_WHO_AM_I = """
select current_user, session_user, rolsuper as login_super, rolbypassrls as login_bypass
from pg_roles where rolname = session_user
"""


class _Counted(threading.local):
    """Statements this thread sent through `call`; the benchmark counts round trips with it."""

    statements = 0


counted = _Counted()
_database: Database | None = None


def install(database: Database) -> None:
    """Make `database` the one this process uses (app start, command line, tests)."""
    global _database  # noqa: PLW0603 - one database per process, set once at the edge
    _database = database


def current() -> Database:
    """The database of this process. Raises errors.Unavailable before `install`."""
    if _database is None:
        raise errors.Unavailable("The database is not connected yet.")
    return _database


@contextmanager
def transaction(who: Who) -> Iterator[Session]:
    """One transaction of this process's database, as `who`."""
    with current().transaction(who) as session:
        yield session


def _bind(session: Session, who: Who) -> None:
    tenant = str(who.bound_tenant_id) if who.bound_tenant_id else ""
    session.execute(text("select set_config('app.tenant_id', :tenant, true)"), {"tenant": tenant})


def _engine(url: str, role: str, *, pooled: bool) -> Engine:
    """An engine whose connections take `role` on connect where the login is another role."""
    parsed = make_url(url).set(drivername="postgresql+psycopg")
    arguments: dict[str, object] = {"connect_timeout": _CONNECT_TIMEOUT_S}
    if pooled:
        engine = create_engine(
            parsed,
            poolclass=NullPool,
            connect_args=arguments | {"prepare_threshold": None},
        )
    else:
        engine = create_engine(
            parsed, pool_size=8, max_overflow=16, pool_timeout=_POOL_WAIT_S, pool_pre_ping=True,
            pool_recycle=1800, connect_args=arguments,
        )  # fmt: skip

    @event.listens_for(engine, "connect")
    def take_role(_dbapi: object, record: Any) -> None:
        if not pooled:  # behind a pooler a session's settings would reach other clients
            _become(record.driver_connection, role)

    return engine


def _pool(url: str, role: str, *, pooled: bool, size_max: int) -> ConnectionPool[Any]:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    arguments: dict[str, object] = {
        "autocommit": True,
        "row_factory": dict_row,
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "prepare_threshold": None if pooled else 2,
    }
    return ConnectionPool(
        plain, kwargs=arguments, min_size=1, max_size=size_max, max_idle=120, reconnect_timeout=60,
        configure=None if pooled else (lambda connection: _become(connection, role)),
        open=True, timeout=_POOL_WAIT_S,
    )  # fmt: skip


def _become(connection: psycopg.Connection[Any], role: str) -> None:
    """Run as `role` from here on, with bounded statements; a login role that is `role` stays so."""
    before, connection.autocommit = connection.autocommit, True
    row = connection.execute("select current_user").fetchone()
    user = row["current_user"] if isinstance(row, dict) else (row or ("",))[0]
    if user != role:
        connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
    connection.execute(f"set statement_timeout = {_STATEMENT_TIMEOUT_MS}")
    connection.execute(f"set lock_timeout = {_LOCK_TIMEOUT_MS}")
    connection.autocommit = before


def _unavailable(error: BaseException | None) -> errors.Unavailable:
    log.warning("database.unavailable", error=type(error).__name__)
    return errors.Unavailable(
        "The database is not reachable right now. Please try again.", retry_after_s=5
    )
