"""Dated prices on a real database: changed, held, accepted, rejected, and never overwritten."""

from __future__ import annotations

import pytest

from core.catalog import prices
from core.errors import Conflict, Forbidden, NotFound
from tests.catalog.listed import HOUR, NOW, Catalogue, a_member, an_operator, row
from tests.identity.people import SYSTEM


def test_an_unchanged_price_adds_no_row(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a"))
    report = catalogue.sync(row("t/a", "0.0000010000000000000001", "2e-6"))
    assert report.repriced == 0
    assert len(catalogue.prices("t/a")) == 1


def test_a_changed_price_is_a_new_dated_row_and_the_old_one_stays(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a"))
    assert catalogue.sync(row("t/a", "0.000002")).repriced == 1
    first, second = catalogue.prices("t/a")
    assert (first.terms["prompt"], first.state) == ("0.000001", "accepted")
    assert (second.terms["prompt"], second.effective_from) == ("0.000002", catalogue.now)
    assert catalogue.charged("t/a") == "0.000002"


@pytest.mark.parametrize("prompt", ["0.0000031", "0.0000003", "-1", "-0.5", None, "0.5", "NaN"])
def test_a_suspicious_price_is_held_and_the_old_one_goes_on(
    catalogue: Catalogue, prompt: str | None
) -> None:
    catalogue.sync(row("t/a"))
    report = catalogue.sync(row("t/a", prompt))
    assert (report.held, report.repriced) == (1, 0)
    held = catalogue.prices("t/a")[-1]
    assert held.state == "held"
    assert held.reason
    assert catalogue.charged("t/a") == "0.000001"


def test_a_price_held_already_is_not_held_again_each_hour(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a"))
    assert [catalogue.sync(row("t/a", "0.000009")).held for _ in range(3)] == [1, 0, 0]
    assert len(catalogue.prices("t/a")) == 2


@pytest.mark.parametrize(
    ("model_id", "prompt"), [("t/router", "-1"), ("t/false-zero", "0"), ("t/none", None)]
)
def test_a_model_whose_first_price_is_unusable_is_listed_without_a_price(
    catalogue: Catalogue, model_id: str, prompt: str | None
) -> None:
    assert catalogue.sync(row(model_id, prompt, prompt)).held == 1
    model = catalogue.model(model_id)
    assert model.active
    assert model.price_id is None
    assert not model.is_free


def test_zero_is_believed_only_of_free_variants(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a:free", "0", "0"), row("t/b:free"))
    assert catalogue.model("t/a:free").is_free
    assert catalogue.charged("t/a:free") == "0"
    assert not catalogue.model("t/b:free").is_free


def test_a_free_variant_that_starts_to_cost_is_held(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a:free", "0", "0"))
    assert catalogue.sync(row("t/a:free")).held == 1
    assert catalogue.model("t/a:free").is_free


def test_an_accepted_price_applies_from_then_on(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a"))
    catalogue.sync(row("t/a", "0.000009"))
    later = catalogue.now + HOUR
    assert prices.accept_price(catalogue.session, SYSTEM, catalogue.held(), now=later) == "t/a"
    assert catalogue.charged("t/a") == "0.000009"
    assert catalogue.prices("t/a")[-1].effective_from == later
    assert catalogue.sync(row("t/a", "0.000009")).held == 0


def test_a_rejected_price_is_not_held_again(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a"))
    catalogue.sync(row("t/a", "0.000009"))
    prices.reject_price(
        catalogue.session, SYSTEM, catalogue.held(), reason="a typing error of theirs"
    )
    assert catalogue.sync(row("t/a", "0.000009")).held == 0
    assert catalogue.charged("t/a") == "0.000001"
    assert catalogue.prices("t/a")[-1].state == "rejected"


def test_a_held_price_falls_when_the_provider_takes_it_back_and_may_be_held_anew(
    catalogue: Catalogue,
) -> None:
    catalogue.sync(row("t/a"))
    catalogue.sync(row("t/a", "0.000009"))
    stale = catalogue.held()
    catalogue.sync(row("t/a"))
    with pytest.raises(Conflict, match="rejected"):
        prices.accept_price(catalogue.session, SYSTEM, stale, now=NOW)
    assert catalogue.sync(row("t/a", "0.000009")).held == 1


def test_only_the_latest_of_several_held_prices_waits(catalogue: Catalogue) -> None:
    for prompt in ("0.000001", "0.000009", "0.000011"):
        catalogue.sync(row("t/a", prompt))
    prices.accept_price(catalogue.session, SYSTEM, catalogue.held(), now=NOW)
    assert catalogue.charged("t/a") == "0.000011"


@pytest.mark.parametrize("prompt", ["-1", "0", None])
def test_an_operator_cannot_accept_a_price_nobody_could_charge_by(
    catalogue: Catalogue, prompt: str | None
) -> None:
    catalogue.sync(row("t/a", prompt, prompt))
    with pytest.raises(Conflict, match="cannot be charged by"):
        prices.accept_price(catalogue.session, SYSTEM, catalogue.held(), now=NOW)
    assert catalogue.model("t/a").price_id is None


def test_a_price_that_does_not_exist_is_not_found(catalogue: Catalogue) -> None:
    with pytest.raises(NotFound):
        prices.accept_price(catalogue.session, SYSTEM, 2**60, now=NOW)


def test_each_decision_is_audited_once_with_what_applied_before(catalogue: Catalogue) -> None:
    who = an_operator()
    catalogue.sync(row("t/a"))
    catalogue.sync(row("t/a", "0.000009"))
    refused = catalogue.held()
    prices.reject_price(catalogue.session, who, refused, reason="a typing error of theirs")
    catalogue.sync(row("t/a", "0.000011"))
    accepted = catalogue.held()
    prices.accept_price(catalogue.session, who, accepted, now=NOW)
    first, second = catalogue.audited(f"price:{refused}") + catalogue.audited(f"price:{accepted}")
    assert (first.action, first.actor) == ("price.reject", f"operator:{who.user_id}")
    assert (second.action, second.actor) == ("price.accept", f"operator:{who.user_id}")
    for entry, prompt in ((first, "0.000009"), (second, "0.000011")):
        assert entry.before is not None and entry.before["terms"]["prompt"] == "0.000001"
        assert entry.after is not None and entry.after["terms"]["prompt"] == prompt
        assert entry.after["model"] == "t/a"
    assert "a typing error of theirs" in str(first.after)


def test_a_decision_on_a_first_price_names_no_terms_before_it(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a", "0.5"))
    price_id = catalogue.held()
    prices.reject_price(catalogue.session, SYSTEM, price_id, reason="per million")
    (entry,) = catalogue.audited(f"price:{price_id}")
    assert entry.before == {"terms": None}


def test_only_operators_decide_on_a_price(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a"))
    catalogue.sync(row("t/a", "0.000009"))
    price_id, who = catalogue.held(), a_member()
    with pytest.raises(Forbidden):
        prices.accept_price(catalogue.session, who, price_id, now=NOW)
    with pytest.raises(Forbidden):
        prices.reject_price(catalogue.session, who, price_id, reason="mine")
    assert catalogue.held() == price_id
    assert catalogue.audited(f"price:{price_id}") == []


def test_a_decision_that_fails_leaves_no_row_in_the_audit_log(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a", "-1", "-1"))
    price_id = catalogue.held()
    with pytest.raises(Conflict):
        prices.accept_price(catalogue.session, SYSTEM, price_id, now=NOW)
    assert catalogue.audited(f"price:{price_id}") == []
