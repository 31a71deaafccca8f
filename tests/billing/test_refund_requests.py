"""Refunds that operators ask for: what may be asked, answers that are lost, and no refund twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from core import db, errors
from core.billing import refunds, stripe_api
from core.billing.ledger import BILLING
from core.billing.sales_tables import ClawBack, Payment, RefundRequest
from core.billing.stripe_api import StripeApi, StripeDown, StripeRefused
from core.billing.stripe_objects import Refund
from core.db import new_id
from core.identity.access import Operator
from tests.billing.purchases import USD, audited, buy, moves, offences, order_paid, spend, wallet
from tests.factories import Place, make_place

pytestmark = pytest.mark.usefixtures("database")
OPERATOR = Operator(new_id(), "op@example.com", "Op")


@dataclass
class Till(StripeApi):
    """Stripe's side of refunds: made once per request, and lost on the way back when told so."""

    made: dict[UUID, Refund] = field(default_factory=dict)
    asked: int = 0
    keys_forgotten: bool = False
    loses_answer: bool = False
    refuses: str | None = None

    def refund(
        self, *, tenant_id: UUID, request_id: UUID, payment_intent_id: str, amount_minor: int
    ) -> Refund:
        self.asked += 1
        if self.refuses:
            raise StripeRefused(self.refuses, status=400)
        if request_id not in self.made or self.keys_forgotten:
            assert request_id not in self.made, "a second refund of one request"
            self.made[request_id] = Refund(
                f"re_{new_id().hex}", "pending", "usd", amount_minor, payment_intent_id, None,
                "requested_by_customer",
                {"tenant_id": str(tenant_id), "request_id": str(request_id)},
            )  # fmt: skip
        if self.loses_answer:
            raise StripeDown("did not answer")
        return self.made[request_id]

    def refunds_since(self, at: datetime) -> Iterator[Refund]:
        yield from self.made.values()


@pytest.fixture
def till() -> Iterator[Till]:
    made = Till()
    stripe_api.install(made)
    yield made
    stripe_api.install(None)


@pytest.fixture
def place() -> Place:
    return make_place(credit_usd=0)


def ask(payment: Payment, amount_minor: Any, **more: Any) -> RefundRequest:
    return refunds.refund(
        OPERATOR, payment.tenant_id, payment.payment_intent_id, amount_minor,
        **{"reason": "Bought twice"} | more,
    )  # fmt: skip


def possible(payment: Payment) -> tuple[int, int]:
    with db.transaction(BILLING) as session:
        found = refunds.refundable(session, payment.payment_intent_id)
        return found.unspent_minor, found.rest_minor


def stored(request: RefundRequest) -> RefundRequest:
    with db.transaction(BILLING) as session:
        return session.get_one(RefundRequest, (request.tenant_id, request.request_id))


def later(seconds: int) -> None:
    """Let the requests that wait have been asked that much earlier."""
    with db.transaction(BILLING) as session:
        session.execute(
            text(
                "update app.refund_requests set asked_at = asked_at - make_interval(secs => :s)"
                " where state = 'asked'"
            ),
            {"s": seconds},
        )


def test_a_refund_takes_the_credit_in_the_same_moment(till: Till, place: Place) -> None:
    payment = buy(place)
    request = ask(payment, 2000)
    assert (request.state, request.refund_id) == ("sent", till.made[request.request_id].refund_id)
    assert moves(place.tenant_id) == [("revoke", -20 * USD), ("revoke", -2 * USD)]
    assert possible(payment) == (3000, 3000)
    assert audited(place.tenant_id)[-1] == "refund.ask"
    assert offences(place.tenant_id) == []


def test_its_event_afterwards_changes_nothing(till: Till, place: Place) -> None:
    request = ask(buy(place), 2000)
    before = moves(place.tenant_id)
    with db.transaction(BILLING) as session:
        refunds.on_refund(session, till.made[request.request_id])
    assert moves(place.tenant_id) == before


def test_unspent_is_what_the_credit_that_is_left_cost(place: Place) -> None:
    payment = buy(place, 5413)
    spend(place, "11")
    assert possible(payment) == (5413 * 44 // 55, 5413)
    spend(place, "44")
    assert possible(payment) == (0, 5413)


def test_a_payment_without_credit_has_nothing_unspent(place: Place) -> None:
    assert possible(order_paid(place)) == (0, 5000)


def test_more_than_unspent_needs_force_and_leaves_debt(till: Till, place: Place) -> None:
    payment = buy(place)
    spend(place, "11")
    with pytest.raises(errors.Conflict):
        ask(payment, 4001)
    assert till.asked == 0
    assert ask(payment, 5000, force=True).state == "sent"
    assert wallet(place.tenant_id).debt_nusd == 11 * USD


@pytest.mark.parametrize(
    "amount_minor",
    [0, -1, 5001, 10**30, 1.5, float("nan"), Decimal("NaN"), Decimal("0.5"), True, "100", None],
)
def test_an_amount_that_cannot_be_refunded_is_refused(
    till: Till, place: Place, amount_minor: object
) -> None:
    payment = buy(place)
    with pytest.raises(errors.BadInput):
        ask(payment, amount_minor, force=True)
    assert till.asked == 0
    assert possible(payment) == (5000, 5000)


@pytest.mark.parametrize("reason", ["", " ", "a\x00b", "r" * 501])
def test_without_a_reason_nothing_is_refunded(till: Till, place: Place, reason: str) -> None:
    with pytest.raises(errors.BadInput):
        ask(buy(place), 100, reason=reason)
    assert till.asked == 0


@pytest.mark.usefixtures("till")
def test_only_operators_refund(place: Place) -> None:
    payment = buy(place)
    admin = replace(place.who, role=place.who.role.ADMIN)
    with pytest.raises(errors.Forbidden):
        refunds.refund(admin, place.tenant_id, payment.payment_intent_id, 1, reason="mine")


@pytest.mark.usefixtures("till")
def test_a_payment_of_another_tenant_is_not_found(place: Place) -> None:
    payment = buy(make_place())
    with pytest.raises(errors.NotFound):
        refunds.refund(OPERATOR, place.tenant_id, payment.payment_intent_id, 1, reason="slip")
    with pytest.raises(errors.NotFound), db.transaction(BILLING) as session:
        refunds.refundable(session, "pi_unknown")


def test_where_nothing_is_sold_nothing_is_kept(place: Place) -> None:
    payment = buy(place)
    with pytest.raises(errors.Unavailable):
        ask(payment, 100)
    assert possible(payment) == (5000, 5000)


def test_a_lost_answer_is_asked_for_again_and_refunds_once(till: Till, place: Place) -> None:
    payment, till.loses_answer = buy(place), True
    request = ask(payment, 2000)
    assert request.state == "asked"
    assert moves(place.tenant_id) == []
    assert possible(payment) == (3000, 3000)
    refunds.send_waiting()
    assert till.asked == 1, "too early: whoever asked may still be waiting"
    later(60)
    refunds.send_waiting()
    assert stored(request).state == "asked"
    till.loses_answer = False
    refunds.send_waiting()
    refunds.send_waiting()
    assert (till.asked, len(till.made)) == (3, 1)
    assert stored(request).state == "sent"
    assert moves(place.tenant_id) == [("revoke", -20 * USD), ("revoke", -2 * USD)]


def test_the_event_of_a_lost_answer_ends_the_request(till: Till, place: Place) -> None:
    till.loses_answer = True
    request = ask(buy(place), 2000)
    with db.transaction(BILLING) as session:
        refunds.on_refund(session, till.made[request.request_id])
    assert stored(request).refund_id == till.made[request.request_id].refund_id
    later(60)
    refunds.send_waiting()
    assert till.asked == 1


def test_a_request_older_than_stripes_memory_is_looked_up_not_repeated(
    till: Till, place: Place
) -> None:
    till.loses_answer = True
    request = ask(buy(place), 2000)
    till.loses_answer, till.keys_forgotten = False, True
    later(30 * 3600)
    refunds.send_waiting()
    assert (stored(request).state, till.asked) == ("sent", 1)


def test_an_old_request_that_never_arrived_is_sent(till: Till, place: Place) -> None:
    till.loses_answer = True
    request = ask(buy(place), 2000)
    till.made.clear()
    till.loses_answer = False
    later(30 * 3600)
    refunds.send_waiting()
    assert stored(request).state == "sent"
    assert len(till.made) == 1


def test_what_stripe_refuses_is_kept_with_its_reason_and_takes_nothing(
    till: Till, place: Place
) -> None:
    payment, till.refuses = buy(place), "charge_already_refunded"
    request = ask(payment, 2000)
    assert (request.state, request.error) == (
        "refused", "Stripe refused: charge_already_refunded, status 400",
    )  # fmt: skip
    assert moves(place.tenant_id) == []
    assert possible(payment) == (5000, 5000)
    assert audited(place.tenant_id)[-2:] == ["refund.ask", "refund.refused"]
    later(60)
    refunds.send_waiting()
    assert till.asked == 1


def test_an_answer_that_cannot_be_read_is_no_refusal(till: Till, place: Place) -> None:
    till.refuses = "unreadable"
    assert ask(buy(place), 2000).state == "asked"


def test_a_request_sent_twice_is_one(till: Till, place: Place) -> None:
    payment, request_id = buy(place), new_id()
    first = ask(payment, 2000, request_id=request_id)
    again = ask(payment, 2000, request_id=request_id)
    assert (first.refund_id, till.asked) == (again.refund_id, 1)
    with pytest.raises(errors.Conflict):
        ask(payment, 1000, request_id=request_id)
    assert audited(place.tenant_id).count("refund.ask") == 1


def test_two_requests_never_give_back_more_than_was_paid(till: Till, place: Place) -> None:
    payment, till.loses_answer = buy(place), True
    ask(payment, 3000)
    with pytest.raises(errors.BadInput):
        ask(payment, 2001, force=True)
    assert ask(payment, 2000).state == "asked"
    assert possible(payment) == (0, 0)


@pytest.mark.usefixtures("till")
def test_what_is_promised_or_disputed_cannot_be_refunded_again(place: Place) -> None:
    payment = buy(place)
    with db.transaction(BILLING) as session:
        session.add(
            ClawBack(
                stripe_id=f"re_{new_id().hex}", tenant_id=place.tenant_id, kind="refund",
                payment_intent_id=payment.payment_intent_id, amount_minor=4000,
                status="requires_action", counts=False,
            )
        )  # fmt: skip
    assert possible(payment) == (1000, 1000)
