"""A migrated database whose catalogue belongs to the tests of this folder alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from core import schema, settings
from core.catalog.tables import Provider
from core.db import JOBS, Database
from tests.catalog.listed import Catalogue


@pytest.fixture(scope="session")
def own_database(
    fresh_database_url: Callable[[str], str], worker_id: str, data_dir: Path
) -> Iterator[Database]:
    """Not installed as the process's database, and without a model in it."""
    url = fresh_database_url(f"catalogue_{worker_id}")
    schema.migrate(url)
    made = Database(settings.current(), url)
    yield made
    made.close()


@pytest.fixture
def catalogue(own_database: Database) -> Iterator[Catalogue]:
    """A provider of one test, in a transaction that is rolled back."""
    with Session(own_database.engine(JOBS), expire_on_commit=False) as session:
        session.add(
            Provider(provider="testing", title="T", sends_cost=True, keeps_generations=True)
        )
        session.flush()
        yield Catalogue(session)
        session.rollback()
