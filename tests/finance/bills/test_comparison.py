"""A day of our books against the provider's bill: exact sums, by the call's day, and what is told."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text

from core import db, errors, telemetry
from core.db import System
from core.finance.bills import comparison
from core.quota import gate
from tests.factories import TESTS, make_place
from tests.finance.bills.bill import (
    a_model,
    a_provider,
    an_operator,
    bill,
    compare,
    only,
    opened,
    past,
    settle,
    today,
    used,
)
from tests.quota.test_gate import cost

pytestmark = pytest.mark.usefixtures("books")
ODD = "0.000000123456789012345678"


def notices(provider: str) -> list[dict[str, str]]:
    with db.transaction(TESTS) as session:
        rows = session.execute(
            text("select facts from app.operator_notices where kind = :kind and key like :key"),
            {"kind": comparison.DIFFERS, "key": f"{provider}:%"},
        )
        return [row.facts for row in rows]


def alarms() -> float:
    return telemetry.alarms_total.labels(name="provider_bill_differs")._value.get()


def test_all_tenants_of_a_day_are_summed_to_the_last_digit() -> None:
    provider = a_provider()
    model = a_model(provider)
    for usd in (ODD, "1.25", "0.0000000000001"):
        used(make_place(markup="0.2"), model, usd)
    used(make_place(), model, "7", at=past(3))
    used(make_place(), model, "7", at=past(1))
    bill(provider, model, "1.250000123456889012345678", 3)
    found = only(compare(provider))
    assert found.ours_usd == Decimal("1.250000123456889012345678")
    assert (found.difference_usd, found.cause, found.ours_requests) == (0, "agrees", 3)


def test_days_are_cut_at_midnight_in_utc_whatever_the_tenants_zone() -> None:
    provider = a_provider()
    model = a_model(provider)
    place = make_place(time_zone="Pacific/Auckland")
    midnight = past(hour=0)
    used(place, model, "1", at=midnight)
    used(place, model, "2", at=midnight + timedelta(days=1, microseconds=-1))
    used(place, model, "4", at=midnight - timedelta(microseconds=1))
    used(place, model, "8", at=midnight + timedelta(days=1))
    bill(provider, model, "3", 2)
    assert only(compare(provider)).ours_usd == 3


def test_without_the_providers_own_amount_what_we_listed_counts() -> None:
    provider = a_provider()
    model = a_model(provider)
    used(make_place(markup="0.5"), model, "0.1234567891", source="price_table")
    bill(provider, model, "0.1234567891")
    found = only(compare(provider))
    assert (found.ours_usd, found.cause) == (Decimal("0.123456790"), "agrees")


def test_a_late_correction_counts_on_its_calls_day_once() -> None:
    provider = a_provider()
    model = a_model(provider)
    place = make_place()
    call = used(place, model, "0.02", source="estimate", lookup=True)
    bill(provider, model, "0.035")
    before = only(compare(provider))
    assert (before.ours_usd, before.cause) == (Decimal("0.02"), "unknown")
    gate.correct(gate.settlement(call, cost("0.035"), outcome="ok", gave_output=True, latency_ms=1))
    after = only(compare(provider))
    assert (after.ours_usd, after.ours_requests, after.cause) == (Decimal("0.035"), 1, "agrees")


def test_a_lookup_that_is_open_explains_what_its_hold_covers() -> None:
    provider = a_provider()
    model = a_model(provider)
    used(make_place(), model, "0.001", source="estimate", lookup=True)
    bill(provider, model, "0.002")
    assert only(compare(provider)).cause == "not_final"


def test_an_estimate_that_nobody_can_look_up_explains_it_too() -> None:
    provider = a_provider()
    model = a_model(provider)
    used(make_place(), model, "0.001", source="estimate", generation=None)
    bill(provider, model, "0.0005")
    assert only(compare(provider)).cause == "estimates"


def test_a_call_killed_before_its_headers_explains_one_more_request() -> None:
    provider = a_provider()
    model = a_model(provider)
    used(make_place(), model, "0.1")
    used(make_place(), model, None, generation=None)
    bill(provider, model, "0.102", 2)
    found = only(compare(provider))
    assert (found.ours_requests, found.cause) == (1, "no_generation_id")


def test_a_call_that_still_runs_is_not_final() -> None:
    provider = a_provider()
    model = a_model(provider)
    call = opened(make_place(), model, past())
    bill(provider, model, "0.002")
    assert only(compare(provider)).cause == "not_final"
    settle(call, "0.002", generation=f"gen-{call.call_id}")
    assert only(compare(provider)).cause == "agrees"


def test_the_last_minutes_of_a_day_may_be_billed_on_the_next() -> None:
    provider = a_provider()
    model = a_model(provider)
    used(make_place(), model, "0.5", at=past(hour=0) - timedelta(minutes=2))
    used(make_place(), model, "0.25")
    bill(provider, model, "0.75", 2)
    used(make_place(), model, "0.1", at=past(3))
    bill(provider, model, "0.1", day=past(3).date())
    assert only(compare(provider)).cause == "midnight"
    assert only(compare(provider, past(3).date())).cause == "midnight"


def test_beyond_one_percent_operators_are_told_once_and_each_time_alarmed() -> None:
    provider = a_provider()
    model = a_model(provider)
    used(make_place(), model, "1")
    bill(provider, model, "1.5", 2)
    before = alarms()
    found = compare(provider)
    assert found.differs
    assert compare(provider).differs
    assert alarms() == before + 2
    assert notices(provider) == [
        {
            "provider": provider, "day": past().date().isoformat(), "ours_usd": "1",
            "theirs_usd": "1.5", "cause": "unrecorded",
        }
    ]  # fmt: skip
    compare(provider, past(3).date())
    assert len(notices(provider)) == 1


@pytest.mark.parametrize(
    ("ours", "theirs", "differs"),
    [("0.99", "1", False), ("0.9899", "1", True), ("0.02", "0.0100001", False),
     ("0.02", "0.009", True), ("1", "0", True)],
)  # fmt: skip
def test_one_percent_and_a_cent_are_let_pass(ours: str, theirs: str, differs: bool) -> None:
    provider = a_provider()
    model = a_model(provider)
    used(make_place(), model, ours)
    bill(provider, model, theirs)
    assert compare(provider).differs is differs
    assert len(notices(provider)) == differs


def test_too_much_of_one_model_does_not_hide_too_little_of_another() -> None:
    provider = a_provider()
    one, other = a_model(provider), a_model(provider)
    used(make_place(), one, "1")
    used(make_place(), other, "2")
    bill(provider, one, "1.5")
    bill(provider, other, "1.5")
    found = compare(provider)
    assert found.difference_usd == 0
    assert found.differs


def test_one_amount_under_two_names_is_no_difference() -> None:
    provider = a_provider()
    model = a_model(provider)
    used(make_place(), model, "1")
    bill(provider, "somebody/elses-name", "1")
    found = compare(provider)
    assert {m.cause for m in found.models} == {"named_differently"}
    assert not found.differs


def test_comparing_again_replaces_what_was_found() -> None:
    provider = a_provider()
    model = a_model(provider)
    used(make_place(), model, "1")
    bill(provider, "gone/model", "3")
    compare(provider)
    with db.transaction(TESTS) as session:
        session.execute(text("delete from app.provider_bills where provider = :p"), {"p": provider})
    bill(provider, model, "1")
    now = compare(provider)
    with db.transaction(TESTS) as session:
        kept = [c for c in comparison.listed(session, TESTS) if c.provider == provider]
    assert [c.models for c in kept] == [now.models]


@pytest.mark.parametrize("days", [0, -1])
def test_a_day_that_is_not_over_is_refused(days: int) -> None:
    with pytest.raises(errors.BadInput, match="not over"):
        compare("openrouter", today() - timedelta(days=days))


def test_the_comparison_is_for_operators_alone() -> None:
    who = make_place(role="admin").who
    with pytest.raises(errors.Forbidden), db.transaction(System("check")) as session:
        comparison.listed(session, who)
    with db.transaction(TESTS) as session:
        assert comparison.listed(session, an_operator(), days=1) is not None
