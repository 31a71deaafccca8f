"""Refunds as Stripe tells of them: what they take, what they give back, and from which lots."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from core import db, errors
from core.billing import ledger
from core.billing.effects import Handled, Ignored, Waits
from core.billing.ledger import BILLING
from core.billing.sales_tables import ClawBack, Payment
from core.billing.stripe_objects import Refund
from core.db import new_id
from tests.billing.books import a_customer
from tests.billing.purchases import (
    USD,
    a_dispute,
    a_refund,
    alarms,
    buy,
    fulfil,
    hear,
    is_frozen,
    moves,
    offences,
    order_paid,
    plan_paid,
    spend,
    wallet,
)
from tests.factories import Place, make_place

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def place() -> Place:
    return make_place(credit_usd=0)


def test_a_partial_refund_takes_the_same_share_of_credit_and_bonus(place: Place) -> None:
    payment = buy(place, 5413)
    assert isinstance(hear(a_refund(payment, 1000)), Handled)
    taken = [("revoke", -(50 * USD * 1000 // 5413)), ("revoke", -(5 * USD * 1000 // 5413))]
    assert moves(place.tenant_id) == taken
    assert wallet(place.tenant_id).posted_nusd == 55 * USD + sum(amount for _, amount in taken)
    assert offences(place.tenant_id) == []


def test_the_remainder_takes_the_rest_to_the_last_nano(place: Place) -> None:
    payment = buy(place, 5413)
    for part in (1, 1777, 3635):
        hear(a_refund(payment, part))
    assert wallet(place.tenant_id).posted_nusd == 0


def test_more_than_was_paid_takes_no_more_than_was_granted(place: Place) -> None:
    payment, before = buy(place), alarms("claw_back_amount")
    hear(a_refund(payment, 9999))
    hear(a_refund(payment, 4000))
    assert wallet(place.tenant_id).posted_nusd == 0
    assert wallet(place.tenant_id).debt_nusd == 0
    assert alarms("claw_back_amount") == before + 1
    assert offences(place.tenant_id) == []


@pytest.mark.parametrize("ended", ["failed", "canceled"])
def test_a_refund_that_fails_after_it_succeeded_gives_everything_back(
    place: Place, ended: str
) -> None:
    payment = buy(place)
    for status in ("pending", "succeeded", ended, "succeeded"):
        hear(a_refund(payment, 5000, status, refund_id=f"re_{place.tenant_id}"))
    assert wallet(place.tenant_id).available_nusd == 55 * USD
    assert [kind for kind, _ in moves(place.tenant_id)] == ["revoke"] * 2 + ["reinstate"] * 2


def test_a_refund_the_buyer_must_act_on_takes_nothing_yet(place: Place) -> None:
    payment = buy(place)
    hear(a_refund(payment, 5000, "requires_action", refund_id=f"re_{place.tenant_id}"))
    assert moves(place.tenant_id) == []
    hear(a_refund(payment, 5000, "succeeded", refund_id=f"re_{place.tenant_id}"))
    assert wallet(place.tenant_id).posted_nusd == 0


def test_copies_of_one_refund_take_once(place: Place) -> None:
    payment = buy(place, bonus_nusd=0)
    found = a_refund(payment, 1000)
    for _ in range(3):
        assert isinstance(hear(found), Handled)
    assert moves(place.tenant_id) == [("revoke", -10 * USD)]


@pytest.mark.parametrize("status", ["pending", "succeeded", "failed"])
def test_a_refund_of_a_payment_not_booked_yet_waits_and_leaves_nothing(
    place: Place, status: str
) -> None:
    customer = a_customer(place)
    unknown = a_refund(None, 100, status, customer_id=customer.customer_id)
    nameless = a_refund(None, 100, status)
    assert isinstance(hear(unknown), Waits)
    assert isinstance(hear(nameless), Waits)
    with db.transaction(BILLING) as session:
        assert session.get(ClawBack, unknown.refund_id) is None


def test_copies_at_the_same_moment_take_once(place: Place) -> None:
    payment = buy(place, bonus_nusd=0)
    refund, dispute = a_refund(payment, 1000), a_dispute(payment, 4000)
    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(hear, [refund, dispute] * 3))
    assert all(isinstance(effect, Handled) for effect in told)
    assert sorted(moves(place.tenant_id)) == [("revoke", -40 * USD), ("revoke", -10 * USD)]
    assert is_frozen(place.tenant_id)


def test_a_refund_of_a_stranger_is_ignored() -> None:
    assert isinstance(hear(a_refund(None, 100, customer_id="cus_of_another_shop")), Ignored)


def test_a_refund_of_no_payment_intent_or_of_nothing_is_ignored(place: Place) -> None:
    payment = buy(place)
    loose = Refund("re_loose", "succeeded", "usd", 100, None, None, None, {})
    assert isinstance(hear(loose), Ignored)
    assert isinstance(hear(a_refund(payment, 0)), Ignored)
    assert isinstance(hear(a_refund(payment, -5)), Ignored)
    assert moves(place.tenant_id) == []


def test_a_status_of_a_later_version_waits_for_one_that_knows_it(place: Place) -> None:
    payment = buy(place)
    assert isinstance(hear(a_refund(payment, 100, "teleported")), Waits)
    assert isinstance(hear(a_dispute(payment, 100, "teleported")), Waits)
    assert not is_frozen(place.tenant_id)
    assert moves(place.tenant_id) == []


def test_a_refund_known_before_the_credit_is_taken_when_it_comes(place: Place) -> None:
    payment = order_paid(place)
    assert isinstance(hear(a_refund(payment, 2500)), Handled)
    fulfil(payment)
    assert wallet(place.tenant_id).posted_nusd == 55 * USD // 2
    assert offences(place.tenant_id) == []


def test_what_was_spent_becomes_debt_refuses_calls_and_is_paid_by_the_next_grant(
    place: Place,
) -> None:
    payment = buy(place)
    spend(place, "20")
    hear(a_refund(payment, 5000))
    assert (wallet(place.tenant_id).debt_nusd, wallet(place.tenant_id).posted_nusd) == (
        20 * USD, -20 * USD,
    )  # fmt: skip
    with pytest.raises(errors.InsufficientCredit):
        spend(place, "0.01")
    buy(place, bonus_nusd=0)
    assert wallet(place.tenant_id).debt_nusd == 0
    assert wallet(place.tenant_id).available_nusd == 30 * USD
    spend(place, "0.01")
    assert offences(place.tenant_id) == []


def test_a_failed_refund_gives_back_also_after_its_debt_was_paid(place: Place) -> None:
    payment = buy(place)
    spend(place, "20")
    refund_id = f"re_{new_id().hex}"
    hear(a_refund(payment, 5000, refund_id=refund_id))
    buy(place, bonus_nusd=0)
    hear(a_refund(payment, 5000, "failed", refund_id=refund_id))
    assert wallet(place.tenant_id).available_nusd == (55 - 20 + 50) * USD
    assert wallet(place.tenant_id).debt_nusd == 0
    assert offences(place.tenant_id) == []


def test_what_expired_is_not_owed_as_if_it_had_been_spent(place: Place) -> None:
    payment = order_paid(place, bonus_nusd=0)
    fulfil(payment, expires_at=datetime.now(UTC) + timedelta(days=1))
    spend(place, "20")
    with db.transaction(BILLING) as session:
        session.execute(
            text("update app.lots set expires_at = now() - interval '1 s' where tenant_id = :t"),
            {"t": place.tenant_id},
        )
        session.execute(text("select verbs.expire_lots(:t)"), {"t": place.tenant_id})
    hear(a_refund(payment, 2500))
    assert wallet(place.tenant_id).debt_nusd == 0  # half is paid for still: more than was spent
    hear(a_refund(payment, 2500))
    assert wallet(place.tenant_id).debt_nusd == 20 * USD
    hear(a_refund(payment, 2500, "failed"))
    assert wallet(place.tenant_id).debt_nusd == 20 * USD
    assert offences(place.tenant_id) == []


def test_only_the_lots_of_that_payment_are_taken(place: Place) -> None:
    payment, other = buy(place, bonus_nusd=0), buy(place, bonus_nusd=0)
    with db.transaction(BILLING) as session:
        stripe_id = session.scalar(
            text("select stripe_id from app.fulfilments where order_id = :o"),
            {"o": payment.order_id},
        )
        ledger.grant(
            session, place.tenant_id, 7 * USD, kind="manual", key=str(stripe_id) + ":goodwill",
            actor="tests", reason="Goodwill", source=("manual", str(stripe_id)),
        )  # fmt: skip
    hear(a_refund(payment, 5000))
    assert moves(place.tenant_id) == [("revoke", -50 * USD)]
    hear(a_refund(other, 2500))
    assert wallet(place.tenant_id).posted_nusd == (25 + 7) * USD


def test_a_refund_of_a_plans_invoice_takes_from_all_it_brought(place: Place) -> None:
    payment = plan_paid(place, 7900, ("invoice_line", 85 * USD), ("invoice", 10 * USD))
    hear(a_refund(payment, 3950))
    assert moves(place.tenant_id) == [("revoke", -85 * USD // 2), ("revoke", -5 * USD)]
    assert offences(place.tenant_id) == []


def test_an_invoice_paid_in_parts_loses_the_share_of_the_part(place: Place) -> None:
    payment = plan_paid(place, 6000, ("invoice_line", 80 * USD))
    with db.transaction(BILLING) as session:
        second = Payment(
            payment_intent_id=f"pi_{new_id().hex}", tenant_id=place.tenant_id, currency="usd",
            invoice_id=payment.invoice_id, total_minor=2000,
        )  # fmt: skip
        session.add(second)
    hear(a_refund(second, 2000))
    assert moves(place.tenant_id) == [("revoke", -20 * USD)]


def test_money_back_for_what_was_no_credit_is_told_to_operators(place: Place) -> None:
    before = alarms("claw_back_without_credit")
    assert isinstance(hear(a_refund(plan_paid(place, 7900), 7900)), Handled)
    assert alarms("claw_back_without_credit") == before + 1
    assert moves(place.tenant_id) == []
