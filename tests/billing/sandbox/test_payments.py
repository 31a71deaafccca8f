"""Payments without the buyer, refunds, disputes, and what they do to the balance and its payouts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core.billing.sandbox import Server
from core.billing.sandbox.refusals import Refused
from core.billing.stripe_api import CardDeclined, StripeApi, StripeRefused
from core.db import new_id
from tests.billing.sandbox.shop import TENANT, customer, paid

LONG_AGO = datetime.now(UTC) - timedelta(days=1)


def charge(api: StripeApi, customer_id: str, card: str) -> str:
    return api.charge_off_session(
        tenant_id=TENANT, order_id=new_id(), customer_id=customer_id, payment_method_id=card,
        amount_minor=2000,
    ).payment_intent_id  # fmt: skip


def test_a_saved_card_is_charged_off_session(sandbox: Server, api: StripeApi) -> None:
    buyer = customer(api)
    card = sandbox.control.give_card(buyer)
    intent = api.payment_intent(charge(api, buyer, card))
    assert (intent.status, intent.received_minor, intent.customer_id) == ("succeeded", 2000, buyer)


@pytest.mark.parametrize(
    ("card", "code", "decline_code"),
    [
        ("pm_card_chargeCustomerFail", "card_declined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_authenticationRequired", "authentication_required", "authentication_required"),
    ],
)
def test_a_card_that_says_no_ends_in_402_with_its_payment(
    sandbox: Server, api: StripeApi, card: str, code: str, decline_code: str
) -> None:
    buyer = customer(api)
    saved = sandbox.control.give_card(buyer, card)
    with pytest.raises(CardDeclined) as declined:
        charge(api, buyer, saved)
    assert (declined.value.code, declined.value.decline_code) == (code, decline_code)
    assert declined.value.payment_intent_id is not None
    intent = api.payment_intent(declined.value.payment_intent_id)
    assert (intent.status, intent.error_code) == ("requires_payment_method", code)
    assert len(sandbox.control.event("payment_intent.payment_failed")) == 1
    assert api.cancel_payment(intent.payment_intent_id).status == "canceled"


def test_another_customers_card_is_refused(sandbox: Server, api: StripeApi) -> None:
    card = sandbox.control.give_card(customer(api))
    with pytest.raises(StripeRefused):
        charge(api, customer(api), card)


def test_refunds_give_back_no_more_than_was_paid(sandbox: Server, api: StripeApi) -> None:
    intent = paid(api, sandbox.control)
    first = api.refund(
        tenant_id=TENANT, request_id=new_id(), payment_intent_id=intent, amount_minor=2000
    )
    assert (first.status, first.amount_minor, first.payment_intent_id) == (
        "succeeded", 2000, intent,
    )  # fmt: skip
    with pytest.raises(StripeRefused):
        api.refund(
            tenant_id=TENANT, request_id=new_id(), payment_intent_id=intent, amount_minor=3001
        )
    rest = sandbox.control.refund(intent)
    assert rest["amount"] == 3000
    assert [r.amount_minor for r in api.refunds_since(LONG_AGO)] == [3000, 2000]
    shown = sandbox.control.event("charge.refunded")
    assert [e["data"]["object"]["amount_refunded"] for e in shown] == [2000, 5000]


def test_a_failed_refund_can_be_given_again(sandbox: Server, api: StripeApi) -> None:
    intent = paid(api, sandbox.control)
    refund = sandbox.control.refund(intent)
    sandbox.control.fail_refund(refund["id"])
    assert [r.status for r in api.refunds_since(LONG_AGO)] == ["failed"]
    assert len(sandbox.control.event("refund.failed")) == 1
    assert sandbox.control.refund(intent)["amount"] == 5000


@pytest.mark.parametrize(("won", "categories"), [
    (True, ["charge", "dispute", "dispute_reversal"]), (False, ["charge", "dispute"]),
])  # fmt: skip
def test_a_dispute_takes_the_money_and_perhaps_gives_it_back(
    sandbox: Server, api: StripeApi, won: bool, categories: list[str]
) -> None:
    intent = paid(api, sandbox.control)
    dispute = sandbox.control.dispute(intent)
    with pytest.raises(StripeRefused):
        api.refund(
            tenant_id=TENANT, request_id=new_id(), payment_intent_id=intent, amount_minor=100
        )
    sandbox.control.close_dispute(dispute["id"], won)
    assert api.fetch("dispute", dispute["id"])["status"] == ("won" if won else "lost")
    with pytest.raises(Refused):
        sandbox.control.close_dispute(dispute["id"], True)
    moves = sandbox.control.objects("balance_transaction")
    assert [move["reporting_category"] for move in moves] == categories
    assert [move["net"] for move in moves][1] == -6500


def test_a_fraud_warning_names_its_payment(sandbox: Server, api: StripeApi) -> None:
    intent = paid(api, sandbox.control)
    warning = sandbox.control.warn_of_fraud(intent)
    assert api.fetch("radar.early_fraud_warning", warning["id"])["payment_intent"] == intent


def test_a_payout_adds_up_to_its_movements(sandbox: Server, api: StripeApi) -> None:
    intent = paid(api, sandbox.control, 5000)
    paid(api, sandbox.control, 1000)
    sandbox.control.refund(intent, 500)
    assert sandbox.control.pay_out() is not None
    payout = next(iter(api.payouts_since(LONG_AGO)))
    moves = list(api.balance_transactions(payout.payout_id))
    assert sum(move.net_minor for move in moves) == 0  # the payout itself is one of them
    assert [m.category for m in moves] == ["payout", "refund", "charge", "charge"]
    assert all(m.net_minor == m.amount_minor - m.fee_minor for m in moves)
    assert {m.payment_intent_id for m in moves if m.category == "refund"} == {intent}
    assert payout.amount_minor == 5000 - 175 + 1000 - 59 - 500
    assert sandbox.control.pay_out() is None


def test_money_is_paid_out_by_itself_after_days(sandbox: Server, api: StripeApi) -> None:
    paid(api, sandbox.control)
    sandbox.control.advance(4 * 86_400)
    assert len(sandbox.control.event("payout.reconciliation_completed")) == 1
