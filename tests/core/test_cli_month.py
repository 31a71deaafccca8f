"""`month close` and `month reopen`: one tenant, all tenants, and what they refuse."""

from __future__ import annotations

from core import db
from core.finance import months
from core.finance.months import Month, State
from tests.analytics.using import correct, opened_at, use
from tests.core.cli import Run
from tests.factories import TESTS, Place, make_model
from tests.finance.books import guessed, last_month, month_before, old_place, within
from tests.quota.test_gate import open_call


def _month(place: Place) -> Month:
    with db.transaction(TESTS) as session:
        found = months.of_tenant(session, TESTS, place.tenant_id)
    return next(row for row in found if row.month == last_month(place))


def test_a_month_is_closed_once_and_reopened_for_a_reason(run: Run) -> None:
    place = old_place()
    use(place.who, make_model(), "0.25", at=within(place, last_month(place)))
    named = (f"{last_month(place):%Y-%m}", "--tenant", str(place.tenant_id))
    closed = run("month", "close", *named, "--json")
    assert closed.status == 0 and closed.facts["billed_usd"] == "0.25"
    assert closed.facts["requests"] == 1 and _month(place).state is State.CLOSED
    again = run("month", "close", *named)
    assert again.status == 1 and "it is closed already" in again.err
    assert run("month", "reopen", *named).status == 2  # no reason
    assert run("month", "reopen", *named, "--reason", " ").status == 2
    reopened = run("month", "reopen", *named, "--reason", "a late bill", "--json")
    assert (reopened.status, reopened.facts["id"]) == (0, closed.facts["id"])
    assert _month(place).state is State.REOPENED
    assert run("month", "reopen", *named, "--reason", "twice").status == 1


def test_what_is_not_final_blocks_unless_it_is_accepted(run: Run) -> None:
    place = old_place()
    call = guessed(place, make_model(), within(place, last_month(place)))
    named = (f"{last_month(place):%Y-%m}", "--tenant", str(place.tenant_id))
    refused = run("month", "close", *named, "--json")
    assert refused.status == 1 and "not final" in str(refused.facts["error"])
    assert run("month", "close", *named, "--accept-unreconciled").status == 0
    correct(call, "0.03")
    assert _month(place).late_count == 1


def test_all_tenants_are_closed_and_the_blocked_are_named(run: Run) -> None:
    free, running, model = old_place(), old_place(), make_model()
    month = month_before(month_before(last_month(free)))
    opened_at(open_call(running, model), within(running, month))
    report = run("month", "close", f"{month:%Y-%m}", "--json")
    assert report.status == 1
    blocked = {one["tenant"]: one["checks"] for one in report.facts["blocked"]}  # type: ignore[attr-defined]
    assert blocked[str(running.tenant_id)] == ["open_calls"]
    assert str(free.tenant_id) not in blocked
    in_words = run("month", "close", f"{month:%Y-%m}")
    assert f"{running.who.tenant_name}: 1 call still open" in in_words.out


def test_what_is_no_month_is_unusable(run: Run) -> None:
    place = old_place()
    for words in ("2026-13", "October", "2026-10-01", "9999-12", "0001-01"):
        assert run("month", "close", words, "--tenant", str(place.tenant_id)).status == 2, words
    assert run("month", "close", f"{last_month(place):%Y-%m}", "--tenant", "nobody").status == 2
