"""Buying a package or a plan: one order per click, granted once by its own terms, whatever comes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text

from core import db, errors, settings
from core.billing import checkout, ledger, offers
from core.billing.effects import Effect, Handled, Ignored
from core.billing.ledger import BILLING
from core.billing.sales_tables import Fulfilment, Order, Payment, Subscription
from core.billing.stripe_api import StripeDown, StripeRefused
from core.billing.stripe_objects import CheckoutSession
from core.billing.tables import Lot
from core.db import new_id
from core.identity import tenants
from core.money import NANO_PER_USD
from tests.billing.purchases import audited, offences, page_of, wallet
from tests.billing.till import Fault, Till
from tests.factories import TESTS, Place, make_place

pytestmark = pytest.mark.usefixtures("database")
USD = NANO_PER_USD
DOWN = StripeDown("did not answer")


@pytest.fixture
def place() -> Place:
    return make_place(credit_usd=0, role="admin")


def click(place: Place, code: str = "pro", key: str = "", **more: Any) -> Order:
    return checkout.start_package(place.who, code, click_key=key or new_id().hex, **more)


def tell(
    found: CheckoutSession, what: Callable[[Any, CheckoutSession], Effect] = checkout.fulfil
) -> Effect:
    with db.transaction(BILLING) as session:
        return what(session, found)


def order_of(order: Order) -> Order:
    with db.transaction(BILLING) as session:
        return session.get_one(Order, (order.tenant_id, order.order_id))


def state_of(order: Order) -> str:
    return order_of(order).state


def lots(place: Place) -> list[Lot]:
    with db.transaction(BILLING) as session:
        return sorted(ledger.lots(session, place.tenant_id, limit=None), key=lambda lot: lot.kind)


def rows_of(table: Any, place: Place) -> list[Any]:
    with db.transaction(BILLING) as session:
        return list(session.scalars(select(table).where(table.tenant_id == place.tenant_id)))


# One click


def test_a_package_is_an_order_with_its_terms_and_a_page(till: Till, place: Place) -> None:
    order = click(place)
    assert (order.state, order.kind, order.code) == ("open", "package", "pro")
    assert (order.price_minor, order.credits_nusd, order.bonus_nusd) == (5000, 50 * USD, 5 * USD)
    assert order.session_url == till.sessions[page_of(order)].url
    assert order.ordered_by == place.user_id
    assert audited(place.tenant_id)[-1] == "order.open"


def test_the_page_leads_back_to_the_configured_address_only(till: Till, place: Place) -> None:
    order = click(place, save_card=True)
    [ask] = till.asks
    base = f"{settings.current().app_url}/billing"
    assert ask.success_url == base + "?session_id={CHECKOUT_SESSION_ID}"
    assert ask.cancel_url == f"{base}?order={order.order_id}"
    assert (ask.mode, ask.save_card, ask.price_id) == ("payment", True, order.price_id)


def test_a_double_click_is_one_order_and_one_page(till: Till, place: Place) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: click(place, key="same"), range(8)))
    assert {order.order_id for order in found} == {found[0].order_id}
    assert len(till.sessions) == 1
    assert {order.session_url for order in found} == {found[0].session_url}
    assert audited(place.tenant_id).count("order.open") == 1


def test_two_tabs_are_two_orders(till: Till, place: Place) -> None:
    assert click(place).order_id != click(place).order_id
    assert len(till.sessions) == 2


def test_a_click_key_belongs_to_one_offer(till: Till, place: Place) -> None:
    click(place, "pro", key="k")
    with pytest.raises(errors.Conflict):
        click(place, "starter", key="k")


def test_a_click_key_belongs_to_one_tenant(till: Till, place: Place) -> None:
    other = make_place(credit_usd=0, role="finance")
    assert click(place, key="k").order_id != click(other, key="k").order_id


def test_a_tenant_has_one_customer_for_all_its_purchases(till: Till, place: Place) -> None:
    click(place)
    click(place)
    assert till.calls["create_customer"] == 1
    assert len({ask.customer_id for ask in till.asks}) == 1


def test_a_package_bought_again_after_its_price_changed_has_the_new_terms(
    till: Till, place: Place
) -> None:
    code = f"p{new_id().hex[-8:]}"

    def offer(credits_nusd: int) -> None:
        with db.transaction(TESTS) as session:
            offers.set_package(
                session, TESTS, code, title="P", price_minor=700, credits_nusd=credits_nusd
            )

    offer(7 * USD)
    before = click(place, code)
    offer(8 * USD)
    after = click(place, code)
    assert (before.credits_nusd, after.credits_nusd) == (7 * USD, 8 * USD)
    assert before.price_id != after.price_id
    tell(till.pay(page_of(before)))
    assert wallet(place.tenant_id).posted_nusd == 7 * USD


@pytest.mark.parametrize("role", ["member"])
def test_a_member_may_not_buy(till: Till, role: str) -> None:
    place = make_place(credit_usd=0, role=role)
    with pytest.raises(errors.Forbidden):
        click(place)
    assert rows_of(Order, place) == []


def test_an_api_key_may_not_buy(till: Till, place: Place) -> None:
    with pytest.raises(errors.Forbidden):
        checkout.start_package(replace(place.who, key_id=new_id()), "pro", click_key="k")


def test_nothing_is_sold_to_an_internal_tenant_and_the_attempt_is_logged(till: Till) -> None:
    place = make_place(credit_usd=0, role="admin", mode="internal")
    with pytest.raises(errors.Forbidden):
        click(place)
    with db.transaction(TESTS) as session:
        denied = session.scalars(
            text(
                "select outcome from app.audit_log where of_tenant = :t and action = 'order.open'"
            ),
            {"t": place.tenant_id},
        ).all()
    assert denied == ["denied"]


def test_a_suspended_tenant_may_not_buy(till: Till, place: Place) -> None:
    with db.transaction(TESTS) as session:
        tenants.set_tenant_active(session, TESTS, place.tenant_id, active=False)
    with pytest.raises(errors.Forbidden):
        click(place)


def test_an_unknown_package_is_not_found(till: Till, place: Place) -> None:
    with pytest.raises(errors.NotFound):
        click(place, "nothing")


@pytest.mark.parametrize("key", [" ", "x" * 101, "a\nb"])
def test_a_click_key_that_is_none_is_refused(till: Till, place: Place, key: str) -> None:
    with pytest.raises(errors.BadInput):
        click(place, key=key)


# Stripe away


@pytest.mark.parametrize("when", ["before", "after"])
def test_stripe_away_keeps_the_order_and_the_next_press_repeats_the_request(
    till: Till, place: Place, when: Any
) -> None:
    till.faults.append(Fault("open_checkout", DOWN, when))
    with pytest.raises(errors.Unavailable):
        click(place, key="k")
    [waiting] = rows_of(Order, place)
    assert (waiting.state, waiting.session_id) == ("open", None)
    order = click(place, key="k")
    assert (order.order_id, len(till.sessions)) == (waiting.order_id, 1)
    assert till.asks[0].asked_at == order.created_at
    assert till.asks[0] == till.asks[1]  # another request under the same key would be refused
    assert order.session_url


def test_a_press_too_late_to_repeat_opens_a_page_of_its_own(till: Till, place: Place) -> None:
    till.faults.append(Fault("open_checkout", DOWN, "after"))
    with pytest.raises(errors.Unavailable):
        click(place, key="k")
    with db.transaction(TESTS) as session:
        [row] = session.scalars(select(Order).where(Order.tenant_id == place.tenant_id))
        row.created_at = datetime.now(UTC) - timedelta(minutes=10)
    order = click(place, key="k")
    assert (order.attempt, till.asks[-1].asked_at) == (2, None)
    assert state_of(order) == "open"


def test_where_stripe_is_not_set_up_no_order_is_placed(place: Place) -> None:
    with pytest.raises(errors.Unavailable):
        click(place)
    assert rows_of(Order, place) == []


def test_a_page_stripe_refuses_fails_the_order(till: Till, place: Place) -> None:
    till.faults.append(Fault("open_checkout", StripeRefused("parameter_invalid", status=400)))
    with pytest.raises(errors.Unavailable):
        click(place, key="k")
    assert [order.state for order in rows_of(Order, place)] == ["failed"]
    with pytest.raises(errors.Conflict):
        click(place, key="k")
    assert click(place).session_url


PRICE = "line_items[0][price]"
LOST_PRICE = StripeRefused("resource_missing", param=PRICE, status=404)


@pytest.mark.parametrize("code", ["resource_missing", "invalid_request_error", "product_inactive"])
def test_a_price_stripe_does_not_sell_at_any_more_is_made_anew(
    till: Till, place: Place, code: str
) -> None:
    refused = StripeRefused(code, param=PRICE, status=400)
    code = f"p{new_id().hex[-8:]}"
    with db.transaction(TESTS) as session:
        offers.set_package(session, TESTS, code, title="P", price_minor=700, credits_nusd=7 * USD)
    lost = offers.sellable("package", code).price_id
    till.prices.clear()
    till.faults.append(Fault("open_checkout", refused))
    order = click(place, code)
    assert order.price_id == till.prices[f"purser_package_{code}"][-1][0] != lost
    assert [ask.price_id for ask in till.asks] == [lost, order.price_id]
    tell(till.pay(page_of(order)))
    assert (state_of(order), wallet(place.tenant_id).posted_nusd) == ("fulfilled", 7 * USD)


def test_a_press_that_asks_otherwise_than_a_lost_one_opens_a_page_of_its_own(
    till: Till, place: Place
) -> None:
    till.faults.append(Fault("open_checkout", DOWN, "after"))
    with pytest.raises(errors.Unavailable):
        click(place, key="k")
    order = click(place, key="k", save_card=True)
    assert (state_of(order), order.attempt, order.session_id) == ("open", 2, page_of(order))
    tell(till.pay(page_of(order)))
    assert wallet(place.tenant_id).posted_nusd == 55 * USD


def test_parallel_presses_that_differ_leave_one_page_open(till: Till, place: Place) -> None:
    def press(save_card: bool) -> Order | None:
        try:
            return click(place, key="same", save_card=save_card)
        except errors.Conflict:
            return None

    with ThreadPoolExecutor(6) as pool:
        found = [order for order in pool.map(press, [True, False] * 3) if order]
    [row] = rows_of(Order, place)
    still_open = [one.session_id for one in till.sessions.values() if one.status == "open"]
    assert (row.state, still_open) == ("open", [row.session_id])
    assert row.session_url in {order.session_url for order in found}


def test_a_price_lost_twice_fails_the_order(till: Till, place: Place) -> None:
    till.faults = [Fault("open_checkout", LOST_PRICE)] * 2
    with pytest.raises(errors.Unavailable):
        click(place)
    assert [order.state for order in rows_of(Order, place)] == ["failed"]


def test_a_customer_stripe_does_not_know_any_more_is_made_anew(till: Till, place: Place) -> None:
    click(place)
    gone = StripeRefused("resource_missing", param="customer", status=400)
    till.faults.append(Fault("open_checkout", gone))
    with pytest.raises(errors.Unavailable):
        click(place)
    assert click(place).session_url
    assert till.asks[0].customer_id != till.asks[-1].customer_id


def test_a_press_after_the_page_ended_is_told_so(till: Till, place: Place) -> None:
    order = click(place, key="k")
    age(order)
    assert click(place, key="k").session_url == order.session_url  # Stripe says it is open
    till.lapse(page_of(order))
    with pytest.raises(errors.Conflict):
        click(place, key="k")
    assert state_of(order) == "expired"


# What became of the page


def test_a_paid_page_is_granted_as_ordered(till: Till, place: Place) -> None:
    order = click(place)
    paid = till.pay(page_of(order), total_minor=5413)
    assert isinstance(tell(paid), Handled)
    bonus, bought = lots(place)
    assert (bought.kind, bought.granted_nusd, bought.expires_at) == ("purchase", 50 * USD, None)
    assert (bonus.kind, bonus.granted_nusd) == ("promo", 5 * USD)
    assert bonus.expires_at is not None
    assert timedelta(days=364) < bonus.expires_at - datetime.now(UTC) <= timedelta(days=365)
    assert (bought.source_type, bought.source_id) == ("checkout_session", paid.session_id)
    assert (bonus.source_type, bonus.source_id) == ("checkout_session_bonus", paid.session_id)
    [payment] = rows_of(Payment, place)
    assert (payment.payment_intent_id, payment.total_minor) == (paid.payment_intent_id, 5413)
    now = order_of(order)
    assert (now.state, now.total_minor, now.invoice_id) == ("fulfilled", 5413, paid.invoice_id)
    assert now.ended_at is not None
    assert offences(place.tenant_id) == []


def test_thirty_parallel_fulfilments_make_one_lot(till: Till, place: Place) -> None:
    paid = till.pay(page_of(click(place, "starter")))
    with ThreadPoolExecutor(10) as pool:
        effects = list(pool.map(lambda _: tell(paid), range(30)))
    assert all(isinstance(effect, Handled) for effect in effects)
    assert [lot.granted_nusd for lot in lots(place)] == [10 * USD]
    assert len(rows_of(Fulfilment, place)) == len(rows_of(Payment, place)) == 1
    assert offences(place.tenant_id) == []


def test_a_code_of_a_hundred_percent_is_granted_without_a_payment(till: Till, place: Place) -> None:
    order = click(place, "starter")
    tell(till.pay(page_of(order), payment_status="no_payment_required", total_minor=0,
                  payment_intent_id=None, invoice_id=None))  # fmt: skip
    assert wallet(place.tenant_id).posted_nusd == 10 * USD
    assert rows_of(Payment, place) == []
    assert state_of(order) == "fulfilled"


def test_a_page_that_is_open_is_not_paid_even_when_nothing_is_to_be_paid(
    till: Till, place: Place
) -> None:
    order = click(place)
    tell(replace(till.sessions[page_of(order)], payment_status="no_payment_required"))
    assert state_of(order) == "open"
    assert lots(place) == []


def test_a_delayed_payment_waits_and_then_is_granted(till: Till, place: Place) -> None:
    order = click(place)
    tell(till.pay(page_of(order), payment_status="unpaid"))
    assert state_of(order) == "awaiting"
    assert lots(place) == []
    tell(till.pay(page_of(order)))
    assert state_of(order) == "fulfilled"
    assert len(lots(place)) == 2


def test_a_delayed_payment_that_fails_ends_the_order(till: Till, place: Place) -> None:
    order = click(place)
    unpaid = till.pay(page_of(order), payment_status="unpaid")
    tell(unpaid)
    tell(unpaid, checkout.on_failed)
    tell(unpaid)
    assert state_of(order) == "failed"
    assert lots(place) == []


def test_events_in_the_wrong_order_end_the_same(till: Till, place: Place) -> None:
    order = click(place)
    unpaid = till.pay(page_of(order), payment_status="unpaid")
    paid = till.pay(page_of(order))
    tell(paid)
    tell(unpaid)
    tell(unpaid, checkout.on_failed)
    tell(till.lapse(page_of(order)), checkout.on_expired)
    assert state_of(order) == "fulfilled"
    assert len(lots(place)) == 2


def test_a_page_nobody_paid_on_expires_and_a_new_click_is_a_new_order(
    till: Till, place: Place
) -> None:
    order = click(place, key="k")
    lapsed = till.lapse(page_of(order))
    tell(lapsed, checkout.on_expired)
    tell(lapsed, checkout.on_expired)
    assert state_of(order) == "expired"
    with pytest.raises(errors.Conflict):
        click(place, key="k")
    assert click(place, key="k2").order_id != order.order_id


@pytest.mark.parametrize("ended", [checkout.on_failed, checkout.on_expired])
def test_money_that_comes_after_the_end_is_still_granted(
    till: Till, place: Place, ended: Callable[[Any, CheckoutSession], Effect]
) -> None:
    order = click(place, "starter")
    tell(till.sessions[page_of(order)], ended)
    assert state_of(order) in {"failed", "expired"}
    tell(till.pay(page_of(order)))
    assert state_of(order) == "fulfilled"
    assert wallet(place.tenant_id).posted_nusd == 10 * USD


def test_a_page_whose_opening_was_not_noted_is_recognised(till: Till, place: Place) -> None:
    till.faults.append(Fault("open_checkout", DOWN, "after"))
    with pytest.raises(errors.Unavailable):
        click(place, "starter")
    [page] = till.sessions.values()
    tell(till.pay(page.session_id))
    assert [order.session_id for order in rows_of(Order, place)] == [page.session_id]
    assert wallet(place.tenant_id).posted_nusd == 10 * USD


# What does not fit


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"currency": "eur"}, "paid in another currency"),
        ({"subtotal_minor": 4999}, "another amount than ordered"),
        ({"subtotal_minor": None}, "another amount than ordered"),
        ({"mode": "subscription"}, "paid in another mode"),
        ({"session_id": "cs_test_other"}, "paid on another page"),
    ],
)
def test_a_page_that_does_not_fit_its_order_is_reviewed_and_not_granted(
    till: Till, place: Place, changes: dict[str, Any], reason: str
) -> None:
    order = click(place)
    strange = replace(till.pay(page_of(order)), **changes)
    tell(strange)
    now = order_of(order)
    assert (now.state, now.reason) == ("review", reason)
    tell(strange)
    tell(till.sessions[page_of(order)])  # not even when the right one follows
    assert lots(place) == []
    assert state_of(order) == "review"
    assert offences(place.tenant_id) == []


def test_a_payment_under_review_is_known_so_that_it_can_be_refunded(
    till: Till, place: Place
) -> None:
    order = click(place)
    paid = till.pay(page_of(order), subtotal_minor=1, total_minor=1)
    tell(paid)
    [payment] = rows_of(Payment, place)
    assert (payment.payment_intent_id, payment.order_id) == (paid.payment_intent_id, order.order_id)


def test_an_order_paid_by_another_tenants_customer_is_reviewed(till: Till, place: Place) -> None:
    other = make_place(credit_usd=0, role="admin")
    theirs = till.sessions[page_of(click(other))]
    order = click(place)
    tell(till.pay(page_of(order), customer_id=theirs.customer_id))
    assert state_of(order) == "review"
    assert lots(place) == lots(other) == []
    assert rows_of(Payment, place) == rows_of(Payment, other) == []


def test_metadata_decides_nothing(till: Till, place: Place) -> None:
    other = make_place(credit_usd=0, role="admin")
    order = click(place, "starter")
    tampered = {
        "tenant_id": str(other.tenant_id), "order_id": str(new_id()), "credits": "1000000",
        "kind": "auto_topup",
    }  # fmt: skip
    tell(till.pay(page_of(order), metadata=tampered))
    assert wallet(place.tenant_id).posted_nusd == 10 * USD
    assert lots(other) == []


@pytest.mark.parametrize("reference", [None, "", "sub-order-0001", str(UUID(int=7))])
@pytest.mark.parametrize("what", [checkout.fulfil, checkout.on_failed, checkout.on_expired])
def test_a_page_that_is_not_ours_is_ignored(
    till: Till, place: Place, reference: str | None, what: Callable[[Any, CheckoutSession], Effect]
) -> None:
    order = click(place)
    strange = replace(till.pay(page_of(order)), client_reference_id=reference)
    assert isinstance(tell(strange, what), Ignored)
    assert state_of(order) == "open"


def test_a_second_payment_of_one_order_is_flagged_and_not_granted(till: Till, place: Place) -> None:
    order = click(place, "starter")
    paid = till.pay(page_of(order))
    tell(paid)
    effect = tell(replace(paid, session_id="cs_test_second", payment_intent_id="pi_second"))
    assert isinstance(effect, Handled)
    assert "second time" in effect.note
    assert wallet(place.tenant_id).posted_nusd == 10 * USD


# Coming back


def test_the_success_page_fulfils_what_is_paid(till: Till, place: Place) -> None:
    order = click(place)
    till.pay(page_of(order))
    assert checkout.confirm(place.who, page_of(order)).state == "fulfilled"
    asked = till.calls["checkout_session"]
    assert checkout.confirm(place.who, page_of(order)).state == "fulfilled"
    assert till.calls["checkout_session"] == asked
    assert len(lots(place)) == 2


def test_the_success_page_says_processing_while_stripe_is_away(till: Till, place: Place) -> None:
    order = click(place)
    till.pay(page_of(order))
    till.faults.append(Fault("checkout_session", DOWN))
    assert checkout.confirm(place.who, page_of(order)).state == "open"


def test_the_success_page_of_a_page_stripe_lost_shows_the_order(till: Till, place: Place) -> None:
    order = click(place)
    del till.sessions[page_of(order)]
    assert checkout.confirm(place.who, page_of(order)).state == "open"


def test_the_success_page_of_an_unpaid_page_waits(till: Till, place: Place) -> None:
    order = click(place)
    assert checkout.confirm(place.who, page_of(order)).state == "open"
    till.pay(page_of(order), payment_status="unpaid")
    assert checkout.confirm(place.who, page_of(order)).state == "awaiting"


def test_another_tenants_page_cannot_be_confirmed_nor_told_from_a_missing_one(
    till: Till, place: Place
) -> None:
    order = click(place)
    till.pay(page_of(order))
    other = make_place(credit_usd=0, role="admin")
    with pytest.raises(errors.NotFound) as theirs:
        checkout.confirm(other.who, page_of(order))
    with pytest.raises(errors.NotFound) as missing:
        checkout.confirm(other.who, "cs_test_missing")
    assert theirs.value.message == missing.value.message
    assert lots(other) == lots(place) == []
    assert state_of(order) == "open"


@pytest.mark.parametrize("session_id", ["", "cs_", "pi_1", "cs_test_1/expire", "cs_" + "a" * 300])
def test_what_is_no_page_is_not_asked_for(till: Till, place: Place, session_id: str) -> None:
    with pytest.raises(errors.NotFound):
        checkout.confirm(place.who, session_id)
    assert till.calls["checkout_session"] == 0


# Giving up


def test_canceling_closes_the_page(till: Till, place: Place) -> None:
    order = click(place)
    assert checkout.cancel(place.who, order.order_id).state == "canceled"
    assert till.sessions[page_of(order)].status == "expired"
    assert audited(place.tenant_id)[-1] == "order.cancel"
    tell(till.sessions[page_of(order)], checkout.on_expired)
    assert state_of(order) == "canceled"
    assert checkout.cancel(place.who, order.order_id).state == "canceled"


def test_canceling_what_was_paid_meanwhile_fulfils_it(till: Till, place: Place) -> None:
    order = click(place)
    till.pay(page_of(order))
    assert checkout.cancel(place.who, order.order_id).state == "fulfilled"
    assert len(lots(place)) == 2


def test_canceling_what_the_bank_is_asked_for_waits_for_it(till: Till, place: Place) -> None:
    order = click(place)
    till.pay(page_of(order), payment_status="unpaid")
    assert checkout.cancel(place.who, order.order_id).state == "awaiting"
    assert checkout.cancel(place.who, order.order_id).state == "awaiting"


def test_another_tenants_order_cannot_be_canceled(till: Till, place: Place) -> None:
    order = click(place)
    other = make_place(credit_usd=0, role="admin")
    with pytest.raises(errors.NotFound):
        checkout.cancel(other.who, order.order_id)
    assert state_of(order) == "open"


def test_a_page_opened_while_its_order_was_canceled_is_closed(till: Till, place: Place) -> None:
    real = till.open_checkout

    def slow(ask: Any) -> CheckoutSession:
        page = real(ask)
        checkout.cancel(place.who, ask.order_id)
        return page

    till.open_checkout = slow  # type: ignore[method-assign]
    with pytest.raises(errors.Conflict):
        click(place)
    assert [page.status for page in till.sessions.values()] == ["expired"]


def test_orders_are_listed_for_their_own_buyers_newest_first(till: Till, place: Place) -> None:
    first, second = click(place), click(place)
    click(make_place(credit_usd=0, role="admin"))
    with db.transaction(place.who) as session:
        listed = checkout.orders(session, place.who)
    assert [order.order_id for order in listed] == [second.order_id, first.order_id]
    with db.transaction(place.who) as session, pytest.raises(errors.Forbidden):
        checkout.orders(session, make_place(credit_usd=0).who)


def age(order: Order, hours: int = 2) -> None:
    with db.transaction(TESTS) as session:
        row = session.get_one(Order, (order.tenant_id, order.order_id))
        row.created_at = datetime.now(UTC) - timedelta(hours=hours)


# Plans


def start(place: Place, plan: str = "pro", key: str = "") -> Order:
    return checkout.start_plan(place.who, plan, click_key=key or new_id().hex)


def test_a_plan_is_subscribed_to_and_brings_no_credit_by_itself(till: Till, place: Place) -> None:
    order = start(place)
    [ask] = till.asks
    assert (ask.mode, order.kind, order.price_minor) == ("subscription", "plan", 7900)
    tell(till.pay(page_of(order), subscription_id="sub_1"))
    assert state_of(order) == "fulfilled"
    assert lots(place) == [] and rows_of(Payment, place) == []
    assert offences(place.tenant_id) == []


def test_the_free_plan_is_not_for_sale(till: Till, place: Place) -> None:
    with pytest.raises(errors.BadInput):
        start(place, "free")


def test_an_unknown_plan_is_not_found(till: Till, place: Place) -> None:
    with pytest.raises(errors.NotFound):
        start(place, "gold")


def subscribe(place: Place, status: str) -> None:
    now = datetime.now(UTC)
    with db.transaction(TESTS) as session:
        session.add(
            Subscription(
                subscription_id=f"sub_{new_id().hex}", tenant_id=place.tenant_id, purpose="plan",
                status=status, item_id="si_1", price_id="price_1", plan="starter",
                period_start=now, period_end=now + timedelta(days=30), started_at=now,
            )
        )  # fmt: skip


@pytest.mark.parametrize("status", ["active", "past_due", "unpaid"])
def test_a_second_plan_is_refused_while_one_runs(till: Till, place: Place, status: str) -> None:
    subscribe(place, status)
    with pytest.raises(errors.Conflict):
        start(place)
    assert till.sessions == {}


@pytest.mark.parametrize("status", ["canceled", "incomplete_expired"])
def test_a_plan_that_ended_does_not_stand_in_the_way(till: Till, place: Place, status: str) -> None:
    subscribe(place, status)
    assert start(place).session_url


def test_choosing_a_plan_closes_the_page_of_the_one_chosen_before(till: Till, place: Place) -> None:
    first, second = start(place, "starter"), start(place, "pro")
    assert (state_of(first), state_of(second)) == ("canceled", "open")
    assert till.sessions[page_of(first)].status == "expired"


def test_a_plan_paid_for_whose_subscription_is_not_known_yet_is_the_only_one(
    till: Till, place: Place
) -> None:
    tell(till.pay(page_of(start(place, "starter")), subscription_id="sub_1"))
    with pytest.raises(errors.Conflict):
        start(place, "pro")
    assert [page.status for page in till.sessions.values()] == ["complete"]
    subscribe(place, "canceled")
    assert start(place, "pro").session_url


def test_a_plan_is_not_sold_before_the_page_of_the_one_chosen_before_is_closed(
    till: Till, place: Place
) -> None:
    first = start(place, "starter")
    till.faults.append(Fault("expire_session", DOWN))
    with pytest.raises(errors.Unavailable):
        start(place, "pro", key="k")
    assert till.sessions[page_of(first)].status == "open"
    second = start(place, "pro", key="k")
    assert till.sessions[page_of(first)].status == "expired"
    assert state_of(second) == "open"


def test_a_plan_paid_on_a_page_that_could_not_be_closed_is_the_only_one(
    till: Till, place: Place
) -> None:
    first = start(place, "starter")
    till.faults.append(Fault("expire_session", DOWN))
    with pytest.raises(errors.Unavailable):
        start(place, "pro", key="k")
    till.pay(page_of(first), subscription_id="sub_1")
    with pytest.raises(errors.Conflict):
        start(place, "pro", key="k")
    assert state_of(first) == "fulfilled"
    assert [page.status for page in till.sessions.values()] == ["complete"]


def test_choosing_a_plan_when_another_was_just_paid_is_refused(till: Till, place: Place) -> None:
    first = start(place, "starter")
    till.pay(page_of(first), subscription_id="sub_1")
    with pytest.raises(errors.Conflict):
        start(place, "pro")
    assert state_of(first) == "fulfilled"
    assert [page.status for page in till.sessions.values()] == ["complete"]


def test_parallel_choices_leave_one_open_page(till: Till, place: Place) -> None:
    def choose(plan: str) -> Order | None:
        try:
            return start(place, plan)
        except errors.Conflict:
            return None

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(choose, ["starter", "pro", "enterprise"] * 2))
    assert [page.status for page in till.sessions.values()].count("open") == 1
    assert [order.state for order in rows_of(Order, place)].count("open") == 1


def test_a_plan_under_payment_is_waited_for(till: Till, place: Place) -> None:
    order = start(place)
    tell(till.pay(page_of(order), payment_status="unpaid"))
    with pytest.raises(errors.Conflict):
        start(place, "starter")
