"""The migrations and the tables of the rooms describe one and the same database."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import NullPool, create_engine
from sqlalchemy.engine import make_url

from core.db import Base
from migrations import database_map

_NOT_TABLES_OF_A_ROOM = ("usage_events_", "alembic_version")


def included(name: str | None, kind: str, parents: object) -> bool:
    """Our schema only, without the partitions that run-time makes."""
    if kind == "schema":
        return name == "app"
    return kind != "table" or not (name or "").startswith(_NOT_TABLES_OF_A_ROOM)


def test_the_migrated_database_is_what_the_tables_say(database_url: str) -> None:
    assert database_map.ROOMS
    engine = create_engine(
        make_url(database_url).set(drivername="postgresql+psycopg"), poolclass=NullPool
    )
    options = {"include_schemas": True, "include_name": included, "compare_server_default": True}
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        differences = compare_metadata(context, Base.metadata)
    engine.dispose()
    assert differences == []
