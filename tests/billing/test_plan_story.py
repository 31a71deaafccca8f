"""A plan from its first payment to its end, and a postpaid month, against the stand-in with its clock:
every step told by events, in order and out of order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from core import db, errors
from core.billing import (
    customers,
    ledger,
    meters,
    offers,
    postpaid,
    subscriptions,
)
from core.billing.ledger import BILLING
from core.billing.sales_tables import Invoice, Payment
from core.billing.stripe_api import CheckoutAsk
from core.billing.stripe_tables import MeterExport
from core.db import new_id
from core.money import NANO_PER_USD
from tests.billing import plans
from tests.billing.conftest import Stripe
from tests.billing.plans import plan_of, row_of
from tests.billing.purchases import offences, spend
from tests.factories import Place, make_place

pytestmark = pytest.mark.usefixtures("database")
USD = NANO_PER_USD
DAY = 86_400


@dataclass
class Story:
    """A tenant with a plan at the stand-in."""

    place: Place
    stripe: Stripe

    @property
    def customer_id(self) -> str:
        with db.transaction(BILLING) as session:
            found = customers.of_tenant(session, self.place.tenant_id)
            assert found is not None
            return found.customer_id

    def pass_days(self, days: int) -> None:
        self.stripe.sandbox.advance(days * DAY)
        self.stripe.deliver()

    def renew(self, *, seed: int | None = None) -> None:
        self.stripe.sandbox.renew(row_of(self.place).subscription_id)
        self.stripe.deliver(seed=seed)

    def change(self, plan: str) -> None:
        subscriptions.change_plan(plans.buyer(self.place), plan)
        self.stripe.deliver()

    @property
    def granted(self) -> list[int]:
        return plans.granted_usd(self.place)

    def invoices(self) -> list[Invoice]:
        with db.transaction(BILLING) as session:
            mine = select(Invoice).where(Invoice.tenant_id == self.place.tenant_id)
            return list(session.scalars(mine.order_by(Invoice.number)))


@pytest.fixture
def on(stripe: Stripe) -> Iterator[Callable[..., Story]]:
    """Makes a tenant that has just paid for a plan."""

    def make(plan: str, *, card: str = "card", is_delivered: bool = True) -> Story:
        place = make_place(credit_usd=0, plan="free", role="finance")
        customer_id = customers.ensure(place.tenant_id, name="Acme", email=place.who.email)
        price = offers.sellable("plan", plan)
        ask = CheckoutAsk(
            "subscription", place.tenant_id, new_id(), 1, "plan", customer_id, price.price_id, None,
            plan, False, "http://localhost/billing", "http://localhost/billing",
        )  # fmt: skip
        opened = stripe.api.open_checkout(ask)
        stripe.sandbox.pay(opened.session_id, card)
        if is_delivered:
            stripe.deliver()
        return Story(place, stripe)

    with plans.own_prices():
        yield make


def test_a_subscription_brings_plan_and_credit_and_its_payment(on: Callable[..., Story]) -> None:
    it = on("pro")
    assert (plan_of(it.place), it.granted) == ("pro", [85])
    row = row_of(it.place)
    assert (row.status, row.plan, row.purpose) == ("active", "pro", "plan")
    (invoice,) = it.invoices()
    assert (invoice.status, invoice.total_minor) == ("paid", 7900)
    with db.transaction(BILLING) as session:
        (payment,) = session.scalars(
            select(Payment).where(Payment.tenant_id == it.place.tenant_id)
        ).all()
    assert (payment.invoice_id, payment.total_minor) == (invoice.invoice_id, 7900)
    assert offences(it.place.tenant_id) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_year_of_copies_in_any_order_brings_twelve_months(
    on: Callable[..., Story], seed: int
) -> None:
    it = on("starter", is_delivered=False)
    it.stripe.sandbox.sender(copies=2)
    it.stripe.deliver(seed=seed)
    for month in range(11):
        it.renew(seed=seed * 100 + month)
    assert it.granted == [15] * 12 and plan_of(it.place) == "starter"
    assert [invoice.status for invoice in it.invoices()] == ["paid"] * 12
    assert offences(it.place.tenant_id) == []


def test_an_upgrade_is_paid_and_granted_in_proportion(on: Callable[..., Story]) -> None:
    it = on("starter")
    it.pass_days(10)
    it.change("pro")
    assert plan_of(it.place) == "pro"
    update_paid = it.invoices()[-1]
    assert update_paid.status == "paid" and 0 < update_paid.total_minor < 7900 - 1500
    (upgrade,) = [done for done in plans.fulfilments(it.place) if done.kind == "invoice"]
    assert upgrade.stripe_id == update_paid.invoice_id
    row = row_of(it.place)
    left = row.period_end - timedelta(days=10) - row.period_start  # to the second
    share = left / (row.period_end - row.period_start)
    assert abs(upgrade.granted_nusd - 70 * USD * share) < 70 * USD * 10 / (30 * DAY)
    it.renew()
    assert max(it.granted) == 85 and offences(it.place.tenant_id) == []


def test_an_upgrade_that_is_declined_changes_nothing_until_its_invoice_is_paid(
    on: Callable[..., Story],
) -> None:
    it = on("starter")
    it.stripe.sandbox.give_card(it.customer_id, "pm_card_chargeCustomerFail")
    with pytest.raises(errors.Conflict, match="did not go through"):
        it.change("pro")
    it.stripe.deliver()
    assert (plan_of(it.place), it.granted) == ("starter", [15])
    waiting = it.invoices()[-1]
    with pytest.raises(errors.Conflict, match="Pay it first"):
        it.change("pro")
    it.stripe.sandbox.give_card(it.customer_id)
    it.stripe.sandbox.pay_invoice(waiting.invoice_id)
    it.stripe.deliver()
    assert plan_of(it.place) == "pro" and len(it.granted) == 2


def test_an_upgrade_nobody_pays_is_called_off(on: Callable[..., Story]) -> None:
    it = on("starter")
    it.stripe.sandbox.give_card(it.customer_id, "pm_card_chargeCustomerFail")
    with pytest.raises(errors.Conflict):
        it.change("pro")
    it.pass_days(2)
    assert it.invoices()[-1].status == "void" and plan_of(it.place) == "starter"
    it.stripe.sandbox.give_card(it.customer_id)
    it.change("pro")
    assert plan_of(it.place) == "pro"


def test_a_downgrade_comes_with_the_renewal_and_costs_nothing_before(
    on: Callable[..., Story],
) -> None:
    it = on("pro")
    it.change("starter")
    assert (plan_of(it.place), row_of(it.place).next_plan) == ("pro", "starter")
    assert len(it.invoices()) == 1
    it.renew()
    assert (plan_of(it.place), it.granted) == ("starter", [15, 85])
    assert it.invoices()[-1].total_minor == 1500


def test_an_upgrade_while_a_downgrade_waits_is_charged_from_the_plan_in_force(
    on: Callable[..., Story],
) -> None:
    it = on("pro")
    it.change("starter")
    it.change("enterprise")
    assert plan_of(it.place) == "enterprise"
    assert 39900 - 7900 - 50 <= it.invoices()[-1].total_minor <= 39900 - 7900
    assert sum(lot.granted_nusd for lot in plans.lots(it.place)) <= 450 * USD


def test_cancelled_and_resumed_it_goes_on_and_cancelled_for_good_it_ends(
    on: Callable[..., Story],
) -> None:
    it = on("pro")
    subscriptions.cancel(plans.buyer(it.place))
    subscriptions.resume(plans.buyer(it.place))
    it.renew()
    assert (plan_of(it.place), it.granted) == ("pro", [85, 85])
    subscriptions.cancel(plans.buyer(it.place))
    it.stripe.deliver()
    assert plan_of(it.place) == "pro"
    it.pass_days(35)
    assert (plan_of(it.place), it.granted) == ("free", [85, 85])
    assert row_of(it.place).status == "canceled"


def test_dunning_grants_nothing_and_a_paid_retry_recovers(on: Callable[..., Story]) -> None:
    it = on("pro")
    it.stripe.sandbox.give_card(it.customer_id, "pm_card_chargeCustomerFail")
    it.renew()
    assert (row_of(it.place).status, plan_of(it.place), it.granted) == ("past_due", "pro", [85])
    failed = it.invoices()[-1]
    assert (failed.status, failed.attempts) == ("open", 1) and failed.next_attempt_at is not None
    it.stripe.sandbox.give_card(it.customer_id)
    it.pass_days(4)
    assert (row_of(it.place).status, it.granted) == ("active", [85, 85])
    assert it.invoices()[-1].status == "paid"


def test_dunning_that_is_exhausted_ends_the_plan(on: Callable[..., Story]) -> None:
    it = on("pro")
    it.stripe.sandbox.give_card(it.customer_id, "pm_card_chargeCustomerFail")
    it.renew()
    it.pass_days(20)
    assert (row_of(it.place).status, plan_of(it.place), it.granted) == ("canceled", "free", [85])
    assert it.invoices()[-1].attempts == 4


def test_a_renewal_the_bank_wants_the_buyer_for_says_so_until_it_is_paid(
    on: Callable[..., Story],
) -> None:
    it = on("pro")
    it.stripe.sandbox.give_card(it.customer_id, "pm_card_authenticationRequired")
    it.renew()
    asked = it.invoices()[-1]
    assert asked.needs_action and asked.page_url is not None
    it.stripe.sandbox.pay_invoice(asked.invoice_id, "authenticate")
    it.stripe.deliver()
    assert not it.invoices()[-1].needs_action and it.granted == [85, 85]


def test_a_refunded_month_is_taken_back(on: Callable[..., Story]) -> None:
    it = on("pro", is_delivered=False)
    (paid,) = it.stripe.sandbox.event("invoice_payment.paid")[-1:]
    it.stripe.sandbox.refund(paid["data"]["object"]["payment"]["payment_intent"])
    it.stripe.deliver(seed=3)
    with db.transaction(BILLING) as session:
        assert ledger.wallet(session, it.place.tenant_id).posted_nusd == 0
    assert it.granted == [85] and offences(it.place.tenant_id) == []


@pytest.fixture
def on_account(stripe: Stripe) -> Iterator[Story]:
    """A postpaid tenant subscribed to the meter, with an outbox in which nothing else waits."""
    with db.transaction(BILLING) as session:
        session.execute(update(MeterExport).values(state="dead"))
    place = make_place(
        credit_usd=0, plan="enterprise", mode="postpaid", role="finance",
        credit_limit_nusd=5000 * USD,
    )  # fmt: skip
    with plans.own_prices():
        postpaid.ensure(place.tenant_id)
        stripe.deliver()
        yield Story(place, stripe)


def collect(place: Place) -> None:
    """What the hourly run does, without waiting for the hour to end."""
    with db.transaction(BILLING) as session:
        meters.collect(session, place.tenant_id, until=datetime.now(UTC))


def in_the_outbox(place: Place) -> list[tuple[int, str]]:
    with db.transaction(BILLING) as session:
        mine = select(MeterExport).where(MeterExport.tenant_id == place.tenant_id)
        rows = session.scalars(mine.order_by(MeterExport.hour, MeterExport.revision))
        return [(row.units, row.state) for row in rows]


def test_a_postpaid_month_is_used_sent_billed_and_paid(on_account: Story) -> None:
    it = on_account
    spend(it.place, "1500.000002")
    collect(it.place)
    it.stripe.sandbox.fail_next("/v1/billing/meter_events", "lost", 3)
    meters.send()
    assert in_the_outbox(it.place) == [(1_500_000_002, "waiting")]
    with db.transaction(BILLING) as session:
        session.execute(update(MeterExport).values(due_at=func.now()))
    meters.send()
    assert in_the_outbox(it.place) == [(1_500_000_002, "sent")]
    it.renew()
    bill = it.invoices()[-1]
    assert (bill.status, bill.total_minor) == (
        "open",
        100_000 + 49_000,
    )  # the second tier is 2 % off
    it.stripe.sandbox.give_card(it.customer_id)
    it.stripe.sandbox.pay_invoice(bill.invoice_id)
    it.stripe.deliver()
    with db.transaction(BILLING) as session:
        wallet = ledger.wallet(session, it.place.tenant_id)
    assert (wallet.receivable_nusd, wallet.posted_nusd) == (0, 0)
    assert row_of(it.place).status == "active" and plan_of(it.place) == "enterprise"
    assert offences(it.place.tenant_id) == []
    it.renew()
    assert it.invoices()[-1].total_minor == 0


def test_a_meter_error_of_stripes_is_told_and_handled(on_account: Story) -> None:
    meter = on_account.stripe.sandbox
    with db.transaction(BILLING) as session:
        meter_id = meters.meter(session).meter_id
    meter.report_meter_error(meter_id or "")
    on_account.stripe.deliver()
    assert "v1.billing.meter.error_report_triggered" in on_account.stripe.delivered
