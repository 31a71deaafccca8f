"""Closing months: what blocks, what is frozen, who may, and that no correction falls in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from core import db, errors
from core.finance import checks, closing, months
from core.finance.checks import Check, Code, Level
from core.finance.closing import Closed, NotAtRest
from core.finance.months import Month, State
from core.finance.tables import Closing
from core.identity.access import Principal, Role
from core.metering import rollups
from core.periods import following_month
from core.quota import gate
from tests.analytics.using import colleague, correct, cost_of, opened_at, use
from tests.factories import TESTS, Place, make_model, make_place
from tests.finance.books import (
    an_operator,
    calendar_of,
    close,
    guessed,
    keeper,
    last_moment,
    last_month,
    month_before,
    offences,
    old_place,
    sums,
    within,
)
from tests.identity.people import audit_rows
from tests.quota.test_gate import open_call

pytestmark = pytest.mark.usefixtures("database")
_RACES, _STEP_S = 40, 0.0005  # from before the close's first statement to after its last
USD = 10**9


def looked_at(place: Place, month: date, *, accept: bool = False) -> dict[Code, Check]:
    with db.transaction(TESTS) as session:
        found = checks.read(session, TESTS, place.tenant_id, month, accept_unreconciled=accept)
    assert [check.code for check in found.found] == list(Code)
    return {check.code: check for check in found.found}


def rows(place: Place, month: date, code: Code) -> tuple[checks.Row, ...]:
    with db.transaction(TESTS) as session:
        return checks.rows(session, TESTS, place.tenant_id, month, code)


def listed(place: Place, who: Principal | None = None) -> dict[date, Month]:
    with db.transaction(who or TESTS) as session:
        return {row.month: row for row in months.of_tenant(session, who or TESTS, place.tenant_id)}


def reopen(place: Place, month: date, reason: str = "a bill came late") -> Closed:
    with db.transaction(TESTS) as session:
        return closing.reopen(session, TESTS, place.tenant_id, month, reason)


def test_a_month_at_rest_is_closed_with_the_sums_of_its_events() -> None:
    place, model = make_place(markup="0.5"), make_model()
    month = last_month(place)
    for at in (within(place, month), last_moment(place, month)):
        use(place.who, model, "0.1", at=at)
    use(place.who, model, "0.3", at=within(place, month) - timedelta(microseconds=1))
    use(place.who, model, "0.5", at=within(place, following_month(month)))
    closed = close(place, month)
    assert (closed.events, closed.requests, closed.tokens) == (2, 2, 300)
    assert (closed.list_nusd, closed.billed_nusd) == (2 * USD // 10, 3 * USD // 10)
    assert closed.begins_at == within(place, month)
    assert closed.ends_at == within(place, following_month(month))
    assert closed.warnings == () and closed.closed_by == "system:tests"
    assert audit_rows(f"closing:{closed.closing_id}") == [
        ("month.close", "done", "system:tests", place.tenant_id)
    ]


def test_a_month_is_closed_once() -> None:
    place = make_place()
    use(place.who, make_model(), at=within(place, last_month(place)))
    close(place, last_month(place))
    with pytest.raises(NotAtRest, match="it is closed already") as refusal:
        close(place, last_month(place))
    assert isinstance(refusal.value, errors.Conflict) and refusal.value.status == 409
    assert [check.code for check in refusal.value.checks.blocking] == [Code.CLOSED]
    with db.transaction(TESTS) as session:
        rows_of = session.scalars(select(Closing).where(Closing.tenant_id == place.tenant_id)).all()
    assert len(rows_of) == 1


def test_a_month_that_has_not_ended_is_not_closed() -> None:
    place = make_place()
    month = calendar_of(place).today().replace(day=1)
    assert looked_at(place, month)[Code.ENDED].level is Level.BLOCKS
    with pytest.raises(NotAtRest, match="it has not ended"):
        close(place, month)


def test_the_first_minutes_after_a_month_belong_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    place = make_place()
    month = last_month(place)
    use(place.who, make_model(), at=within(place, month))
    since = datetime.now(UTC) - within(place, following_month(month))
    monkeypatch.setattr(checks, "GRACE", since + timedelta(minutes=1))
    assert looked_at(place, month)[Code.ENDED].level is Level.BLOCKS
    monkeypatch.setattr(checks, "GRACE", since - timedelta(minutes=1))
    assert looked_at(place, month)[Code.ENDED].level is Level.OK


@pytest.mark.parametrize(
    "month",
    [date(1, 1, 1), date(1999, 12, 1), date(9999, 12, 1), date(3026, 1, 1), date(2026, 1, 2)],
)
def test_what_is_no_month_of_the_tenant_is_refused(month: date) -> None:
    place = make_place()
    with pytest.raises(errors.BadInput):
        close(place, month)


def test_a_running_call_blocks_with_what_it_holds() -> None:
    place, model = old_place(), make_model()
    month = last_month(place)
    call = open_call(place, model)
    opened_at(call, within(place, month))
    found = looked_at(place, month)[Code.OPEN_CALLS]
    assert (found.level, found.count, found.amount_nusd) == (Level.BLOCKS, 1, call.hold_nusd)
    (row,) = rows(place, month, Code.OPEN_CALLS)
    assert (row.call_id, row.model, row.amount_nusd) == (call.call_id, model, call.hold_nusd)
    with pytest.raises(NotAtRest, match="1 call still open"):
        close(place, month)


def test_calls_that_are_not_final_block_unless_accepted() -> None:
    place, model = make_place(), make_model()
    month = last_month(place)
    calls = [guessed(place, model, within(place, month), usd) for usd in ("0.02", "0.03")]
    found = looked_at(place, month)[Code.UNRECONCILED]
    assert (found.level, found.count, found.amount_nusd) == (Level.BLOCKS, 2, 5 * USD // 100)
    behind = rows(place, month, Code.UNRECONCILED)
    assert {row.call_id for row in behind} == {call.call_id for call in calls}
    assert sum(row.amount_nusd for row in behind) == found.amount_nusd
    with pytest.raises(NotAtRest, match="the cost of 2 calls is not final"):
        close(place, month)
    closed = close(place, month, accept_unreconciled=True)
    (warned,) = closed.warnings
    assert (warned.code, warned.count, warned.amount_nusd) == (
        Code.UNRECONCILED, 2, 5 * USD // 100,
    )  # fmt: skip


def test_estimates_that_stay_so_only_warn() -> None:
    place, model = make_place(), make_model()
    month = last_month(place)
    call = guessed(place, model, within(place, month), "0.02")
    corrected = guessed(place, model, within(place, month), "0.04")
    correct(corrected, "0.05")
    with db.transaction(TESTS) as session:
        session.execute(
            text("delete from app.lookups where call_id = :call"), {"call": call.call_id}
        )
    found = looked_at(place, month)[Code.ESTIMATES]
    assert (found.level, found.count, found.amount_nusd) == (Level.WARNS, 1, 2 * USD // 100)
    assert [row.call_id for row in rows(place, month, Code.ESTIMATES)] == [call.call_id]
    assert [warned.code for warned in close(place, month).warnings] == [Code.ESTIMATES]


@pytest.mark.parametrize(("table", "count"), [("usage_daily", 1), ("usage_daily_models", 1)])
def test_daily_sums_that_differ_block(table: str, count: int) -> None:
    place, model = make_place(), make_model()
    month = last_month(place)
    use(place.who, model, "0.1", at=within(place, month))
    use(place.who, model, "0.1", at=last_moment(place, month))
    with db.transaction(TESTS) as session:
        session.execute(
            text(
                f"update app.{table} set billed_nusd = billed_nusd - 7 where tenant_id = :tenant"
                " and day = :day"
            ),
            {"tenant": place.tenant_id, "day": month},
        )
    found = looked_at(place, month)[Code.DAILY_SUMS]
    assert (found.level, found.count, found.amount_nusd) == (Level.BLOCKS, count, 7)
    (row,) = rows(place, month, Code.DAILY_SUMS)
    assert (row.model, row.amount_nusd, str(month) in row.note) == (model, -7, True)
    with pytest.raises(NotAtRest, match="1 daily sums differ"):
        close(place, month)
    with db.transaction(TESTS) as session:
        rollups.rebuild(session, place.tenant_id)
    close(place, month)


def test_a_ledger_that_does_not_tie_blocks(database_url: str) -> None:
    place, model = make_place(), make_model()
    month = last_month(place)
    call = use(place.who, model, "0.1", at=within(place, month))
    with psycopg.connect(database_url) as connection:  # no verb can break the books
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "delete from app.entries where kind = 'capture' and call_id = %s", (call.call_id,)
        )
    found = looked_at(place, month)[Code.LEDGER]
    assert (found.level, found.amount_nusd) == (Level.BLOCKS, USD // 10)
    (row,) = rows(place, month, Code.LEDGER)
    assert (row.call_id, row.amount_nusd) == (call.call_id, USD // 10)
    with pytest.raises(NotAtRest, match="the ledger differs by"):
        close(place, month)


def test_what_is_about_the_month_itself_has_no_rows() -> None:
    place = make_place()
    use(place.who, make_model(), at=within(place, last_month(place)))
    assert rows(place, last_month(place), Code.ENDED) == ()


# ---- what comes later


def dates_of(call: gate.OpenCall) -> list[tuple[str, datetime]]:
    with db.transaction(TESTS) as session:
        found = session.execute(
            text(
                "select kind, occurred_at from app.usage_events where call_id = :call"
                " order by event_id"
            ),
            {"call": call.call_id},
        )
        return [(row[0], row[1]) for row in found]


def test_a_correction_after_the_close_is_dated_when_it_comes() -> None:
    place, model = make_place(), make_model()
    month, now = last_month(place), datetime.now(UTC)
    call = guessed(place, model, within(place, month), "0.02")
    closed = close(place, month, accept_unreconciled=True)
    correct(call, "0.05")
    (_, opened), (kind, dated) = dates_of(call)
    assert kind == "adjustment" and opened == within(place, month) and dated >= now
    assert sums(place, month) == (closed.events, closed.billed_nusd) == (1, 2 * USD // 100)
    this_month = following_month(month)
    assert sums(place, this_month) == (1, 3 * USD // 100)
    after = listed(place)[month]
    assert (after.state, after.late_count, after.late_nusd) == (
        State.CLOSED, 1, 3 * USD // 100,
    )  # fmt: skip
    assert after.closing == closed and after.billed_nusd == closed.billed_nusd
    assert offences(place) == []


def test_after_a_reopening_corrections_land_in_the_month_again() -> None:
    place, model = make_place(), make_model()
    month = last_month(place)
    calls = [guessed(place, model, within(place, month), "0.02") for _ in range(2)]
    first = close(place, month, accept_unreconciled=True)
    correct(calls[0], "0.05")
    reopened = reopen(place, month)
    assert (reopened.closing_id, reopened.reason) == (first.closing_id, "a bill came late")
    assert reopened.reopened_at is not None and reopened.reopened_at > first.closed_at
    assert audit_rows(f"closing:{first.closing_id}")[-1][:2] == ("month.reopen", "done")
    correct(calls[1], "0.06")
    assert dates_of(calls[1])[1][1] == within(place, month)
    assert sums(place, month) == (3, 8 * USD // 100)
    assert listed(place)[month].state is State.REOPENED
    again = close(place, month)
    assert (again.events, again.billed_nusd) == (3, 8 * USD // 100)
    month_now = listed(place)[month]
    assert month_now.state is State.CLOSED and month_now.closing == again
    assert (month_now.late_count, month_now.late_nusd) == (1, 3 * USD // 100)
    assert offences(place) == []


def test_only_a_closed_month_is_reopened_and_only_for_a_reason() -> None:
    place = make_place()
    month = last_month(place)
    use(place.who, make_model(), at=within(place, month))
    with pytest.raises(errors.Conflict):
        reopen(place, month)
    close(place, month)
    for reason in ("", "  \n", "x" * 501):
        with pytest.raises(errors.BadInput):
            reopen(place, month, reason)
    reopen(place, month)
    with pytest.raises(errors.Conflict):
        reopen(place, month)


def test_a_correction_racing_a_close_lands_before_it_or_after_it() -> None:
    place, model = make_place(), make_model()
    month, races = last_month(place), []
    for _ in range(_RACES):
        races.append((month, guessed(place, model, within(place, month), "0.02")))
        month = month_before(month)
    before = 0
    for number, (month, call) in enumerate(races):
        closed = _at_once(
            partial(close, place, month, accept_unreconciled=True),
            partial(_correct_after, call, number * _STEP_S),
        )
        _, (_, dated) = dates_of(call)
        counted = dated == within(place, month)
        before += counted
        assert counted or dated >= closed.closed_at
        expected = (2, 5 * USD // 100) if counted else (1, 2 * USD // 100)
        assert (closed.events, closed.billed_nusd) == expected == sums(place, month)
    assert offences(place) == []
    with db.transaction(TESTS) as session:
        total = session.scalar(
            text("select sum(billed_nusd) from app.usage_daily where tenant_id = :tenant"),
            {"tenant": place.tenant_id},
        )
    assert total == _RACES * 5 * USD // 100
    assert 0 < before < _RACES
    late = sum(row.late_count for row in listed(place).values())
    assert late == _RACES - before


def _correct_after(call: gate.OpenCall, wait_s: float) -> None:
    time.sleep(wait_s)
    correct(call, "0.05")


def _at_once(closes: Callable[[], Closed], corrects: Callable[[], None]) -> Closed:
    barrier = threading.Barrier(2)

    def start(work: Callable[[], Closed | None]) -> Closed | None:
        barrier.wait()
        return work()

    with ThreadPoolExecutor(2) as pool:
        closed, _ = pool.map(start, (closes, corrects))
    assert closed is not None
    return closed


def test_a_correction_that_began_is_waited_for(database_url: str) -> None:
    place, model = make_place(), make_model()
    month = last_month(place)
    call = guessed(place, model, within(place, month), "0.02")
    arguments = gate.settlement(call, cost_of("0.05"), outcome="ok", gave_output=True, latency_ms=0)
    with psycopg.connect(database_url) as correcting, ThreadPoolExecutor(1) as pool:
        correcting.execute(
            "select verbs.correct(jsonb_populate_record(null::verbs.settlement, %s))",
            (gate.as_json(arguments),),
        )
        closes = pool.submit(close, place, month, accept_unreconciled=True)
        with pytest.raises(TimeoutError):
            closes.result(0.3)
        correcting.commit()
        closed = closes.result(10)
    assert (closed.events, closed.billed_nusd) == (2, 5 * USD // 100)
    assert closed.warnings == () and offences(place) == []


def test_of_two_closers_one_closes() -> None:
    place = make_place()
    month = last_month(place)
    use(place.who, make_model(), at=within(place, month))
    barrier = threading.Barrier(2)

    def start(_: int) -> bool:
        barrier.wait()
        try:
            close(place, month)
        except NotAtRest:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(start, range(2))) == [False, True]


# ---- zones


@pytest.mark.parametrize(
    "zone", ["Pacific/Kiritimati", "Pacific/Niue", "America/Santiago", "Asia/Kathmandu"]
)
def test_a_month_is_cut_in_the_tenants_zone(zone: str) -> None:
    place, model = make_place(time_zone=zone), make_model()
    month = last_month(place)
    use(place.who, model, "0.1", at=within(place, month))
    use(place.who, model, "0.2", at=last_moment(place, month))
    use(place.who, model, "0.4", at=within(place, month) - timedelta(microseconds=1))
    use(place.who, model, "0.8", at=within(place, following_month(month)))
    assert looked_at(place, month)[Code.DAILY_SUMS].level is Level.OK
    assert close(place, month).billed_nusd == 3 * USD // 10


def test_months_around_a_change_of_zone_leave_nothing_out(database_url: str) -> None:
    place, model = make_place(time_zone="Pacific/Kiritimati"), make_model()
    month = last_month(place)
    before = month_before(month)
    with db.transaction(TESTS) as session:
        session.execute(
            text(
                "insert into app.zone_changes(tenant_id, starts_on, starts_at, time_zone)"
                " values (:tenant, :day, :at, 'Pacific/Niue')"
            ),
            {"tenant": place.tenant_id, "day": month, "at": within(place, month)},
        )
    for hours in range(-30, 31, 3):
        use(place.who, model, "0.1", at=within(place, month) + timedelta(hours=hours))
    closed = [close(place, one) for one in (before, month)]
    assert [one.events for one in closed] == [10, 11]
    assert closed[0].ends_at == closed[1].begins_at
    assert offences(place) == []


# ---- who may


def test_finance_and_admin_close_their_own_tenant_at_a_browser() -> None:
    model = make_model()
    for role in (Role.FINANCE, Role.ADMIN):
        place = make_place()
        use(place.who, model, "0.1", at=within(place, last_month(place)))
        who = keeper(place, role)
        with db.transaction(who) as session:
            closed = closing.close(session, who, place.tenant_id, last_month(place))
        assert closed.closed_by == f"user:{who.user_id}" and closed.list_nusd is None
        assert closed.billed_nusd == USD // 10
        found = listed(place, who)[last_month(place)]
        assert found.state is State.CLOSED and found.list_nusd is None


def test_members_keys_and_strangers_close_nothing() -> None:
    place, other = make_place(), make_place()
    month = last_month(place)
    use(place.who, make_model(), at=within(place, month))
    member = colleague(place)
    with_key = replace(keeper(place), session_id=None, key_id=db.new_id())
    for who, refusal in (
        (member, errors.Forbidden), (with_key, errors.Forbidden),
        (keeper(other), errors.NotFound),
    ):  # fmt: skip
        with pytest.raises(refusal), db.transaction(who) as session:
            closing.close(session, who, place.tenant_id, month)
        with pytest.raises(refusal), db.transaction(who) as session:
            months.of_tenant(session, who, place.tenant_id)
        with pytest.raises(refusal), db.transaction(who) as session:
            checks.rows(session, who, place.tenant_id, month, Code.OPEN_CALLS)
    assert ("month.close", "denied", f"user:{member.user_id}", place.tenant_id) in audit_rows(
        f"tenant:{place.tenant_id}"
    )
    assert listed(place)[month].state is State.OPEN


def test_only_operators_reopen() -> None:
    place = make_place()
    month = last_month(place)
    use(place.who, make_model(), at=within(place, month))
    close(place, month)
    who = keeper(place, Role.ADMIN)
    with pytest.raises(errors.Forbidden), db.transaction(who) as session:
        closing.reopen(session, who, place.tenant_id, month, "please")
    assert listed(place)[month].state is State.CLOSED
    operator = an_operator()
    with db.transaction(operator) as session:
        reopened = closing.reopen(session, operator, place.tenant_id, month, "wrong model")
    assert reopened.reopened_by == f"operator:{operator.user_id}"


def test_the_database_itself_writes_no_forged_closing() -> None:
    place, other, model = old_place(), old_place(), make_model()
    month = last_month(place)
    use(place.who, model, "0.1", at=within(place, month))
    who = keeper(place)

    def record(month: date, begins: datetime, ends: datetime, tenant_id: UUID) -> None:
        with db.transaction(who) as session:
            session.execute(
                text("select verbs.record_closing(:t, :c, :m, :b, :e, '{}', 'x')"),
                {"t": tenant_id, "c": db.new_id(), "m": month, "b": begins, "e": ends},
            )

    begins, ends = within(place, month), within(place, following_month(month))
    for wrong in (
        (begins + timedelta(microseconds=1), ends), (begins, ends - timedelta(microseconds=1)),
        (begins, ends + timedelta(days=1)), (begins - timedelta(days=1), ends),
    ):  # fmt: skip
        with pytest.raises(DBAPIError, match="not the bounds"):
            record(month, *wrong, place.tenant_id)
    now_begins, now_ends = ends, within(place, following_month(following_month(month)))
    with pytest.raises(DBAPIError, match="not come to rest"):
        record(following_month(month), now_begins, now_ends, place.tenant_id)
    opened_at(open_call(place, model), begins)
    with pytest.raises(DBAPIError, match="not come to rest"):
        record(month, begins, ends, place.tenant_id)
    record(month_before(month), within(place, month_before(month)), begins, other.tenant_id)
    with db.transaction(TESTS) as session:
        tenant_ids = session.scalars(
            select(Closing.tenant_id).where(
                Closing.tenant_id.in_([place.tenant_id, other.tenant_id])
            )
        ).all()
    assert tenant_ids == [place.tenant_id]  # the web role writes for the tenant it is bound to


# ---- all tenants


def test_all_tenants_are_closed_and_the_blocked_ones_are_told() -> None:
    free, running, new, model = make_place(), make_place(), make_place(), make_model()
    month = month_before(last_month(free))
    use(free.who, model, "0.1", at=within(free, month))
    use(running.who, model, "0.1", at=within(running, month))
    opened_at(open_call(running, model), within(running, month))
    operator = an_operator()
    report = closing.close_all(operator, month)
    ours = {free.tenant_id, running.tenant_id, new.tenant_id}
    assert [one.tenant_id for one in report.closed if one.tenant_id in ours] == [free.tenant_id]
    (blocked,) = [one for one in report.blocked if one.tenant_id in ours]
    assert (blocked.tenant_id, blocked.name) == (running.tenant_id, running.who.tenant_name)
    assert [check.code for check in blocked.blocking] == [Code.OPEN_CALLS]
    assert closing.close_all(operator, month).closed_before >= 1
    with pytest.raises(errors.Forbidden):
        closing.close_all(keeper(free), month)  # type: ignore[arg-type]


def test_the_list_begins_with_the_first_use_and_ends_with_this_month() -> None:
    place, model = make_place(), make_model()
    first = month_before(last_month(place))
    use(place.who, model, "0.1", at=within(place, first))
    found = listed(place)
    assert list(found) == [following_month(last_month(place)), last_month(place), first]
    assert [row.ended for row in found.values()] == [False, True, True]
    assert (found[first].requests, found[first].tokens, found[first].billed_nusd) == (
        1, 150, USD // 10,
    )  # fmt: skip
    assert found[last_month(place)].billed_nusd == 0
    assert list(listed(make_place())) == [following_month(last_month(place))]


def test_the_files_of_a_closing_are_those_that_were_built_of_it() -> None:
    place = make_place()
    month = last_month(place)
    use(place.who, make_model(), at=within(place, month))
    closed = close(place, month)
    with db.transaction(TESTS) as session:
        for state, sha256, size in (("ready", "ab" * 32, 5), ("failed", None, None)):
            session.execute(
                text(
                    "insert into app.export_files(tenant_id, file_id, closing_id, kind, format,"
                    " first_day, last_day, detail, state, rows_total, size_bytes, sha256, built_at)"
                    " values (:t, gen_random_uuid(), :c, 'usage', 'csv', :m, :m, '{}', :s, 1, :z, :h,"
                    " now())"
                ),
                {"t": place.tenant_id, "c": closed.closing_id, "m": month, "s": state,
                 "z": size, "h": sha256},
            )  # fmt: skip
        (kept,) = months.files(session, TESTS, place.tenant_id, closed.closing_id)
    assert (kept.kind, kept.format, kept.rows, kept.size_bytes, kept.sha256) == (
        "usage", "csv", 1, 5, "ab" * 32,
    )  # fmt: skip
    reopen(place, month)
    with db.transaction(TESTS) as session:
        assert len(months.files(session, TESTS, place.tenant_id, closed.closing_id)) == 1


def test_operators_see_a_month_of_every_tenant() -> None:
    shut, idle, young, model = old_place(), old_place(), make_place(), make_model()
    month = last_month(shut)
    use(shut.who, model, "0.1", at=within(shut, month))
    close(shut, month)
    reopen(shut, month)
    closed = close(shut, month)
    operator = an_operator()
    with db.transaction(operator) as session:
        found = {row.tenant_id: row for row in months.of_all(session, operator, month)}
    ours = found[shut.tenant_id]
    assert (ours.name, ours.state, ours.closed_at) == (
        shut.who.tenant_name, State.CLOSED, closed.closed_at,
    )  # fmt: skip
    assert (ours.requests, ours.billed_nusd, ours.list_nusd) == (1, USD // 10, USD // 10)
    assert (found[idle.tenant_id].state, found[idle.tenant_id].billed_nusd) == (State.OPEN, 0)
    assert young.tenant_id not in found  # it was made this month
    reopen(shut, month)
    with db.transaction(operator) as session:
        (again,) = [
            row
            for row in months.of_all(session, operator, month)
            if row.tenant_id == shut.tenant_id
        ]
    assert (again.state, again.closed_at) == (State.REOPENED, None)
    who = keeper(shut)
    with pytest.raises(errors.Forbidden), db.transaction(who) as session:
        months.of_all(session, who, month)
