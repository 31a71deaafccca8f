"""Rows out of Postgres by COPY, in blocks, however many there are. Formats nothing and keeps nothing."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from threading import Lock
from typing import Any

import psycopg
from sqlalchemy import text
from sqlalchemy.orm import Session

BLOCK_BYTES = 128 * 1024
_CANCEL_PATIENCE_S = 2.0
# One process of the server at a time: the others belong to those who chat. Rows of a large file are put
# in order in memory: on disk that takes as long as reading them. Between its rows and its end a file may
# be packed, or wait for a slow client.
_BEGIN = """
select set_config('timezone', :zone, true), set_config('datestyle', 'ISO, YMD', true),
  set_config('statement_timeout', '1h', true), set_config('max_parallel_workers_per_gather', '0', true),
  set_config('work_mem', '256MB', true), set_config('idle_in_transaction_session_timeout', '1h', true)
"""
# The offsets a zone has had and will have; one that lasts less than a month is of no zone.
_WHOLE_HOURS = """
select bool_and(extract(timezone_minute from at) = 0) and bool_and(extract(timezone from at) % 60 = 0)
from generate_series('2000-01-01'::timestamptz, '2060-01-01', '1 month') as at
"""


class Progress:
    """How many rows a file has so far, and the way for another thread to stop its query."""

    def __init__(self) -> None:
        self.rows = 0
        self._lock = Lock()
        self._connection: psycopg.Connection[Any] | None = None

    @contextmanager
    def reading(self, connection: psycopg.Connection[Any]) -> Iterator[None]:
        """While this lasts, the connection's query is this file's."""
        self._connection = connection
        try:
            yield
        finally:
            with self._lock:  # from here on the connection is somebody else's
                self._connection = None

    def cancel(self) -> None:
        """End the query, if there is one. Safe from any thread."""
        with self._lock:
            if self._connection is not None:
                self._connection.cancel_safe(timeout=_CANCEL_PATIENCE_S)


def begin(session: Session, zone: str) -> bool:
    """Fix how this transaction spells times, and let it take long; whether the zone's offsets are
    whole hours."""
    session.execute(text(_BEGIN), {"zone": zone})
    return bool(session.scalar(text(_WHOLE_HOURS)))


def driver(session: Session) -> psycopg.Connection[Any]:
    """The driver's own connection of this transaction."""
    found = session.connection().connection.driver_connection
    if not isinstance(found, psycopg.Connection):
        raise TypeError("the database is not reached by psycopg")
    return found


def rows(
    session: Session, statement: str, parameters: Mapping[str, object], progress: Progress
) -> Generator[bytes | memoryview]:
    """The lines of a COPY ... TO STDOUT as they come, its header too; each is a row of its own."""
    connection = driver(session)
    with (
        progress.reading(connection),
        connection.cursor() as cursor,
        cursor.copy(statement, parameters) as copy,
    ):
        yield from copy  # type: ignore[misc] # psycopg's Buffer is one of the two


def blocks(
    session: Session,
    statement: str,
    parameters: Mapping[str, object],
    progress: Progress,
    *,
    header_lines: int = 0,
) -> Generator[bytes]:
    """The same lines in blocks of BLOCK_BYTES and a little more."""
    held, count = bytearray(), -header_lines
    with closing(rows(session, statement, parameters, progress)) as found:
        for row in found:
            held += row
            count += 1
            if len(held) >= BLOCK_BYTES:
                progress.rows = count
                yield bytes(held)
                held.clear()
    progress.rows = count
    if held:
        yield bytes(held)
