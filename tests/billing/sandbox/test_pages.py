"""The pages a buyer sees: paying, authenticating, declined, codes, leaving, the portal, the desk."""

from __future__ import annotations

import re

import httpx2
import pytest

from core.billing.sandbox import Server
from core.billing.stripe_api import StripeApi
from tests.billing.sandbox.shop import BACK, customer, open_page, paid, plan, subscribed


def press(url: str, **fields: str) -> httpx2.Response:
    with httpx2.Client(timeout=5) as client:
        return client.post(url, data=fields)


def look(url: str) -> httpx2.Response:
    with httpx2.Client(timeout=5) as client:
        return client.get(url)


def url_of(api: StripeApi, **wish: object) -> str:
    url = open_page(api, **wish).url  # type: ignore[arg-type]
    assert url is not None
    return url


def test_the_pay_page_says_what_it_is_and_what_it_costs(api: StripeApi) -> None:
    page = look(url_of(api))
    assert page.status_code == 200
    for words in ("Sandbox: no money moves", "Pro credits", "$50.00", "Pay with a card",
                  "Card is declined", "Pay by bank debit", "Promotion code", "Cancel"):  # fmt: skip
        assert words in page.text
    assert f'href="{BACK}"' in page.text
    assert "http" not in re.sub(r'href="[^"]*"', "", page.text)  # nothing from elsewhere
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_paying_goes_back_to_the_merchant_with_the_session(api: StripeApi) -> None:
    url = url_of(api)
    answer = press(url, how="card")
    session_id = url.rpartition("/")[2]
    assert answer.status_code == 303
    assert answer.headers["location"] == f"http://app.test/billing?session_id={session_id}"
    assert api.checkout_session(session_id).is_paid
    assert "Already paid" in look(url).text
    assert press(url, how="card").status_code == 200


def test_a_card_that_asks_is_authenticated_on_a_second_page(api: StripeApi) -> None:
    url = url_of(api)
    session_id = url.rpartition("/")[2]
    second = press(url, how="authenticate")
    assert second.status_code == 200 and "Authenticate" in second.text
    assert api.checkout_session(session_id).status == "open"
    assert press(url, how="authenticated").status_code == 303
    assert api.checkout_session(session_id).is_paid


def test_a_declined_card_is_said_on_the_page(api: StripeApi) -> None:
    url = url_of(api)
    answer = press(url, how="declined")
    assert answer.status_code == 402 and "Your card was declined." in answer.text
    assert press(url, how="card").status_code == 303


def test_a_code_changes_the_amount_before_paying(api: StripeApi) -> None:
    url = url_of(api)
    assert "$25.00" in press(url, how="look", code="HALF50").text
    free = press(url, how="look", code="free100")
    assert "$0.00" in free.text and "Complete without paying" in free.text
    assert "This code is invalid." in press(url, how="look", code="<b>").text
    assert press(url, how="free", code="FREE100").status_code == 303


def test_nobody_pays_nothing_without_a_code(api: StripeApi) -> None:
    url = url_of(api)
    assert press(url, how="free").status_code == 402
    assert api.checkout_session(url.rpartition("/")[2]).status == "open"


def test_titles_are_text(api: StripeApi) -> None:
    price = api.mirror_price(
        kind="package", code="x", title="<script>alert(1)</script>", price_minor=100, monthly=False
    ).price_id
    assert "<script>" not in look(url_of(api, price_id=price)).text


def test_an_expired_or_unknown_page_cannot_be_paid(sandbox: Server, api: StripeApi) -> None:
    url = url_of(api)
    api.expire_session(url.rpartition("/")[2])
    assert look(url).status_code == 410 and press(url, how="card").status_code == 410
    assert look(f"{sandbox.url}/pay/cs_test_none").status_code == 404


def test_a_plan_is_bought_on_the_page(api: StripeApi) -> None:
    url = url_of(api, price_id=plan(api, "pro", 7900), mode="subscription")
    page = look(url)
    assert "$79.00 per month" in page.text and "bank debit" not in page.text
    assert press(url, how="card").status_code == 303
    assert api.checkout_session(url.rpartition("/")[2]).subscription_id is not None


def test_the_portal_changes_the_card_and_ends_and_resumes_a_plan(
    sandbox: Server, api: StripeApi
) -> None:
    found = subscribed(api, sandbox.control, plan(api, "pro", 7900))
    url = api.portal_url(found.customer_id, return_url=BACK)
    shown = look(url).text
    assert "visa •••• 4242" in shown and "Pro" in shown and "$79.00" in shown and BACK in shown
    press(url, act="add", name="pm_card_chargeCustomerFail")
    card = api.default_card(found.customer_id)
    assert card is not None and card.label == "visa •••• 0341"
    assert press(url, act="cancel", name=found.subscription_id).status_code == 303
    assert api.subscription(found.subscription_id).cancel_at == found.period_end
    assert "Resume" in look(url).text
    press(url, act="resume", name=found.subscription_id)
    assert api.subscription(found.subscription_id).cancel_at is None


def test_the_portal_for_a_card_returns_after_the_card(sandbox: Server, api: StripeApi) -> None:
    buyer = customer(api)
    url = api.portal_url(buyer, return_url=BACK, flow="payment_method_update")
    answer = press(url, act="add", name="pm_card_visa")
    assert (answer.status_code, answer.headers["location"]) == (303, BACK)


def test_a_portal_shows_and_ends_nothing_of_another_customer(
    sandbox: Server, api: StripeApi
) -> None:
    found = subscribed(api, sandbox.control, plan(api, "pro", 7900))
    url = api.portal_url(customer(api), return_url=BACK)
    assert "$79.00" not in look(url).text
    assert press(url, act="cancel", name=found.subscription_id).status_code == 400
    assert api.subscription(found.subscription_id).cancel_at is None


def test_an_invoice_is_paid_on_its_page(sandbox: Server, api: StripeApi) -> None:
    found = subscribed(api, sandbox.control, plan(api, "pro", 7900))
    sandbox.control.give_card(found.customer_id, "pm_card_chargeCustomerFail")
    sandbox.control.renew(found.subscription_id)
    url = sandbox.control.objects("invoice")[-1]["hosted_invoice_url"]
    assert "Pay with a card" in look(url).text
    press(url, how="card")
    assert "Status: paid" in look(url).text
    assert api.subscription(found.subscription_id).status == "active"


@pytest.mark.parametrize("ok", ["true", "false"])
def test_the_desk_decides_a_debit(sandbox: Server, api: StripeApi, ok: str) -> None:
    url = url_of(api)
    press(url, how="bank_debit")
    intent = api.checkout_session(url.rpartition("/")[2]).payment_intent_id
    assert intent is not None and "Debit arrives" in look(f"{sandbox.url}/sandbox").text
    answer = press(f"{sandbox.url}/sandbox/debits", payment_intent=intent, ok=ok)
    assert answer.status_code == 303
    assert api.checkout_session(url.rpartition("/")[2]).is_paid == (ok == "true")


def test_the_desk_takes_json_too(sandbox: Server, api: StripeApi) -> None:
    intent = paid(api, sandbox.control)
    with httpx2.Client(timeout=5) as client:
        base = f"{sandbox.url}/sandbox"
        assert client.post(f"{base}/clock", json={"advance_s": 86400}).status_code == 200
        assert client.post(f"{base}/disputes", json={"payment_intent": intent}).status_code == 200
        assert client.post(f"{base}/clock", json={"advance_s": "x"}).status_code == 400
        dispute = sandbox.control.objects("dispute")[0]["id"]
        won = client.post(f"{base}/disputes", json={"dispute": dispute, "won": True})
        assert won.status_code == 200
        fault = {"path": "/v1/customers", "kind": "429", "times": 1}
        assert client.post(f"{base}/faults", json=fault).status_code == 200
        assert client.post(f"{base}/payouts", json={}).status_code == 200
        answer = client.get(
            f"{sandbox.url}/v1/customers", headers={"Authorization": "Bearer sk_test_x"}
        )
        assert answer.status_code == 429
    assert api.fetch("dispute", dispute)["status"] == "won"
    assert "won" in look(f"{sandbox.url}/sandbox").text
