"""What buyers change about their plan: what Stripe is asked, what is refused before, what is logged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from core import db, errors
from core.billing import offers, stripe_api, stripe_objects, subscriptions
from core.billing.ledger import BILLING
from core.billing.sales_tables import Invoice, OfferPrice, Subscription
from core.billing.stripe_api import CardDeclined, MirroredPrice, StripeRefused
from core.identity.access import Role
from tests.billing import plans
from tests.billing.plans import a_customer, a_subscription, buyer, plan_of, row_of
from tests.factories import Place

pytestmark = pytest.mark.usefixtures("database")
ACTIVE = "customer.subscription.updated.activated"
SOLD = ("starter", "pro", "enterprise")


@dataclass
class Desk:
    """A Stripe with one subscription, that does what it is asked unless told otherwise."""

    now: stripe_objects.Subscription
    edition: str = ""
    asked: list[tuple[object, ...]] = field(default_factory=list)
    refusal: Exception | None = None
    is_paid: bool = True

    def mirror_price(self, *, kind: str, code: str, **_: object) -> MirroredPrice:
        return MirroredPrice(f"purser_{kind}_{code}", f"price_mirrored_{code}{self.edition}")

    def subscription(self, subscription_id: str) -> stripe_objects.Subscription:
        return self.now

    def change_price(
        self, subscription_id: str, item_id: str, price_id: str, *, prorate: bool, key: str
    ) -> stripe_objects.Subscription:
        self.asked.append((price_id, prorate, key))
        return self._done(price_id=price_id) if self.is_paid or not prorate else self.now

    def set_cancel_at_period_end(
        self, subscription_id: str, cancel: bool, *, key: str
    ) -> stripe_objects.Subscription:
        self.asked.append((cancel, key))
        return self._done(cancel_at=self.now.period_end if cancel else None)

    def cancel_now(self, subscription_id: str) -> stripe_objects.Subscription:
        self.asked.append(("now", subscription_id))
        return self._done(status="canceled", ended_at=self.now.period_start)

    def _done(self, **changes: Any) -> stripe_objects.Subscription:
        if self.refusal is not None:
            raise self.refusal
        self.now = replace(self.now, **changes)
        return self.now


@dataclass
class Counter:
    """A buyer with a plan, and the Stripe that has it."""

    place: Place
    desk: Desk

    def change(self, plan: str) -> None:
        subscriptions.change_plan(buyer(self.place), plan)

    def read(self) -> None:
        subscriptions.read_again(self.desk.now.subscription_id)

    @property
    def key(self) -> str:
        row = row_of(self.place)
        return f"plan:{row.subscription_id}:{row.version}"


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Counter]]:
    """Makes a buyer on a plan."""

    def make(plan: str) -> Counter:
        place = a_customer()
        desk = Desk(a_subscription(place, ACTIVE, price_id=f"price_mirrored_{plan}"))
        monkeypatch.setattr(stripe_api, "_installed", desk)
        for code in SOLD:
            offers.sellable("plan", code)
        made = Counter(place, desk)
        made.read()
        assert plan_of(place) == plan
        return made

    with plans.own_prices():
        yield make


def test_an_upgrade_is_charged_in_proportion_and_in_force_at_once(
    on: Callable[[str], Counter],
) -> None:
    it = on("starter")
    key = it.key
    it.change("pro")
    assert it.desk.asked == [("price_mirrored_pro", True, f"{key}:pro")]
    assert plan_of(it.place) == "pro" and row_of(it.place).next_plan is None
    assert ("subscription.change", "done") in plans.audited(it.place.tenant_id)


def test_a_downgrade_is_not_charged_and_waits(on: Callable[[str], Counter]) -> None:
    it = on("enterprise")
    key = it.key
    it.change("starter")
    assert it.desk.asked == [("price_mirrored_starter", False, f"{key}:starter")]
    assert (plan_of(it.place), row_of(it.place).next_plan) == ("enterprise", "starter")
    end = it.desk.now.period_end
    it.desk.now = replace(it.desk.now, period_start=end, period_end=end + timedelta(days=31))
    it.read()
    assert (plan_of(it.place), row_of(it.place).next_plan) == ("starter", None)


def test_the_plan_one_has_undoes_a_downgrade_that_waits(on: Callable[[str], Counter]) -> None:
    it = on("pro")
    it.change("starter")
    it.change("pro")
    assert [asked[:2] for asked in it.desk.asked] == [
        ("price_mirrored_starter", False), ("price_mirrored_pro", False),
    ]  # fmt: skip
    assert (plan_of(it.place), row_of(it.place).next_plan) == ("pro", None)
    with pytest.raises(errors.Conflict, match="already"):
        it.change("pro")


def test_an_upgrade_while_a_downgrade_waits_starts_from_the_plan_in_force(
    on: Callable[[str], Counter],
) -> None:
    it = on("pro")
    it.change("starter")
    it.change("enterprise")
    assert [asked[:2] for asked in it.desk.asked[1:]] == [
        ("price_mirrored_pro", False), ("price_mirrored_enterprise", True),
    ]  # fmt: skip
    assert len({asked[2] for asked in it.desk.asked}) == 3
    assert plan_of(it.place) == "enterprise"


@pytest.mark.parametrize("plan", ["pro", "enterprise"])
def test_who_stays_keeps_the_price_of_before_though_the_plan_costs_more_now(
    on: Callable[[str], Counter], plan: str
) -> None:
    it = on("pro")
    it.change("starter")
    it.read()
    it.desk.asked.clear()
    assert row_of(it.place).held_price_id == "price_mirrored_pro"
    it.desk.edition = "_dearer"
    with db.transaction(BILLING) as session:
        session.execute(update(OfferPrice).where(OfferPrice.current).values(current=False))
    it.change(plan)
    prices = [asked[0] for asked in it.desk.asked]
    assert prices == ["price_mirrored_pro", "price_mirrored_enterprise_dearer"][: len(prices)]
    assert (plan_of(it.place), row_of(it.place).held_price_id) == (plan, None)
    assert it.desk.now.price_id == prices[-1]


def test_a_second_downgrade_keeps_the_price_of_the_plan_in_force(
    on: Callable[[str], Counter],
) -> None:
    it = on("enterprise")
    it.change("pro")
    it.change("starter")
    assert row_of(it.place).held_price_id == "price_mirrored_enterprise"
    it.change("enterprise")
    assert it.desk.now.price_id == "price_mirrored_enterprise"


def test_an_upgrade_whose_payment_fails_changes_nothing_and_says_so(
    on: Callable[[str], Counter],
) -> None:
    it = on("starter")
    it.desk.is_paid = False
    with pytest.raises(errors.Conflict, match="payment did not go through"):
        it.change("pro")
    assert plan_of(it.place) == "starter"
    assert plans.audited(it.place.tenant_id)[-1] == ("subscription.change", "failed")


@pytest.mark.parametrize(
    ("refusal", "said"),
    [(CardDeclined("card_declined", decline_code=None, payment_intent_id=None), "payment"),
     (StripeRefused("resource_missing"), "did not accept")],
)  # fmt: skip
def test_a_refusal_is_told_and_logged(
    on: Callable[[str], Counter], refusal: Exception, said: str
) -> None:
    it = on("starter")
    it.desk.refusal = refusal
    with pytest.raises(errors.Conflict, match=said):
        it.change("pro")
    assert plan_of(it.place) == "starter"
    assert plans.audited(it.place.tenant_id)[-1] == ("subscription.change", "failed")


def test_a_change_that_was_declined_is_asked_for_anew_with_the_next_card(
    on: Callable[[str], Counter],
) -> None:
    it = on("starter")
    it.desk.refusal = CardDeclined("card_declined", decline_code=None, payment_intent_id=None)
    with pytest.raises(errors.Conflict):
        it.change("pro")
    it.desk.refusal = None
    it.change("pro")
    first, second = (asked[2] for asked in it.desk.asked)
    assert first != second  # Stripe would repeat its answer to the same key for a day
    assert plan_of(it.place) == "pro"


def test_stripe_being_away_changes_nothing(on: Callable[[str], Counter]) -> None:
    it = on("starter")
    it.desk.refusal = stripe_api.StripeDown("could not be reached")
    with pytest.raises(errors.Unavailable):
        it.change("pro")
    assert plan_of(it.place) == "starter"


def test_cancelling_ends_with_the_period_and_can_be_undone(on: Callable[[str], Counter]) -> None:
    it = on("pro")
    key = it.key
    it.change("free")
    assert it.desk.asked == [(True, f"{key}:cancel")]
    assert row_of(it.place).cancel_at == it.desk.now.period_end and plan_of(it.place) == "pro"
    with pytest.raises(errors.Conflict, match="Resume"):
        it.change("enterprise")
    subscriptions.cancel(buyer(it.place))
    assert len(it.desk.asked) == 1
    key = it.key
    subscriptions.resume(buyer(it.place, Role.ADMIN))
    assert it.desk.asked[1:] == [(False, f"{key}:resume")]
    assert row_of(it.place).cancel_at is None
    assert plans.audited(it.place.tenant_id)[-2:] == [
        ("subscription.cancel", "done"), ("subscription.resume", "done"),
    ]  # fmt: skip


def test_an_unpaid_invoice_blocks_an_upgrade(
    on: Callable[[str], Counter],
) -> None:
    it = on("starter")
    row = row_of(it.place)
    with db.transaction(BILLING) as session:
        session.add(
            Invoice(
                invoice_id=f"in_{it.place.tenant_id.hex}", tenant_id=it.place.tenant_id,
                subscription_id=row.subscription_id, status="open", total_minor=1500,
                currency="usd", page_url="https://pay/1", created_at=row.started_at,
            )
        )  # fmt: skip
    for status in ("active", "unpaid"):
        it.desk.now = replace(it.desk.now, status=status)
        it.read()
        with pytest.raises(errors.Conflict, match="not paid yet") as refused:
            it.change("pro")
        assert "https" not in str(refused.value)  # the page's notice has the link
    assert it.desk.asked == []


@pytest.mark.parametrize("status", ["unpaid", "paused"])
def test_a_plan_that_is_not_in_force_can_only_be_ended_at_once(
    on: Callable[[str], Counter], status: str
) -> None:
    it = on("pro")
    it.desk.now = replace(it.desk.now, status=status)
    it.read()
    for act in (subscriptions.resume, lambda who: subscriptions.change_plan(who, "starter")):
        with pytest.raises(errors.Conflict, match="only be canceled"):
            act(buyer(it.place))
    subscriptions.cancel(buyer(it.place))
    assert it.desk.asked == [("now", it.desk.now.subscription_id)]
    with db.transaction(BILLING) as session:  # nothing keeps the tenant from buying another one
        assert subscriptions.current(session, it.place.tenant_id) is None
    assert plans.audited(it.place.tenant_id)[-1] == ("subscription.cancel", "done")
    with pytest.raises(errors.Conflict, match="subscribe first"):
        subscriptions.cancel(buyer(it.place))


def test_a_plan_whose_first_payment_is_on_its_way_is_waited_for(
    on: Callable[[str], Counter],
) -> None:
    it = on("pro")
    with db.transaction(BILLING) as session:
        session.execute(
            update(Subscription)
            .where(Subscription.tenant_id == it.place.tenant_id)
            .values(status="incomplete", plan=None)
        )
    with pytest.raises(errors.Conflict, match="wait"):
        subscriptions.cancel(buyer(it.place))
    assert it.desk.asked == []


def test_what_is_not_for_sale_is_refused(on: Callable[[str], Counter]) -> None:
    with pytest.raises(errors.BadInput):
        on("pro").change("gold")


@pytest.mark.parametrize(
    "act", [lambda who: subscriptions.change_plan(who, "pro"), subscriptions.cancel,
            subscriptions.resume],
)  # fmt: skip
def test_without_a_plan_there_is_nothing_to_change(act: Callable[[Any], None]) -> None:
    with pytest.raises(errors.Conflict, match="subscribe first"):
        act(buyer(a_customer()))


@pytest.mark.parametrize(
    "act", [lambda who: subscriptions.change_plan(who, "pro"), subscriptions.cancel,
            subscriptions.resume],
)  # fmt: skip
def test_members_and_api_keys_change_no_plan(
    on: Callable[[str], Counter], act: Callable[[Any], None]
) -> None:
    it = on("starter")
    for who in (it.place.who, replace(buyer(it.place), key_id=it.place.user_id)):
        with pytest.raises(errors.Forbidden):
            act(replace(who, role=Role.MEMBER) if who is it.place.who else who)
    assert it.desk.asked == []
