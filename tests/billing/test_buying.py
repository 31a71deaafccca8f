"""Buying against the stand-in server, from the click to the credit, with its events delivered."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from core import db, errors
from core.billing import checkout, customers, offers, topups
from core.billing.ledger import BILLING
from core.billing.sales_tables import OfferPrice, Order, Payment
from core.db import new_id
from core.money import NANO_PER_USD
from tests.billing.conftest import Stripe
from tests.billing.purchases import offences, page_of, wallet
from tests.billing.till import rested
from tests.factories import TESTS, Place, make_place

USD = NANO_PER_USD


@pytest.fixture
def place(stripe: Stripe) -> Place:
    return make_place(credit_usd=0, role="admin")


def click(place: Place, code: str = "pro", **more: Any) -> Order:
    return checkout.start_package(place.who, code, click_key=new_id().hex, **more)


def state_of(order: Order) -> str:
    with db.transaction(BILLING) as session:
        return session.get_one(Order, (order.tenant_id, order.order_id)).state


def payments_of(place: Place) -> list[Payment]:
    with db.transaction(BILLING) as session:
        return list(session.scalars(select(Payment).where(Payment.tenant_id == place.tenant_id)))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_card_buys_a_package_once_by_page_and_by_events_in_any_order(
    stripe: Stripe, place: Place, seed: int
) -> None:
    stripe.sandbox.sender(copies=3)
    order = click(place)
    stripe.sandbox.pay(page_of(order))
    assert checkout.confirm(place.who, page_of(order)).state == "fulfilled"
    stripe.deliver(seed=seed)
    assert wallet(place.tenant_id).posted_nusd == 55 * USD
    [payment] = payments_of(place)
    assert (payment.order_id, payment.total_minor) == (order.order_id, 5000)
    assert offences(place.tenant_id) == []


def test_events_alone_bring_the_credit(stripe: Stripe, place: Place) -> None:
    order = click(place, "starter")
    stripe.sandbox.pay(page_of(order))
    stripe.deliver()
    assert (state_of(order), wallet(place.tenant_id).posted_nusd) == ("fulfilled", 10 * USD)


def test_a_code_of_a_hundred_percent_brings_the_whole_credit(stripe: Stripe, place: Place) -> None:
    order = click(place)
    stripe.sandbox.pay(page_of(order), "free")
    stripe.deliver()
    assert (state_of(order), wallet(place.tenant_id).posted_nusd) == ("fulfilled", 55 * USD)
    assert payments_of(place) == []


@pytest.mark.parametrize(("is_ok", "state", "usd"), [(True, "fulfilled", 10), (False, "failed", 0)])
def test_a_bank_debit_decides_days_later(
    stripe: Stripe, place: Place, is_ok: bool, state: str, usd: int
) -> None:
    order = click(place, "starter")
    stripe.sandbox.pay(page_of(order), "bank_debit")
    stripe.deliver()
    assert state_of(order) == "awaiting"
    intent_id = stripe.api.checkout_session(page_of(order)).payment_intent_id
    assert intent_id is not None
    stripe.sandbox.settle_debit(intent_id, is_ok)
    stripe.deliver(seed=5)
    assert (state_of(order), wallet(place.tenant_id).posted_nusd) == (state, usd * USD)
    assert offences(place.tenant_id) == []


def test_a_page_left_alone_expires(stripe: Stripe, place: Place) -> None:
    order = click(place)
    stripe.sandbox.advance(3600)
    stripe.deliver()
    assert state_of(order) == "expired"


def test_a_canceled_order_cannot_be_paid(stripe: Stripe, place: Place) -> None:
    order = click(place)
    checkout.cancel(place.who, order.order_id)
    assert stripe.api.checkout_session(page_of(order)).status == "expired"
    stripe.deliver()
    assert state_of(order) == "canceled"


def test_a_package_whose_price_was_archived_is_sold_at_a_new_one(
    stripe: Stripe, place: Place
) -> None:
    first = click(place)
    world = stripe.sandbox.world
    for _ in range(2):  # also when it is the price made for the same amount a moment ago
        lost = price_of(first)
        with world.lock:
            world.store.get("price", lost)["active"] = False
        order = click(place)
        assert price_of(order) != lost
        first = order
    stripe.sandbox.pay(page_of(order))
    stripe.deliver()
    assert (state_of(order), wallet(place.tenant_id).posted_nusd) == ("fulfilled", 55 * USD)


def price_of(order: Order) -> str:
    assert order.price_id is not None
    return order.price_id


@pytest.mark.parametrize("fault", ["lost", "500", "reset"])
def test_the_next_press_after_an_outage_leads_to_one_page(
    stripe: Stripe, place: Place, fault: str
) -> None:
    offers.sellable("package", "pro")
    customers.ensure(place.tenant_id, name="Acme", email="a@example.com")
    click(place)  # settles which price this stand-in knows
    known = len(stripe.sandbox.objects("checkout.session"))
    stripe.sandbox.fail_next("/v1/checkout/sessions", fault, times=3)
    with pytest.raises(errors.Unavailable):
        checkout.start_package(place.who, "pro", click_key="k")
    order = checkout.start_package(place.who, "pro", click_key="k")
    assert order.session_url
    assert len(stripe.sandbox.objects("checkout.session")) == known + 1


def test_a_plan_is_subscribed_to_and_its_invoice_brings_the_allowance(
    stripe: Stripe, place: Place
) -> None:
    order = checkout.start_plan(place.who, "starter", click_key="k")
    stripe.sandbox.pay(page_of(order))
    stripe.deliver(seed=9)
    assert (state_of(order), wallet(place.tenant_id).posted_nusd) == ("fulfilled", 15 * USD)
    with pytest.raises(errors.Conflict):
        checkout.start_plan(place.who, "pro", click_key="k2")


def test_offers_are_mirrored_to_prices_that_sell(stripe: Stripe, place: Place) -> None:
    code = f"p{new_id().hex[-8:]}"
    for credits_usd in (7, 8):
        with db.transaction(TESTS) as session:
            offers.set_package(
                session, TESTS, code, title="P", price_minor=700, credits_nusd=credits_usd * USD
            )
        order = click(place, code)
        stripe.sandbox.pay(page_of(order))
        stripe.deliver()
    assert wallet(place.tenant_id).posted_nusd == 15 * USD
    with db.transaction(BILLING) as session:
        found = session.scalars(select(OfferPrice).where(OfferPrice.code == code)).all()
    assert len({row.price_id for row in found}) == len(found) == 2


# Automatic top-ups


@pytest.fixture
def topping(stripe: Stripe, place: Place) -> Place:
    """A tenant with a card saved by its purchase, which agreed to top up."""
    order = click(place, "starter", save_card=True)
    stripe.sandbox.pay(page_of(order))
    stripe.deliver()
    customers.refresh_card(place.tenant_id)
    return place


def agree(place: Place) -> None:
    with db.transaction(BILLING) as session:
        topups.configure(
            session, place.who, threshold_nusd=100 * USD, amount_minor=2000, daily_cap_minor=2000,
            consent="Yes.",
        )  # fmt: skip


def use_card(stripe: Stripe, place: Place, name: str) -> None:
    with db.transaction(BILLING) as session:
        customer = customers.of_tenant(session, place.tenant_id)
    assert customer is not None
    stripe.sandbox.give_card(customer.customer_id, name)
    customers.refresh_card(place.tenant_id)


def switch_off(place: Place) -> None:
    with db.transaction(BILLING) as session:
        topups.switch_off(session, place.who)


def last_order(place: Place) -> Order:
    with db.transaction(BILLING) as session:
        return session.scalars(
            select(Order)
            .where(Order.tenant_id == place.tenant_id, Order.kind == "topup")
            .order_by(Order.created_at.desc())
        ).first()  # type: ignore[return-value]


def test_a_saved_card_is_charged_once(stripe: Stripe, topping: Place) -> None:
    agree(topping)
    topups.sweep()
    topups.sweep()
    stripe.deliver(seed=2)
    switch_off(topping)
    assert last_order(topping).state == "fulfilled"
    assert wallet(topping.tenant_id).posted_nusd == 30 * USD
    assert offences(topping.tenant_id) == []


def test_a_lost_answer_charges_once(stripe: Stripe, topping: Place) -> None:
    agree(topping)
    stripe.sandbox.fail_next("/v1/payment_intents", "lost", times=3)
    topups.sweep()
    stripe.deliver()
    topups.sweep()
    stripe.deliver()
    switch_off(topping)
    assert wallet(topping.tenant_id).posted_nusd == 30 * USD
    assert len(payments_of(topping)) == 2


def test_a_declining_card_stops_after_two(stripe: Stripe, topping: Place) -> None:
    use_card(stripe, topping, "pm_card_chargeCustomerFail")
    agree(topping)
    for _ in range(4):
        topups.sweep()
        stripe.deliver()
        rested(topping)
    with db.transaction(BILLING) as session:
        row = topups.of(session, topping.tenant_id)
    assert row is not None
    assert (row.enabled, row.declines) == (False, 2)
    assert wallet(topping.tenant_id).posted_nusd == 10 * USD


def test_a_bank_that_wants_the_buyer_is_satisfied_on_a_page(stripe: Stripe, topping: Place) -> None:
    use_card(stripe, topping, "pm_card_authenticationRequired")
    agree(topping)
    topups.sweep()
    stripe.deliver()
    order = last_order(topping)
    assert order.state == "needs_action"
    page = topups.pay_now(topping.who, order.order_id)
    stripe.sandbox.pay(page_of(page), "authenticated")
    stripe.deliver(seed=3)
    switch_off(topping)
    assert (state_of(order), wallet(topping.tenant_id).posted_nusd) == ("fulfilled", 30 * USD)
    assert offences(topping.tenant_id) == []
