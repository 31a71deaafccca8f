"""Buying from the click to the wallet and back, through the stand-in's wire, pages and events."""

from __future__ import annotations

from core import db
from core.billing import checkout, ledger, refunds
from core.billing.ledger import BILLING
from core.billing.offers import mirror
from core.db import new_id
from tests.billing.conftest import Stripe
from tests.factories import Place, make_place


def available(place: Place) -> int:
    with db.transaction(BILLING) as session:
        return ledger.wallet(session, place.tenant_id).available_nusd


def test_a_package_is_bought_disputed_and_won_back(stripe: Stripe) -> None:
    mirror()
    place = make_place(credit_usd=0, role="admin")
    order = checkout.start_package(place.who, "pro", click_key=str(new_id()))
    assert order.session_id is not None
    stripe.sandbox.pay(order.session_id)
    stripe.deliver(seed=3)
    bought = available(place)
    assert bought == 55_000_000_000
    intent = stripe.api.checkout_session(order.session_id).payment_intent_id
    assert intent is not None
    dispute = stripe.sandbox.dispute(intent)
    stripe.deliver()
    assert available(place) == 0
    stripe.sandbox.close_dispute(dispute["id"], True)
    stripe.deliver()
    assert available(place) == bought
    with db.transaction(BILLING) as session:
        assert refunds.refundable(session, intent).unspent_minor == 5000


def test_a_plan_is_bought_and_renewed(stripe: Stripe) -> None:
    mirror()
    place = make_place(credit_usd=0, role="admin", plan="free")
    order = checkout.start_plan(place.who, "starter", click_key=str(new_id()))
    assert order.session_id is not None
    stripe.sandbox.pay(order.session_id)
    stripe.deliver(seed=5)
    first = available(place)
    assert first == 15_000_000_000
    found = stripe.api.checkout_session(order.session_id).subscription_id
    assert found is not None
    stripe.sandbox.renew(found)
    stripe.deliver()
    assert available(place) > first
