"""Closing months: what is frozen, what comes later, and that no correction falls in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

import psycopg
import pytest
from sqlalchemy import select, text

from core import db, errors
from core.finance import closing
from core.finance.checks import Code, Level
from core.finance.closing import Closed, NotAtRest
from core.finance.months import State
from core.finance.tables import Closing
from core.periods import following_month
from core.quota import gate
from tests.analytics.using import correct, cost_of, opened_at, use
from tests.factories import TESTS, make_model, make_place
from tests.finance.books import (
    an_operator,
    calendar_of,
    close,
    guessed,
    keeper,
    last_moment,
    last_month,
    listed,
    looked_at,
    month_before,
    offences,
    reopen,
    sums,
    within,
)
from tests.identity.people import audit_rows
from tests.quota.test_gate import open_call

pytestmark = pytest.mark.usefixtures("database")
_RACES, _STEP_S = 40, 0.001  # from before the close's first statement to after its last
USD = 10**9
T = TypeVar("T")


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


def _after(wait_s: float, work: Callable[[], T]) -> T:
    time.sleep(max(0.0, wait_s))
    return work()


def _at_once(closes: Callable[[], Closed], corrects: Callable[[], None]) -> Closed:
    barrier = threading.Barrier(2)

    def start(work: Callable[[], Closed | None]) -> Closed | None:
        barrier.wait()
        return work()

    with ThreadPoolExecutor(2) as pool:
        closed, _ = pool.map(start, (closes, corrects))
    assert closed is not None
    return closed


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
        head_start_s = (_RACES // 2 - number) * _STEP_S  # of the correction
        closed = _at_once(
            partial(_after, head_start_s, partial(close, place, month, accept_unreconciled=True)),
            partial(_after, -head_start_s, partial(correct, call, "0.05")),
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
