"""The time as the database has it. Rows are dated and compared by the database's clock; a process whose
own clock is wrong knows by how much, and reckons with it wherever it meets such a time, or a stranger's."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from prometheus_client import Gauge
from sqlalchemy import text
from sqlalchemy.orm import Session

from core import telemetry

APART_S_MAX = 30.0  # further apart, a process is not ready
_NOTICED_S = 1.0  # less is the time an answer takes
_ANSWER_S_MAX = 2.0  # a slower answer says nothing about clocks
_NOW = text("select extract(epoch from clock_timestamp())::float8")

_offset_s = Gauge(
    "purser_clock_offset_seconds", "How far the database's clock is ahead of this process's",
    registry=telemetry.registry,
)  # fmt: skip


class _Offset:
    """What the last comparison found; one for the process, as its clock is."""

    seconds = 0.0
    is_apart = False


def now() -> datetime:
    """The database's time, as far as this process knows it."""
    return datetime.now(UTC) + timedelta(seconds=_Offset.seconds)


def time_s() -> float:
    """The same as seconds since 1970."""
    return time.time() + _Offset.seconds


def offset_s() -> float:
    """How far the database's clock was ahead when last compared; 0 where nobody would notice."""
    return _Offset.seconds


def is_apart() -> bool:
    """Whether the two were too far apart to work with."""
    return _Offset.is_apart


def compare(session: Session) -> None:
    """Ask the database for its time. Alarms once each time the two have come apart."""
    session.execute(text("select 1"))  # the connection and the transaction are not part of it
    began_s, began = time.time(), time.monotonic()
    theirs_s = float(session.execute(_NOW).scalar_one())
    took_s = time.monotonic() - began
    if took_s > _ANSWER_S_MAX:
        return
    found_s = theirs_s - (began_s + took_s / 2)
    _Offset.seconds = found_s if abs(found_s) > _NOTICED_S else 0.0
    _offset_s.set(_Offset.seconds)
    was_apart, _Offset.is_apart = _Offset.is_apart, abs(found_s) > APART_S_MAX
    if _Offset.is_apart and not was_apart:
        telemetry.alarm("clock_apart", offset_s=round(found_s))
