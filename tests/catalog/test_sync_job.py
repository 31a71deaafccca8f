"""The hourly sync: fetches with the key there is, and does nothing where there is none."""

from __future__ import annotations

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from core import db, errors, settings
from core.catalog import passes, sync, sync_job
from core.catalog.listing import read_file
from core.catalog.providers import ProviderUnreachable
from tests.catalog.listed import an_operator
from tests.factories import TESTS, make_place
from tests.identity.people import audit_rows
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


def test_an_operator_who_asks_stands_in_the_log() -> None:
    who = an_operator()
    rows = [row for row in read_file(sync.SEED_FILE) if isinstance(row, dict)][:3]
    with Upstream() as upstream:
        upstream.list_models(rows)
        report = sync_job.ask(who, with_key(upstream.url))
    assert report.seen == 3
    with db.transaction(who) as session:
        latest = passes.history(session, who, limit=1)[0]
    assert (latest.provider, latest.seen, latest.outcome) == ("openrouter", 3, report.outcome)
    acted = ("catalog.sync", "done", f"operator:{who.user_id}", None)
    assert acted in audit_rows("provider:openrouter")


def test_asking_is_refused_in_words_and_only_operators_may() -> None:
    with pytest.raises(errors.Conflict, match="OPENROUTER_API_KEY"):
        sync_job.ask(TESTS, settings.current())
    with pytest.raises(errors.Unavailable, match="could not be fetched"):
        sync_job.ask(TESTS, with_key("http://127.0.0.1:9"))
    admin = make_place(role="admin").who
    with pytest.raises(errors.Forbidden):
        sync_job.ask(admin, settings.current())
    denied = ("catalog.sync", "denied", f"user:{admin.user_id}", admin.tenant_id)
    assert denied in audit_rows("provider:openrouter")
    with db.transaction(admin) as session, pytest.raises(errors.Forbidden):
        passes.history(session, admin, limit=1)
