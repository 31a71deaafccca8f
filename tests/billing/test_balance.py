"""The balance buyers see: figures of the wallet and the books, pace, expiry; for buyers only."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event

from core import db, errors
from core.billing import balance, ledger
from core.billing.balance import Balance
from core.db import RW, Database
from core.identity.access import Role
from tests.analytics.using import use
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


def test_two_statements_read_it(database: Database) -> None:
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
    assert len(sent) == 2


def test_members_see_no_lifetime_figures() -> None:
    with pytest.raises(errors.Forbidden):
        read(make_place(), Role.MEMBER)
