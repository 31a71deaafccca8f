"""Which models a pass changed, on a real database: each kind, its prices, and that counts agree."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from core.catalog import passes, prices, sync
from core.catalog.passes import Change, Pass
from core.catalog.tables import CatalogChange, CatalogSync
from core.errors import Forbidden, NotFound
from tests.catalog.listed import NOW, Catalogue, a_member, others, row
from tests.identity.people import SYSTEM


def latest(catalogue: Catalogue) -> Pass:
    return passes.history(catalogue.session, SYSTEM, limit=1)[0]


def changes(catalogue: Catalogue) -> tuple[Change, ...]:
    """What the latest pass changed."""
    return passes.changes(catalogue.session, SYSTEM, latest(catalogue).sync_id)


def kinds(catalogue: Catalogue) -> list[tuple[str, str]]:
    return [(change.kind, change.model_id) for change in changes(catalogue)]


def prompts(change: Change) -> tuple[Decimal | None, Decimal | None]:
    """The prompt prices per million tokens, before and after."""
    before, after = change.before, change.after
    return (
        before.prompt_usd_per_million if before else None,
        after.prompt_usd_per_million if after else None,
    )


def test_a_new_model_is_one_line_with_its_first_price(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/b"), row("t/a", name="zebra"))
    assert kinds(catalogue) == [("added", "t/b"), ("added", "t/a")]
    first, second = changes(catalogue)
    assert prompts(first) == (None, 1)
    assert (second.model_name, second.decision, second.reason) == ("zebra", None, "")


def test_a_new_model_whose_price_is_held_is_added_without_one(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/router", "-1", "-1"))
    held, added = changes(catalogue)
    assert (held.kind, added.kind) == ("held", "added")
    assert prompts(held) == prompts(added) == (None, None)
    assert (held.decision, held.reason) == (
        "held", "the prompt price varies from call to call (-1)",
    )  # fmt: skip


def test_a_changed_price_is_kept_with_the_one_before(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a"), row("t/b"))
    catalogue.sync(row("t/a", "0.000002"), row("t/b"))
    catalogue.sync(row("t/a", "0.000003"), row("t/b"))
    (change,) = changes(catalogue)
    assert (change.kind, change.model_id, prompts(change)) == ("repriced", "t/a", (2, 3))
    old = passes.history(catalogue.session, SYSTEM, limit=2)[1]
    (before,) = passes.changes(catalogue.session, SYSTEM, old.sync_id)
    assert prompts(before) == (1, 2)


def test_a_model_that_had_no_price_and_gets_one_is_told(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a", "-1", "-1"))
    assert catalogue.sync(row("t/a")).repriced == 0
    (change,) = changes(catalogue)
    assert (change.kind, prompts(change)) == ("priced", (None, 1))


@pytest.mark.parametrize("decision", ["held", "accepted", "rejected"])
def test_a_held_price_says_what_has_become_of_it(catalogue: Catalogue, decision: str) -> None:
    catalogue.sync(row("t/a"))
    catalogue.sync(row("t/a", "0.000009"))
    if decision == "accepted":
        prices.accept_price(catalogue.session, SYSTEM, catalogue.held(), now=NOW)
    if decision == "rejected":
        prices.reject_price(catalogue.session, SYSTEM, catalogue.held(), reason="a typing error")
    (change,) = changes(catalogue)
    assert (change.kind, change.decision, prompts(change)) == ("held", decision, (1, 9))
    assert change.reason.startswith("the prompt price moved from 0.000001 to 0.000009 USD")


def test_a_held_price_that_the_provider_took_back_waits_no_longer(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a"))
    catalogue.sync(row("t/a", "0.000009"))
    held = latest(catalogue).sync_id
    catalogue.sync(row("t/a"))
    (change,) = passes.changes(catalogue.session, SYSTEM, held)
    assert (change.decision, change.reason) == ("rejected", "superseded by a later price list")


def test_retired_and_returned_models_are_named(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a"), *others(9))
    catalogue.sync(*others(9))
    assert changes(catalogue) == ()
    catalogue.sync(*others(9))
    assert kinds(catalogue) == [("retired", "t/a")]
    assert prompts(changes(catalogue)[0]) == (None, None)
    catalogue.sync(row("t/a", "0.000002"), *others(9))
    assert kinds(catalogue) == [("repriced", "t/a"), ("returned", "t/a")]


def test_models_that_a_held_list_would_have_retired_are_named(catalogue: Catalogue) -> None:
    catalogue.sync(*others(10))
    catalogue.sync(*others(7))
    assert catalogue.sync(*others(7), row("t/new")).outcome == "held"
    kept = [("would_retire", f"t/other-{n}") for n in (7, 8, 9)]
    assert kinds(catalogue) == [*kept, ("added", "t/new")]
    catalogue.sync(*others(7), row("t/new"), retire_any=True)
    assert kinds(catalogue) == [("retired", model_id) for _, model_id in kept]


def test_what_is_kept_adds_up_to_the_counts(catalogue: Catalogue) -> None:
    catalogue.sync(*others(10), row("t/gone"), row("t/dear"), row("t/held"))
    catalogue.sync(*others(10), row("t/dear"), row("t/held"))
    report = catalogue.sync(
        *others(10),
        row("t/dear", "0.000002"),
        row("t/held", "0.5"),
        row("t/new"),
        row("t/odd", "-1"),
    )
    counts = Counter(change.kind for change in changes(catalogue))
    assert counts == {"retired": 1, "held": 2, "repriced": 1, "added": 2}
    for kind in ("retired", "held", "repriced", "added"):
        assert getattr(report, kind) == getattr(latest(catalogue), kind) == counts[kind]
    assert latest(catalogue).changes == 6


def test_the_first_list_of_a_provider_is_kept_like_any_other(catalogue: Catalogue) -> None:
    for report in sync.seed(catalogue.session, development=True, now=NOW):
        row = next(
            p for p in passes.history(catalogue.session, SYSTEM, limit=2)
            if p.provider == report.provider
        )  # fmt: skip
        found = passes.changes(catalogue.session, SYSTEM, row.sync_id)
        assert sum(change.kind == "added" for change in found) == report.added > 0


def test_idle_passes_can_be_left_out(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a"))
    for _ in range(3):
        catalogue.sync(row("t/a"))
    catalogue.sync(row("t/a", "0.000002"))
    catalogue.sync(row("t/a", "0.000002"))
    every = passes.history(catalogue.session, SYSTEM, limit=6)
    assert [p.changes for p in every] == [0, 1, 0, 0, 0, 1]
    changed = passes.history(catalogue.session, SYSTEM, limit=2, only_changed=True)
    assert changed == (every[1], every[5])


def test_a_pass_from_before_has_counts_and_no_lines(catalogue: Catalogue) -> None:
    catalogue.session.add(
        CatalogSync(
            provider="testing", source="provider", synced_at=datetime.now(UTC) + timedelta(days=1),
            seen=9, added=9, repriced=0, held=0, retired=0, outcome="applied",
        )
    )  # fmt: skip
    catalogue.session.flush()
    assert (latest(catalogue).added, latest(catalogue).changes) == (9, 0)
    assert changes(catalogue) == ()


def test_a_price_is_referred_to_and_not_copied(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a"))
    catalogue.sync(row("t/a", "0.000002"))
    repriced = select(CatalogChange).where(CatalogChange.kind == "repriced")
    (kept,) = catalogue.session.scalars(repriced)
    first, second = catalogue.prices("t/a")
    assert (kept.before_price_id, kept.price_id) == (first.price_id, second.price_id)


def test_a_pass_that_is_not_known_is_not_found(catalogue: Catalogue) -> None:
    with pytest.raises(NotFound):
        passes.changes(catalogue.session, SYSTEM, 2**60)


def test_only_operators_see_passes(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a"))
    sync_id = latest(catalogue).sync_id
    with pytest.raises(Forbidden):
        passes.changes(catalogue.session, a_member(), sync_id)
    with pytest.raises(Forbidden):
        passes.history(catalogue.session, a_member(), limit=1)


@dataclass(frozen=True)
class Line:
    """A line as it might be written wrongly; prices by whether they are there."""

    kind: str
    has_before: bool = False
    has_price: bool = False


@pytest.mark.parametrize(
    "line",
    [
        Line("renamed"), Line("repriced", has_price=True), Line("repriced", has_before=True),
        Line("priced"), Line("priced", has_before=True, has_price=True), Line("held"),
        Line("retired", has_price=True), Line("returned", has_before=True),
        Line("added", has_before=True),
    ],
    ids=str,
)  # fmt: skip
def test_a_line_that_makes_no_sense_is_refused(catalogue: Catalogue, line: Line) -> None:
    catalogue.sync(row("t/a"))
    catalogue.sync(row("t/a"))
    price_id = catalogue.model("t/a").price_id
    catalogue.session.add(
        CatalogChange(
            sync_id=latest(catalogue).sync_id, model_id="t/a", kind=line.kind,
            before_price_id=price_id if line.has_before else None,
            price_id=price_id if line.has_price else None,
        )
    )  # fmt: skip
    with pytest.raises(IntegrityError, match="catalog_changes_"):
        catalogue.session.flush()


@pytest.mark.parametrize(
    "statement",
    ["update app.catalog_changes set kind = 'added'", "delete from app.catalog_changes"],
)
def test_what_a_pass_did_cannot_be_rewritten(catalogue: Catalogue, statement: str) -> None:
    catalogue.sync(row("t/a"))
    with pytest.raises(ProgrammingError, match="permission denied"):
        catalogue.session.execute(text(statement))
