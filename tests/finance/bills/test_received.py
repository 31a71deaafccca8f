"""Uploaded bills: kept whole or not at all, matched by generation, and standing in where nothing else is."""

from __future__ import annotations

import hashlib
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Row, text

from core import db, errors
from core.finance.bills import received
from core.finance.bills.rows import DayRow
from tests.factories import TESTS, make_place
from tests.finance.bills.bill import (
    HEAD,
    a_model,
    a_provider,
    an_operator,
    bill,
    compare,
    file,
    line,
    only,
    past,
    states,
    today,
    upload,
    used,
)

pytestmark = pytest.mark.usefixtures("books")


def days_of(provider: str) -> list[tuple[date, str, int, Decimal, str]]:
    with db.transaction(TESTS) as session:
        rows = session.execute(
            text(
                "select day, model, requests, cost_usd, came_by from app.provider_bills"
                " where provider = :p order by 1, 2"
            ),
            {"p": provider},
        )
        return [tuple(row) for row in rows]  # type: ignore[misc]


def audited(provider: str) -> list[Row[Any]]:
    with db.transaction(TESTS) as session:
        found = session.execute(
            text("select * from app.audit_log where object = :object order by audit_id"),
            {"object": f"provider:{provider}"},
        )
        return list(found)


def sums(*rows: str) -> str:
    return "\n".join(("date,model,usage,requests", *rows))


def test_a_file_of_sums_becomes_the_days_bill_and_is_compared() -> None:
    provider, day = a_provider(), past().date()
    model = a_model(provider)
    used(make_place(), model, "0.75")
    content = sums(f"{day},{model},0.5,1", f"{day},{model},0.25,2", f"{past(3).date()},{model},9,1")
    found = upload(content, provider=provider)
    assert (found.rows, found.days) == (3, (past(3).date(), day))
    assert days_of(provider) == [
        (past(3).date(), model, 1, Decimal(9), "upload"),
        (day, model, 3, Decimal("0.75"), "upload"),
    ]
    with db.transaction(TESTS) as session:
        checked = session.execute(
            text("select day, cause from app.bill_checks where provider = :p order by 1"),
            {"p": provider},
        ).all()
    assert [tuple(row) for row in checked] == [
        (past(3).date(), "unrecorded"), (day, "agrees"),
    ]  # fmt: skip


def test_a_later_file_replaces_the_days_it_names_and_no_others() -> None:
    provider, day, other = a_provider(), past().date(), past(3).date()
    upload(sums(f"{day},a/a,1,1", f"{day},b/b,1,1", f"{other},a/a,1,1"), provider=provider)
    upload(sums(f"{day},a/a,2,1"), provider=provider)
    assert [(row[0], row[1], row[3]) for row in days_of(provider)] == [
        (other, "a/a", Decimal(1)), (day, "a/a", Decimal(2)),
    ]  # fmt: skip


def test_days_are_summed_across_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(received, "_BATCH", 2)
    provider, day = a_provider(), past().date()
    upload(sums(*[f"{day},a/a,0.1,1"] * 5), provider=provider)
    assert days_of(provider) == [(day, "a/a", 5, Decimal("0.5"), "upload")]


@pytest.mark.parametrize("last", ["nonsense", ",,1,", "2999-01-01,m,1,1"])
def test_a_refused_file_keeps_nothing(last: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(received, "_BATCH", 1)
    provider, day = a_provider(), past().date()
    bill(provider, "a/a", "5")
    with pytest.raises(errors.BadInput):
        upload(sums(f"{day},a/a,1,1", f"{day},b/b,1,1", last), provider=provider)
    assert [(row[1], row[3]) for row in days_of(provider)] == [("a/a", Decimal(5))]
    with pytest.raises(errors.BadInput):
        upload(file(line("gen-refused", "1", "a/a"), last), provider=provider)
    assert "gen-refused" not in states()


def test_lines_are_matched_by_generation() -> None:
    provider = a_provider()
    model = a_model(provider)
    place = make_place()
    used(place, model, "0.0123", generation="gen-same")
    used(place, model, "0.0123456789", generation="gen-nano", source="price_table")
    used(place, model, "0.02", generation="gen-other")
    used(place, a_model("openrouter"), "0.5", generation="gen-elsewhere")
    found = upload(
        file(
            line("gen-same", "0.01230", model), line("gen-nano", "0.0123456781", model),
            line("gen-other", "0.020000002", model), line("gen-elsewhere", "0.5", model),
            line("gen-stranger", "0.5", model),
        ),
        provider=provider,
    )  # fmt: skip
    assert states() == {
        "gen-same": "matched", "gen-nano": "matched", "gen-other": "different",
        "gen-elsewhere": "unrecorded", "gen-stranger": "unrecorded",
    }  # fmt: skip
    assert (found.rows, found.matched, found.different, found.unrecorded) == (5, 2, 1, 2)


def test_the_same_file_again_changes_nothing() -> None:
    provider = a_provider()
    model = a_model(provider)
    used(make_place(), model, "0.5", generation="gen-again")
    content = file(line("gen-again", "0.5", model), line("gen-new", "0.25", model))
    assert upload(content, provider=provider) == upload(content, provider=provider)
    assert days_of(provider) == [(past().date(), model, 2, Decimal("0.75"), "upload")]


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_a_generation_named_twice_refuses_the_file(
    batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(received, "_BATCH", batch)
    twice = file(line("gen-a", "1", "m"), line("gen-b", "1", "m"), line("gen-a", "2", "m"))
    with pytest.raises(errors.BadInput, match="names a generation twice, by row 4"):
        upload(twice, provider=a_provider())
    assert states() == {}


def test_lines_stand_in_for_a_bill_only_where_no_activity_was_read() -> None:
    provider = a_provider()
    bill(provider, "a/a", "5", day=past(3).date())
    upload(file(line("gen-1", "1", "a/a"), line("gen-2", "1", "a/a", past(3))), provider=provider)
    upload(file(line("gen-3", "0.5", "a/a")), provider=provider)
    assert [(row[0], row[2], row[3], row[4]) for row in days_of(provider)] == [
        (past(3).date(), 1, Decimal(5), "activity"),
        (past().date(), 2, Decimal("1.5"), "upload"),
    ]


def test_todays_rows_are_left_out_and_said() -> None:
    provider = a_provider()
    found = upload(
        file(line("gen-now", "1", "a/a", past(0, hour=0)), line("gen-then", "1", "a/a")),
        provider=provider,
    )
    assert (found.rows, found.left_out, list(states())) == (1, 1, ["gen-then"])
    assert [row[0] for row in days_of(provider)] == [past().date()]
    assert today() not in found.days


def test_uploading_is_for_operators_and_audited() -> None:
    operator, provider = an_operator(), a_provider()
    upload(file(line("gen-1", "1", "a/a")), operator, provider=provider)
    (done,) = audited(provider)
    assert (done.actor, done.outcome) == (f"operator:{operator.user_id}", "done")
    assert done.after == {
        "rows": 1, "days": 1, "different": 0, "unrecorded": 1,
        "sha256": hashlib.sha256(file(line("gen-1", "1", "a/a")).encode()).hexdigest(),
    }  # fmt: skip
    who = make_place(role="admin").who
    with pytest.raises(errors.Forbidden), db.transaction(TESTS) as session:
        received.upload(session, who, None, provider=provider)  # type: ignore[arg-type]
    assert [row.outcome for row in audited(provider)] == ["done", "denied"]


def test_sums_of_one_batch_keep_every_digit() -> None:
    provider, day = a_provider(), past().date()
    exact = [
        Decimal("900000.000000000000000000000001"),
        Decimal("0.000000000000000000000000000002"),
    ]
    with db.transaction(TESTS) as session:
        rows = [DayRow(day, "a/a", 1, 1, usd) for usd in exact]
        received.replace_days(session, provider, [day], rows, "activity")
    assert str(days_of(provider)[0][3]) == "900000.000000000000000000000001000002"


def test_a_head_alone_is_no_bill() -> None:
    with pytest.raises(errors.BadInput, match="no rows"):
        upload(HEAD + "\n", provider=a_provider())


def test_the_bill_of_lines_agrees_with_calls_it_matches() -> None:
    provider = a_provider()
    model = a_model(provider, "acme/whole-20260414")
    used(make_place(), model, "0.123456789012345", generation="gen-whole")
    upload(file(line("gen-whole", "0.123456789012345", model)), provider=provider)
    found = only(compare(provider))
    assert (found.cause, found.difference_usd) == ("agrees", 0)
