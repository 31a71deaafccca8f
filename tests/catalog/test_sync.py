"""Syncing the catalogue on a real database: new models, retirement, holds, seeds, the fetch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from core.catalog import sync
from core.catalog.listing import read_file
from core.catalog.tables import CatalogSync, Model, Price, Provider
from core.db import JOBS, Database
from core.errors import BadInput, Conflict, Forbidden, NotFound
from tests.catalog.listed import NOW, Catalogue, a_member, an_operator, others, row
from tests.identity.people import SYSTEM, audit_rows


def test_a_new_model_is_stored_with_its_first_price(catalogue: Catalogue) -> None:
    top_provider = {"context_length": 4_000, "max_completion_tokens": 1_000}
    shape = {"input_modalities": ["text", "image"], "output_modalities": ["text"]}
    parameters = ["tools", "reasoning"]
    report = catalogue.sync(
        row(
            "t/a",
            top_provider=top_provider,
            architecture=shape,
            supported_parameters=parameters,
        )
    )
    assert (report.outcome, report.seen, report.added, report.held) == ("applied", 1, 1, 0)
    model = catalogue.model("t/a")
    assert model.active
    assert (model.context_tokens, model.output_tokens_max) == (4_000, 1_000)
    assert model.answer_tokens_default == 1_000
    assert model.input_modalities == ["text", "image"]
    assert model.supported_parameters == ["tools", "reasoning"]
    assert catalogue.charged("t/a") == "0.000001"


def test_a_model_is_retired_at_its_second_absence_and_returns(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a"), *others(9))
    assert catalogue.sync(*others(9)).retired == 0
    assert catalogue.model("t/a").active
    assert catalogue.sync(*others(9)).retired == 1
    assert not catalogue.model("t/a").active
    assert catalogue.sync(row("t/a"), *others(9)).returned == 1
    assert catalogue.model("t/a").active


def test_two_absences_that_do_not_follow_each_other_retire_nothing(catalogue: Catalogue) -> None:
    for rows in ([row("t/a")], [], [row("t/a")], []):
        report = catalogue.sync(*rows, *others(9))
    assert report.retired == 0
    assert catalogue.model("t/a").active


def test_a_model_past_its_own_date_is_retired_at_once(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a"), *others(9))
    ended = catalogue.sync(row("t/a", expiration_date="2026-11-20"), *others(9))
    assert ended.retired == 1
    assert not catalogue.model("t/a").active
    assert catalogue.sync(row("t/a", expiration_date="2098-12-31"), *others(9)).returned == 1
    assert catalogue.model("t/a").active
    assert catalogue.model("t/a").expires_on == date(2098, 12, 31)


def test_a_model_whose_stored_date_comes_is_retired_though_its_row_is_broken(
    catalogue: Catalogue,
) -> None:
    catalogue.sync(row("t/a", expiration_date="2026-11-21"), *others(9))
    catalogue.now += timedelta(days=1)
    assert catalogue.sync(row("t/a", name=5), *others(9)).retired == 1
    assert not catalogue.model("t/a").active


def test_a_new_model_past_its_date_is_stored_as_inactive(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a", expiration_date="2025-10-28"))
    assert not catalogue.model("t/a").active
    assert catalogue.charged("t/a") == "0.000001"


def test_a_pass_that_would_retire_more_than_a_fifth_is_held(catalogue: Catalogue) -> None:
    catalogue.sync(*others(10))
    first = catalogue.sync(*others(7))
    assert (first.outcome, first.retired) == ("applied", 0)
    for _ in range(2):
        held = catalogue.sync(*others(7), row("t/new"))
        assert (held.outcome, held.retired, held.would_retire) == ("held", 0, 3)
        assert catalogue.model("t/other-9").active
    assert catalogue.model("t/new").price_id is not None


def test_a_fifth_exactly_is_retired(catalogue: Catalogue) -> None:
    catalogue.sync(*others(10))
    catalogue.sync(*others(8))
    report = catalogue.sync(*others(8))
    assert (report.outcome, report.retired) == ("applied", 2)


def test_an_operators_word_retires_what_a_pass_held(catalogue: Catalogue) -> None:
    catalogue.sync(*others(10))
    catalogue.sync(*others(2))
    assert catalogue.sync(*others(2)).outcome == "held"
    assert catalogue.sync(*others(2), retire_any=True).retired == 8
    assert not catalogue.model("t/other-9").active


def test_dates_that_would_end_most_models_are_held_with_them(catalogue: Catalogue) -> None:
    catalogue.sync(*others(10))
    ended = [r | {"expiration_date": "2020-01-01"} for r in others(10)]
    report = catalogue.sync(*ended)
    assert (report.outcome, report.would_retire) == ("held", 10)
    assert catalogue.model("t/other-0").active
    assert catalogue.model("t/other-0").expires_on is None


def test_an_empty_list_is_held_and_counts_as_no_absence(catalogue: Catalogue) -> None:
    catalogue.sync(*others(10))
    for _ in range(3):
        assert catalogue.sync().outcome == "held"
    assert catalogue.model("t/other-0").missed_syncs == 0


def test_what_an_operator_took_out_stays_out_and_what_was_put_back_stays(
    catalogue: Catalogue,
) -> None:
    catalogue.sync(row("t/a"), *others(9))
    sync.set_model_active(catalogue.session, SYSTEM, "t/a", active=False, now=NOW)
    catalogue.sync(row("t/a"), *others(9))
    assert not catalogue.model("t/a").active
    sync.set_model_active(catalogue.session, SYSTEM, "t/a", active=True, now=NOW)
    catalogue.sync(row("t/a"), *others(9))
    assert catalogue.model("t/a").active


def test_taking_a_model_out_and_putting_it_back_are_audited(catalogue: Catalogue) -> None:
    who = an_operator()
    catalogue.sync(row("t/a"), *others(9))
    sync.set_model_active(catalogue.session, who, "t/a", active=False, now=NOW)
    sync.set_model_active(catalogue.session, who, "t/a", active=True, now=NOW)
    on, off = {"active": True}, {"active": False}
    assert [(e.action, e.before, e.after) for e in catalogue.audited("model:t/a")] == [
        ("model.deactivate", on, off), ("model.activate", off, on),
    ]  # fmt: skip
    assert {e.actor for e in catalogue.audited("model:t/a")} == {f"operator:{who.user_id}"}


def test_only_operators_take_a_model_out(catalogue: Catalogue, database: Database) -> None:
    catalogue.sync(row("t/a"), *others(9))
    who = a_member()
    with pytest.raises(Forbidden):
        sync.set_model_active(catalogue.session, who, "t/a", active=False, now=NOW)
    assert catalogue.model("t/a").active
    assert catalogue.audited("model:t/a") == []
    denied = ("model.deactivate", "denied", f"user:{who.user_id}", who.tenant_id)
    assert denied in audit_rows("model:t/a")


def test_a_model_past_its_date_cannot_be_put_back(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a", expiration_date="2025-10-28"))
    with pytest.raises(Conflict, match="2025-10-28"):
        sync.set_model_active(catalogue.session, SYSTEM, "t/a", active=True, now=NOW)
    with pytest.raises(NotFound):
        sync.set_model_active(catalogue.session, SYSTEM, "t/unknown", active=True, now=NOW)


def test_what_an_operator_set_for_a_model_survives_a_sync(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a"))
    catalogue.model("t/a").answer_tokens_default = 512
    catalogue.session.flush()
    catalogue.sync(row("t/a"))
    assert catalogue.model("t/a").answer_tokens_default == 512


def test_a_model_whose_row_is_broken_for_a_while_is_not_retired(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a"), *others(9))
    for _ in range(3):
        catalogue.sync(row("t/a", name=5), *others(9))
    assert catalogue.model("t/a").active


def test_a_broken_row_ends_a_run_of_absences(catalogue: Catalogue) -> None:
    for rows in ([row("t/a")], [], [row("t/a", name=5)], []):
        catalogue.sync(*rows, *others(9))
        assert catalogue.model("t/a").active


def test_an_unknown_provider_and_an_absurd_list_are_refused(catalogue: Catalogue) -> None:
    with pytest.raises(NotFound):
        sync.apply(catalogue.session, "nobody", [], source="file", now=NOW)
    with pytest.raises(BadInput):
        sync.apply(catalogue.session, "testing", [None] * 20_001, source="file", now=NOW)


def test_each_pass_is_recorded(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a"), row("t/router", "-1", "-1"))
    mine = select(CatalogSync).where(CatalogSync.provider == "testing")
    (record,) = catalogue.session.scalars(mine)
    assert (record.seen, record.added, record.repriced) == (2, 2, 0)
    assert (record.held, record.retired) == (1, 0)
    assert (record.outcome, record.source, record.synced_at) == ("applied", "file", catalogue.now)


@pytest.fixture
def seeded(catalogue: Catalogue) -> Catalogue:
    sync.seed(catalogue.session, development=True, now=NOW)
    return catalogue


RETIRED = {
    "openai/gpt-4-turbo",
    "openai/gpt-3.5-turbo",
    "anthropic/claude-3-haiku",
    "anthropic/claude-3.5-sonnet",
    "anthropic/claude-3-opus",
    "google/gemini-pro-1.5",
    "google/gemini-flash-1.5",
    "mistralai/mistral-small",
    "perplexity/llama-3.1-sonar-huge-128k-online",
}


def test_the_seed_holds_what_is_sold_and_keeps_the_old_ids_as_inactive(seeded: Catalogue) -> None:
    rows = seeded.session.execute(select(Model.model_id, Model.active)).all()
    assert len(rows) == 48 + 3
    assert {model_id for model_id, active in rows if not active} == RETIRED


def test_the_seed_gives_a_price_to_all_but_the_router_and_the_false_zero(seeded: Catalogue) -> None:
    unpriced = select(Model.model_id).where(Model.price_id.is_(None))
    assert set(seeded.session.scalars(unpriced)) == {
        "openrouter/auto",
        "google/lyria-3-clip-preview",
    }
    free = select(Model.model_id).where(Model.is_free)
    assert set(seeded.session.scalars(free)) == {
        "openrouter/free",
        "openai/gpt-oss-20b:free",
        "demo/free-sailor",
    }


def test_the_seed_leaves_a_filled_catalogue_alone(seeded: Catalogue) -> None:
    assert sync.seed(seeded.session, development=True, now=NOW) == []


def test_production_is_seeded_without_the_demo_models(catalogue: Catalogue) -> None:
    (report,) = sync.seed(catalogue.session, development=False, now=NOW)
    assert report.provider == "openrouter"
    assert catalogue.session.get(Model, "demo/purser") is None


def test_a_sync_after_the_seed_changes_nothing_when_nothing_changed(seeded: Catalogue) -> None:
    rows = read_file(sync.SEED_FILE)
    report = sync.apply(seeded.session, "openrouter", rows, source="file", now=NOW)
    assert (report.seen, report.added, report.repriced) == (48, 0, 0)
    assert (report.held, report.retired) == (0, 0)


@dataclass
class ListingProvider:
    """A provider that lists what it is told to, and fails when told so."""

    rows: list[dict[str, object]]
    failure: Exception | None = None
    name: str = "testing-remote"
    is_closed: bool = False

    async def models(self) -> list[dict[str, object]]:
        if self.failure:
            raise self.failure
        return self.rows

    async def close(self) -> None:
        self.is_closed = True


def test_a_list_is_fetched_and_committed_and_a_failed_fetch_changes_nothing(
    database: Database,
) -> None:
    with Session(database.engine(JOBS)) as session, session.begin():
        session.add(
            Provider(provider="testing-remote", title="T", sends_cost=True, keeps_generations=True)
        )
    try:
        remote = ListingProvider([row("r/a")])
        assert sync.sync_from_provider(remote, now=NOW).added == 1
        assert remote.is_closed
        broken = ListingProvider([], failure=ConnectionError("testing-remote: http 500"))
        with pytest.raises(ConnectionError):
            sync.sync_from_provider(broken, now=NOW)
        assert broken.is_closed
        with Session(database.engine(JOBS)) as session:
            model = session.get(Model, "r/a")
            assert model is not None
            assert (model.active, model.missed_syncs) == (True, 0)
    finally:
        remove_remote(database)


def remove_remote(database: Database) -> None:
    with Session(database.engine(JOBS)) as session, session.begin():
        session.execute(update(Model).where(Model.model_id == "r/a").values(price_id=None))
        # a pass takes what it changed with it
        session.execute(delete(CatalogSync).where(CatalogSync.provider == "testing-remote"))
        session.execute(delete(Price).where(Price.model_id == "r/a"))
        for table in (Model, Provider):
            session.execute(delete(table).where(table.provider == "testing-remote"))
