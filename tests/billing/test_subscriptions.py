"""Subscriptions as Stripe says they are now: the row, the plan that follows, races with other reads."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core import db, errors
from core.billing import stripe_api, stripe_objects, subscriptions
from core.billing.effects import Effect, Handled, Ignored, Waits
from core.billing.ledger import BILLING
from core.billing.sales_tables import OfferPrice
from core.identity import tenants
from tests.billing import plans
from tests.billing.plans import a_customer, a_subscription, own, plan_of, row_of
from tests.billing.purchases import alarms
from tests.factories import TESTS, Place

pytestmark = pytest.mark.usefixtures("database")
CREATED, ACTIVE = "customer.subscription.created", "customer.subscription.updated.activated"
PAST_DUE, DELETED = "customer.subscription.updated.past_due", "customer.subscription.deleted"
UPGRADED, ENDING = "customer.subscription.updated.upgraded", (
    "customer.subscription.updated.cancel_at_period_end"
)  # fmt: skip
UNPAID_END = "customer.subscription.deleted.payment_failed"
RENEWED = "customer.subscription.updated.renewed"
MONTH = timedelta(days=31)


def tell(now: stripe_objects.Subscription) -> Effect:
    with db.transaction(BILLING) as session:
        return subscriptions.on_subscription(session, now)


def set_plan(place: Place, plan: str) -> None:
    with db.transaction(TESTS) as session:
        tenants.set_plan(session, TESTS, place.tenant_id, plan)


def test_an_active_subscription_puts_the_tenant_on_its_plan() -> None:
    place = a_customer()
    assert tell(a_subscription(place, ACTIVE)) == Handled("active, plan pro")
    row = row_of(place)
    assert (row.purpose, row.plan, row.next_plan, row.version) == ("plan", "pro", None, 1)
    assert row.period_end == datetime(2026, 12, 17, 12, tzinfo=UTC)
    assert plan_of(place) == "pro" and plans.lots(place) == []
    assert plans.audited(place.tenant_id)[-1] == ("plan.change", "done")


def test_every_write_raises_the_version_and_only_a_change_is_audited() -> None:
    place = a_customer()
    for _ in range(3):
        tell(a_subscription(place, ACTIVE))
    assert row_of(place).version == 3
    assert plans.audited(place.tenant_id).count(("plan.change", "done")) == 1


@pytest.mark.parametrize("status", ["incomplete", "incomplete_expired"])
def test_a_subscription_that_was_never_paid_changes_no_plan(status: str) -> None:
    place = a_customer(plan="starter")
    tell(a_subscription(place, CREATED, status=status))
    assert row_of(place).plan is None and plan_of(place) == "starter"


@pytest.mark.parametrize("status", ["trialing", "active", "past_due"])
def test_what_is_in_force_gives_the_plan(status: str) -> None:
    place = a_customer()
    tell(a_subscription(place, ACTIVE, status=status))
    assert plan_of(place) == "pro"


@pytest.mark.parametrize("status", ["unpaid", "canceled", "paused"])
def test_what_was_withdrawn_gives_the_free_plan(status: str) -> None:
    place = a_customer()
    tell(a_subscription(place, ACTIVE))
    tell(a_subscription(place, ACTIVE, status=status))
    assert (row_of(place).plan, plan_of(place)) == ("free", "free")


def test_dunning_keeps_the_plan_until_stripe_gives_up() -> None:
    place = a_customer()
    for name, plan in ((ACTIVE, "pro"), (RENEWED, "pro"), (PAST_DUE, "pro"), (UNPAID_END, "free")):
        tell(a_subscription(place, name))
        assert plan_of(place) == plan, name
    assert plans.lots(place) == []


def test_a_past_due_subscription_recovers() -> None:
    place = a_customer()
    tell(a_subscription(place, PAST_DUE))
    tell(a_subscription(place, RENEWED))
    assert row_of(place).status == "active" and plan_of(place) == "pro"


def test_an_upgrade_is_in_force_at_once() -> None:
    place = a_customer()
    tell(a_subscription(place, ACTIVE))
    tell(a_subscription(place, UPGRADED))
    assert (row_of(place).next_plan, plan_of(place)) == (None, "enterprise")


def test_a_downgrade_waits_for_the_next_period() -> None:
    place = a_customer()
    high, low = a_subscription(place, UPGRADED), a_subscription(place, ACTIVE)
    tell(high)
    for _ in range(2):
        tell(low)
        row = row_of(place)
        assert (row.plan, row.next_plan, plan_of(place)) == ("enterprise", "pro", "enterprise")
    tell(replace(low, period_start=low.period_end, period_end=low.period_end + MONTH))
    row = row_of(place)
    assert (row.plan, row.next_plan, plan_of(place)) == ("pro", None, "pro")


def test_a_downgrade_that_is_undone_in_time_never_happens() -> None:
    place = a_customer()
    high = a_subscription(place, UPGRADED)
    for now in (high, a_subscription(place, ACTIVE), high):
        tell(now)
    assert (row_of(place).plan, row_of(place).next_plan) == ("enterprise", None)


def test_a_subscription_after_one_that_ended_starts_with_its_own_plan() -> None:
    place = a_customer()
    tell(a_subscription(place, UPGRADED))
    tell(a_subscription(place, UPGRADED, status="canceled"))
    tell(a_subscription(place, ACTIVE, subscription_id=own(place, "sub_next")))
    assert plan_of(place) == "pro"


def test_an_ending_subscription_stays_in_force_until_its_end() -> None:
    place = a_customer()
    tell(a_subscription(place, ENDING))
    assert row_of(place).cancel_at == datetime(2026, 12, 17, 12, tzinfo=UTC)
    assert plan_of(place) == "pro"
    tell(a_subscription(place, DELETED))
    assert plan_of(place) == "free" and row_of(place).ended_at is not None
    with db.transaction(BILLING) as session:
        assert subscriptions.current(session, place.tenant_id) is None


def test_a_plan_an_operator_gave_stays_until_the_subscription_changes() -> None:
    place = a_customer()
    tell(a_subscription(place, DELETED))
    set_plan(place, "enterprise")
    tell(a_subscription(place, DELETED))
    tell(a_subscription(place, CREATED, subscription_id=own(place, "sub_next")))
    assert plan_of(place) == "enterprise"
    tell(a_subscription(place, ACTIVE, subscription_id=own(place, "sub_next")))
    assert plan_of(place) == "pro"


def test_of_two_subscriptions_the_newest_decides_and_an_operator_is_told() -> None:
    place, before = a_customer(), alarms("two_subscriptions")
    newer = a_subscription(
        place, UPGRADED, subscription_id=own(place, "sub_newer"),
        started_at=datetime(2026, 11, 20, tzinfo=UTC),
    )  # fmt: skip
    tell(newer)
    tell(a_subscription(place, ACTIVE))
    assert plan_of(place) == "enterprise" and alarms("two_subscriptions") == before + 1
    with db.transaction(place.who) as session:
        found = subscriptions.current(session, place.tenant_id)
    assert found is not None and found.subscription_id == newer.subscription_id
    tell(replace(newer, status="canceled"))
    assert plan_of(place) == "pro"


def test_a_price_that_is_not_ours_changes_no_plan() -> None:
    place, before = a_customer(), alarms("stripe_price_unknown")
    tell(a_subscription(place, ACTIVE, price_id="price_foreign"))
    assert row_of(place).plan is None and plan_of(place) == "free"
    assert alarms("stripe_price_unknown") == before + 1


def test_a_usage_subscription_gives_no_plan() -> None:
    place = a_customer(plan="enterprise", mode="postpaid")
    with db.transaction(BILLING) as session:
        session.add(
            OfferPrice(
                price_id=own(place, "price_use"), kind="usage", code="purser_usage", current=False,
                product_id="prod", price_minor=0, credits_nusd=0,
            )
        )  # fmt: skip
    tell(a_subscription(place, ACTIVE, price_id=own(place, "price_use")))
    tell(a_subscription(place, DELETED, price_id=own(place, "price_use")))
    assert row_of(place).purpose == "usage" and plan_of(place) == "enterprise"


def test_strangers_and_metadata_of_another_tenant_are_ignored() -> None:
    place, other = a_customer(), a_customer()
    now = a_subscription(place, ACTIVE)
    assert tell(replace(now, customer_id="cus_stranger")) == Ignored("not a customer of ours")
    assert isinstance(tell(replace(now, metadata={"tenant_id": str(other.tenant_id)})), Ignored)
    assert plan_of(place) == plan_of(other) == "free"


class Slow:
    """A Stripe whose answers are overtaken: somebody else writes before each of the first ones."""

    def __init__(self, answer: stripe_objects.Subscription, overtaken: int) -> None:
        self.answer, self.overtaken, self.asked = answer, overtaken, 0

    def subscription(self, subscription_id: str) -> stripe_objects.Subscription:
        assert subscription_id == self.answer.subscription_id
        self.asked += 1
        if self.asked <= self.overtaken:
            tell(self.answer)
            return replace(self.answer, status="canceled")
        return self.answer


def install(monkeypatch: pytest.MonkeyPatch, api: Any) -> None:
    monkeypatch.setattr(stripe_api, "_installed", api)


def test_an_answer_that_was_overtaken_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    place = a_customer()
    slow = Slow(a_subscription(place, ACTIVE), overtaken=2)
    install(monkeypatch, slow)
    subscriptions.read_again(slow.answer.subscription_id)
    assert (slow.asked, row_of(place).status, row_of(place).version) == (3, "active", 3)


def test_reading_again_ends_when_others_are_always_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    place = a_customer()
    slow = Slow(a_subscription(place, ACTIVE), overtaken=99)
    install(monkeypatch, slow)
    with pytest.raises(errors.Unavailable):
        subscriptions.read_again(slow.answer.subscription_id)
    assert slow.asked == 5 and row_of(place).status == "active"


def test_an_answer_to_an_older_question_waits() -> None:
    place = a_customer()
    now = a_subscription(place, ACTIVE)
    tell(now)
    with db.transaction(BILLING) as session:
        assert isinstance(subscriptions.write(session, subscriptions.Asked(0, now)), Waits)
        assert subscriptions.write(session, subscriptions.Asked(1, now)) == Handled(
            "active, plan pro"
        )
