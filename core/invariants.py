"""Checks what must always hold, by the rooms' own queries (the *invariants.sql beside each room).

Reads and never repairs. A query returns one row, `detail`, per offence; details name rows by id and
hold no content. An empty answer of every query is the proof.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
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
_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
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


def check(session: Session) -> list[Violation]:
    """Run every query as the System; at most a hundred offences of each are returned.

    Each is one statement, so it sees one moment of the database and may run beside live traffic.
    """
    session.execute(text("set transaction read only"))
    session.execute(text("set local statement_timeout = 0"))
    found = []
    for name, query in queries().items():
        rows = session.connection().exec_driver_sql(query).fetchmany(_PER_INVARIANT_MAX)
        found += [Violation(name, str(row[0])) for row in rows]
    return found


@lru_cache(maxsize=1)
def queries() -> dict[str, str]:
    """Every invariant's query by its name."""
    found: dict[str, str] = {}
    for file in _FILES:
        _, *parts = _NAME.split(file.read_text())
        for name, query in zip(parts[::2], parts[1::2], strict=True):
            found[name] = query.strip().rstrip(";").replace("%", "%%")
    return found


@jobs.periodic("35 * * * *", "invariants", Queue.LONG)
def _measure() -> None:
    with db.transaction(System("invariants")) as session:
        found = [violation.name for violation in check(session)]
    telemetry.measure(violations_gauge, {name: found.count(name) for name in queries()})
    if found:
        telemetry.alarm("invariants", violations=len(found), code=found[0])
