"""A database of its own, where a day's sums and the invariants are those of one test's calls alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text

from core import db, invariants, schema, settings
from core.db import Database
from tests.factories import TESTS


@pytest.fixture(scope="package")
def _own(
    database: Database, fresh_database_url: Callable[[str], str], worker_id: str
) -> Iterator[Database]:
    url = fresh_database_url(f"purser_bills_{worker_id}")
    schema.migrate(url)
    made = Database(settings.current(), url)
    yield made
    made.close()


@pytest.fixture
def books(_own: Database, database: Database) -> Iterator[Database]:
    """The own database, installed; afterwards nothing in it breaks an invariant."""
    db.install(_own)
    try:
        yield _own
        with db.transaction(TESTS) as session:
            assert invariants.check(session) == []
        with db.transaction(TESTS) as session:
            session.execute(text("delete from app.bill_lines"))
    finally:
        db.install(database)
