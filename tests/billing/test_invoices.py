"""Invoices: credit once per paid line or upgrade, in any order; rows that only move forward."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core import db
from core.billing import invoices, ledger, refunds
from core.billing.effects import Effect, Handled, Ignored, Waits
from core.billing.ledger import BILLING
from core.billing.sales_tables import OfferPrice, Payment
from core.billing.stripe_objects import Invoice, InvoiceLine, InvoicePayment, Refund
from core.billing.tables import Lot
from core.money import NANO_PER_USD
from tests.billing import plans
from tests.billing.plans import a_customer, a_payment, an_invoice, granted_usd, own
from tests.billing.purchases import alarms, offences, spend
from tests.factories import Place

pytestmark = pytest.mark.usefixtures("database")
USD = NANO_PER_USD
FIRST, CYCLE = "invoice.paid.subscription_create", "invoice.paid.subscription_cycle"
UPGRADE, TRIAL = "invoice.paid.subscription_update", "invoice.paid.subscription_create.trial_zero"
PACK, FAILED = "invoice.paid.manual_checkout_pack", "invoice.payment_failed.subscription_cycle"
FINAL, ACTION = "invoice.payment_failed.final", "invoice.payment_action_required"


def tell(found: Invoice, event_type: str = "invoice.paid") -> Effect:
    with db.transaction(BILLING) as session:
        return invoices.on_invoice(session, found, event_type)


def tell_fixture(place: Place, name: str) -> Effect:
    return tell(an_invoice(place, name), plans.event(place, name)["type"])


def tell_payment(found: InvoicePayment) -> Effect:
    with db.transaction(BILLING) as session:
        return invoices.on_invoice_payment(session, found)


def tell_refund(place: Place, payment_intent_id: str, amount_minor: int) -> Effect:
    found = Refund(
        f"re_{payment_intent_id}", "succeeded", "usd", amount_minor, payment_intent_id,
        plans.customer_id(place), None, {},
    )  # fmt: skip
    with db.transaction(BILLING) as session:
        return refunds.on_refund(session, found)


def posted_usd(place: Place) -> int:
    with db.transaction(BILLING) as session:
        return ledger.wallet(session, place.tenant_id).posted_nusd // USD


def assert_ends(lot: Lot, until: datetime) -> None:
    """It ends with three days of grace after its period, or after now when that is over."""
    begins = max(until, datetime.now(UTC))
    assert lot.expires_at is not None
    assert abs(lot.expires_at - begins - timedelta(days=3)) < timedelta(minutes=1)


def test_a_month_paid_when_it_is_over_can_be_used_for_the_days_of_grace() -> None:
    place = a_customer()
    first, now = an_invoice(place, FIRST), datetime.now(UTC)
    late = replace(
        first.lines[0], period_start=now - timedelta(days=60), period_end=now - timedelta(days=30)
    )
    tell(replace(first, lines=(late,)))
    (lot,) = plans.lots(place)
    assert_ends(lot, late.period_end)
    ledger.expire()
    spend(place, "0.01")
    assert posted_usd(place) == 19
    tell(replace(first, lines=(late,)))
    assert [one.expires_at for one in plans.lots(place)] == [lot.expires_at]


def test_a_paid_month_brings_its_credit_until_the_period_ends_plus_grace() -> None:
    place = a_customer()
    assert tell_fixture(place, FIRST) == Handled("$20.00 granted")
    (lot,) = plans.lots(place)
    assert lot.granted_nusd == 20 * USD
    assert_ends(lot, datetime(2026, 12, 17, 12, tzinfo=UTC))
    (done,) = plans.fulfilments(place)
    assert (lot.source_type, lot.source_id) == ("invoice_line", done.stripe_id)
    assert done.invoice_id == own(place, "in_1SUw0SB7WZ01zgkWsubFirst")
    assert done.subscription_item_id == own(place, "si_TSy1hN4QpVb8Zr")
    assert done.period_start == datetime(2026, 11, 17, 12, tzinfo=UTC)


def test_each_period_brings_credit_and_each_copy_nothing() -> None:
    place = a_customer()
    for name in (CYCLE, FIRST, CYCLE, FIRST, FIRST):
        tell_fixture(place, name)
    assert granted_usd(place) == [20, 20]
    assert offences(place.tenant_id) == []


def test_another_line_of_a_period_that_was_paid_brings_nothing_and_an_alarm() -> None:
    place = a_customer()
    tell_fixture(place, FIRST)
    before, first = alarms("period_paid_twice"), an_invoice(place, FIRST)
    again = replace(
        first, invoice_id=own(place, "in_again"),
        lines=(replace(first.lines[0], line_id=own(place, "il_again")),),
    )  # fmt: skip
    assert tell(again) == Handled("another line brought this period's credit")
    assert granted_usd(place) == [20] and alarms("period_paid_twice") == before + 1


@pytest.mark.parametrize(
    ("name", "note"),
    [(TRIAL, "nothing was charged: nothing granted"),
     (PACK, "a receipt: granted with its order"),
     (FAILED, "open, 1 attempts"), (ACTION, "open, 1 attempts")],
)  # fmt: skip
def test_what_is_no_paid_month_brings_nothing(name: str, note: str) -> None:
    place = a_customer()
    assert tell_fixture(place, name) == Handled(note)
    assert plans.lots(place) == [] and plans.fulfilments(place) == []


def test_a_price_that_is_not_ours_brings_nothing() -> None:
    place, before = a_customer(), alarms("stripe_price_unknown")
    first = an_invoice(place, FIRST)
    foreign = replace(first, lines=(replace(first.lines[0], price_id="price_foreign"),))
    assert tell(foreign) == Handled("a price we do not know: nothing granted")
    assert plans.lots(place) == [] and alarms("stripe_price_unknown") == before + 1


def test_the_amount_comes_from_our_price_row_not_from_what_was_charged() -> None:
    place = a_customer()
    first = an_invoice(place, FIRST)
    tell(replace(first, total_minor=1, lines=(replace(first.lines[0], amount_minor=1),)))
    assert granted_usd(place) == [20]


def test_an_upgrade_with_twenty_of_thirty_days_left_brings_two_thirds_of_the_difference() -> None:
    place = a_customer()
    assert tell_fixture(place, UPGRADE) == Handled("$20.00 granted")
    (lot,) = plans.lots(place)
    assert lot.granted_nusd == 20 * USD
    assert_ends(lot, datetime(2026, 12, 17, 12, tzinfo=UTC))
    assert (lot.source_type, lot.source_id) == (
        "invoice",
        own(place, "in_1SUz9pB7WZ01zgkWsubUpgrd"),
    )
    tell_fixture(place, UPGRADE)
    assert granted_usd(place) == [20]


def line(amount_minor: int, start: datetime, end: datetime) -> InvoiceLine:
    return InvoiceLine("il", amount_minor, 1, "price", "sub", "si", True, start, end)


@pytest.mark.parametrize(
    ("start", "end", "old_nusd", "new_nusd", "granted_nusd"),
    [
        (datetime(2026, 3, 15, tzinfo=UTC), datetime(2026, 3, 31, tzinfo=UTC), 0, 31, 16),  # clamped
        (datetime(2027, 1, 15, tzinfo=UTC), datetime(2027, 1, 31, tzinfo=UTC), 0, 31, 16),
        (datetime(2026, 12, 16, 23, 59, 59, tzinfo=UTC), datetime(2026, 12, 17, tzinfo=UTC), 0, 10, 1),
        (datetime(2026, 12, 2, tzinfo=UTC), datetime(2026, 12, 17, tzinfo=UTC), 7, 7, 0),
        (datetime(2026, 12, 2, tzinfo=UTC), datetime(2026, 12, 17, tzinfo=UTC), 50, 20, 0),
        (datetime(2026, 12, 2, tzinfo=UTC), datetime(2026, 12, 17, tzinfo=UTC), 10, 21, 6),
    ],
)  # fmt: skip
def test_the_rest_of_a_month_is_exact_and_rounded_up_once(
    start: datetime, end: datetime, old_nusd: int, new_nusd: int, granted_nusd: int
) -> None:
    old, new = OfferPrice(credits_nusd=old_nusd), OfferPrice(credits_nusd=new_nusd)
    parts = [(line(-1, start, end), old), (line(1, start, end), new)]
    if end.month == 3:  # a month before 31 March is 28 February: 31 days
        assert end - timedelta(days=31) == datetime(2026, 2, 28, tzinfo=UTC)
    assert invoices.upgrade_nusd(parts) == granted_nusd
    assert invoices.upgrade_ahead_nusd(old_nusd, new_nusd, start, end) == granted_nusd


def test_an_upgrade_when_the_period_is_over_brings_nothing_of_it() -> None:
    end = datetime(2026, 12, 17, tzinfo=UTC)
    assert invoices.upgrade_ahead_nusd(0, 10, end + timedelta(days=1), end) == 0


def test_a_prorated_downgrade_and_an_upgrade_from_an_unknown_price_bring_nothing() -> None:
    place = a_customer()
    up = an_invoice(place, UPGRADE)
    back = replace(up, lines=tuple(replace(x, amount_minor=-x.amount_minor) for x in up.lines))
    assert tell(back) == Handled("no more credit than before")
    strange = (replace(up.lines[0], price_id="price_foreign"), up.lines[1])
    unknown = tell(replace(up, lines=strange))
    assert unknown == Handled("no upgrade between plans we know: nothing granted")
    assert plans.lots(place) == []


def test_proration_lines_of_a_renewal_bring_no_month() -> None:
    place = a_customer()
    up = an_invoice(place, UPGRADE)
    tell(replace(up, billing_reason="subscription_cycle"))
    assert plans.lots(place) == []


def test_a_stranger_and_metadata_of_another_tenant_are_ignored() -> None:
    place, other = a_customer(), a_customer()
    found = an_invoice(place, FIRST)
    assert tell(replace(found, customer_id="cus_stranger")) == Ignored("not a customer of ours")
    before = alarms("stripe_tenant_mismatch")
    refused = tell(replace(found, tenant_named=str(other.tenant_id)))
    assert isinstance(refused, Ignored) and alarms("stripe_tenant_mismatch") == before + 1
    assert plans.lots(place) == [] and plans.lots(other) == []


def test_a_paid_invoice_without_all_its_lines_waits_untouched() -> None:
    place = a_customer()
    found = replace(an_invoice(place, FIRST), lines_complete=False)
    assert isinstance(tell(found), Waits)
    assert plans.fulfilments(place) == []


def test_an_invoice_only_moves_forward_and_asks_for_the_buyer_as_long_as_it_matters() -> None:
    place, invoice_id = a_customer(), ""
    for name, status, attempts, needs_action in (
        (FAILED, "open", 1, False), (ACTION, "open", 1, True), (FINAL, "open", 4, False),
        (ACTION, "open", 4, False), (CYCLE, "paid", 4, False), (ACTION, "paid", 4, False),
        (FAILED, "paid", 4, False),
    ):  # fmt: skip
        tell_fixture(place, name)
        invoice_id = an_invoice(place, name).invoice_id
        row = plans.invoice_row(place, invoice_id)
        assert (row.status, row.attempts, row.needs_action) == (status, attempts, needs_action), (
            name
        )
    assert row.page_url == an_invoice(place, CYCLE).page_url and row.number == "ACME0001-0009"
    assert row.next_attempt_at is None


def test_the_next_attempt_is_the_newest_attempts() -> None:
    place = a_customer()
    tell_fixture(place, FAILED)
    invoice_id = an_invoice(place, FAILED).invoice_id
    assert plans.invoice_row(place, invoice_id).next_attempt_at == datetime(
        2026, 12, 20, 12, tzinfo=UTC
    )
    tell_fixture(place, FINAL)
    tell_fixture(place, FAILED)
    assert plans.invoice_row(place, invoice_id).next_attempt_at is None


@pytest.mark.parametrize("status", ["void", "uncollectible"])
def test_an_invoice_that_was_given_up_asks_for_nobody(status: str) -> None:
    place = a_customer()
    tell_fixture(place, ACTION)
    found = replace(an_invoice(place, ACTION), status=status)
    tell(found, "invoice.voided")
    tell_fixture(place, ACTION)
    row = plans.invoice_row(place, found.invoice_id)
    assert (row.status, row.needs_action) == (status, False)


def test_a_payment_waits_for_its_invoice_and_is_noted_once() -> None:
    place = a_customer()
    assert isinstance(tell_payment(a_payment(place)), Waits)
    tell_fixture(place, CYCLE)
    assert tell_payment(a_payment(place)) == Handled("the payment is known")
    tell_payment(a_payment(place))
    with db.transaction(BILLING) as session:
        row = session.get_one(Payment, a_payment(place).payment_intent_id)
    assert (row.tenant_id, row.total_minor) == (place.tenant_id, 2165)
    assert row.invoice_id == an_invoice(place, CYCLE).invoice_id and row.order_id is None


def test_the_payment_of_a_packages_receipt_stays_its_orders() -> None:
    place = a_customer()
    tell_fixture(place, PACK)
    found = replace(a_payment(place), invoice_id=an_invoice(place, PACK).invoice_id)
    assert isinstance(tell_payment(found), Ignored)
    with db.transaction(BILLING) as session:
        assert session.get(Payment, found.payment_intent_id) is None


@pytest.mark.parametrize(
    "changes", [{"status": "open"}, {"payment_intent_id": None}, {"paid_minor": 0}]
)
def test_what_charged_nothing_is_no_payment(changes: dict[str, object]) -> None:
    place = a_customer()
    tell_fixture(place, CYCLE)
    assert isinstance(tell_payment(replace(a_payment(place), **changes)), Ignored)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(20))
def test_months_an_upgrade_and_a_refund_end_in_one_state_in_any_order(seed: int) -> None:
    place, dice = a_customer(), random.Random(seed)
    payment = a_payment(place)
    told = [FIRST, CYCLE, UPGRADE, TRIAL, PACK, FAILED, FINAL, ACTION, "payment", "refund"] * 2
    dice.shuffle(told)
    waiting = list(told)
    while waiting:
        name = waiting.pop(0)
        if name == "payment":
            effect = tell_payment(payment)
        elif name == "refund":
            effect = tell_refund(place, payment.payment_intent_id or "", 2165)
        else:
            effect = tell_fixture(place, name)
        if isinstance(effect, Waits):
            waiting.append(name)
    row = plans.invoice_row(place, payment.invoice_id)
    assert (row.status, row.attempts, row.needs_action, row.number) == (
        "paid", 4, False, "ACME0001-0009",
    )  # fmt: skip
    assert granted_usd(place) == [20, 20, 20]
    assert posted_usd(place) == 40  # the renewal was refunded as a whole
    assert offences(place.tenant_id) == []


def test_a_refund_known_before_the_paid_invoice_takes_the_late_credit_back() -> None:
    place = a_customer()
    tell_fixture(place, FAILED)  # the invoice is known, its credit is not there yet
    payment = a_payment(place)
    tell_payment(payment)
    tell_refund(place, payment.payment_intent_id or "", 2165)
    assert posted_usd(place) == 0
    tell_fixture(place, CYCLE)
    assert posted_usd(place) == 0 and granted_usd(place) == [20]


def test_copies_told_at_once_by_many_workers_bring_one_month_and_one_upgrade() -> None:
    place = a_customer()
    payment = a_payment(place)
    tell_fixture(place, FAILED)
    with ThreadPoolExecutor(12) as workers:
        told = [workers.submit(tell_fixture, place, name) for name in (CYCLE, UPGRADE) * 10]
        told += [workers.submit(tell_payment, payment) for _ in range(10)]
    assert {type(one.result()) for one in told} == {Handled}
    assert granted_usd(place) == [20, 20] and offences(place.tenant_id) == []


def metered(place: Place, units: int, amount_minor: int = 0) -> Invoice:
    """The paid monthly invoice of `units` used, with the price of a meter."""
    price_id = own(place, "price_usage")
    with db.transaction(BILLING) as session:
        if session.get(OfferPrice, price_id) is None:
            session.add(
                OfferPrice(
                    price_id=price_id, kind="usage", code="purser_usage", product_id="prod",
                    price_minor=0, credits_nusd=0, current=False,
                )
            )  # fmt: skip
    cycle = an_invoice(place, CYCLE)
    used = replace(
        cycle.lines[0], price_id=price_id, quantity=units, amount_minor=amount_minor,
        line_id=own(place, "il_use"),
    )  # fmt: skip
    return replace(cycle, invoice_id=own(place, "in_use"), lines=(used,))


def test_paid_use_lowers_what_is_receivable_once_whatever_it_was_sold_for() -> None:
    place = a_customer(mode="postpaid", plan="enterprise")
    spend(place, "0.003")
    effect = tell(metered(place, 2000))
    tell(metered(place, 2000))
    assert effect == Handled("$0.002 of use paid")
    with db.transaction(BILLING) as session:
        assert ledger.wallet(session, place.tenant_id).receivable_nusd == 1_000_000
    assert plans.lots(place) == [] and offences(place.tenant_id) == []


def test_an_invoice_without_use_pays_nothing() -> None:
    assert tell(metered(a_customer(mode="postpaid"), 0)) == Handled("no use billed")
