"""One served API per worker; every test brings its own tenant and its own script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from core.chat import engine
from core.db import Database
from tests.factories import make_model
from tests.http.serving import Client, Service, a_client


@pytest.fixture(scope="session")
def service(database: Database) -> Iterator[Service]:
    with Service() as started:
        yield started


@pytest.fixture(autouse=True)
def _engine_of_the_service(service: Service) -> None:
    """Tests of other rooms install engines of their own; here it is the service's."""
    engine.install(service.engine)


@pytest.fixture
def client(service: Service) -> Client:
    """A tenant with ten dollars; the provider answers with the first transcript."""
    service.up.play("01_normal_usage_cost.txt", fresh_ids=True)
    return a_client()


@pytest.fixture(scope="session")
def model(database: Database) -> str:
    """A priced model that takes text and pictures."""
    return make_model()
