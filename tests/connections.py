"""The connections of a worker's database, for tests that cut them."""

from __future__ import annotations

from core.db import JOBS, RW, Database, Lane, use_lane


def drop_connections(database: Database) -> None:
    """Forget every idle connection: a test cut them, and the next tests shall not meet one."""
    for lane in Lane:
        with use_lane(lane):
            for role in (RW, JOBS):
                database.engine(role).dispose()
