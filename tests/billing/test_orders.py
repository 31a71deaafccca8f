"""Orders that were paid once too often or not as ordered: noted, never granted, ended by operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from core import db, errors
from core.billing import checkout, comparisons, differences, notices, orders, refunds
from core.billing.differences import Difference
from core.billing.effects import Effect
from core.billing.ledger import BILLING
from core.billing.orders import Paid
from core.billing.sales_tables import Order, Payment
from core.billing.stripe_objects import CheckoutSession
from core.db import new_id
from core.identity.access import Operator
from tests.billing.purchases import (
    USD,
    a_refund,
    alarms,
    audited,
    hear,
    moves,
    offences,
    spend,
    wallet,
)
from tests.billing.till import Till
from tests.factories import Place, make_place

pytestmark = pytest.mark.usefixtures("database")
OPERATOR = Operator(new_id(), "op@example.com", "Op")


@pytest.fixture
def place() -> Place:
    return make_place(credit_usd=0, role="admin")


def click(place: Place, code: str = "pro") -> Order:
    return checkout.start_package(place.who, code, click_key=new_id().hex)


def tell(found: CheckoutSession) -> Effect:
    with db.transaction(BILLING) as session:
        return checkout.take(session, found)


def again(paid: CheckoutSession) -> CheckoutSession:
    """The same order paid on another page."""
    return replace(
        paid, session_id=f"cs_test_{new_id().hex}", payment_intent_id=f"pi_{new_id().hex}"
    )


def now(order: Order) -> Order:
    with db.transaction(BILLING) as session:
        return session.get_one(Order, (order.tenant_id, order.order_id))


def payments(place: Place) -> dict[str, Payment]:
    with db.transaction(BILLING) as session:
        query = select(Payment).where(Payment.tenant_id == place.tenant_id)
        return {one.payment_intent_id: one for one in session.scalars(query)}


def possible(payment: Payment) -> tuple[int, int]:
    with db.transaction(BILLING) as session:
        found = refunds.refundable(session, payment.payment_intent_id)
        return found.unspent_minor, found.rest_minor


def paid_twice(till: Till, place: Place) -> tuple[Payment, Payment]:
    """An order's payment, and one that came besides."""
    order = click(place)
    first = till.pay(str(order.session_id))
    second = again(first)
    for found in (first, second):
        tell(found)
    booked = payments(place)
    return booked[str(first.payment_intent_id)], booked[str(second.payment_intent_id)]


# Paid twice


def test_a_second_payment_is_noted_for_its_order_and_brings_nothing(
    till: Till, place: Place
) -> None:
    before = alarms("order_paid_twice")
    first, second = paid_twice(till, place)
    assert (second.order_id, second.total_minor) == (first.order_id, 5000)
    assert wallet(place.tenant_id).posted_nusd == 55 * USD
    assert alarms("order_paid_twice") == before + 1
    assert offences(place.tenant_id) == []


def test_copies_of_a_second_payment_are_told_once(till: Till, place: Place) -> None:
    first = till.pay(str(click(place).session_id))
    second, before = again(first), alarms("order_paid_twice")
    for found in (first, second, first, second):
        tell(found)
    assert len(payments(place)) == 2
    assert alarms("order_paid_twice") == before + 1


@pytest.mark.parametrize("which", [0, 1])
def test_giving_one_of_two_payments_back_takes_no_credit(
    till: Till, place: Place, which: int
) -> None:
    both = paid_twice(till, place)
    hear(a_refund(both[which], 5000))
    assert moves(place.tenant_id) == []
    hear(a_refund(both[1 - which], 2500))
    assert wallet(place.tenant_id).posted_nusd == 55 * USD // 2
    hear(a_refund(both[1 - which], 2500))
    assert wallet(place.tenant_id).posted_nusd == 0
    assert offences(place.tenant_id) == []


def test_a_refund_heard_before_the_second_payment_is_undone_by_it(till: Till, place: Place) -> None:
    first = till.pay(str(click(place).session_id))
    tell(first)
    hear(a_refund(payments(place)[str(first.payment_intent_id)], 5000))
    assert wallet(place.tenant_id).posted_nusd == 0
    tell(again(first))
    assert wallet(place.tenant_id).available_nusd == 55 * USD
    assert offences(place.tenant_id) == []


def test_every_order_of_two_payments_and_their_refunds_ends_the_same(
    till: Till, place: Place
) -> None:
    orders_told = permutations(("first", "second", "back", "half"))
    for told in (one for one in orders_told if one.index("first") < one.index("second")):
        order = click(place)
        page = till.pay(str(order.session_id))
        pages = {"first": page, "second": again(page)}
        paid_by = {"back": pages["first"], "half": pages["second"]}
        given = {"back": 5000, "half": 2500}
        posted = wallet(place.tenant_id).posted_nusd
        ids = {name: f"re_{new_id().hex}" for name in given}
        for name in (*told, *told):  # what waited is told again
            if name in pages:
                tell(pages[name])
                continue
            intent_id = str(paid_by[name].payment_intent_id)
            unbooked = Payment(payment_intent_id=intent_id, tenant_id=place.tenant_id)
            hear(a_refund(unbooked, given[name], refund_id=ids[name]))
        assert wallet(place.tenant_id).posted_nusd - posted == 55 * USD // 2, told
    assert offences(place.tenant_id) == []


@given(
    paid=st.lists(st.integers(1, 6000), min_size=1, max_size=3),
    backs=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 7000)), max_size=4),
)
@settings(max_examples=25)
def test_credit_goes_only_where_less_is_left_than_it_cost(
    paid: list[int], backs: list[tuple[int, int]]
) -> None:
    place = make_place(credit_usd=0, role="admin")
    order = Order(
        tenant_id=place.tenant_id, order_id=new_id(), click_key=new_id().hex, kind="package",
        code="pro", title="Pro", price_minor=paid[0], credits_nusd=50 * USD,
    )  # fmt: skip
    with db.transaction(BILLING) as session:
        session.add(order)
    ids = [f"pi_{new_id().hex}" for _ in paid]
    for intent_id, total_minor in zip(ids, paid, strict=True):
        with db.transaction(BILLING) as session:
            row = orders.locked(session, order.tenant_id, order.order_id)
            one = Paid("checkout_session", f"cs_{intent_id}", total_minor, "usd", intent_id, None)
            if orders.is_settled(row):
                orders.paid_besides(session, row, one)
            else:
                orders.fulfil(session, row, one)
    gone = dict.fromkeys(ids, 0)
    booked = payments(place)
    for number, amount_minor in backs:
        intent_id = ids[number % len(ids)]
        hear(a_refund(booked[intent_id], amount_minor))
        total_minor = booked[intent_id].total_minor
        gone[intent_id] = min(total_minor, gone[intent_id] + amount_minor)
    left_minor = min(paid[0], sum(paid) - sum(gone.values()))
    taken_nusd = 50 * USD * (paid[0] - left_minor) // paid[0]
    assert wallet(place.tenant_id).posted_nusd == 50 * USD - taken_nusd
    assert offences(place.tenant_id) == []


def test_what_was_paid_besides_can_go_back_whole_though_all_is_spent(
    till: Till, place: Place
) -> None:
    first, second = paid_twice(till, place)
    spend(place, "55")
    assert (possible(first), possible(second)) == ((5000, 5000), (5000, 5000))
    hear(a_refund(second, 5000))
    assert (possible(first), possible(second)) == ((0, 5000), (0, 0))
    assert wallet(place.tenant_id).debt_nusd == 0


# Reviews


@pytest.fixture
def reviewed(till: Till, place: Place) -> Order:
    """An order that was paid for another amount."""
    order = click(place)
    tell(till.pay(str(order.session_id), subtotal_minor=4000, total_minor=4000))
    assert now(order).state == "review"
    return order


def end(order: Order, note: str = "Refunded at Stripe.") -> Order:
    with db.transaction(OPERATOR) as session:
        return orders.end_review(session, OPERATOR, order.tenant_id, order.order_id, note=note)


def test_an_operator_ends_a_review_with_a_note(place: Place, reviewed: Order) -> None:
    with db.transaction(OPERATOR) as session:
        [listed] = orders.in_review(session, OPERATOR, place.tenant_id)
    assert (listed.order_id, listed.reason) == (reviewed.order_id, "another amount than ordered")
    end(reviewed, "  Granted by hand ")
    ended = now(reviewed)
    assert (ended.state, ended.reason, ended.session_url) == ("canceled", "Granted by hand", None)
    assert ended.reviewed_at is not None
    assert audited(place.tenant_id)[-1] == "order.end_review"
    with db.transaction(OPERATOR) as session:
        assert orders.in_review(session, OPERATOR, place.tenant_id) == ()
    with db.transaction(place.who) as session:
        assert "order_review" not in [one.name for one in notices.of(session, place.who)]


def test_an_ended_review_is_not_fulfilled_by_whatever_comes(
    till: Till, place: Place, reviewed: Order
) -> None:
    end(reviewed)
    page = till.sessions[str(reviewed.session_id)]
    right = replace(page, subtotal_minor=5000, total_minor=5000)
    for found in (page, right, again(right), replace(right, payment_status="unpaid")):
        tell(found)
        with db.transaction(BILLING) as session:
            checkout.on_failed(session, found)
    assert (now(reviewed).state, now(reviewed).reason) == ("canceled", "Refunded at Stripe.")
    assert wallet(place.tenant_id).posted_nusd == 0
    assert len(payments(place)) == 2  # what was paid besides can be refunded
    assert offences(place.tenant_id) == []


def test_another_teams_payment_for_a_settled_order_is_not_theirs(
    till: Till, place: Place, reviewed: Order
) -> None:
    other = make_place(credit_usd=0, role="admin")
    theirs = till.sessions[str(click(other).session_id)].customer_id
    page = till.sessions[str(reviewed.session_id)]
    tell(replace(again(page), customer_id=theirs))
    assert len(payments(place)) == 1 and payments(other) == {}


def test_an_ended_review_is_no_difference_any_more(till: Till, reviewed: Order) -> None:
    page = till.sessions[str(reviewed.session_id)]
    with db.transaction(BILLING) as session:
        found = comparisons.paid_session(session, page)
        assert isinstance(found, Difference)
        differences.note(session, found)
    end(reviewed)
    with db.transaction(BILLING) as session:
        assert page.session_id not in differences.open_ids(session, "session")
        assert comparisons.paid_session(session, page) == "agrees"
        assert isinstance(comparisons.paid_session(session, again(page)), Difference)


@pytest.mark.parametrize("note", ["", "  ", "a\x00b", "x" * 501])
def test_a_review_is_not_ended_without_a_proper_note(reviewed: Order, note: str) -> None:
    with pytest.raises(errors.BadInput):
        end(reviewed, note)
    assert now(reviewed).state == "review"


def test_only_an_order_under_review_is_ended(till: Till, place: Place, reviewed: Order) -> None:
    end(reviewed)
    for order in (reviewed, click(place)):
        with pytest.raises(errors.Conflict):
            end(order)
    reviewed.order_id = UUID(int=1)
    with pytest.raises(errors.NotFound):
        end(reviewed)


@pytest.mark.parametrize("act", ["end", "list"])
def test_only_operators_look_at_reviews(place: Place, reviewed: Order, act: str) -> None:
    tenant_id, order_id = reviewed.tenant_id, reviewed.order_id
    acts: dict[str, Callable[..., object]] = {
        "end": lambda s: orders.end_review(s, place.who, tenant_id, order_id, note="mine"),
        "list": lambda s: orders.in_review(s, place.who, tenant_id),
    }
    with db.transaction(BILLING) as session, pytest.raises(errors.Forbidden):
        acts[act](session)
    assert now(reviewed).state == "review"
