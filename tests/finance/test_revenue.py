"""The roll-forward of unspent credit ties to the ledger whatever its verbs did, month by month; and what
was sold is what was fulfilled."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import psycopg
import pytest
from sqlalchemy.orm import Session

from core import db, errors
from core.billing import ledger
from core.billing.sales_tables import Fulfilment
from core.billing.tables import Account
from core.finance import mix, revenue
from core.finance.mix import Sold
from core.finance.revenue import Moves, RevenueRow
from core.identity.access import Role
from core.money import NANO_PER_USD
from core.periods import following_month
from tests.analytics.using import correct, cost_of, use
from tests.billing.books import a_subscription, an_invoice, an_order, bought, lot_of, set_times
from tests.billing.test_ledger_machine import LedgerMachine
from tests.factories import TESTS, Place, make_model, make_place
from tests.finance.books import (
    an_operator,
    calendar_of,
    keeper,
    last_month,
    month_before,
    old_place,
    within,
)
from tests.identity.people import change

pytestmark = pytest.mark.usefixtures("database")
USD = NANO_PER_USD
CENT = USD // 100


def rows_of(place: Place, first: date, last: date | None = None) -> list[RevenueRow]:
    with db.transaction(TESTS) as session:
        found = revenue.revenue(session, TESTS, first, last or first)
    return [row for row in found if row.tenant_id == place.tenant_id]


def this_month(place: Place) -> date:
    return calendar_of(place).today().replace(day=1)


def moves_of(place: Place) -> Moves:
    (row,) = rows_of(place, this_month(place))
    assert row.difference_nusd == 0
    assert row.closing_nusd == row.opening_nusd + row.moves.added_nusd - row.moves.gone_nusd
    return row.moves


def test_each_kind_of_movement_has_its_column() -> None:
    place, model = make_place(credit_usd=0, markup="0.25"), make_model()
    bought(place)  # 50 USD and a bonus of 5
    with db.transaction(TESTS) as session:
        for kind, usd in (("plan", 20), ("manual", 3)):
            ledger.grant(
                session, place.tenant_id, usd * USD, kind=kind, key=kind, actor="t", reason="r",  # type: ignore[arg-type]
            )  # fmt: skip
    use(place.who, model, "8")  # billed 10, of the plan's
    lot = lot_of(place, "purchase")
    with db.transaction(TESTS) as session:
        for verb, usd in ((ledger.revoke, 30), (ledger.reinstate, 12)):
            verb(session, place.tenant_id, lot.lot_id, usd * USD, key="k", actor="t", reason="r")
    (row,) = rows_of(place, this_month(place))
    assert row.moves == Moves(
        purchased_nusd=50 * USD, plan_allowance_nusd=20 * USD, promotion_nusd=5 * USD,
        by_hand_nusd=3 * USD, reinstated_nusd=12 * USD, consumed_nusd=10 * USD,
        revoked_nusd=30 * USD, used_nusd=10 * USD,
    )  # fmt: skip
    assert (row.opening_nusd, row.closing_nusd, row.difference_nusd) == (0, 50 * USD, 0)
    assert (row.billed_nusd, row.list_nusd, row.margin_nusd) == (10 * USD, 8 * USD, 2 * USD)
    assert row.name == place.who.tenant_name


def test_a_claw_back_counts_only_what_its_lot_still_had() -> None:
    place, model = make_place(credit_usd=10), make_model()
    use(place.who, model, "7")
    lot = lot_of(place, "manual")
    with db.transaction(TESTS) as session:
        ledger.revoke(
            session, place.tenant_id, lot.lot_id, 10 * USD, key="k", actor="t", reason="r"
        )
    moves = moves_of(place)
    assert (moves.revoked_nusd, moves.consumed_nusd) == (3 * USD, 7 * USD)
    with db.transaction(TESTS) as session:  # the debt of 7 is paid by 4 now
        ledger.grant(
            session, place.tenant_id, 4 * USD, kind="manual", key="2", actor="t", reason="r"
        )
    assert moves_of(place).debts_paid_nusd == 4 * USD


def test_what_a_claw_backs_end_paid_of_debt_is_not_clawed_back_again() -> None:
    place, model = make_place(credit_usd=10), make_model()
    use(place.who, model, "7")
    lot = lot_of(place, "manual")
    with db.transaction(TESTS) as session:  # 3 were left, 7 are debt, of which the 2 pay some
        for number, (verb, usd) in enumerate(
            ((ledger.revoke, 10), (ledger.reinstate, 2), (ledger.revoke, 2))
        ):
            verb(
                session, place.tenant_id, lot.lot_id, usd * USD, key=str(number), actor="t",
                reason="r",
            )  # fmt: skip
    moves = moves_of(place)
    assert (moves.revoked_nusd, moves.reinstated_nusd, moves.debts_paid_nusd) == (
        3 * USD, 2 * USD, 2 * USD,
    )  # fmt: skip


def test_use_beyond_credit_is_due_or_debt() -> None:
    model = make_model()
    prepaid = make_place(credit_usd="0.01")
    late = make_place(credit_usd=0, mode="postpaid", credit_limit_nusd=USD)
    internal = make_place(credit_usd=0, mode="internal")
    for place in (prepaid, late, internal):
        use(place.who, model, "0.05")
    debt = moves_of(prepaid)
    assert (debt.consumed_nusd, debt.on_credit_nusd, debt.became_debt_nusd) == (CENT, 0, 4 * CENT)
    for place in (late, internal):
        moves = moves_of(place)
        assert (moves.used_nusd, moves.on_credit_nusd) == (5 * CENT, 5 * CENT)
        assert (moves.consumed_nusd, moves.became_debt_nusd) == (0, 0)
    with db.transaction(TESTS) as session:
        ledger.receive_payment(
            session, late.tenant_id, 7 * CENT, key="k", actor="t", reason="r", source=("i", "1")
        )
        ledger.write_off(
            session, internal.tenant_id, contra="show_back", key="k", actor="t", reason="r"
        )
        ledger.write_off_debt(session, prepaid.tenant_id, key="k", actor="t", reason="r")
    assert (moves_of(late).paid_nusd, moves_of(late).purchased_nusd) == (5 * CENT, 2 * CENT)
    assert moves_of(internal).written_off_nusd == 5 * CENT
    assert moves_of(prepaid).written_off_nusd == 4 * CENT


def test_a_correction_gives_back_what_was_consumed() -> None:
    place, model = make_place(), make_model()
    correct(use(place.who, model, cost=cost_of("0.05", lookup=True)), "0.02")
    assert (moves_of(place).consumed_nusd, moves_of(place).used_nusd) == (2 * CENT, 2 * CENT)


def test_what_expires_goes_out() -> None:
    place = make_place(credit_usd=1)
    with db.transaction(TESTS) as session:
        ledger.grant(
            session, place.tenant_id, 2 * USD, kind="promo", key="p", actor="t", reason="r",
            expires_at=datetime.now(UTC) - timedelta(days=1),
        )  # fmt: skip
    ledger.expire()
    moves = moves_of(place)
    assert (moves.promotion_nusd, moves.expired_nusd) == (2 * USD, 2 * USD)


class _Remembered(LedgerMachine):
    """The ledger's machine, which notes after every step how far the ledger is and what lots hold."""

    def begin(self, mode: str, seed: int) -> list[tuple[int, int]]:
        self.mode = mode
        self.noted: list[tuple[int, int]] = []
        self.open(5_000_000, seed)
        return self.noted

    def adds_up(self) -> None:
        with db.transaction(TESTS) as session:
            self.noted.append((_seq(session, self.tenant), self.model.lots))


def _seq(session: Session, tenant_id: UUID) -> int:
    row = session.get(Account, tenant_id, populate_existing=True)
    assert row is not None
    return row.seq


@pytest.mark.parametrize("mode", ["prepaid", "postpaid", "internal"])
@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_ledger_did_every_month_ties(database_url: str, mode: str, seed: int) -> None:
    """Steps are spread over twelve months; each month's closing is what the lots held at its end, as
    the model of the ledger knew it then."""
    machine = _Remembered()
    noted = machine.begin(mode, 1000 + seed)
    place = machine.place
    change(
        "update app.tenants set created_at = now() - interval '3 years' where tenant_id = :t",
        t=place.tenant_id,
    )
    months = list(_months(place, 12))
    held, times = dict.fromkeys(months, 0), []
    for number, (seq, lots_nusd) in enumerate(noted):
        month = months[number * len(months) // len(noted)]
        at = within(place, month) + timedelta(minutes=number)
        times += [at] * (seq - len(times))
        for later in months[months.index(month) :]:
            held[later] = lots_nusd
    set_times(database_url, place.tenant_id, times)
    rows = rows_of(place, months[0], months[-1])
    assert {row.month: row.closing_nusd for row in rows} == held
    assert {row.difference_nusd for row in rows} == {0}
    for before, after in pairwise(rows):
        assert after.opening_nusd == before.closing_nusd
    assert rows[0].opening_nusd == 0
    assert revenue.total(rows).used_nusd == sum(row.moves.used_nusd for row in rows)
    part = rows_of(place, months[4], months[7])  # what lies before and after is not lost
    assert part == rows[4:8]


def _months(place: Place, count: int) -> Iterator[date]:
    month = this_month(place)
    for _ in range(count - 1):
        month = month_before(month)
    for _ in range(count):
        yield month
        month = following_month(month)


BREAKS = {
    "lots": "update app.lots set remaining_nusd = remaining_nusd - 1, consumed_nusd = consumed_nusd + 1"
    " where tenant_id = %(tenant)s",
    "account": "update app.accounts set debt_nusd = debt_nusd + 1 where tenant_id = %(tenant)s",
    "uses": "delete from app.lot_uses where tenant_id = %(tenant)s",
    "entries": "delete from app.entries where tenant_id = %(tenant)s and kind = 'grant'",
}


@pytest.mark.parametrize("name", list(BREAKS))
def test_books_that_do_not_tie_show_a_difference(database_url: str, name: str) -> None:
    place = make_place()
    use(place.who, make_model(), "0.05")
    with psycopg.connect(database_url) as connection:  # no verb can break the books
        connection.execute("set session_replication_role = replica")
        connection.execute(BREAKS[name], {"tenant": place.tenant_id})
    (row,) = rows_of(place, this_month(place))
    assert row.difference_nusd != 0


def test_margin_is_of_the_usage_dated_in_the_month() -> None:
    place, model = make_place(markup="0.5", time_zone="Pacific/Kiritimati"), make_model()
    month = last_month(place)
    use(place.who, model, "0.1", at=within(place, month))
    use(place.who, model, "0.2")
    last, now = rows_of(place, month, following_month(month))
    assert (last.billed_nusd, last.list_nusd, last.margin_nusd) == (15 * CENT, 10 * CENT, 5 * CENT)
    assert (now.billed_nusd, now.margin_nusd) == (30 * CENT, 10 * CENT)
    assert (last.moves.used_nusd, now.moves.used_nusd) == (0, 45 * CENT)  # the ledger booked it now


def test_months_are_the_tenants_own(database_url: str) -> None:
    for zone, of_last_month in (("Pacific/Kiritimati", False), ("Pacific/Niue", True)):
        place = old_place(time_zone=zone, credit_usd="1")
        utc_midnight = datetime.combine(this_month(make_place()), datetime.min.time(), UTC)
        set_times(database_url, place.tenant_id, [utc_midnight])
        month = utc_midnight.date()
        last, now = rows_of(place, month_before(month), month)
        assert (last.moves.by_hand_nusd == USD) is of_last_month
        assert (now.moves.by_hand_nusd == USD) is not of_last_month


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (date(2026, 5, 1), date(2026, 4, 1)), (date(2026, 5, 2), date(2026, 5, 2)),
        (date(1, 1, 1), date(9999, 12, 1)),
    ],
)  # fmt: skip
def test_what_is_no_range_of_months_is_refused(first: date, last: date) -> None:
    with pytest.raises(errors.BadInput), db.transaction(TESTS) as session:
        revenue.revenue(session, TESTS, first, last)


def test_a_future_month_has_no_rows() -> None:
    assert rows_of(make_place(), date(2999, 1, 1)) == []


def test_only_operators_read_it() -> None:
    place = make_place()
    month = this_month(place)
    for who in (keeper(place), keeper(place, Role.ADMIN)):
        for read in (
            lambda session, who=who: revenue.revenue(session, who, month, month),
            lambda session, who=who: mix.sold(session, who, month, month),
            lambda session, who=who: mix.running(session, who),
        ):
            with pytest.raises(errors.Forbidden), db.transaction(who) as session:
                read(session)
    operator = an_operator()
    with db.transaction(operator) as session:
        assert revenue.revenue(session, operator, month, month)


# ---- what was sold


def sold_of(place: Place, first: date, last: date | None = None) -> list[Sold]:
    with db.transaction(TESTS) as session:
        found = mix.sold(session, TESTS, first, last or first)
    return [row for row in found if row.tenant_id == place.tenant_id]


def test_packages_are_counted_when_they_are_fulfilled() -> None:
    place = make_place()
    month = this_month(place)
    bought(place)
    bought(place)
    bought(place, kind="topup", title="Top-up", total_minor=2000, credits_nusd=20 * USD,
           bonus_nusd=0)  # fmt: skip
    an_order(place)  # open: not sold
    assert sold_of(place, month) == [
        Sold(month, place.tenant_id, "package", "Pro", 2, 10_000, 110 * USD),
        Sold(month, place.tenant_id, "topup", "Top-up", 1, 2000, 20 * USD),
    ]
    assert sold_of(place, month_before(month)) == []
    change(
        "update app.fulfilments set fulfilled_at = :at where tenant_id = :t",
        at=within(place, month) - timedelta(seconds=1), t=place.tenant_id,
    )  # fmt: skip
    assert [row.month for row in sold_of(place, month_before(month), month)] == [
        month_before(month)
    ] * 2


def test_a_plan_counts_by_what_its_invoices_brought() -> None:
    place = make_place()
    month = this_month(place)
    invoice = an_invoice(place, status="paid", total_minor=7900)
    for line in (f"il_{db.new_id().hex}", f"il_{db.new_id().hex}"):
        with db.transaction(TESTS) as session:
            session.add(
                Fulfilment(
                    stripe_id=line, tenant_id=place.tenant_id, kind="invoice_line",
                    invoice_id=invoice.invoice_id, granted_nusd=20 * USD,
                )
            )  # fmt: skip
            ledger.grant(
                session, place.tenant_id, 20 * USD, kind="plan", key=line, actor="stripe",
                reason="Plan pro: a month", source=("invoice_line", line),
            )  # fmt: skip
    assert sold_of(place, month) == [
        Sold(month, place.tenant_id, "plan", "Plan pro", 2, 7900, 40 * USD)
    ]


def test_a_subscription_counts_while_it_is_paid_for() -> None:
    plan = "enterprise"

    def tenants() -> int:
        with db.transaction(TESTS) as session:
            return {row.plan: row.tenants for row in mix.running(session, TESTS)}.get(plan, 0)

    before = tenants()
    place = make_place()
    a_subscription(place, plan=plan)
    assert tenants() == before + 1
    change(
        "update app.subscriptions set status = 'canceled' where tenant_id = :t", t=place.tenant_id
    )
    assert tenants() == before
