"""Checks what must always hold, by the rooms' own queries (the *invariants.sql beside each room).

Reads and never repairs. A query returns one row, `detail`, per offence; details name rows by id and
hold no content. An empty answer of every query is the proof.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from prometheus_client import Gauge
from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db, jobs, telemetry
from core.db import System
from core.jobs import Queue

_ROOT = Path(__file__).parent
_ROOMS = ("identity", "metering", "billing", "quota", "chat", "alerts", "finance")
_FILES = tuple(file for room in _ROOMS for file in sorted((_ROOT / room).glob("*invariants.sql")))
_NAME = re.compile(r"^-- name: (\w+)( nightly)?$", re.MULTILINE)
# From when on a query looks. Every hour it goes back to before the last night, which saw all there was.
_SINCE, _RECENT = "'-infinity'::timestamptz", "(now() - interval '26 h')"
_PER_INVARIANT_MAX = 100

violations_gauge = Gauge(
    "purser_invariant_violations", "Rows that break an invariant, at the last check", ["name"],
    registry=telemetry.registry,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Violation:
    """One offence: which invariant, and which rows with which numbers."""

    name: str
    detail: str


def check(session: Session, *, whole: bool = True) -> list[Violation]:
    """Run every query as the System; at most a hundred offences of each are returned.

    Each is one statement, so it sees one moment of the database and may run beside live traffic. Not
    `whole`: without those that go through all of history, and the others as far back as last night.
    """
    session.execute(text("set transaction read only"))
    session.execute(text("set local statement_timeout = '10min'"))
    found = []
    for name, query in queries(whole=whole).items():
        rows = session.connection().exec_driver_sql(f"{query} limit {_PER_INVARIANT_MAX}")
        found += [Violation(name, str(row[0])) for row in rows]
    return found


@cache
def queries(*, whole: bool = True) -> dict[str, str]:
    """Every invariant's query by its name; not `whole`: those that an hour can afford."""
    found: dict[str, str] = {}
    for file in _FILES:
        _, *parts = _NAME.split(file.read_text())
        for name, nightly, query in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            if whole or not nightly:
                wanted = query if whole else query.replace(_SINCE, _RECENT)
                found[name] = wanted.strip().rstrip(";").replace("%", "%%")
    return found


def _measure(*, whole: bool) -> None:
    with db.transaction(System("invariants")) as session:
        found = [violation.name for violation in check(session, whole=whole)]
    names = queries(whole=whole)
    telemetry.measure(violations_gauge, {name: found.count(name) for name in names})
    if found:
        telemetry.alarm("invariants", violations=len(found), code=found[0])


@jobs.periodic("35 * * * *", "invariants", Queue.LONG)
def _hourly() -> None:
    _measure(whole=False)


@jobs.periodic("5 4 * * *", "invariants.whole", Queue.LONG)
def _nightly() -> None:
    _measure(whole=True)
