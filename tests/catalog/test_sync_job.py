"""The hourly sync: fetches with the key there is, and does nothing where there is none."""

from __future__ import annotations

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from core import db, settings
from core.catalog import sync, sync_job
from core.catalog.listing import read_file
from core.catalog.providers import ProviderUnreachable
from tests.factories import TESTS
from tests.upstream import Upstream

pytestmark = pytest.mark.usefixtures("database")


def with_key(url: str) -> settings.Settings:
    return settings.current().model_copy(
        update={"openrouter_api_key": SecretStr("sk-test"), "openrouter_base_url": url}
    )


def test_without_a_key_nothing_is_fetched() -> None:
    assert sync_job.sync_now(settings.current()) is None


def test_the_providers_list_is_fetched_and_applied() -> None:
    rows = [row for row in read_file(sync.SEED_FILE) if isinstance(row, dict)][:3]
    with Upstream() as upstream:
        upstream.list_models(rows)
        report = sync_job.sync_now(with_key(upstream.url))
    assert report is not None
    assert (report.seen, report.source) == (3, "provider")
    with db.transaction(TESTS) as session:
        known = session.scalars(text("select model_id from app.models")).all()
    assert {row["id"] for row in rows} <= set(known)


def test_an_unreachable_provider_changes_nothing() -> None:
    with pytest.raises(ProviderUnreachable):
        sync_job.sync_now(with_key("http://127.0.0.1:9"))
