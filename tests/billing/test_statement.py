"""The statement adds up: any period, any filter, any page size, and every line opens."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import db, errors
from core.billing import ledger, statement
from core.billing.statement import KINDS, Line, Statement, StatementAsk
from core.db import Database
from core.identity.access import Role
from tests.analytics.using import correct, cost_of, use
from tests.billing.books import USD, an_invoice, bought, lot_of, set_times
from tests.billing.plans import buyer
from tests.factories import TESTS, Place, make_model, make_place

ZONE = "Europe/Berlin"
FIRST = date(2026, 3, 20)  # the clocks change on the 29th
DAYS = 24
FOREVER = (date(2000, 1, 1), date(2999, 12, 31))


def read(place: Place, first: date, last: date, **asked: object) -> Statement:
    who = buyer(place)
    with db.transaction(who) as session:
        return statement.read(session, who, StatementAsk(first, last, **asked))  # type: ignore[arg-type]


def whole(place: Place, **asked: object) -> Statement:
    return read(place, *FOREVER, **asked)


def all_pages(
    place: Place, first: date, last: date, kinds: tuple[str, ...], limit: int
) -> list[Line]:
    found: list[Line] = []
    before: int | None = None
    while True:
        page = read(place, first, last, kinds=kinds, before=before, limit=limit)
        found += page.lines
        if not page.more:
            return found
        before = page.lines[-1].seq


@pytest.fixture(scope="module")
def books(database: Database, database_url: str) -> Place:
    """Entries of every kind the verbs make, spread over DAYS days, some out of the clock's order."""
    db.install(database)
    place = make_place(credit_usd=40, time_zone=ZONE)
    model = make_model()
    bought(place)
    for n in range(12):
        call = use(place.who, model, f"0.{n + 1:02}")
        if n % 4 == 0:
            call = use(place.who, model, cost=cost_of("0.05", lookup=True))
            correct(call, f"0.0{n}1")
    with db.transaction(TESTS) as session:
        for n in range(3):
            ledger.revoke(
                session, place.tenant_id, lot_of(place, "purchase").lot_id, USD, key=str(n),
                actor="stripe", reason="refund",
            )  # fmt: skip
    begins = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=ZoneInfo(ZONE)).astimezone(UTC)
    step = timedelta(days=DAYS) / len(whole(place).lines)
    count = len(whole(place).lines)
    times = [begins + n * step - timedelta(seconds=90 * (n % 3)) for n in range(count)]
    # Two that waited for the lock over midnight: their place is later, their time is earlier.
    midnight = begins + timedelta(days=5)
    times[4], times[5] = midnight + timedelta(seconds=3), midnight - timedelta(seconds=3)
    set_times(database_url, place.tenant_id, sorted(times[:4]) + times[4:6] + sorted(times[6:]))
    return place


days = st.integers(-3, DAYS + 3).map(lambda n: FIRST + timedelta(days=n))


@settings(max_examples=60)
@given(
    span=st.tuples(days, days).map(sorted),
    kinds=st.sets(st.sampled_from(sorted(KINDS))).map(lambda found: tuple(sorted(found))),
    limit=st.integers(1, 12),
)
def test_opening_and_movements_make_the_closing_balance_and_pages_the_whole(
    books: Place, span: list[date], kinds: tuple[str, ...], limit: int
) -> None:
    first, last = span
    page = read(books, first, last, kinds=kinds, limit=limit)
    assert page.opening_nusd + page.movements_nusd == page.closing_nusd
    every = all_pages(books, first, last, (), 1000)
    assert sum(line.amount_nusd for line in every) == page.movements_nusd
    assert page.movements == len(every)
    running = page.opening_nusd
    for line in reversed(every):
        running += line.amount_nusd
        assert line.balance_after_nusd == running
    assert running == page.closing_nusd
    wanted = [line for line in every if not kinds or line.kind in kinds]
    assert all_pages(books, first, last, kinds, limit) == wanted
    assert page.matching == len(wanted)
    assert {one.kind: one.amount_nusd for one in page.sums} == {
        kind: sum(line.amount_nusd for line in every if line.kind == kind)
        for kind in {line.kind for line in every}
    }


@settings(max_examples=30)
@given(cuts=st.sets(days, min_size=2).map(sorted))
def test_periods_that_follow_each_other_share_a_balance_and_no_line(
    books: Place, cuts: list[date]
) -> None:
    seen: list[int] = []
    closing: int | None = None
    for first, after in pairwise(cuts):
        part = read(books, first, after - timedelta(days=1), limit=1000)
        assert closing in (None, part.opening_nusd)
        closing = part.closing_nusd
        seen += sorted(line.seq for line in part.lines)
    assert seen == sorted(set(seen))


def test_a_day_is_the_tenants_own(books: Place) -> None:
    zone = ZoneInfo(ZONE)
    for n in range(DAYS):
        day = FIRST + timedelta(days=n)
        for line in read(books, day, day, limit=1000).lines:
            local = line.occurred_at.astimezone(zone)
            after = _midnight(
                day + timedelta(days=1), zone
            )  # one waited for the lock over midnight
            assert local.date() == day or timedelta() < local - after < timedelta(seconds=10)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def test_the_whole_statement_is_the_wallet(books: Place) -> None:
    page = whole(books)
    with db.transaction(TESTS) as session:
        wallet = ledger.wallet(session, books.tenant_id)
    assert (page.opening_nusd, page.closing_nusd) == (0, wallet.posted_nusd)


def test_a_usage_line_names_model_tokens_and_person_and_its_correction_adds_none() -> None:
    place, model = make_place(), make_model()
    call = use(place.who, model, cost=cost_of("0.002", lookup=True, prompt=100, answer=50))
    correct(call, "0.003")
    newer, older, _ = whole(place).lines
    assert [older.kind, newer.kind] == ["capture", "adjust"]
    assert older.call is not None and newer.call is not None
    assert older.call.call_id == newer.call.call_id == call.call_id
    assert (older.call.model, older.call.person) == (model, place.who.email)
    # The correction replaces the estimate: what both events sum to is what the call used.
    with db.transaction(TESTS) as session:
        summed = session.connection().exec_driver_sql(
            "select sum(prompt_tokens)::int, sum(completion_tokens)::int from app.usage_events"
            " where call_id = %s", (call.call_id,),
        ).one()  # fmt: skip
    assert (older.call.prompt_tokens, older.call.completion_tokens) == tuple(summed)
    assert (newer.call.prompt_tokens, newer.call.completion_tokens) == (None, None)
    assert older.description == newer.description == model


def test_a_purchase_opens_to_its_order_receipt_and_lot() -> None:
    place = make_place(credit_usd=0)
    order = bought(place)
    bonus, paid = whole(place).lines
    for line in (bonus, paid):
        assert line.order is not None
        assert line.order.order_id == order.order_id
        assert (line.order.title, line.order.total_minor) == ("Pro", 5000)
        assert line.order.page_url == "https://invoice.stripe.com/i/acct_1/test_1"
        assert line.order.invoice_number == "R-0001"
    assert (paid.description, bonus.description) == ("Pro", "Pro: bonus")
    assert paid.grant is not None and bonus.grant is not None
    assert (paid.grant.kind, paid.grant.granted_nusd) == ("purchase", 50 * USD)
    assert (bonus.grant.kind, bonus.grant.granted_nusd) == ("promo", 5 * USD)


def test_a_grant_by_hand_shows_its_reason_and_expiry() -> None:
    place = make_place(credit_usd=0)
    expires = datetime(2099, 1, 1, tzinfo=UTC)
    with db.transaction(TESTS) as session:
        ledger.grant(
            session, place.tenant_id, USD, kind="manual", key="k", actor="operator:x",
            reason="Sorry for the trouble", expires_at=expires,
        )  # fmt: skip
    (line,) = whole(place).lines
    assert line.order is None and line.call is None and line.grant is not None
    assert line.grant.expires_at == expires
    assert line.description == "Credit: Sorry for the trouble"


def test_an_invoice_that_was_paid_shows_its_number() -> None:
    place = make_place(credit_usd=0)
    invoice = an_invoice(place, status="paid")
    with db.transaction(TESTS) as session:
        ledger.grant(
            session, place.tenant_id, USD, kind="purchase", key="k", actor="stripe",
            reason="Invoice paid", source=("invoice", invoice.invoice_id),
        )  # fmt: skip
    (line,) = whole(place).lines
    assert line.order is not None
    assert (line.order.order_id, line.order.invoice_number) == (None, "P-0007")


def test_another_tenants_lines_are_never_read(books: Place) -> None:
    stranger = make_place(credit_usd=3)
    page = whole(stranger)
    assert [line.amount_nusd for line in page.lines] == [3 * USD]
    forged = replace(buyer(stranger), user_id=books.user_id)
    with db.transaction(forged) as session:
        found = statement.read(session, forged, StatementAsk(*FOREVER))
    assert found.closing_nusd == 3 * USD


def test_a_wallet_nobody_used_has_an_empty_statement() -> None:
    page = whole(make_place(credit_usd=0))
    assert (page.opening_nusd, page.closing_nusd, page.lines, page.more) == (0, 0, (), False)


def test_members_have_no_statement(books: Place) -> None:
    who = buyer(books, Role.MEMBER)
    with db.transaction(who) as session, pytest.raises(errors.Forbidden):
        statement.read(session, who, StatementAsk(*FOREVER))


@pytest.mark.parametrize(
    ("first", "last", "kinds", "param"),
    [
        (date(2026, 2, 2), date(2026, 2, 1), (), "to"),
        (date(1999, 12, 31), date(2026, 2, 1), (), "from"),
        (date(2026, 2, 1), date(9999, 12, 31), (), "to"),
        (date(2026, 2, 1), date(2026, 2, 2), ("capture", "theft"), "kind"),
    ],
)
def test_what_is_no_period_or_kind_is_refused(
    books: Place, first: date, last: date, kinds: tuple[str, ...], param: str
) -> None:
    with pytest.raises(errors.BadInput) as refused:
        read(books, first, last, kinds=kinds)
    assert refused.value.param == param
