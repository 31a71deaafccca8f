"""What the database's errors mean to whoever asked: busy, away, or unable to record. By SQLSTATE."""

from __future__ import annotations

import psycopg
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoFreeConnection

from core import errors

# Lock or statement timeout, deadlock, serialization, no connection or memory left, and sessions ended
# because they were too slow. Waiting helps; doing it again at once would double the load.
_BUSY = {"55P03", "57014", "40P01", "40001", "53300", "53400", "53200", "25P03", "25P04"}
_FULL = "53100"
_READ_ONLY = "25006"  # a standby: the address still leads to where the database was
_LOST = ("08", "57P")
_CROWDED = ("too many clients", "too many connections", "connection slots")  # no state on connect
_RETRY_S = 5

log = structlog.get_logger(__name__)


def refusal_of(error: BaseException) -> errors.Unavailable | None:
    """The refusal an error of the database or its pool stands for; None: it is a fault of ours."""
    found = _refusal_of(error.orig if isinstance(error, DBAPIError) and error.orig else error)
    if found is not None:
        log.warning("database.refused", code=found.code, error=type(error).__name__)
    return found


def _refusal_of(error: BaseException) -> errors.Unavailable | None:
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    crowded = state is None and any(words in str(error) for words in _CROWDED)
    if isinstance(error, NoFreeConnection) or state in _BUSY or crowded:
        return errors.Busy(
            "The database is busy right now. Please try again in a moment.", retry_after_s=2
        )
    if state == _FULL:
        return errors.Unavailable("The database has no room left to record anything.")
    if state == _READ_ONLY:
        return errors.Unavailable("The database records nothing right now.", retry_after_s=_RETRY_S)
    if not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return None
    if state is None or state.startswith(_LOST):
        return errors.DatabaseAway(
            "The database is not reachable right now. Please try again.", retry_after_s=_RETRY_S
        )
    return errors.Unavailable("The database could not do this right now.", retry_after_s=_RETRY_S)
