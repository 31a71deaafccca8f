"""The door of the API: keys, versions, idempotency, scripted faults, unknown paths, big bodies."""

from __future__ import annotations

from uuid import UUID

import httpx2
import pytest

from core.billing.sandbox import Server
from core.billing.stripe_api import CardDeclined, StripeApi, StripeDown, StripeRefused
from core.db import new_id
from tests.billing.conftest import KEY
from tests.billing.sandbox.shop import TENANT, customer, open_page, paid


def ask(
    sandbox: Server, method: str, path: str, *, key: str | None = None, token: str = KEY,
    headers: dict[str, str] | None = None, **params: str,
) -> httpx2.Response:  # fmt: skip
    given = {"Authorization": f"Bearer {token}"} | (headers or {})
    if key:
        given["Idempotency-Key"] = key
    with httpx2.Client(timeout=5) as client:
        return client.request(
            method, sandbox.url + path, data=params if method == "POST" else None,
            params=params if method != "POST" else None, headers=given,
        )  # fmt: skip


@pytest.mark.parametrize("token", ["none", "sk_live_something", "rk_test_x", "whatever"])
def test_only_test_keys_open_the_door(sandbox: Server, token: str) -> None:
    answer = ask(sandbox, "GET", "/v1/customers", token=token)
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_another_version_is_refused(sandbox: Server) -> None:
    answer = ask(sandbox, "GET", "/v1/customers", headers={"Stripe-Version": "2022-11-15"})
    assert answer.status_code == 400


def test_a_foreign_host_name_is_refused(sandbox: Server) -> None:
    assert ask(sandbox, "GET", "/v1/customers", headers={"Host": "evil"}).status_code == 400


def test_an_unknown_path_is_404_in_stripes_shape(sandbox: Server) -> None:
    answer = ask(sandbox, "GET", "/v1/nothing")
    assert answer.status_code == 404
    assert "Unrecognized request URL" in answer.json()["error"]["message"]


def test_what_does_not_exist_is_404_with_its_code(sandbox: Server, api: StripeApi) -> None:
    with pytest.raises(StripeRefused) as refused:
        api.payment_intent("pi_none")
    assert (refused.value.status, refused.value.code) == (404, "resource_missing")


def test_the_same_key_and_body_are_done_once(sandbox: Server, api: StripeApi) -> None:
    ids = {
        api.create_customer(tenant_id=TENANT, name="A", email="a@b.example", key="k1")
        for _ in range(3)
    }
    assert len(ids) == 1 and len(sandbox.control.objects("customer")) == 1


def test_the_same_key_with_another_body_is_refused(sandbox: Server) -> None:
    assert ask(sandbox, "POST", "/v1/customers", key="k1", name="A").status_code == 200
    answer = ask(sandbox, "POST", "/v1/customers", key="k1", name="B")
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "idempotency_error")


def test_a_declined_payment_is_kept_under_its_key(sandbox: Server, api: StripeApi) -> None:
    buyer = customer(api)
    card = sandbox.control.give_card(buyer, "pm_card_chargeCustomerFail")
    order = new_id()
    ids = {decline(api, buyer, card, order) for _ in range(2)}
    assert len(ids) == 1 and len(sandbox.control.objects("payment_intent")) == 1


def decline(api: StripeApi, buyer: str, card: str, order: UUID) -> str | None:
    with pytest.raises(CardDeclined) as declined:
        api.charge_off_session(
            tenant_id=TENANT, order_id=order, customer_id=buyer, payment_method_id=card,
            amount_minor=900,
        )  # fmt: skip
    return declined.value.payment_intent_id


def test_a_request_that_was_not_begun_is_not_kept(sandbox: Server) -> None:
    assert ask(sandbox, "POST", "/v1/products", key="k1").status_code == 400
    assert ask(sandbox, "POST", "/v1/products", key="k1", name="Now named").status_code == 200


@pytest.mark.parametrize("kind", ["409", "500", "reset", "lost"])
def test_a_fault_once_is_survived_by_repeating(sandbox: Server, api: StripeApi, kind: str) -> None:
    sandbox.control.fail_next("/v1/customers", kind)
    api.create_customer(tenant_id=TENANT, name="A", email="a@b.example", key="k1")
    assert len(sandbox.control.objects("customer")) == 1


@pytest.mark.parametrize("kind", ["429", "500", "reset"])
def test_a_fault_that_lasts_leaves_nothing_behind(
    sandbox: Server, api: StripeApi, kind: str
) -> None:
    sandbox.control.fail_next("/v1/customers", kind, times=3)
    with pytest.raises(StripeDown):
        api.create_customer(tenant_id=TENANT, name="A", email="a@b.example", key="k1")
    assert sandbox.control.objects("customer") == []


def test_a_lost_answer_is_found_again_by_its_key(sandbox: Server, api: StripeApi) -> None:
    intent = paid(api, sandbox.control)
    request = new_id()
    sandbox.control.fail_next("/v1/refunds", "lost", times=3)
    with pytest.raises(StripeDown):
        api.refund(tenant_id=TENANT, request_id=request, payment_intent_id=intent, amount_minor=700)
    again = api.refund(
        tenant_id=TENANT, request_id=request, payment_intent_id=intent, amount_minor=700
    )
    assert [r["id"] for r in sandbox.control.objects("refund")] == [again.refund_id]


def test_a_kept_500_stays_500(sandbox: Server, api: StripeApi) -> None:
    sandbox.control.fail_next("/v1/customers", "500_kept")
    assert ask(sandbox, "POST", "/v1/customers", key="k1", name="A").status_code == 500
    assert ask(sandbox, "POST", "/v1/customers", key="k1", name="A").status_code == 500
    assert ask(sandbox, "POST", "/v1/customers", key="k2", name="A").status_code == 200


def test_a_silent_answer_times_out(sandbox: Server) -> None:
    sandbox.control.fail_next("/v1/customers", "timeout")
    with httpx2.Client(timeout=0.3) as client, pytest.raises(httpx2.TimeoutException):
        client.get(f"{sandbox.url}/v1/customers", headers={"Authorization": f"Bearer {KEY}"})
    assert ask(sandbox, "GET", "/v1/customers").status_code == 200


def test_removed_parameters_and_values_are_refused(sandbox: Server) -> None:
    base = {"mode": "payment", "success_url": "http://app.test"}
    removed = {"payment_method_types[0]": "card"}
    answer = ask(sandbox, "POST", "/v1/checkout/sessions", **base, **removed)
    assert answer.json()["error"]["code"] == "payment_method_types_no_longer_supported"
    answer = ask(sandbox, "POST", "/v1/checkout/sessions", **base, ui_mode="hosted")
    assert answer.json()["error"]["param"] == "ui_mode"


@pytest.mark.parametrize("code", [200, 199])
def test_a_mirrored_price_keeps_its_key_and_changes_with_its_amount(
    sandbox: Server, api: StripeApi, code: int
) -> None:
    name = {"kind": "package", "code": "pro", "title": "Pro", "monthly": False}
    first = api.mirror_price(**name, price_minor=200)  # type: ignore[arg-type]
    second = api.mirror_price(**name, price_minor=code)  # type: ignore[arg-type]
    assert (first.price_id == second.price_id) == (code == 200)
    assert first.product_id == second.product_id == "purser_package_pro"
    keyed = [p for p in sandbox.control.objects("price") if p["lookup_key"]]
    assert [p["id"] for p in keyed] == [second.price_id]


def test_lists_have_cursors_in_both_directions(sandbox: Server, api: StripeApi) -> None:
    made = [customer(api) for _ in range(5)]
    first = ask(sandbox, "GET", "/v1/customers", limit="2").json()
    assert [c["id"] for c in first["data"]] == [made[4], made[3]] and first["has_more"]
    after = ask(sandbox, "GET", "/v1/customers", limit="9", starting_after=made[3]).json()
    assert [c["id"] for c in after["data"]] == [made[2], made[1], made[0]]
    before = ask(sandbox, "GET", "/v1/customers", limit="2", ending_before=made[0]).json()
    assert [c["id"] for c in before["data"]] == [made[2], made[1]] and before["has_more"]
    assert ask(sandbox, "GET", "/v1/customers", ending_before="cus_x").status_code == 400


def test_what_is_expanded_is_shown_whole(sandbox: Server, api: StripeApi) -> None:
    page = open_page(api)
    sandbox.control.pay(page.session_id)
    expand = {"expand[0]": "payment_intent.latest_charge", "expand[1]": "line_items"}
    shown = ask(sandbox, "GET", f"/v1/checkout/sessions/{page.session_id}", **expand).json()
    assert shown["payment_intent"]["latest_charge"]["amount"] == 5000
    assert shown["line_items"]["data"][0]["amount_total"] == 5000
    assert "_items" not in shown
    answer = ask(sandbox, "GET", f"/v1/checkout/sessions/{page.session_id}",
                 **{"expand[0]": "nonsense"})  # fmt: skip
    assert answer.status_code == 400


def test_a_deleted_customer_is_known_as_deleted(sandbox: Server, api: StripeApi) -> None:
    buyer = customer(api)
    assert ask(sandbox, "DELETE", f"/v1/customers/{buyer}").json()["deleted"] is True
    assert api.default_card(buyer) is None
    with pytest.raises(StripeRefused):
        open_page(api, customer_id=buyer)
