"""Buying on the payment page: cards, codes, debits, leaving, expiry; and what the API shows of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core.billing.sandbox import Server
from core.billing.sandbox.refusals import Refused
from core.billing.stripe_api import StripeApi, StripeRefused
from tests.billing.sandbox.shop import TENANT, customer, open_page


def test_a_card_pays_a_session_once(sandbox: Server, api: StripeApi) -> None:
    page = open_page(api)
    assert (page.status, page.payment_status, page.subtotal_minor) == ("open", "unpaid", 5000)
    assert page.url == f"{sandbox.url}/pay/{page.session_id}"
    sandbox.control.pay(page.session_id)
    paid = api.checkout_session(page.session_id)
    assert (paid.status, paid.payment_status, paid.total_minor) == ("complete", "paid", 5000)
    assert paid.payment_intent_id is not None
    assert paid.client_reference_id == page.client_reference_id
    intent = api.payment_intent(paid.payment_intent_id)
    assert (intent.status, intent.received_minor) == ("succeeded", 5000)
    assert intent.metadata["tenant_id"] == str(TENANT)
    with pytest.raises(Refused):
        sandbox.control.pay(page.session_id)
    assert len(sandbox.control.objects("charge")) == 1


def test_a_payment_keeps_the_card_and_writes_a_paid_invoice(
    sandbox: Server, api: StripeApi
) -> None:
    page = open_page(api)
    assert page.customer_id is not None
    assert api.default_card(page.customer_id) is None
    sandbox.control.pay(page.session_id)
    card = api.default_card(page.customer_id)
    assert card is not None and card.label == "visa •••• 4242"
    paid = api.checkout_session(page.session_id)
    assert paid.invoice_id is not None
    invoice = api.invoice(paid.invoice_id)
    assert (invoice.status, invoice.billing_reason, invoice.paid_minor) == ("paid", "manual", 5000)
    assert invoice.lines[0].subscription_item_id is None
    payments = api.invoice_payments(invoice.invoice_id)
    assert [p.payment_intent_id for p in payments] == [paid.payment_intent_id]


def test_a_declined_card_leaves_the_session_open_for_another(
    sandbox: Server, api: StripeApi
) -> None:
    page = open_page(api)
    with pytest.raises(Refused, match="declined"):
        sandbox.control.pay(page.session_id, "declined")
    assert api.checkout_session(page.session_id).status == "open"
    sandbox.control.pay(page.session_id, "card")
    assert api.checkout_session(page.session_id).is_paid
    intents = sandbox.control.objects("payment_intent")
    assert [i["status"] for i in intents] == ["succeeded"]


def test_a_code_of_100_percent_pays_without_a_payment(sandbox: Server, api: StripeApi) -> None:
    page = open_page(api)
    sandbox.control.pay(page.session_id, "free")
    paid = api.checkout_session(page.session_id)
    assert (paid.payment_status, paid.total_minor) == ("no_payment_required", 0)
    assert (paid.subtotal_minor, paid.payment_intent_id) == (5000, None)
    shown = sandbox.control.event("checkout.session.completed")[0]["data"]["object"]
    assert shown["discounts"][0]["promotion_code"].startswith("promo_")


def test_half_price_and_tax_change_the_total_but_not_the_subtotal(
    sandbox: Server, api: StripeApi
) -> None:
    page = open_page(api, tax=True)
    sandbox.control.pay(page.session_id, code="half50")
    paid = api.checkout_session(page.session_id)
    assert (paid.subtotal_minor, paid.total_minor) == (5000, 2706)  # 2500 + 8.25 %, half up
    assert paid.invoice_id is not None and api.invoice(paid.invoice_id).total_minor == 2706


def test_an_unknown_code_is_refused(sandbox: Server, api: StripeApi) -> None:
    page = open_page(api)
    with pytest.raises(Refused, match="invalid"):
        sandbox.control.pay(page.session_id, code="NOPE")
    assert api.checkout_session(page.session_id).status == "open"


@pytest.mark.parametrize(("is_ok", "ending"), [(True, "paid"), (False, "unpaid")])
def test_a_bank_debit_is_settled_later(
    sandbox: Server, api: StripeApi, is_ok: bool, ending: str
) -> None:
    page = open_page(api)
    sandbox.control.pay(page.session_id, "bank_debit")
    waiting = api.checkout_session(page.session_id)
    assert (waiting.status, waiting.payment_status) == ("complete", "unpaid")
    assert waiting.payment_intent_id is not None
    assert api.payment_intent(waiting.payment_intent_id).status == "processing"
    sandbox.control.settle_debit(waiting.payment_intent_id, is_ok)
    assert api.checkout_session(page.session_id).payment_status == ending
    name = "succeeded" if is_ok else "failed"
    assert len(sandbox.control.event(f"checkout.session.async_payment_{name}")) == 1


def test_a_bank_debit_nobody_decides_on_succeeds_with_time(sandbox: Server, api: StripeApi) -> None:
    page = open_page(api)
    sandbox.control.pay(page.session_id, "bank_debit")
    sandbox.control.advance(5 * 86_400)
    assert api.checkout_session(page.session_id).is_paid


def test_a_session_expires_with_time_and_on_request(sandbox: Server, api: StripeApi) -> None:
    first, second = open_page(api), open_page(api)
    assert api.expire_session(first.session_id).status == "expired"
    sandbox.control.advance(40 * 60)
    assert api.checkout_session(second.session_id).status == "expired"
    assert len(sandbox.control.event("checkout.session.expired")) == 2
    with pytest.raises(Refused):
        sandbox.control.pay(second.session_id)


def test_sessions_can_still_be_opened_after_the_clock_was_advanced(
    sandbox: Server, api: StripeApi
) -> None:
    sandbox.control.advance(40 * 86_400)
    page = open_page(api)
    sandbox.control.pay(page.session_id)
    assert api.checkout_session(page.session_id).is_paid


def test_sessions_are_listed_newest_first_over_pages(sandbox: Server, api: StripeApi) -> None:
    buyer = customer(api)
    opened = [open_page(api, customer_id=buyer).session_id for _ in range(12)]
    since = datetime.now(UTC) - timedelta(hours=1)
    found = [session.session_id for session in api.sessions_since(since)]
    assert found == opened[::-1]


def test_a_page_needs_a_price_that_exists(api: StripeApi) -> None:
    with pytest.raises(StripeRefused) as refused:
        open_page(api, price_id="price_none")
    assert refused.value.code == "resource_missing"
