"""The balance buyers see: figures of the wallet and the books, pace, expiry; for buyers only."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, text

from core import db, errors
from core.billing import balance, ledger, notices
from core.billing.balance import Balance, Remaining
from core.billing.ledger import LotKind
from core.db import RW, Database, new_id
from core.identity.access import Role
from core.money import show
from tests.analytics.using import correct, cost_of, use
from tests.billing.books import USD, a_subscription, bought, lot_of
from tests.billing.plans import buyer
from tests.factories import TESTS, Place, make_model, make_place


@pytest.fixture(autouse=True)
def _installed(database: Database) -> None:
    db.install(database)


def read(place: Place, role: Role = Role.FINANCE) -> Balance:
    who = buyer(place, role)
    with db.transaction(who) as session:
        return balance.read(session, who)


def test_what_was_bought_and_spent_over_all_time_adds_up() -> None:
    place = make_place(credit_usd=7)
    bought(place)
    use(place.who, make_model(), "0.25")
    found = read(place)
    assert found.purchased_nusd == 50 * USD
    assert found.spent_nusd == 250_000_000
    assert found.posted_nusd == found.available_nusd == 62 * USD - 250_000_000
    assert (found.held_nusd, found.debt_nusd, found.is_low) == (0, 0, False)


def test_what_was_clawed_back_was_not_bought() -> None:
    place = make_place(credit_usd=0)
    bought(place)
    for kind in ("purchase", "promo"):
        with db.transaction(TESTS) as session:
            ledger.revoke(
                session, place.tenant_id, lot_of(place, kind).lot_id, 2 * USD, key=kind,
                actor="stripe", reason="refund",
            )  # fmt: skip
    assert read(place).purchased_nusd == 48 * USD


def test_it_runs_out_at_the_mean_pace_of_fourteen_whole_days() -> None:
    place = make_place(credit_usd=11)
    model = make_model()
    use(place.who, model, "0.7", days_ago=1)
    use(place.who, model, "0.7", days_ago=14)
    use(place.who, model, "0.5")  # today is not over
    use(place.who, model, "0.1", days_ago=15)
    found = read(place)
    assert found.pace_nusd == 100_000_000
    assert found.available_nusd == 9 * USD
    assert found.runs_out_on == found.today + timedelta(days=90)


def granted(place: Place, usd: int, *, kind: LotKind = "promo", days: int | None = None) -> None:
    ends = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with db.transaction(TESTS) as session:
        ledger.grant(
            session, place.tenant_id, usd * USD, kind=kind, key=new_id().hex, actor="tests",
            reason="x", expires_at=ends,
        )  # fmt: skip


def test_what_expires_before_it_is_used_does_not_last_and_is_said() -> None:
    place = make_place(credit_usd=0)
    granted(place, 74, kind="purchase")
    granted(place, 88, days=20)
    model = make_model()
    for day in (1, 2, 14):
        use(place.who, model, "1", days_ago=day)
    found = read(place)
    assert found.available_nusd == 159 * USD
    assert found.pace_nusd == 214_285_714
    (loss,) = found.course.losses
    assert loss.expires_at == found.expiring[0].expires_at
    assert 85 * USD - 20 * found.pace_nusd <= loss.amount_nusd < 85 * USD - 19 * found.pace_nusd
    assert loss.left_nusd == 74 * USD
    assert found.runs_out_on is not None
    assert abs((found.runs_out_on - found.today).days - 20 - 74 * USD // found.pace_nusd) <= 1
    with db.transaction(buyer(place)) as session:
        told = {one.name: one for one in notices.of(session, buyer(place))}
    notice = told["credit_expires"]
    assert notice.title == f"{show(loss.amount_nusd)} of credit will expire unused"
    assert f"{loss.expires_at:%-d %B %Y}" in notice.message
    assert "$74.00 is left after that" in notice.message


def test_without_use_all_that_ends_is_lost() -> None:
    place = make_place(credit_usd=5)
    granted(place, 3, days=10)
    granted(place, 2, days=90)
    course = read(place).course
    assert [loss.amount_nusd for loss in course.losses] == [3 * USD, 2 * USD]
    assert course.lasts_days is None


NOW = datetime(2026, 3, 1, 7, 30, tzinfo=UTC)
a_lot = st.tuples(st.integers(1, 400), st.none() | st.integers(0, 30))


def day_by_day(
    lots: list[tuple[int, int | None]], beyond: int, held: int, pace: int
) -> tuple[int | None, list[tuple[int, int]]]:
    """The plain way: spend each whole day's pace, then drop what ends with that day."""
    left, losses = [amount for amount, _ in lots] + [beyond], []

    def spend(amount: int) -> int:
        for at, rest in enumerate(left):
            taken = min(rest, amount)
            left[at], amount = rest - taken, amount - taken
        return amount

    spend(held)
    for day in range(5_000):
        for at, (_, ends) in enumerate(lots):
            if ends == day:
                if left[at]:
                    losses.append((day, left[at]))
                left[at] = 0
        if pace and sum(left) < pace:
            return day, losses
        spend(pace)
    return None, losses


@given(
    lots=st.lists(a_lot, max_size=8), beyond=st.integers(0, 200), held=st.integers(0, 100),
    pace=st.integers(0, 90),
)  # fmt: skip
def test_the_course_is_that_of_day_by_day(
    lots: list[tuple[int, int | None]], beyond: int, held: int, pace: int
) -> None:
    held = min(held, sum(amount for amount, _ in lots))
    available = sum(amount for amount, _ in lots) - held + beyond
    remaining = [
        Remaining(new_id(), "promo", n, None if ends is None else NOW + timedelta(days=ends))
        for n, ends in lots
    ]
    course = balance.foresee(
        remaining, available_nusd=available, held_nusd=held, pace_nusd=pace, now=NOW
    )
    lasts, losses = day_by_day(lots, beyond, held, pace)
    assert [((loss.expires_at - NOW).days, loss.amount_nusd) for loss in course.losses] == [
        *sorted(losses, key=lambda pair: pair[0])
    ]
    assert course.lasts_days == lasts


def test_what_was_spent_is_what_the_calls_cost_whatever_else_was_booked() -> None:
    place = make_place(credit_usd=4)
    bought(place)
    model = make_model()
    call = use(place.who, model, cost=cost_of("0.5", lookup=True))
    correct(call, "0.7")
    use(place.who, model, "1.25", days_ago=40)
    with db.transaction(TESTS) as session:
        for kind in ("purchase", "promo"):
            ledger.revoke(
                session, place.tenant_id, lot_of(place, kind).lot_id, USD, key=kind,
                actor="stripe", reason="refund",
            )  # fmt: skip
    with db.transaction(TESTS) as session:
        summed = session.execute(
            text("select sum(billed_nusd)::bigint from app.usage_daily where tenant_id = :t"),
            {"t": place.tenant_id},
        ).scalar_one()
    assert read(place).spent_nusd == summed == 1_950_000_000


def test_a_long_past_is_not_added_up(database: Database) -> None:
    who = buyer(make_place())
    with db.transaction(who) as session:
        session.execute(text("set local enable_seqscan = off"))
        session.execute(text("set local enable_bitmapscan = off"))
        plan = "\n".join(session.scalars(text(f"explain {balance._BALANCE}"), {"pace_days": 14}))
    assert "entries_other_idx" in plan


def test_nothing_used_runs_out_never() -> None:
    assert read(make_place()).runs_out_on is None


def test_less_than_the_house_calls_low_is_low() -> None:
    assert read(make_place(credit_usd="4.99")).is_low
    assert not read(make_place(credit_usd=5)).is_low


def test_only_what_ends_within_thirty_days_expires_soon() -> None:
    place = make_place(credit_usd=0)
    now = datetime.now(UTC)
    for days in (60, 29, 3, None):
        with db.transaction(TESTS) as session:
            ledger.grant(
                session, place.tenant_id, USD + (days or 0), kind="promo", key=str(days),
                actor="tests", reason="x",
                expires_at=None if days is None else now + timedelta(days=days),
            )  # fmt: skip
    assert [lot.remaining_nusd for lot in read(place).expiring] == [USD + 3, USD + 29]


def test_a_postpaid_tenant_has_a_limit_a_receivable_and_a_next_invoice() -> None:
    place = make_place(credit_usd=0, mode="postpaid", credit_limit_nusd=20 * USD)
    subscription = a_subscription(place, purpose="usage", plan=None)
    use(place.who, make_model(), "0.5")
    found = read(place)
    assert (found.mode, found.credit_limit_nusd) == ("postpaid", 20 * USD)
    assert found.receivable_nusd == 500_000_000
    assert found.available_nusd == 20 * USD - 500_000_000
    assert found.next_invoice_at == subscription.period_end
    assert not found.is_low


def test_budgets_gate_an_internal_tenant_so_nothing_is_available_or_low() -> None:
    found = read(make_place(credit_usd=0, mode="internal"))
    assert (found.available_nusd, found.credit_limit_nusd, found.is_low) == (None, None, False)
    assert found.runs_out_on is None


def test_another_tenants_books_are_not_counted() -> None:
    bought(make_place())
    place = make_place(credit_usd=1)
    stranger = replace(buyer(place), user_id=make_place().user_id)
    with db.transaction(stranger) as session:
        assert balance.read(session, stranger).purchased_nusd == 0


def test_three_statements_read_it(database: Database) -> None:
    who = buyer(make_place())
    sent: list[str] = []

    def count(*about: Any) -> None:
        sent.append(about[2])

    event.listen(database.engine(RW), "before_cursor_execute", count)
    try:
        with db.transaction(who) as session:
            session.connection()
            sent.clear()
            balance.read(session, who)
    finally:
        event.remove(database.engine(RW), "before_cursor_execute", count)
    assert len(sent) == 3  # the first adds what the sums do not have yet


def test_members_see_no_lifetime_figures() -> None:
    with pytest.raises(errors.Forbidden):
        read(make_place(), Role.MEMBER)
