"""core/analytics/details.py: the rows behind a figure, page by page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from core import db, errors
from core.analytics import cursors, details, figures
from core.analytics.details import Cursor, EventRow, Key, Order
from core.analytics.selection import Group, Selection
from core.identity.access import Actor, Operator, Role
from core.periods import last_days
from tests.analytics.planted import Ground, ground, histories, planted
from tests.analytics.using import colleague, correct, cost_of, use
from tests.factories import TESTS, make_model, make_place

pytestmark = pytest.mark.usefixtures("database")
OPERATOR = Operator(db.new_id(), "ops@example.com", "Ops")
ORDERS = [Order(key, descending) for key in Key for descending in (True, False)]


@pytest.fixture(scope="module")
def land(database: object) -> Ground:
    return ground()


def recent(days: int = 30) -> Selection:
    return Selection(last_days(days, datetime.now(UTC).date()))


def every_page(
    session: object, who: Actor, asked: Selection, order: Order, size: int
) -> list[EventRow]:
    """All rows, each page reached through the text of the cursor before it."""
    seen: list[EventRow] = []
    after = None
    for _ in range(100):
        page = details.rows(session, who, asked, order=order, after=after, limit=size)  # type: ignore[arg-type]
        seen += page.rows
        if page.next is None:
            return seen
        assert len(page.rows) == size
        after = Cursor.read(page.next.text())
    raise AssertionError("the pages never end")


def value(row: EventRow, key: Key) -> object:
    return {
        Key.TIME: row.occurred_at, Key.COST: row.billed_nusd, Key.DURATION: row.latency_ms,
        Key.TOKENS: row.prompt_tokens + row.completion_tokens,
    }[key]  # fmt: skip


@settings(max_examples=40)
@given(histories(), st.sampled_from(ORDERS), st.integers(1, 5))
def test_pages_neither_repeat_nor_skip_and_add_up_to_the_figure(
    land: Ground, history: tuple, order: Order, size: int
) -> None:
    calendars, events, period = history
    asked = Selection(period).only(Group.TENANT, *land.tenants)
    with planted(land, calendars, events) as (session, _):
        rows = every_page(session, OPERATOR, asked, order, size)
        totals = figures.totals(session, OPERATOR, asked)
        assert details.sums(session, OPERATOR, asked) == totals
    assert len({row.event_id for row in rows}) == len(rows)
    assert sum(row.billed_nusd for row in rows) == totals.billed_nusd
    assert sum(row.list_nusd or 0 for row in rows) == totals.list_nusd
    assert sum(row.prompt_tokens + row.completion_tokens for row in rows) == totals.tokens
    assert sum(row.kind == "call" for row in rows) == totals.requests
    places = [(value(row, order.key), row.event_id) for row in rows]
    assert places == sorted(places, reverse=order.descending)


@pytest.mark.parametrize("order", ORDERS)
def test_equal_rows_have_an_order_all_the_same(order: Order) -> None:
    who, model = make_place().who, make_model()
    moment = datetime.now(UTC) - timedelta(hours=1)
    for _ in range(5):
        use(who, model, at=moment)
    with db.transaction(who) as session:
        rows = every_page(session, who, recent(), order, 2)
    assert len({row.call_id for row in rows}) == len(rows) == 5


def test_a_correction_is_a_row_of_its_own() -> None:
    who = make_place().who
    correct(use(who, make_model(), cost=cost_of("0.001", lookup=True)), "0.0015")
    with db.transaction(who) as session:
        rows = details.rows(session, who, recent(), order=Order(descending=False)).rows
    assert [(row.kind, row.billed_nusd) for row in rows] == [
        ("call", 1_000_000), ("adjustment", 500_000),
    ]  # fmt: skip
    assert {row.call_id for row in rows} == {rows[0].call_id}
    assert all(row.final for row in rows)
    assert [row.cost_source for row in rows] == ["estimate", "provider"]


def test_an_estimate_is_not_final_while_it_is_looked_up() -> None:
    who = make_place().who
    use(who, make_model(), cost=cost_of("0.001", lookup=True))
    with db.transaction(who) as session:
        (row,) = details.rows(session, who, recent()).rows
    assert (row.cost_source, row.final) == ("estimate", False)


def test_a_conversation_is_named_to_its_owner_only() -> None:
    place = make_place(role="admin")
    member, conversation_id = colleague(place, Role.MEMBER), db.new_id()
    use(member, make_model(), conversation_id=conversation_id)
    for who, seen in ((member, conversation_id), (place.who, None), (OPERATOR, None)):
        asked = recent().only(Group.TENANT, place.tenant_id)
        with db.transaction(who) as session:
            (row,) = details.rows(session, who, asked).rows
        assert row.conversation_id == seen
        assert (row.list_nusd is not None) == (who is OPERATOR)


def test_a_row_says_where_its_cost_belongs_and_who_it_was() -> None:
    place = make_place()
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.memberships set cost_center = '4711', project = 'Apollo'"
                 " where tenant_id = :t returning 1"), {"t": place.tenant_id},
        )  # fmt: skip
        email = session.scalar(
            text("select email from app.users where user_id = :u"), {"u": place.user_id}
        )
    model = make_model()
    use(place.who, model, "0.5", source="api")
    with db.transaction(place.who) as session:
        (row,) = details.rows(session, place.who, recent()).rows
    assert (row.person, row.model, row.provider) == (email, model, "openrouter")
    assert (row.cost_center, row.project, row.source, row.purpose) == (
        "4711",
        "Apollo",
        "api",
        "test",
    )
    assert (row.prompt_tokens, row.completion_tokens, row.billed_nusd) == (100, 50, 500_000_000)
    assert (row.outcome, row.latency_ms, row.first_token_ms) == ("ok", 1_500, 200)


def test_a_page_has_no_more_rows_than_it_may() -> None:
    who = make_place().who
    use(who, make_model())
    with db.transaction(who) as session:
        for limit in (-5, 0, 10**9):
            assert len(details.rows(session, who, recent(), limit=limit).rows) == 1


GENUINE = Cursor(Order(Key.COST, descending=True), 5, 7)


@pytest.mark.parametrize(
    "forged",
    ["", "x", "äöü", "=" * 400, "a" * 100_000, GENUINE.text()[:-3], GENUINE.text() + "AAAA",
     cursors.pack("color", 1, 5, 7), cursors.pack("cost", 2, 5, 7), cursors.pack("cost", 1, 5),
     cursors.pack("cost", 1, "5", 7), cursors.pack("cost", 1, 2**63, 7), cursors.pack("cost", 1, 5, -(2**63)),
     "bnVsbA", "W3RydWUsMSwxLDFd", "\x00"],
)  # fmt: skip
def test_a_forged_cursor_is_refused(forged: str) -> None:
    with pytest.raises(errors.BadInput) as refused:
        Cursor.read(forged)
    assert refused.value.param == "after"


def test_a_cursor_is_read_back_as_it_was() -> None:
    for order in ORDERS:
        for number in (0, -1, 2**53 + 1, 2**63 - 1):
            assert Cursor.read(Cursor(order, number, 9).text()) == Cursor(order, number, 9)


def test_a_cursor_of_another_order_or_beyond_all_time_is_refused() -> None:
    who = make_place().who
    beyond = Cursor(Order(), 2**63 - 1, 1)
    for after, order in ((GENUINE, Order()), (beyond, Order())):
        with db.transaction(who) as session, pytest.raises(errors.BadInput):
            details.rows(session, who, recent(), order=order, after=after)
