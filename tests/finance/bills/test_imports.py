"""What the bill says and our books do not, booked once: as the correction of a call we know, of the one
call it can be, or of a call made for it. After every test all invariants hold."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import text

from core import db, errors
from core.billing import ledger
from core.finance import closing
from core.finance.bills import imports
from core.finance.bills.imports import Imported, Waiting
from core.identity import tenants
from core.metering import calls, rollups
from core.periods import month_of
from core.quota import gate
from tests.factories import TESTS, Place, make_model, make_place
from tests.finance.bills.bill import (
    a_model,
    a_provider,
    an_operator,
    booked,
    compare,
    file,
    line,
    only,
    opened,
    past,
    settle,
    states,
    upload,
    used,
)
from tests.quota.test_gate import cost

pytestmark = pytest.mark.usefixtures("books")
NANO = 1_000_000_000


def waiting() -> tuple[Waiting, ...]:
    with db.transaction(TESTS) as session:
        return imports.waiting(session, TESTS)


def run(*, bearer: UUID | None = None, bills: bool = False) -> Imported:
    return imports.run(an_operator(), waiting(), bearer=bearer, bills=bills)


def wallet(place: Place) -> int:
    with db.transaction(TESTS) as session:
        return ledger.wallet(session, place.tenant_id).posted_nusd


def events(tenant_id: UUID) -> list[tuple[object, ...]]:
    with db.transaction(TESTS) as session:
        rows = session.execute(
            text(
                "select kind, purpose, source, outcome, model_served, list_nusd, billed_nusd,"
                " prompt_tokens, generation_id, occurred_at from app.usage_events"
                " where tenant_id = :t order by event_id"
            ),
            {"t": tenant_id},
        )
        return [tuple(row) for row in rows]


def test_a_different_amount_corrects_its_call_and_its_tenant_once() -> None:
    provider = a_provider()
    model = a_model(provider)
    place = make_place(markup="0.1")
    used(place, model, "0.02", generation="gen-dear")
    upload(file(line("gen-dear", "0.0300000001", model)), provider=provider)
    found = run()
    assert (found.outcomes, found.days) == ({"imported": 1}, (past().date(),))
    assert booked(place.tenant_id) == (30_000_001, 33_000_001)
    assert wallet(place) == 10 * NANO - 33_000_001
    assert states() == {"gen-dear": "imported"}
    assert waiting() == ()
    kind, *_, prompt, generation, at = events(place.tenant_id)[1]
    assert (kind, prompt, generation, at) == ("adjustment", 0, "gen-dear", past())
    assert only(compare(provider)).cause == "agrees"


def test_an_amount_we_booked_too_high_is_given_back() -> None:
    provider = a_provider()
    model = a_model(provider)
    place = make_place()
    used(place, model, "0.5", generation="gen-cheap")
    upload(file(line("gen-cheap", "0.2", model)), provider=provider)
    run()
    assert booked(place.tenant_id) == (200_000_000, 200_000_000)
    assert wallet(place) == 10 * NANO - 200_000_000


def test_the_bill_ends_an_open_lookup_and_a_later_answer_books_nothing() -> None:
    provider = a_provider()
    model = a_model(provider)
    place = make_place()
    call = used(place, model, "0.02", source="estimate", lookup=True, generation="gen-open")
    upload(file(line("gen-open", "0.03", model)), provider=provider)
    run()
    late = gate.correct(
        gate.settlement(call, cost("0.05"), outcome="ok", gave_output=True, latency_ms=1)
    )
    assert (late.code, late.final, late.list_nusd) == ("settled", True, 30_000_000)


def test_what_was_corrected_since_the_upload_is_left_as_it_is() -> None:
    provider = a_provider()
    model = a_model(provider)
    place = make_place()
    call = used(place, model, "0.02", source="estimate", lookup=True, generation="gen-late")
    upload(file(line("gen-late", "0.03", model)), provider=provider)
    chosen = waiting()
    gate.correct(gate.settlement(call, cost("0.03"), outcome="ok", gave_output=True, latency_ms=1))
    found = imports.run(an_operator(), chosen, bearer=None, bills=False)
    assert found.outcomes == {"known": 1}
    assert booked(place.tenant_id)[0] == 30_000_000
    assert states() == {"gen-late": "matched"}


@pytest.mark.parametrize(("bills", "billed"), [(False, 0), (True, 6_000_000)])
def test_a_call_that_never_learnt_its_generation_is_found_and_costs_its_tenant_what_was_chosen(
    bills: bool, billed: int
) -> None:
    provider, generation = a_provider(), f"gen-lost-{bills}"
    model = a_model(provider)
    place = make_place(markup="0.2")
    call = used(place, model, None, generation=None)
    upload(
        file(line(generation, "0.005", model, past() + timedelta(seconds=40))), provider=provider
    )
    (found,) = waiting()
    assert (found.tenant_id, found.call_id) == (place.tenant_id, call.call_id)
    run(bills=bills)
    assert booked(place.tenant_id) == (5_000_000, billed)
    assert wallet(place) == 10 * NANO - billed
    assert [row[0] for row in events(place.tenant_id)] == ["call", "adjustment"]
    assert events(place.tenant_id)[1][7:9] == (100, generation)
    assert only(compare(provider)).cause == "agrees"
    assert upload(file(line(generation, "0.005", model)), provider=provider).matched == 1


@pytest.mark.parametrize(
    "seconds", [-61, 661],
)  # fmt: skip
def test_a_call_of_another_moment_is_no_candidate(seconds: int) -> None:
    provider = a_provider()
    model = a_model(provider)
    used(make_place(), model, None, generation=None)
    at = past() + timedelta(seconds=seconds)
    upload(file(line("gen-x", "0.005", model, at)), provider=provider)
    assert waiting()[0].call_id is None


def test_only_a_call_that_leaves_no_choice_is_a_candidate() -> None:
    provider = a_provider()
    model, other = a_model(provider), a_model(provider)
    place = make_place()
    used(place, other, None, generation=None)  # another model
    used(place, a_model("openrouter"), None, generation=None)  # another provider
    used(place, model, "0.01", source="estimate", generation=None)  # something is booked
    used(place, model, None, generation="gen-known")  # knows its own
    upload(file(line("gen-1", "0.005", model)), provider=provider)
    assert waiting()[0].call_id is None
    used(place, model, None, generation=None)
    assert waiting()[0].call_id is not None
    upload(file(line("gen-2", "0.005", model)), provider=provider)
    assert [w.call_id for w in waiting()] == [None, None]  # two lines, one call
    used(place, model, None, generation=None)
    assert [w.call_id for w in waiting()] == [None, None]  # and which is whose?


def test_a_dated_name_finds_its_call() -> None:
    provider = a_provider()
    model = a_model(provider)
    call = used(make_place(), model, None, generation=None)
    upload(file(line("gen-d", "0.005", f"{model}-20260414:free")), provider=provider)
    assert waiting()[0].call_id == call.call_id
    run()


@pytest.mark.parametrize(("bills", "billed"), [(False, 0), (True, 550_000_001)])
def test_what_belongs_to_no_call_becomes_one_of_the_tenant_that_bears_it(
    bills: bool, billed: int
) -> None:
    provider, generation = a_provider(), f"gen-alien-{bills}"
    model = a_model(provider)
    house = make_place(mode="internal", markup="0.1", role="admin", credit_usd=0)
    upload(file(line(generation, "0.5000000001", f"{model}-20260414")), provider=provider)
    assert run().outcomes == {}
    assert run(bearer=house.tenant_id, bills=bills).outcomes == {"imported": 1}
    assert booked(house.tenant_id) == (500_000_001, billed)
    call, adjustment = events(house.tenant_id)
    assert call[:8] == ("call", "imported", "background", "error", model, 0, 0, 0)
    assert adjustment[:9] == (
        "adjustment", "imported", "background", "error", model, 500_000_001, billed, 100,
        generation,
    )  # fmt: skip
    assert call[9] == adjustment[9] == past()
    found = only(compare(provider))
    assert (found.cause, found.ours_requests) == ("agrees", 1)
    assert upload(file(line(generation, "0.5000000001", model)), provider=provider).matched == 1


def test_what_we_bore_we_go_on_bearing_when_the_bill_changes() -> None:
    provider = a_provider()
    model = a_model(provider)
    place = make_place()
    used(place, model, None, generation=None)
    upload(file(line("gen-moves", "0.005", model)), provider=provider)
    run()
    upload(file(line("gen-moves", "0.007", model)), provider=provider)
    assert states() == {"gen-moves": "different"}
    run(bills=True)
    assert booked(place.tenant_id) == (7_000_000, 0)


def test_a_closed_month_takes_nothing_and_the_day_on_the_bill_agrees_all_the_same() -> None:
    provider = a_provider()
    model = a_model(provider)
    house = make_place(mode="internal", role="admin", credit_usd=0)
    at = past().replace(day=1) - timedelta(days=1)  # in the month before
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.tenants set created_at = :at where tenant_id = :t"),
            {"at": at - timedelta(days=60), "t": house.tenant_id},
        )
        closing.close(session, TESTS, house.tenant_id, month_of(at.date()).first)
    upload(file(line("gen-closed", "0.5", model, at)), provider=provider)
    run(bearer=house.tenant_id)
    call, adjustment = events(house.tenant_id)
    assert call[9] == adjustment[9] > past(0, hour=0)  # type: ignore[operator]
    found = only(compare(provider, at.date()))
    assert (found.ours_usd, found.cause) == (Decimal("0.5"), "agrees")


def test_what_is_older_than_the_books_is_dated_now() -> None:
    provider = a_provider()
    model = a_model(provider)
    house = make_place(mode="internal", role="admin", credit_usd=0)
    upload(file(line("gen-old", "0.5", model, past(800))), provider=provider)
    run(bearer=house.tenant_id)
    assert events(house.tenant_id)[0][9] > past(0, hour=0)  # type: ignore[operator]
    assert only(compare(provider, past(800).date())).cause == "agrees"


@pytest.mark.parametrize("kind", ["different", "candidate", "alien"])
def test_many_threads_import_a_line_once(kind: str) -> None:
    provider = a_provider()
    model = a_model(provider)
    house = make_place(mode="internal", role="admin", credit_usd=0)
    place = house if kind == "alien" else make_place()
    if kind == "different":
        used(place, model, "0.02", generation=f"gen-race-{kind}")
    if kind == "candidate":
        used(place, model, None, generation=None)
    upload(file(line(f"gen-race-{kind}", "0.5", model)), provider=provider)
    chosen, operator = waiting(), an_operator()

    def once(_: int) -> dict[imports.Outcome, int]:
        done = imports.run(operator, chosen, bearer=house.tenant_id, bills=True)
        return done.outcomes

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(once, range(6)))
    assert outcomes.count({"imported": 1}) == 1
    assert outcomes.count({"known": 1}) == 5
    assert booked(place.tenant_id) == (500_000_000, 500_000_000)


def test_importing_beside_a_correction_books_the_truth_once() -> None:
    provider = a_provider()
    model = a_model(provider)
    place = make_place()
    guessed = [
        used(place, model, "0.02", source="estimate", lookup=True, generation=f"gen-{n}")
        for n in range(8)
    ]
    upload(file(*[line(f"gen-{n}", "0.03", model) for n in range(8)]), provider=provider)
    chosen, operator = waiting(), an_operator()

    def correct(call: gate.OpenCall) -> object:
        spent = cost("0.03")
        return gate.correct(
            gate.settlement(call, spent, outcome="ok", gave_output=True, latency_ms=1)
        )

    with ThreadPoolExecutor(4) as pool:
        run_ = pool.submit(imports.run, operator, chosen, bearer=None, bills=False)
        list(pool.map(correct, guessed))
        run_.result()
    assert booked(place.tenant_id) == (240_000_000, 240_000_000)


def test_a_line_whose_call_still_runs_waits_for_its_end() -> None:
    provider = a_provider()
    model = a_model(provider)
    place = make_place()
    call = opened(place, model, past())
    calls.beat(call.tenant_id, call.call_id, call.lease_token, generation_id="gen-run")
    upload(file(line("gen-run", "0.5", model)), provider=provider)
    assert run(bearer=place.tenant_id).outcomes == {"open": 1}
    settle(call, "0.5", generation="gen-run")
    assert run(bearer=place.tenant_id).outcomes == {"known": 1}
    assert states() == {"gen-run": "matched"}
    assert booked(place.tenant_id)[0] == 500_000_000


def test_lines_that_are_not_ours_are_put_away_and_what_was_imported_stays() -> None:
    provider = a_provider()
    model = a_model(provider)
    house = make_place(mode="internal", role="admin", credit_usd=0)
    upload(file(line("gen-in", "0.5", model)), provider=provider)
    run(bearer=house.tenant_id)
    upload(file(line("gen-in", "0.7", model), line("gen-out", "1", model)), provider=provider)
    with db.transaction(TESTS) as session:
        assert imports.put_away(session, TESTS, ["gen-in", "gen-out", "gen-none"]) == 1
    assert states() == {"gen-in": "different"}


def test_a_tenant_without_people_bears_nothing() -> None:
    provider = a_provider()
    upload(file(line("gen-1", "1", "a/a")), provider=provider)
    with db.transaction(TESTS) as session:
        empty = tenants.create_tenant(session, TESTS, "Nobody here")
        named = dict(imports.bearers(session, TESTS))
    assert empty not in named
    for bearer in (empty, db.new_id()):
        with pytest.raises(errors.NotFound):
            run(bearer=bearer)
    assert states() == {"gen-1": "unrecorded"}


def test_internal_tenants_are_offered_first() -> None:
    make_place()
    house = make_place(mode="internal", credit_usd=0)
    with db.transaction(TESTS) as session:
        offered = [tenant_id for tenant_id, _ in imports.bearers(session, TESTS)]
        modes = dict(session.execute(text("select tenant_id, mode from app.tenants")).all())
    in_order = [modes[tenant_id] != "internal" for tenant_id in offered]
    assert in_order == sorted(in_order)
    assert house.tenant_id in offered


def test_only_operators_import_and_it_is_audited() -> None:
    who = make_place(role="admin").who
    with pytest.raises(errors.Forbidden):
        imports.run(who, (), bearer=None, bills=False)
    with pytest.raises(errors.Forbidden), db.transaction(TESTS) as session:
        imports.put_away(session, who, ["gen-1"])
    with pytest.raises(errors.Forbidden), db.transaction(TESTS) as session:
        imports.waiting(session, who)
    provider, model = a_provider(), make_model()
    house = make_place(mode="internal", role="admin", credit_usd=0)
    upload(file(line("gen-a", "0.25", model), line("gen-b", "0.5", model)), provider=provider)
    run(bearer=house.tenant_id)
    with db.transaction(TESTS) as session:
        row = session.execute(
            text(
                "select after, outcome from app.audit_log where action = 'provider_bill.import'"
                " order by audit_id desc limit 1"
            )
        ).one()
    assert (row.after, row.outcome) == ({"imported": 2, "cost_usd": "0.75"}, "done")


def test_rollups_made_anew_say_the_same() -> None:
    provider = a_provider()
    model = a_model(provider)
    house = make_place(mode="internal", role="admin", credit_usd=0)
    upload(file(line("gen-roll", "0.5", model)), provider=provider)
    run(bearer=house.tenant_id, bills=True)
    query = text("select * from app.usage_daily where tenant_id = :t")
    with db.transaction(TESTS) as session:
        rollups.flush(session, house.tenant_id)
        before = session.execute(query, {"t": house.tenant_id}).all()
        rollups.rebuild(session, house.tenant_id)
        assert session.execute(query, {"t": house.tenant_id}).all() == before
    assert [(row.requests, row.errors, row.list_nusd) for row in before] == [(1, 1, 500_000_000)]
