"""Whether a database is at this code's head, and how it gets there: migrations and SQL verbs.

The verbs (functions in schema `verbs`) live in .sql files beside the room that owns them and are
replaced as a whole whenever their text changed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.engine import make_url

ROOT = Path(__file__).parent.parent

# Callees first: a verb may use the types and verbs of the files before it.
VERB_FILES = (
    "core/identity/zones.sql",
    "core/identity/sessions.sql",
    "core/identity/members.sql",
    "core/identity/tenants.sql",
    "core/metering/calls.sql",
    "core/billing/ledger.sql",
    "core/billing/corrections.sql",
    "core/billing/holds.sql",
    "core/quota/gate.sql",
    "core/chat/turns.sql",
    "core/finance/closing.sql",
    "core/finance/bills.sql",
)


class MigrationFailed(Exception):
    """The database could not be brought to head; the migrating process said why on its stderr."""


def migrate(url: str) -> None:
    """Bring the database at `url` (an owner's login) to head, in a process of its own.

    Raises sqlalchemy's OperationalError when nobody answers there, and MigrationFailed.
    """
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    with engine.connect():
        engine.dispose()
    done = subprocess.run(
        [sys.executable, "-m", "core.migrating"],
        cwd=ROOT, env={**os.environ, "DATABASE_OWNER_URL": url}, check=False,
    )  # fmt: skip
    if done.returncode:
        raise MigrationFailed("the migrations failed: see the lines above")


@lru_cache(maxsize=1)
def head() -> str:
    """The newest migration of this code."""
    return max(file.name[:4] for file in (ROOT / "migrations" / "versions").glob("0*.py"))


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
