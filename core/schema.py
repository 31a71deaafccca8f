"""Brings a database to head: roles, migrations, and the SQL verbs of the rooms. Refuses nothing:
safe to run by several processes at once, and again.

The verbs (functions in schema `verbs`) live in .sql files beside the room that owns them and are
replaced as a whole whenever their text changed.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.engine import make_url

ROOT = Path(__file__).parent.parent
_ONE_MIGRATOR = 7_001

# Callees first: a verb may use the types and verbs of the files before it.
VERB_FILES = (
    "core/identity/sessions.sql",
    "core/metering/calls.sql",
    "core/billing/ledger.sql",
    "core/quota/gate.sql",
    "core/chat/turns.sql",
)


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
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
        with engine.begin() as connection:
            _install_verbs(connection)
    finally:
        engine.dispose()


@lru_cache(maxsize=1)
def head() -> str:
    """The newest migration of this code."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


@lru_cache(maxsize=1)
def verbs_digest() -> str:
    """What identifies the SQL verbs of this code."""
    digest = hashlib.sha256()
    for name in VERB_FILES:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def at_head(connection: Connection) -> bool:
    """Whether the database has this code's migrations and verbs."""
    version = connection.execute(text("select version_num from app.alembic_version")).scalar()
    verbs = connection.execute(text("select obj_description('verbs'::regnamespace)")).scalar()
    return version == head() and verbs == verbs_digest()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    return config


def _install_verbs(connection: Connection) -> None:
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ONE_MIGRATOR})
    if at_head(connection):
        return
    connection.exec_driver_sql("drop schema if exists verbs cascade")
    connection.exec_driver_sql("create schema verbs authorization app_owner")
    connection.exec_driver_sql("set local role app_owner")
    connection.exec_driver_sql("set local search_path = verbs, app, pg_temp")
    for name in VERB_FILES:
        connection.exec_driver_sql((ROOT / name).read_text().replace("%", "%%"))
    connection.exec_driver_sql("revoke execute on all functions in schema verbs from public")
    connection.exec_driver_sql("grant usage on schema verbs to app_rw, app_jobs")
    connection.exec_driver_sql(f"comment on schema verbs is '{verbs_digest()}'")
