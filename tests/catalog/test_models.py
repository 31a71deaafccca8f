"""Reading the catalogue on a real database: what is offered to whom, and what is taken first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from core.catalog import models, sync
from core.catalog.tables import Model
from core.db import JOBS, RW, Database
from core.errors import ModelForbidden, ModelNotFound, Unavailable

NOW = datetime.now(UTC)
KEYED = frozenset({"openrouter"})
NONE: frozenset[str] = frozenset()


@pytest.fixture
def books(own_database: Database) -> Iterator[Session]:
    """The seeded catalogue alone, in a transaction that is rolled back."""
    with Session(own_database.engine(JOBS), expire_on_commit=False) as session:
        sync.seed(session, development=True, now=NOW)
        yield session
        session.rollback()


def ids(rows: list[models.ModelRow]) -> set[str]:
    return {row.model_id for row in rows}


def chat(session: Session, configured: frozenset[str], *, development: bool = True) -> set[str]:
    return ids(
        models.list_models(
            session, tenant_id=None, offered_to="chat", development=development,
            configured=configured,
        )
    )  # fmt: skip


def test_without_a_key_only_the_demo_models_are_offered(books: Session) -> None:
    assert chat(books, NONE) == {"demo/free-sailor", "demo/purser", "demo/admiral"}


def test_outside_development_no_demo_model_is_offered_even_when_named(books: Session) -> None:
    assert chat(books, NONE, development=False) == set()
    offered = chat(books, KEYED | {"demo"}, development=False)
    assert "openai/gpt-6-luna" in offered
    assert not any(model_id.startswith("demo/") for model_id in offered)


def test_chat_offers_nothing_inactive_unpriced_or_without_text(books: Session) -> None:
    offered = chat(books, KEYED)
    assert "anthropic/claude-opus-5.5" in offered
    assert not offered & {
        "openai/gpt-4-turbo",
        "openrouter/auto",
        "google/lyria-3-clip-preview",
        "openai/text-embedding-3-small",
    }


def test_a_model_that_only_reads_sound_is_offered_to_programs_only(books: Session) -> None:
    books.execute(
        update(Model).where(Model.model_id == "openai/gpt-audio").values(input_modalities=["audio"])
    )
    api = models.list_models(
        books, tenant_id=None, offered_to="api", development=True, configured=KEYED
    )
    assert "openai/gpt-audio" in ids(api)
    assert "openai/text-embedding-3-small" not in ids(api)
    assert "openai/gpt-audio" not in chat(books, KEYED)


def test_a_model_whose_date_came_since_the_last_sync_is_not_offered(books: Session) -> None:
    today = NOW.date()
    luna = update(Model).where(Model.model_id == "openai/gpt-6-luna")
    books.execute(luna.values(expires_on=today + timedelta(days=2)))
    assert "openai/gpt-6-luna" in chat(books, KEYED)
    books.execute(luna.values(expires_on=today))
    assert "openai/gpt-6-luna" not in chat(books, KEYED)


def test_a_row_carries_what_people_read(books: Session) -> None:
    row = models.find(books, "openai/gpt-6.1-sol")
    assert row is not None
    assert row.prompt_usd_per_million == 2
    assert row.completion_usd_per_million == 10
    assert row.typical_usd == Decimal("0.016")
    assert "reasoning" in row.supported_parameters
    assert (row.context_tokens, row.output_tokens_max) == (1_050_000, 128_000)
    assert not row.is_free


def test_a_model_is_found_whatever_its_state(books: Session) -> None:
    retired = models.find(books, "openai/gpt-4-turbo")
    assert retired is not None
    assert not retired.is_active
    router = models.find(books, "openrouter/auto")
    assert router is not None
    assert (router.terms, router.prompt_usd_per_million) == (None, None)
    assert models.find(books, "nobody/nothing") is None


@pytest.mark.parametrize(
    ("model_id", "sentence"),
    [("openai/gpt-4-turbo", "no longer offered"), ("openrouter/auto", "no price")],
)
def test_a_model_that_cannot_be_called_is_forbidden_and_says_why(
    books: Session, model_id: str, sentence: str
) -> None:
    with pytest.raises(ModelForbidden, match=sentence):
        models.require(books, model_id, development=True, configured=KEYED)


@pytest.mark.parametrize(
    ("model_id", "development", "configured"),
    [
        ("nobody/nothing", True, KEYED),
        ("openai/gpt-6-luna", True, NONE),
        ("demo/purser", False, KEYED),
    ],
)
def test_a_model_out_of_reach_looks_like_a_missing_one(
    books: Session, model_id: str, development: bool, configured: frozenset[str]
) -> None:
    with pytest.raises(ModelNotFound) as refused:
        models.require(books, model_id, development=development, configured=configured)
    assert refused.value.message == f"There is no model {model_id!r}."


def test_a_model_in_reach_is_given(books: Session) -> None:
    row = models.require(books, "demo/purser", development=True, configured=NONE)
    assert row.is_built_in
    assert row.terms is not None


def default(session: Session, wanted: str, configured: frozenset[str], *, dev: bool = True) -> str:
    offered = models.list_models(
        session, tenant_id=None, offered_to="chat", development=dev, configured=configured
    )
    return models.default_of(offered, wanted=wanted).model_id


def test_the_wanted_default_is_taken_when_it_can_be_called(books: Session) -> None:
    assert default(books, "x-ai/grok-4.7", KEYED) == "x-ai/grok-4.7"


@pytest.mark.parametrize("wanted", ["openai/gpt-4-turbo", "openrouter/auto", "", "nobody/nothing"])
def test_otherwise_the_default_is_the_cheapest_model_that_costs(
    books: Session, wanted: str
) -> None:
    assert default(books, wanted, KEYED) == "openai/gpt-oss-20b"


def test_a_free_model_is_the_default_only_when_nothing_else_is_sold(books: Session) -> None:
    books.execute(
        update(Model).where(Model.provider == "openrouter", ~Model.is_free).values(active=False)
    )
    assert default(books, "", KEYED) == "openai/gpt-oss-20b:free"


def test_without_a_key_the_default_is_the_built_in_model(books: Session) -> None:
    assert default(books, "openai/gpt-6-luna", NONE) == "demo/purser"


def test_where_the_built_in_model_is_switched_off_another_of_its_kind_is_taken(
    books: Session,
) -> None:
    offered = models.list_models(
        books, tenant_id=None, offered_to="chat", development=True, configured=NONE
    )
    left = [row for row in offered if row.model_id != models.BUILT_IN]
    assert models.default_of(left, wanted="").model_id == "demo/admiral"


def test_without_any_model_there_is_no_default(books: Session) -> None:
    with pytest.raises(Unavailable):
        default(books, "openai/gpt-6-luna", NONE, dev=False)


def test_the_web_role_may_read_the_catalogue(database: Database) -> None:
    with Session(database.engine(RW)) as session:
        assert models.find(session, "nobody/nothing") is None
