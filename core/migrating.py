"""Brings a database to head: roles, migrations, and the SQL verbs of the rooms. A process of its own,
because migrations need libraries that a serving process should not carry. Safe to run by several at
once, and again. Run by core.schema: DATABASE_OWNER_URL=... python -m core.migrating
"""

from __future__ import annotations

import os

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.engine import make_url

from core import schema
from core.schema import ROOT, VERB_FILES

_ONE_MIGRATOR = 7_001  # key of the advisory lock


def migrate(url: str) -> None:
    """Bring the database at `url` (an owner's login) to head."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    try:
        with engine.begin() as connection:
            connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ONE_MIGRATOR})
            connection.exec_driver_sql(
                (ROOT / "migrations" / "roles.sql").read_text().replace("%", "%%")
            )
        with engine.connect() as connection:
            config = Config()
            config.set_main_option("script_location", str(ROOT / "migrations"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
        with engine.begin() as connection:
            _install_verbs(connection)
    finally:
        engine.dispose()


def _install_verbs(connection: Connection) -> None:
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ONE_MIGRATOR})
    if schema.at_head(connection):
        return
    connection.exec_driver_sql("drop schema if exists verbs cascade")
    connection.exec_driver_sql("create schema verbs authorization app_owner")
    connection.exec_driver_sql("set local role app_owner")
    connection.exec_driver_sql("set local search_path = verbs, app, pg_temp")
    for name in VERB_FILES:
        connection.exec_driver_sql((ROOT / name).read_text().replace("%", "%%"))
    connection.exec_driver_sql("revoke execute on all functions in schema verbs from public")
    connection.exec_driver_sql("grant usage on schema verbs to app_rw, app_jobs")
    connection.exec_driver_sql(f"comment on schema verbs is '{schema.verbs_digest()}'")


if __name__ == "__main__":
    migrate(os.environ["DATABASE_OWNER_URL"])
