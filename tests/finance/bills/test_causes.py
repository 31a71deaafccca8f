"""Why a model's sums differ, worked out from the numbers alone: every cause, and where it is refused."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from core.finance.bills import causes
from core.finance.bills.causes import Names, Theirs, compare
from core.finance.bills.ours import Doubt, Ours

NONE = Doubt(0, Decimal(0), Decimal(0))
MODEL = "acme/one"


def ours(usd: str, requests: int = 1, **named: object) -> Ours:
    made = Ours(MODEL, MODEL, requests, Decimal(usd), NONE, NONE, NONE, Decimal(0), Decimal(0))
    return replace(made, **named)  # type: ignore[arg-type]


def doubt(booked: str, held: str, calls: int = 1) -> Doubt:
    return Doubt(calls, Decimal(booked), Decimal(held))


def theirs(usd: str, requests: int = 1) -> Theirs:
    return Theirs(requests, Decimal(usd))


@pytest.mark.parametrize(
    ("we", "they", "cause"),
    [
        (ours("0.5"), theirs("0.5"), "agrees"),
        (ours("0.5"), theirs("0.500001"), "agrees"),
        (ours("0.5"), theirs("0.5000011"), "unknown"),
        (ours("0", 3), theirs("0", 5), "agrees"),
        # half a micro-USD a call, and no more than a hundredth of the bill
        (ours("0.5", 100), theirs("0.50004", 100), "rounding"),
        (ours("0.5", 100), theirs("0.500051", 100), "unknown"),
        (ours("0.000080", 100), theirs("0.000130", 100), "unknown"),
        # look-ups that are open, as far as what they held goes
        (ours("0.5", not_final=doubt("0.1", "0.3")), theirs("0.7"), "not_final"),
        (ours("0.5", not_final=doubt("0.1", "0.3")), theirs("0.4"), "not_final"),
        (ours("0.5", not_final=doubt("0.1", "0.3")), theirs("0.71"), "unknown"),
        (ours("0.5", not_final=doubt("0.1", "0.3")), theirs("0.39"), "unknown"),
        (ours("0.5", estimates=doubt("0.2", "0.2")), theirs("0.31"), "estimates"),
        (ours("0.5", estimates=doubt("0.2", "0.2")), theirs("0.51"), "unknown"),
        (ours("0.5", not_final=doubt("0.1", "0.3"), estimates=doubt("0.2", "0.4")),
         theirs("0.85"), "not_final"),
        # calls that never learnt their generation explain as many requests, and what they held
        (ours("0.5", without_id=doubt("0", "0.3", 2)), theirs("0.7", 3), "no_generation_id"),
        (ours("0.5", without_id=doubt("0", "0.3", 2)), theirs("0.7", 4), "unrecorded"),
        (ours("0.5", without_id=doubt("0", "0.3", 2)), theirs("0.7", 1), "unknown"),
        (ours("0.5", without_id=doubt("0", "0.3", 2)), theirs("0.81", 3), "unrecorded"),
        (ours("0.5", without_id=doubt("0", "0.3", 2)), theirs("0.4", 3), "unknown"),
        # a call that began before midnight and ended after it
        (ours("0.5", before_usd=Decimal("0.2")), theirs("0.7", 2), "midnight"),
        (ours("0.5", at_end_usd=Decimal("0.2")), theirs("0.3", 0), "midnight"),
        (ours("0.5", before_usd=Decimal("0.2")), theirs("0.8", 2), "unrecorded"),
        (ours("0.5"), theirs("0.7", 2), "unrecorded"),
        (ours("0.5"), theirs("0.7"), "unknown"),
        (ours("0.5", 2), theirs("0.3", 1), "unknown"),
    ],
)  # fmt: skip
def test_the_cause_is_what_the_numbers_bear_out(we: Ours, they: Theirs, cause: str) -> None:
    (found,) = compare([we], {MODEL: they})
    assert found.cause == cause
    assert found.difference_usd == they.usd - we.usd


def test_a_model_that_only_we_or_only_they_know() -> None:
    assert [m.cause for m in compare([ours("0.5")], {})] == ["only_ours"]
    assert [m.cause for m in compare([], {MODEL: theirs("0.5")})] == ["unrecorded"]


def test_an_open_call_may_be_what_they_do_not_list_yet() -> None:
    (found,) = compare([ours("0.5", not_final=doubt("0.5", "0.6"))], {})
    assert found.cause == "not_final"


def test_one_amount_under_two_names_is_named_differently() -> None:
    found = compare([ours("0.5"), ours("0.2", model_served="z/z", model_requested="z/z")],
                    {"other/name": theirs("0.5"), "y/y": theirs("0.3")})  # fmt: skip
    assert {m.model: m.cause for m in found} == {
        MODEL: "named_differently", "other/name": "named_differently", "z/z": "only_ours",
        "y/y": "unrecorded",
    }  # fmt: skip


def test_two_models_of_one_amount_are_not_taken_for_another() -> None:
    found = compare([ours("0.5")], {"a/a": theirs("0.5"), "b/b": theirs("0.5")})
    assert {m.cause for m in found} == {"only_ours", "unrecorded"}


def test_differences_keep_every_digit() -> None:
    many = "123456.123456789012345678901234567"
    (found,) = compare([ours("0.000000000000000000000000001")], {MODEL: theirs(many)})
    assert str(found.difference_usd) == "123456.123456789012345678901234566"


@pytest.mark.parametrize(
    ("known", "asked", "found"),
    [
        (["x/y"], ["x/y"], "x/y"),
        (["x/y"], ["x/y-2026-04-14"], "x/y"),
        (["x/y-20260414"], ["x/y"], "x/y-20260414"),
        (["x/y-2026-04-14:free"], ["x/y:free"], "x/y-2026-04-14:free"),
        (["x/y", "x/y:free"], ["x/y:free"], "x/y:free"),
        (["x/y", "x/y:free"], ["x/y:nitro"], "x/y"),
        (["x/y:free"], ["x/y"], "x/y:free"),
        (["x/y:free", "x/y:nitro"], ["x/y"], None),
        (["x/y"], ["~x/y"], "x/y"),
        (["x/alias"], ["x/served", "x/alias"], "x/alias"),
        (["x/y-0613", "x/y"], ["x/y-0613"], "x/y-0613"),
        (["x/y"], ["x/y-0613"], None),
        ([], ["x/y"], None),
    ],
)
def test_names_are_found_in_their_closest_form(
    known: list[str], asked: list[str], found: str | None
) -> None:
    assert Names(known).find(*asked) == found


def test_our_dated_and_variant_names_are_summed_under_the_bills() -> None:
    dated = ours("0.5", model_served=f"{MODEL}-2026-04-14")
    routed = ours("0.25", model_served="acme/other", model_requested=MODEL)
    (found,) = compare([dated, routed], {MODEL: theirs("0.75", 2)})
    assert (found.ours_usd, found.ours_requests, found.cause) == (Decimal("0.75"), 2, "agrees")


def test_every_cause_has_its_words() -> None:
    assert set(causes.SENTENCES) == set(causes.Cause.__args__)  # type: ignore[attr-defined]
