"""Each state that a buyer must know of makes one notice with its way on, and ends with its cause."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from core import db
from core.billing import notices
from core.billing.notices import Notice
from core.billing.sales_tables import ClawBack
from core.db import Database, new_id
from core.identity.access import Role
from tests.analytics.using import cost_of, use
from tests.billing.books import (
    a_subscription,
    a_topup,
    an_invoice,
    an_order,
    bought,
)
from tests.billing.plans import buyer
from tests.factories import TESTS, Place, make_model, make_place


@pytest.fixture(autouse=True)
def _installed(database: Database) -> None:
    db.install(database)


def of(place: Place, role: Role = Role.FINANCE) -> list[Notice]:
    who = buyer(place, role)
    with db.transaction(who) as session:
        return list(notices.of(session, who))


def one(place: Place) -> Notice:
    (found,) = of(place)
    return found


def change(place: Place, statement: str) -> None:
    with db.transaction(TESTS) as session:
        session.execute(text(f"{statement} where tenant_id = :t"), {"t": place.tenant_id})


def test_a_full_wallet_has_nothing_to_say() -> None:
    place = make_place()
    bought(place)
    a_subscription(place)
    a_topup(place)
    assert of(place) == []


def test_little_credit_warns_and_none_stops() -> None:
    low = one(make_place(credit_usd=4))
    assert (low.name, low.weight, low.way) == ("low_balance", "warn", "add_credit")
    assert "$4.00" in low.title and "$5.00" in low.message
    empty = one(make_place(credit_usd=0))
    assert (empty.name, empty.weight) == ("low_balance", "stop")


def test_debt_is_said_instead_of_a_low_balance() -> None:
    place = make_place(credit_usd="0.1")
    use(place.who, make_model(), cost=cost_of("0.35"))
    found = one(place)
    assert (found.name, found.weight, found.way) == ("debt", "stop", "add_credit")
    assert "$0.25" in found.title


def test_a_frozen_account_says_why_nothing_works() -> None:
    place = make_place()
    change(place, "update app.accounts set frozen = true")
    found = one(place)
    assert (found.name, found.weight, found.way) == ("disputed", "stop", None)


def test_a_used_up_credit_limit_stops_a_postpaid_tenant() -> None:
    place = make_place(credit_usd=0, mode="postpaid", credit_limit_nusd=100_000_000)
    assert of(place) == []
    use(place.who, make_model(), cost=cost_of("0.1"))
    assert one(place).name == "credit_limit"


def test_an_internal_tenant_is_never_low() -> None:
    assert of(make_place(credit_usd=0, mode="internal")) == []


def test_a_failed_invoice_leads_to_the_card_and_its_page() -> None:
    place = make_place()
    tried_again = datetime(2027, 3, 3, 12, tzinfo=UTC)
    subscription = a_subscription(place, status="past_due")
    invoice = an_invoice(
        place, attempts=1, next_attempt_at=tried_again,
        subscription_id=subscription.subscription_id,
    )  # fmt: skip
    found = one(place)  # the subscription's own state is not told beside it
    assert (found.name, found.weight, found.way) == ("invoice_failed", "warn", "update_card")
    assert found.page_url == invoice.page_url
    assert "$79.00" in found.message and "3 March" in found.message
    change(place, "update app.invoices set next_attempt_at = null")
    assert "not tried again" in one(place).message
    change(place, "update app.invoices set status = 'paid'")
    change(place, "update app.subscriptions set status = 'active'")
    assert of(place) == []


def test_an_invoice_that_wants_confirmation_opens_its_page() -> None:
    place = make_place()
    an_invoice(place, needs_action=True, attempts=1)
    assert (one(place).name, one(place).way) == ("invoice_action", "open_invoice")


def test_an_invoice_to_be_paid_by_hand_is_told_and_one_about_to_be_charged_is_not() -> None:
    place = make_place()
    an_invoice(place)
    an_invoice(place, next_attempt_at=datetime.now(UTC) + timedelta(hours=1))
    assert (one(place).name, one(place).weight) == ("invoice_due", "tell")


def test_the_open_invoice_of_a_purchase_asks_nobody_to_pay_twice() -> None:
    place = make_place()
    an_order(place, state="awaiting")
    an_invoice(place, subscription_id=None)
    assert one(place).name == "order_awaiting"


def test_a_plan_past_due_is_told_also_without_its_invoice() -> None:
    place = make_place()
    a_subscription(place, status="past_due")
    assert (one(place).name, one(place).way) == ("past_due", "update_card")
    change(place, "update app.subscriptions set ended_at = now()")
    assert of(place) == []


def test_a_stopped_top_up_says_its_reason() -> None:
    place = make_place()
    a_topup(place, enabled=False, stopped_reason="The card was declined twice.")
    found = one(place)
    assert (found.name, found.way) == ("topup_stopped", "auto_topup")
    assert found.message.startswith("The card was declined twice. ")


@pytest.mark.parametrize(
    ("fields", "name", "way"),
    [
        ({"kind": "topup", "state": "needs_action"}, "topup_action", "pay_now"),
        ({"state": "awaiting"}, "order_awaiting", None),
        ({"state": "review", "total_minor": 4900}, "order_review", None),
    ],
)
def test_an_order_between_open_and_ended_is_told(
    fields: dict[str, object], name: str, way: str | None
) -> None:
    place = make_place()
    order = an_order(place, **fields)
    found = one(place)
    assert (found.name, found.way, found.order_id) == (name, way, order.order_id)
    assert ("$49.00" if "total_minor" in fields else "$50.00") in found.message


def test_an_order_under_review_is_told_until_its_payment_went_back() -> None:
    place, paid_by = make_place(), f"pi_{new_id().hex}"
    an_order(place, state="review", total_minor=4900, payment_intent_id=paid_by)
    for amount_minor, told in ((900, ["order_review"]), (4000, [])):
        with db.transaction(TESTS) as session:
            session.add(
                ClawBack(
                    stripe_id=f"re_{new_id().hex}", tenant_id=place.tenant_id, kind="refund",
                    payment_intent_id=paid_by, amount_minor=amount_minor, status="succeeded",
                    counts=True,
                )
            )  # fmt: skip
        assert [notice.name for notice in of(place)] == told


@pytest.mark.parametrize("state", ["open", "fulfilled", "failed", "expired", "canceled"])
def test_other_orders_are_not(state: str) -> None:
    place = make_place()
    an_order(place, state=state)
    assert of(place) == []


def test_what_stops_comes_first() -> None:
    place = make_place(credit_usd=0)
    an_order(place, state="awaiting")
    a_topup(place, enabled=False, stopped_reason="No card.")
    assert [found.weight for found in of(place)] == ["stop", "warn", "tell"]


def test_members_hear_only_of_what_stops_them() -> None:
    place = make_place(credit_usd=4)
    an_invoice(place, attempts=1)
    assert of(place, Role.MEMBER) == []
    change(place, "update app.accounts set frozen = true")
    assert [found.name for found in of(place, Role.MEMBER)] == ["disputed"]


@pytest.mark.parametrize("make", [an_invoice, a_subscription, a_topup, an_order])
def test_another_tenants_troubles_are_not_told(make: Callable[..., object]) -> None:
    troubles = {
        an_invoice: {"attempts": 3}, a_subscription: {"status": "past_due"},
        a_topup: {"stopped_reason": "x", "enabled": False}, an_order: {"state": "review"},
    }  # fmt: skip
    make(make_place(), **troubles[make])  # type: ignore[index]
    assert of(make_place()) == []
