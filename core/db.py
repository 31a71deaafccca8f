"""The database: table base, connections by role and lane, `transaction(who)` and one-statement calls.

Every transaction is bound to one role and, for the web, one tenant; nothing outlives it. It is never
repeated by itself, and never opened without knowing who asks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from sqlalchemy import DateTime, Engine, MetaData, Uuid, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError, ProgrammingError
from sqlalchemy.exc import TimeoutError as NoFreeConnection
from sqlalchemy.orm import DeclarativeBase, Session
from uuid_utils.compat import uuid7

from core import database_errors, errors, lanes
from core.lanes import Lane, Limits, Shares
from core.lanes import enter as enter_lane
from core.lanes import use as use_lane
from core.settings import Settings

__all__ = [
    "JOBS", "RW", "Base", "Database", "DatabaseRefused", "Lane", "Reader", "System", "Who",
    "counted", "current", "enter_lane", "install", "new_id", "transaction", "use_lane",
]  # fmt: skip

RW, JOBS = "app_rw", "app_jobs"
_KEPT_MAX = 5  # connections of one role and lane that stay open when nobody needs them
_RECYCLE_S = 1800
_AGAIN_S = (0.05, 0.2, 0.5, 1, 1, 1, 1)
_TRANSACTION_TIMEOUT_SINCE = 170_000
# A peer that is gone without a word is noticed within seconds, by us and by the server.
_CONNECT: dict[str, Any] = {
    "connect_timeout": 5, "keepalives": 1, "keepalives_idle": 5, "keepalives_interval": 5,
    "keepalives_count": 3, "tcp_user_timeout": 15_000,
}  # fmt: skip
_SERVER_SIDE = {
    "tcp_keepalives_idle": "5", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
}  # fmt: skip


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
    """The connections of one process, apart for each lane. Made once at start, closed at the end."""

    def __init__(
        self,
        settings: Settings,
        url: str,
        jobs_url: str | None = None,
        *,
        limits: Mapping[Lane, Limits] = lanes.LIMITS,
    ) -> None:
        self.url, self.jobs_url = url, jobs_url or url
        self._pooled = settings.database_pooler == "transaction"
        self._production = not settings.development
        self._limits = limits
        self._shares = {lane: Shares(one) for lane, one in limits.items()}
        self._engines = {
            (role, lane): _Engine(address, role, lane, one, pooled=self._pooled)
            for lane, one in limits.items()
            for role, address in ((RW, self.url), (JOBS, self.jobs_url))
        }

    def engine(self, role: str) -> Engine:
        """The SQLAlchemy engine whose connections run as `role`, on the current lane."""
        return self._engines[role, lanes.current()].engine

    @contextmanager
    def transaction(self, who: Who) -> Iterator[Session]:
        """One transaction as `who`: commits at the end, rolls back on any exception.

        Raises errors.Busy, errors.DatabaseAway and errors.Unavailable for what the database refuses.
        """
        lane = lanes.current()
        with (
            _refusals(),
            self._shares[lane].of(who.bound_tenant_id),
            Session(self._engines[who.db_role, lane].engine, expire_on_commit=False) as session,
        ):
            self._begin(session, who, lane)
            yield session
            session.commit()

    def call(
        self,
        statement: str,
        arguments: Sequence[object] | Mapping[str, object],
        *,
        role: str = RW,
        tenant_id: UUID | None = None,
    ) -> dict[str, Any] | None:
        """One statement in autocommit on its own; returns its first row. Raises as `transaction`.

        For the hot path only: functions in schema `verbs` that bind their tenant themselves. It is
        one connection of `tenant_id`'s share, where that is given.
        """
        lane = lanes.current()
        with _refusals(), self._shares[lane].of(tenant_id):
            return self._engines[role, lane].call(statement, arguments)

    def call_again(
        self,
        statement: str,
        arguments: Sequence[object] | Mapping[str, object],
        *,
        role: str = RW,
        tenant_id: UUID | None = None,
    ) -> dict[str, Any] | None:
        """`call`, again for a while when the database is away (never when it is busy). Only for
        statements keyed by the caller."""
        give_up_at = time.monotonic() + self._limits[lanes.current()].wait_s
        for pause_s in _AGAIN_S:
            try:
                return self.call(statement, arguments, role=role, tenant_id=tenant_id)
            except errors.DatabaseAway:
                if time.monotonic() + pause_s > give_up_at:
                    raise
            time.sleep(pause_s)
        return self.call(statement, arguments, role=role, tenant_id=tenant_id)

    def verify_roles(self) -> None:
        """Refuse to run where row security would not hold. Raises DatabaseRefused."""
        for role in (RW, JOBS):
            try:
                with self.engine(role).connect() as connection:
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
        for one in self._engines.values():
            one.engine.dispose()

    def _begin(self, session: Session, who: Who, lane: Lane) -> None:
        """Bind the transaction to who asks. A connection that was lost while nobody used it is
        replaced: nothing was done on it yet."""
        try:
            self._bind(session, who, lane)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            session.rollback()
            self._bind(session, who, lane)

    def _bind(self, session: Session, who: Who, lane: Lane) -> None:
        tenant = str(who.bound_tenant_id) if who.bound_tenant_id else ""
        if not self._pooled:
            session.execute(_BIND, {"tenant": tenant})
            return
        bounds = self._limits[lane].timeouts()
        session.execute(_BIND_ALL, {"tenant": tenant, **bounds})


_BIND = text("select set_config('app.tenant_id', :tenant, true)")
# Behind a pooler a session's settings would reach other clients: each transaction brings its own.
_BOUNDS = """set_config('statement_timeout', {0}, true), set_config('lock_timeout', {1}, true),
  set_config('idle_in_transaction_session_timeout', {2}, true)"""
_NAMES = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
_BIND_ALL = text(
    "select set_config('app.tenant_id', :tenant, true), "
    + _BOUNDS.format(*(f":{name}" for name in _NAMES))
)
_CALL_BOUNDS = "select " + _BOUNDS.format(*(f"%({name})s" for name in _NAMES))


class _Engine:
    """The connections of one role on one lane, for transactions and for single statements alike."""

    def __init__(self, url: str, role: str, lane: Lane, limits: Limits, *, pooled: bool) -> None:
        self._limits, self._pooled = limits, pooled
        self._lost_at = 0.0
        most = limits.jobs_max if role == JOBS else limits.rw_max
        self.engine = create_engine(
            make_url(url).set(drivername="postgresql+psycopg"), pool_size=min(most, _KEPT_MAX),
            max_overflow=most - min(most, _KEPT_MAX), pool_timeout=limits.wait_s,
            pool_recycle=_RECYCLE_S,
            connect_args=_CONNECT | {
                "application_name": f"purser {lane}", "prepare_threshold": None if pooled else 5
            },
        )  # fmt: skip

        @event.listens_for(self.engine, "connect")
        def begin(_dbapi: object, record: Any) -> None:
            record.info["since"] = time.monotonic()
            if not pooled:
                _become(record.driver_connection, role, limits)

        @event.listens_for(self.engine, "checkout")
        def require_younger(_dbapi: object, record: Any, _proxy: object) -> None:
            if record.info["since"] < self._lost_at:
                raise DisconnectionError  # the pool connects anew

    def call(
        self, statement: str, arguments: Sequence[object] | Mapping[str, object]
    ) -> dict[str, Any] | None:
        """One statement and its first row, in a transaction of its own where timeouts need one."""
        held = self.engine.raw_connection()
        try:
            connection = held.driver_connection
            if not isinstance(connection, psycopg.Connection):
                raise TypeError("the database is not reached by psycopg")
            counted.statements += 1
            try:
                return self._execute(connection, statement, arguments)
            finally:
                if connection.closed:  # then all those before it are likely lost too
                    self._lost_at = time.monotonic()
                    held.invalidate()
        finally:
            held.close()

    def _execute(
        self,
        connection: psycopg.Connection[Any],
        statement: str,
        arguments: Sequence[object] | Mapping[str, object],
    ) -> dict[str, Any] | None:
        if self._pooled:
            with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
                cursor.execute(_CALL_BOUNDS, self._limits.timeouts())
                return cursor.execute(statement, arguments).fetchone()
        connection.autocommit = True
        try:
            with connection.cursor(row_factory=dict_row) as cursor:
                return cursor.execute(statement, arguments, prepare=True).fetchone()
        finally:
            if not connection.closed:
                connection.autocommit = False


@contextmanager
def _refusals() -> Iterator[None]:
    """What the database or its pool says, as one of our refusals; a fault of ours stays what it is."""
    try:
        yield
    except (DBAPIError, psycopg.Error, NoFreeConnection) as error:
        refusal = database_errors.refusal_of(error)
        if refusal is None:
            raise
        raise refusal from error


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
    """The database of this process. Raises errors.DatabaseAway before `install`."""
    if _database is None:
        raise errors.DatabaseAway("The database is not connected yet.", retry_after_s=2)
    return _database


@contextmanager
def transaction(who: Who) -> Iterator[Session]:
    """One transaction of this process's database, as `who`."""
    with current().transaction(who) as session:
        yield session


def _become(connection: psycopg.Connection[Any], role: str, limits: Limits) -> None:
    """Run as `role` from here on, bounded by the lane; a login role that is `role` stays so."""
    before, connection.autocommit = connection.autocommit, True
    row = connection.execute("select current_user").fetchone()
    if row != (role,):
        connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
    bounds = limits.timeouts() | _SERVER_SIDE
    if limits.transaction_ms and connection.info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
        bounds["transaction_timeout"] = str(limits.transaction_ms)
    connection.execute(
        sql.SQL("; ").join(
            sql.SQL("set {} = {}").format(sql.Identifier(name), sql.Literal(value))
            for name, value in bounds.items()
        )
    )
    connection.autocommit = before
