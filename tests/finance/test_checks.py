"""What stands against closing a month: each finding with its count, its amount and rows that add up to it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import text

from core import db, errors
from core.finance import checks
from core.finance.checks import Code, Level
from core.finance.closing import NotAtRest
from core.metering import rollups
from core.periods import following_month
from tests.analytics.using import correct, opened_at, use
from tests.factories import TESTS, make_model, make_place
from tests.finance.books import (
    close,
    guessed,
    last_moment,
    last_month,
    looked_at,
    old_place,
    rows,
    within,
)
from tests.quota.test_gate import open_call

pytestmark = pytest.mark.usefixtures("database")
USD = 10**9


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
