"""Automatic top-ups: bought with consent, one attempt at a time, never paid for twice."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text

from core import db, errors
from core.billing import checkout, ledger, topups
from core.billing.effects import Effect, Ignored, Waits
from core.billing.ledger import BILLING
from core.billing.sales_tables import AutoTopup, Fulfilment, Order, Payment
from core.billing.stripe_api import StripeDown, StripeRefused
from core.billing.stripe_objects import CheckoutSession, PaymentIntent
from core.db import new_id
from core.identity import tenants
from core.money import NANO_PER_USD
from tests.billing.purchases import audited, offences, spend, wallet
from tests.billing.till import CARD, Fault, Till, open_till, rested, save_card
from tests.factories import TESTS, Place, make_place

pytestmark = pytest.mark.usefixtures("database")
USD = NANO_PER_USD
DOWN = StripeDown("did not answer")
WORDS = "Buy $20 whenever less than $5 is left."


@pytest.fixture
def till() -> Iterator[Till]:
    with open_till() as opened:
        yield opened
    with db.transaction(TESTS) as session:  # a sweep sees every tenant
        session.execute(text("update app.auto_topups set enabled = false"))


@pytest.fixture
def place() -> Place:
    made = make_place(credit_usd=0, role="admin")
    save_card(made)
    return made


def configure(place: Place, **more: Any) -> AutoTopup:
    terms = {
        "threshold_nusd": 5 * USD, "amount_minor": 2000, "daily_cap_minor": 6000, "consent": WORDS,
    } | more  # fmt: skip
    with db.transaction(BILLING) as session:
        return topups.configure(session, place.who, **terms)


def row_of(place: Place) -> AutoTopup:
    with db.transaction(BILLING) as session:
        found = topups.of(session, place.tenant_id)
        assert found is not None
        return found


def orders_of(place: Place) -> list[Order]:
    with db.transaction(BILLING) as session:
        query = select(Order).where(Order.tenant_id == place.tenant_id)
        return list(session.scalars(query.order_by(Order.created_at)))


def states(place: Place) -> list[str]:
    return [order.state for order in orders_of(place)]


def count(table: Any, place: Place) -> int:
    with db.transaction(BILLING) as session:
        return len(session.scalars(select(table).where(table.tenant_id == place.tenant_id)).all())


def tell(found: PaymentIntent, event_type: str = "payment_intent.succeeded") -> Effect:
    with db.transaction(BILLING) as session:
        return topups.on_payment(session, found, event_type)


def tell_page(found: CheckoutSession) -> Effect:
    with db.transaction(BILLING) as session:
        return checkout.take(session, found)


def posted(place: Place) -> int:
    return wallet(place.tenant_id).posted_nusd


# What the buyer agrees to


def test_consent_is_stored_with_who_and_when(till: Till, place: Place) -> None:
    configure(place)
    row = row_of(place)
    assert (row.enabled, row.consent, row.consent_by) == (True, WORDS, place.user_id)
    assert abs(datetime.now(UTC) - row.consent_at) < timedelta(minutes=1)
    assert audited(place.tenant_id)[-1] == "topup.configure"


@pytest.mark.parametrize(
    "terms",
    [
        {"threshold_nusd": -1}, {"threshold_nusd": 10_000 * USD + 1}, {"amount_minor": 499},
        {"amount_minor": 200_001, "daily_cap_minor": 200_001}, {"daily_cap_minor": 1999},
        {"consent": " "}, {"consent": "x" * 2001}, {"amount_minor": True},
    ],
)  # fmt: skip
def test_terms_out_of_range_are_refused(till: Till, place: Place, terms: dict[str, Any]) -> None:
    with pytest.raises(errors.BadInput):
        configure(place, **terms)


def test_without_a_saved_card_it_cannot_be_switched_on(till: Till) -> None:
    place = make_place(credit_usd=0, role="finance")
    with pytest.raises(errors.Conflict):
        configure(place)


@pytest.mark.parametrize("mode", ["postpaid", "internal"])
def test_only_who_pays_in_advance_tops_up(till: Till, mode: str) -> None:
    place = make_place(credit_usd=0, role="admin", mode=mode)
    save_card(place)
    with pytest.raises(errors.Conflict):
        configure(place)


def test_a_member_or_a_key_cannot_switch_it_on(till: Till, place: Place) -> None:
    member = make_place(credit_usd=0)
    save_card(member)
    with pytest.raises(errors.Forbidden):
        configure(member)
    with pytest.raises(errors.Forbidden):
        configure(replace(place, who=replace(place.who, key_id=new_id())))


def test_switched_off_it_buys_nothing(till: Till, place: Place) -> None:
    configure(place)
    with db.transaction(BILLING) as session:
        topups.switch_off(session, place.who)
    topups.sweep()
    assert orders_of(place) == []
    assert audited(place.tenant_id)[-1] == "topup.switch_off"


# One attempt


def test_below_the_threshold_the_agreed_amount_is_bought_once(till: Till, place: Place) -> None:
    configure(place)
    topups.sweep()
    topups.sweep()
    [order] = orders_of(place)
    assert (order.kind, order.state, order.code) == ("topup", "fulfilled", CARD)
    assert (order.price_minor, order.credits_nusd, order.bonus_nusd) == (2000, 20 * USD, 0)
    assert posted(place) == 20 * USD
    [paid] = till.paid_intents()
    assert order.payment_intent_id == paid.payment_intent_id
    assert count(Payment, place) == count(Fulfilment, place) == 1
    assert offences(place.tenant_id) == []


@pytest.mark.parametrize(("credit_usd", "bought"), [("4.99", 1), ("5", 0)])
def test_the_threshold_itself_is_enough(till: Till, credit_usd: str, bought: int) -> None:
    place = make_place(credit_usd=credit_usd, role="admin")
    save_card(place)
    configure(place)
    topups.sweep()
    assert len(orders_of(place)) == bought


def test_what_running_calls_hold_counts_as_used(till: Till) -> None:
    place = make_place(credit_usd=6, role="admin")
    save_card(place)
    configure(place)
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.accounts set held_nusd = :held where tenant_id = :t"),
            {"held": 2 * USD, "t": place.tenant_id},
        )
    topups.sweep()
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.accounts set held_nusd = 0 where tenant_id = :t"),
            {"t": place.tenant_id},
        )
    assert states(place) == ["fulfilled"]


def test_debt_is_paid_first(till: Till) -> None:
    place = make_place(credit_usd=5, role="admin")
    spend(place, "5")
    with db.transaction(TESTS) as session:
        [lot] = ledger.lots(session, place.tenant_id)
        ledger.revoke(session, place.tenant_id, lot.lot_id, 3 * USD, key="r", actor="t", reason="r")
    assert wallet(place.tenant_id).debt_nusd == 3 * USD
    save_card(place)
    configure(place)
    topups.sweep()
    now = wallet(place.tenant_id)
    assert (now.debt_nusd, now.available_nusd) == (0, 17 * USD)


def test_twenty_parallel_sweeps_make_one_attempt(till: Till, place: Place) -> None:
    configure(place)
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: topups.sweep(), range(20)))
    assert len(orders_of(place)) == len(till.intents) == 1
    assert posted(place) == 20 * USD


@pytest.mark.parametrize("state", ["awaiting", "needs_action"])
def test_a_pending_top_up_counts_until_it_ends(till: Till, place: Place, state: str) -> None:
    till.charge_status = {"awaiting": "processing", "needs_action": "requires_action"}[state]
    configure(place)
    topups.sweep()
    topups.sweep()
    assert states(place) == [state]
    assert len(till.intents) == 1


def test_the_daily_cap_ends_the_day(till: Till, place: Place) -> None:
    configure(place, threshold_nusd=10_000 * USD)
    for _ in range(5):
        topups.sweep()
    assert states(place) == ["fulfilled"] * 3
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.orders set created_at = created_at - interval '25 h'"
                 " where tenant_id = :t"), {"t": place.tenant_id},
        )  # fmt: skip
    topups.sweep()
    assert states(place) == ["fulfilled"] * 4


@pytest.mark.parametrize("why", ["suspended", "frozen", "postpaid"])
def test_nothing_is_bought_for_a_tenant_that_may_not(till: Till, place: Place, why: str) -> None:
    configure(place)
    with db.transaction(TESTS) as session:
        if why == "suspended":
            tenants.set_tenant_active(session, TESTS, place.tenant_id, active=False)
        elif why == "frozen":
            ledger.set_frozen(session, place.tenant_id, True)
        else:
            session.execute(
                text("update app.tenants set mode = 'postpaid' where tenant_id = :t"),
                {"t": place.tenant_id},
            )
    topups.sweep()
    assert orders_of(place) == []


def test_a_card_that_is_gone_stops_it(till: Till, place: Place) -> None:
    configure(place)
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.stripe_customers set payment_method_id = null where tenant_id = :t"),
            {"t": place.tenant_id},
        )
    topups.sweep()
    assert orders_of(place) == []
    row = row_of(place)
    assert (row.enabled, row.stopped_reason) == (False, "There is no saved card any more.")


def test_where_stripe_is_not_set_up_nothing_is_tried(database: object, place: Place) -> None:
    configure(place)
    topups.sweep()
    assert orders_of(place) == []
    with db.transaction(BILLING) as session:
        topups.switch_off(session, place.who)


# Declines


def test_two_declines_in_a_row_stop_it(till: Till, place: Place) -> None:
    configure(place)
    till.declines = ["card_declined"] * 5
    for _ in range(4):
        topups.sweep()
        rested(place)
    assert states(place) == ["failed", "failed"]
    row = row_of(place)
    assert (row.enabled, row.declines) == (False, 2)
    assert row.stopped_reason == "2 attempts failed. The card was declined (card declined)."
    configure(place)
    assert (row_of(place).declines, row_of(place).stopped_reason) == (0, None)


def test_a_success_forgives_the_decline_before(till: Till, place: Place) -> None:
    configure(place)
    till.declines = ["card_declined"]
    topups.sweep()
    assert row_of(place).declines == 1
    topups.sweep()
    assert states(place) == ["failed"]
    rested(place)
    topups.sweep()
    assert states(place) == ["failed", "fulfilled"]
    assert row_of(place).declines == 0


def test_a_decline_told_by_event_and_answer_counts_once(till: Till, place: Place) -> None:
    configure(place)
    till.declines = ["card_declined"]
    topups.sweep()
    [failed] = till.intents.values()
    for _ in range(3):
        tell(failed, "payment_intent.payment_failed")
    assert row_of(place).declines == 1
    assert states(place) == ["failed"]


def test_a_request_stripe_refuses_counts_as_a_decline(till: Till, place: Place) -> None:
    configure(place)
    till.faults = [Fault("charge_off_session", StripeRefused("resource_missing"))] * 2
    topups.sweep()
    rested(place)
    topups.sweep()
    assert states(place) == ["failed", "failed"]
    assert not row_of(place).enabled


# Lost answers


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_answer_is_asked_for_again_and_paid_once(
    till: Till, place: Place, when: Any
) -> None:
    configure(place)
    till.faults.append(Fault("charge_off_session", DOWN, when))
    topups.sweep()
    assert states(place) == ["open"]
    topups.sweep()
    assert states(place) == ["fulfilled"]
    assert len(till.intents) == 1
    assert posted(place) == 20 * USD


def test_a_process_killed_after_the_charge_leaves_nothing_to_pay_twice(
    till: Till, place: Place
) -> None:
    configure(place)
    till.faults.append(Fault("charge_off_session", KeyboardInterrupt(), "after"))
    with pytest.raises(KeyboardInterrupt):
        topups.sweep()
    assert (states(place), posted(place)) == (["open"], 0)
    topups.sweep()
    assert (states(place), len(till.intents)) == (["fulfilled"], 1)
    assert posted(place) == 20 * USD


def test_the_event_of_a_lost_answer_fulfils_and_the_sweep_adds_nothing(
    till: Till, place: Place
) -> None:
    configure(place)
    till.faults.append(Fault("charge_off_session", DOWN, "after"))
    topups.sweep()
    [paid] = till.intents.values()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: tell(paid), range(16)))
    topups.sweep()
    assert states(place) == ["fulfilled"]
    assert posted(place) == 20 * USD
    assert count(Payment, place) == 1


def test_a_repeat_charges_the_card_of_the_first_try(till: Till, place: Place) -> None:
    configure(place)
    till.faults.append(Fault("charge_off_session", DOWN, "after"))
    topups.sweep()
    with db.transaction(TESTS) as session:
        session.execute(
            text(
                "update app.stripe_customers set payment_method_id = 'pm_new' where tenant_id = :t"
            ),
            {"t": place.tenant_id},
        )
    topups.sweep()
    assert (states(place), len(till.intents)) == (["fulfilled"], 1)


def test_switched_off_meanwhile_nothing_is_repeated(till: Till, place: Place) -> None:
    configure(place)
    till.faults.append(Fault("charge_off_session", DOWN))
    topups.sweep()
    with db.transaction(BILLING) as session:
        topups.switch_off(session, place.who)
    topups.sweep()
    assert (states(place), till.intents) == (["open"], {})


def test_an_answer_that_cannot_be_read_is_left_to_the_event(till: Till, place: Place) -> None:
    configure(place)
    till.faults.append(Fault("charge_off_session", StripeRefused("unreadable"), "after"))
    topups.sweep()
    assert (states(place), row_of(place).declines) == (["open"], 0)


def test_an_attempt_too_old_to_repeat_has_failed_until_its_event_says_otherwise(
    till: Till, place: Place
) -> None:
    configure(place)
    till.faults.append(Fault("charge_off_session", DOWN, "after"))
    topups.sweep()
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.orders set created_at = now() - interval '13 h' where tenant_id = :t"),
            {"t": place.tenant_id},
        )
        topups.of(session, place.tenant_id).enabled = False  # type: ignore[union-attr]
    topups.sweep()
    assert states(place) == ["failed"]
    [paid] = till.intents.values()
    tell(paid)
    assert (states(place), posted(place)) == (["fulfilled"], 20 * USD)


def test_one_tenants_trouble_does_not_keep_the_others_waiting(till: Till) -> None:
    places = [make_place(credit_usd=0, role="admin") for _ in range(2)]
    for place in places:
        save_card(place)
        configure(place)
    till.faults.append(Fault("charge_off_session", DOWN))
    topups.sweep()
    assert sorted(states(place) for place in places) == [["fulfilled"], ["open"]]
    topups.sweep()
    assert [states(place) for place in places] == [["fulfilled"], ["fulfilled"]]


def test_who_has_reached_the_cap_takes_nobodys_turn(
    till: Till, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(place, threshold_nusd=50 * USD, daily_cap_minor=2000)
    topups.sweep()
    other = make_place(credit_usd=30, role="admin")
    save_card(other)
    configure(other, threshold_nusd=40 * USD)
    monkeypatch.setattr(topups, "_SWEPT_MAX", 1)
    topups.sweep()
    assert (states(place), states(other)) == (["fulfilled"], ["fulfilled"])


def test_a_stripe_that_is_away_is_not_asked_for_everybody(till: Till) -> None:
    for _ in range(5):
        place = make_place(credit_usd=0, role="admin")
        save_card(place)
        configure(place)
    till.faults = [Fault("charge_off_session", DOWN)] * 5
    topups.sweep()
    assert till.calls["charge_off_session"] == 3


# Payments by event


@pytest.mark.parametrize(
    "changes",
    [{"amount_minor": 1, "received_minor": 1}, {"currency": "eur"}, {"received_minor": 5}],
)
def test_a_payment_that_is_not_as_ordered_is_reviewed(
    till: Till, place: Place, changes: dict[str, Any]
) -> None:
    configure(place)
    till.charge_status = "processing"
    topups.sweep()
    [intent] = till.intents.values()
    tell(replace(till.confirm_payment(intent.payment_intent_id), **changes))
    tell(till.intents[intent.payment_intent_id])
    assert (states(place), posted(place)) == (["review"], 0)


def test_another_customers_payment_is_ignored_whatever_it_claims(till: Till, place: Place) -> None:
    configure(place)
    till.charge_status = "processing"
    topups.sweep()
    other = make_place(credit_usd=0, role="admin")
    stranger = save_card(other)
    [intent] = till.intents.values()
    paid = till.confirm_payment(intent.payment_intent_id)
    for customer_id in (None, "cus_unknown", stranger):
        claim = replace(paid, customer_id=customer_id)
        assert isinstance(tell(claim), Ignored)
        assert isinstance(tell(replace(claim, payment_intent_id="pi_claim")), Ignored)
    assert (states(place), posted(place), posted(other)) == (["awaiting"], 0, 0)


def test_a_payment_of_a_package_is_ignored(till: Till, place: Place) -> None:
    order = checkout.start_package(place.who, "pro", click_key="k")
    assert order.session_id is not None
    page = till.pay(order.session_id)
    assert page.payment_intent_id is not None
    found = PaymentIntent(
        payment_intent_id=page.payment_intent_id, status="succeeded", currency="usd",
        amount_minor=5000, received_minor=5000, customer_id=page.customer_id, error_code=None,
        decline_code=None, metadata={"order_id": str(order.order_id), "kind": "auto_topup"},
    )  # fmt: skip
    assert isinstance(tell(found), Ignored)
    assert posted(place) == 0


@pytest.mark.parametrize("ending", ["succeeded", "failed", "canceled"])
def test_a_delayed_debit_ends_by_event(till: Till, place: Place, ending: str) -> None:
    configure(place)
    till.charge_status = "processing"
    topups.sweep()
    [intent] = till.intents.values()
    if ending == "succeeded":
        tell(till.confirm_payment(intent.payment_intent_id))
        assert (states(place), posted(place)) == (["fulfilled"], 20 * USD)
        return
    status = "canceled" if ending == "canceled" else "requires_payment_method"
    tell(replace(intent, status=status, error_code="insufficient_funds"))
    assert (states(place), posted(place), row_of(place).declines) == (["failed"], 0, 1)


# The bank wants the buyer


@pytest.fixture
def asked(till: Till, place: Place) -> Order:
    """A top-up the bank wants the buyer for."""
    configure(place)
    till.declines = ["authentication_required"]
    topups.sweep()
    [order] = orders_of(place)
    assert order.state == "needs_action"
    return order


def test_nothing_more_is_tried_while_the_bank_wants_the_buyer(
    till: Till, place: Place, asked: Order
) -> None:
    topups.sweep()
    [intent] = till.intents.values()
    tell(intent, "payment_intent.payment_failed")
    tell(replace(intent, status="requires_action", error_code=None))
    assert (states(place), row_of(place).declines) == (["needs_action"], 0)
    assert row_of(place).enabled


def test_a_decline_that_asks_for_the_buyer_is_no_decline_of_the_card(
    till: Till, place: Place
) -> None:
    configure(place)
    till.faults.append(Fault("charge_off_session", DOWN, "after"))
    topups.sweep()
    [intent] = till.intents.values()
    soft = replace(
        intent, status="requires_payment_method", received_minor=0, error_code="card_declined",
        decline_code="authentication_required",
    )  # fmt: skip
    tell(soft, "payment_intent.payment_failed")
    assert (states(place), row_of(place).declines) == (["needs_action"], 0)


def test_the_buyer_pays_on_a_page_for_the_same_order(
    till: Till, place: Place, asked: Order
) -> None:
    order = topups.pay_now(place.who, asked.order_id)
    [ask] = till.asks
    assert (order.order_id, ask.attempt, ask.mode) == (asked.order_id, 2, "payment")
    assert (ask.price_id, ask.amount_minor, ask.save_card) == (None, 2000, True)
    [intent] = till.intents.values()
    assert intent.status == "canceled"
    tell(intent, "payment_intent.canceled")
    assert order.session_id is not None
    tell_page(till.pay(order.session_id))
    assert (states(place), posted(place)) == (["fulfilled"], 20 * USD)
    assert offences(place.tenant_id) == []
    assert "topup.pay" in audited(place.tenant_id)


def test_the_pages_own_payment_does_not_fulfil_beside_the_page(
    till: Till, place: Place, asked: Order
) -> None:
    order = topups.pay_now(place.who, asked.order_id)
    assert order.session_id is not None
    page = till.pay(order.session_id)
    assert page.payment_intent_id is not None
    own = replace(
        next(iter(till.intents.values())), payment_intent_id=page.payment_intent_id,
        status="succeeded", received_minor=2000,
    )  # fmt: skip
    assert isinstance(tell(own), Waits)
    tell_page(page)
    tell(own)
    assert (posted(place), count(Fulfilment, place)) == (20 * USD, 1)


def test_a_payment_that_was_made_beside_the_page_is_noted_and_can_go_back(
    till: Till, place: Place, asked: Order
) -> None:
    order = topups.pay_now(place.who, asked.order_id)
    [given_up] = till.intents.values()
    beside = replace(
        given_up, payment_intent_id=f"pi_{new_id().hex}", status="succeeded", received_minor=2000
    )
    assert isinstance(tell(beside), Waits)
    tell_page(till.pay(str(order.session_id)))
    assert "second time" in str(tell(beside))
    assert "second time" not in str(tell(beside))
    assert (posted(place), count(Payment, place)) == (20 * USD, 2)
    assert offences(place.tenant_id) == []


@pytest.mark.parametrize(("status", "is_gone"), [(404, True), (403, False)])
def test_a_payment_stripe_does_not_tell_of_is_not_paid_for_twice(
    till: Till, place: Place, asked: Order, status: int, is_gone: bool
) -> None:
    refused = StripeRefused("refused", status=status)
    till.faults = [Fault("cancel_payment", refused), Fault("payment_intent", refused)]
    if is_gone:
        assert topups.pay_now(place.who, asked.order_id).session_url
        return
    with pytest.raises(errors.Unavailable):
        topups.pay_now(place.who, asked.order_id)
    assert (states(place), till.sessions) == (["needs_action"], {})


def test_a_debit_chosen_on_the_page_is_not_ended_by_the_payment_given_up(
    till: Till, place: Place, asked: Order
) -> None:
    order = topups.pay_now(place.who, asked.order_id)
    tell_page(till.pay(str(order.session_id), payment_status="unpaid"))
    [given_up] = till.intents.values()
    tell(given_up, "payment_intent.canceled")
    tell(replace(given_up, status="requires_payment_method"), "payment_intent.payment_failed")
    assert (states(place), row_of(place).declines) == (["awaiting"], 0)


def test_a_second_press_leads_to_the_same_page(till: Till, place: Place, asked: Order) -> None:
    first = topups.pay_now(place.who, asked.order_id)
    second = topups.pay_now(place.who, asked.order_id)
    assert (second.session_url, len(till.sessions)) == (first.session_url, 1)


def test_parallel_presses_leave_one_page_open(till: Till, place: Place, asked: Order) -> None:
    def press(_: int) -> None:
        with suppress(errors.Conflict):
            topups.pay_now(place.who, asked.order_id)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(press, range(6)))
    assert [page.status for page in till.sessions.values()].count("open") == 1


def test_a_page_that_expired_is_followed_by_another(till: Till, place: Place, asked: Order) -> None:
    first = topups.pay_now(place.who, asked.order_id)
    assert first.session_id is not None
    lapsed = till.lapse(first.session_id)
    second = topups.pay_now(place.who, asked.order_id)
    assert second.session_id not in (None, first.session_id)
    tell_page(lapsed)
    assert states(place) == ["needs_action"]
    assert second.session_id is not None
    tell_page(till.pay(second.session_id))
    assert (states(place), posted(place)) == (["fulfilled"], 20 * USD)


def test_a_lost_page_is_replaced(till: Till, place: Place, asked: Order) -> None:
    till.faults.append(Fault("open_checkout", DOWN, "after"))
    with pytest.raises(errors.Unavailable):
        topups.pay_now(place.who, asked.order_id)
    order = topups.pay_now(place.who, asked.order_id)
    assert (order.attempt, order.state) == (3, "needs_action")
    assert order.session_url


def test_a_payment_that_succeeded_after_all_is_fulfilled_without_a_page(
    till: Till, place: Place, asked: Order
) -> None:
    till.confirm_payment(str(asked.payment_intent_id))
    order = topups.pay_now(place.who, asked.order_id)
    assert (order.state, till.sessions, posted(place)) == ("fulfilled", {}, 20 * USD)


def test_the_buyer_may_dismiss_it(till: Till, place: Place, asked: Order) -> None:
    assert checkout.cancel(place.who, asked.order_id).state == "canceled"
    [intent] = till.intents.values()
    assert intent.status == "canceled"
    tell(intent, "payment_intent.canceled")
    assert states(place) == ["canceled"]
    assert row_of(place).declines == 0


def test_dismissing_closes_its_page_too(till: Till, place: Place, asked: Order) -> None:
    order = topups.pay_now(place.who, asked.order_id)
    checkout.cancel(place.who, asked.order_id)
    assert till.sessions[str(order.session_id)].status == "expired"
    with pytest.raises(errors.Conflict):
        topups.pay_now(place.who, asked.order_id)


def test_another_tenant_cannot_pay_or_dismiss_it(till: Till, asked: Order) -> None:
    other = make_place(credit_usd=0, role="admin")
    with pytest.raises(errors.NotFound):
        topups.pay_now(other.who, asked.order_id)
    with pytest.raises(errors.NotFound):
        checkout.cancel(other.who, asked.order_id)
