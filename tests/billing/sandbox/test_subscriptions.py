"""Plans as time passes: renewals, dunning, upgrades with proration, ends, and usage by tiers."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from core.billing.sandbox import Server
from core.billing.stripe_api import StripeApi, StripeRefused, UsageTier
from core.db import new_id
from tests.billing.sandbox.shop import DAY_S, TENANT, customer, open_page, plan, subscribed


def reasons(sandbox: Server) -> list[str]:
    return [invoice["billing_reason"] for invoice in sandbox.control.objects("invoice")]


def test_a_plan_starts_with_a_paid_invoice_of_its_period(sandbox: Server, api: StripeApi) -> None:
    found = subscribed(api, sandbox.control, plan(api, "pro", 7900))
    assert found.status == "active" and found.latest_invoice_id is not None
    assert found.metadata["tenant_id"] == str(TENANT)
    invoice = api.invoice(found.latest_invoice_id)
    assert (invoice.status, invoice.billing_reason) == ("paid", "subscription_create")
    assert (invoice.subscription_id, invoice.tenant_named) == (found.subscription_id, str(TENANT))
    line = invoice.lines[0]
    assert (line.amount_minor, line.is_proration) == (7900, False)
    assert (line.period_start, line.period_end) == (found.period_start, found.period_end)
    assert api.invoice_payments(invoice.invoice_id)[0].status == "paid"


def test_a_plan_cannot_be_bought_with_a_declined_card(sandbox: Server, api: StripeApi) -> None:
    page = open_page(api, price_id=plan(api, "pro", 7900), mode="subscription")
    with pytest.raises(Exception, match="declined"):
        sandbox.control.pay(page.session_id, "declined")
    assert sandbox.control.objects("subscription") == []
    sandbox.control.pay(page.session_id, "free")
    assert api.checkout_session(page.session_id).payment_status == "no_payment_required"


def test_a_renewal_is_invoiced_for_the_next_period(sandbox: Server, api: StripeApi) -> None:
    before = subscribed(api, sandbox.control, plan(api, "pro", 7900))
    sandbox.control.renew(before.subscription_id)
    now = api.subscription(before.subscription_id)
    assert (now.status, now.period_start) == ("active", before.period_end)
    assert now.latest_invoice_id is not None and now.latest_invoice_id != before.latest_invoice_id
    shown = api.fetch("invoice", now.latest_invoice_id)
    assert (shown["status"], shown["period_end"]) == ("paid", int(before.period_end.timestamp()))
    line = api.invoice(now.latest_invoice_id).lines[0]
    assert (line.period_start, line.period_end) == (now.period_start, now.period_end)
    told = sandbox.control.event("customer.subscription.updated")[-1]
    assert set(told["data"]["previous_attributes"]) == {"items", "latest_invoice"}


def test_a_renewal_is_a_draft_for_an_hour(sandbox: Server, api: StripeApi) -> None:
    found = subscribed(api, sandbox.control, plan(api, "pro", 7900))
    left_s = int((found.period_end - datetime.now(UTC)).total_seconds())
    sandbox.control.advance(left_s + 60)
    latest = api.subscription(found.subscription_id).latest_invoice_id
    assert latest is not None and api.invoice(latest).status == "draft"
    sandbox.control.advance(3_600)
    assert api.invoice(latest).status == "paid"


def test_failing_renewals_end_the_plan_after_four_attempts(sandbox: Server, api: StripeApi) -> None:
    found = subscribed(api, sandbox.control, plan(api, "pro", 7900))
    sandbox.control.give_card(found.customer_id, "pm_card_chargeCustomerFail")
    sandbox.control.renew(found.subscription_id)
    late = api.subscription(found.subscription_id)
    assert late.status == "past_due" and late.latest_invoice_id is not None
    invoice = api.invoice(late.latest_invoice_id)
    assert (invoice.status, invoice.attempts) == ("open", 1)
    assert invoice.next_attempt_at is not None
    sandbox.control.advance(20 * DAY_S)
    ended = api.subscription(found.subscription_id)
    assert ended.status == "canceled" and ended.ended_at is not None
    invoice = api.invoice(late.latest_invoice_id)
    assert (invoice.attempts, invoice.next_attempt_at) == (4, None)
    assert len(sandbox.control.event("invoice.payment_failed")) == 4
    told = sandbox.control.event("customer.subscription.deleted")[0]["data"]["object"]
    assert told["cancellation_details"]["reason"] == "payment_failed"


def test_a_new_card_saves_a_late_plan_at_the_next_attempt(sandbox: Server, api: StripeApi) -> None:
    found = subscribed(api, sandbox.control, plan(api, "pro", 7900))
    sandbox.control.give_card(found.customer_id, "pm_card_chargeCustomerFail")
    sandbox.control.renew(found.subscription_id)
    sandbox.control.give_card(found.customer_id)
    sandbox.control.advance(4 * DAY_S)
    assert api.subscription(found.subscription_id).status == "active"
    assert len(sandbox.control.event("invoice.paid")) == 2


def test_a_renewal_that_needs_the_buyer_is_paid_on_its_page(
    sandbox: Server, api: StripeApi
) -> None:
    found = subscribed(api, sandbox.control, plan(api, "pro", 7900))
    sandbox.control.give_card(found.customer_id, "pm_card_authenticationRequired")
    sandbox.control.renew(found.subscription_id)
    told = sandbox.control.event("invoice.payment_action_required")[0]["data"]["object"]
    assert told["hosted_invoice_url"].startswith(sandbox.url)
    assert api.subscription(found.subscription_id).status == "past_due"
    assert sandbox.control.pay_invoice(told["id"], "authenticate")
    assert api.subscription(found.subscription_id).status == "active"


def test_an_upgrade_is_prorated_and_paid_at_once(sandbox: Server, api: StripeApi) -> None:
    small, large = plan(api, "starter", 1500), plan(api, "pro", 7900)
    found = subscribed(api, sandbox.control, small)
    period_s = int((found.period_end - found.period_start).total_seconds())
    sandbox.control.advance(period_s // 2)
    changed = api.change_price(found.subscription_id, found.item_id, large, prorate=True, key="u1")
    assert (changed.price_id, changed.period_end) == (large, found.period_end)
    assert changed.latest_invoice_id is not None
    invoice = api.invoice(changed.latest_invoice_id)
    assert (invoice.billing_reason, invoice.status) == ("subscription_update", "paid")
    unused, remaining = invoice.lines
    assert unused.is_proration and remaining.is_proration
    assert abs(unused.amount_minor + 750) <= 1 and abs(remaining.amount_minor - 3950) <= 1
    assert invoice.total_minor == unused.amount_minor + remaining.amount_minor


def test_an_upgrade_that_is_not_paid_waits_and_is_given_up(sandbox: Server, api: StripeApi) -> None:
    small, large = plan(api, "starter", 1500), plan(api, "pro", 7900)
    found = subscribed(api, sandbox.control, small)
    sandbox.control.give_card(found.customer_id, "pm_card_chargeCustomerFail")
    changed = api.change_price(found.subscription_id, found.item_id, large, prorate=True, key="u1")
    assert (changed.price_id, changed.status) == (small, "active")
    assert api.fetch("subscription", found.subscription_id)["pending_update"] is not None
    sandbox.control.advance(DAY_S)
    after = api.fetch("subscription", found.subscription_id)
    assert after["pending_update"] is None
    assert api.subscription(found.subscription_id).price_id == small
    assert len(sandbox.control.event("invoice.voided")) == 1


def test_an_upgrade_paid_late_on_its_page_takes_place(sandbox: Server, api: StripeApi) -> None:
    small, large = plan(api, "starter", 1500), plan(api, "pro", 7900)
    found = subscribed(api, sandbox.control, small)
    sandbox.control.give_card(found.customer_id, "pm_card_authenticationRequired")
    changed = api.change_price(found.subscription_id, found.item_id, large, prorate=True, key="u1")
    assert changed.latest_invoice_id is not None
    assert sandbox.control.pay_invoice(changed.latest_invoice_id, "authenticate")
    assert api.subscription(found.subscription_id).price_id == large


def test_a_downgrade_without_proration_costs_at_the_next_renewal(
    sandbox: Server, api: StripeApi
) -> None:
    small, large = plan(api, "starter", 1500), plan(api, "pro", 7900)
    found = subscribed(api, sandbox.control, large)
    changed = api.change_price(found.subscription_id, found.item_id, small, prorate=False, key="d")
    assert changed.price_id == small and reasons(sandbox) == ["subscription_create"]
    sandbox.control.renew(found.subscription_id)
    assert sandbox.control.objects("invoice")[-1]["total"] == 1500


def test_an_end_with_the_period_can_be_taken_back(sandbox: Server, api: StripeApi) -> None:
    found = subscribed(api, sandbox.control, plan(api, "pro", 7900))
    ending = api.set_cancel_at_period_end(found.subscription_id, True, key="c1")
    assert (ending.status, ending.cancel_at) == ("active", found.period_end)
    assert api.set_cancel_at_period_end(found.subscription_id, False, key="c2").cancel_at is None
    api.set_cancel_at_period_end(found.subscription_id, True, key="c3")
    sandbox.control.renew(found.subscription_id)
    assert api.subscription(found.subscription_id).status == "canceled"
    assert reasons(sandbox) == ["subscription_create"]


def test_an_end_at_once_is_final(sandbox: Server, api: StripeApi) -> None:
    found = subscribed(api, sandbox.control, plan(api, "pro", 7900))
    assert api.cancel_now(found.subscription_id).status == "canceled"
    with pytest.raises(StripeRefused):
        api.set_cancel_at_period_end(found.subscription_id, True, key="c1")


TIERS = (
    UsageTier(up_to=1000, unit_minor=Decimal(0)),
    UsageTier(up_to=5000, unit_minor=Decimal("0.25")),
    UsageTier(up_to=None, unit_minor=Decimal("0.1")),
)


def test_usage_is_summed_and_priced_by_tiers(sandbox: Server, api: StripeApi) -> None:
    buyer = customer(api)
    meter = api.create_meter(event_name="usage", title="Usage")
    price = api.create_usage_price(meter_id=meter, event_name="usage", title="Usage", tiers=TIERS)
    found = api.subscribe_usage(tenant_id=TENANT, customer_id=buyer, price_id=price, key="usage")
    assert found.status == "active" and reasons(sandbox) == []
    for number, units in enumerate((4000, 3000, 2)):
        api.send_usage(
            event_name="usage", identifier=f"hour:{number}", customer_id=buyer, units=units,
            at=datetime.now(UTC),
        )  # fmt: skip
    sandbox.control.renew(found.subscription_id)
    now = api.subscription(found.subscription_id)
    assert now.latest_invoice_id is not None
    invoice = api.invoice(now.latest_invoice_id)
    assert (invoice.status, invoice.billing_reason) == ("open", "subscription_cycle")
    assert [(line.quantity, line.amount_minor) for line in invoice.lines] == [
        (1000, 0), (4000, 1000), (2002, 200),
    ]  # fmt: skip
    assert invoice.lines[0].period_end == found.period_end
    assert sandbox.control.pay_invoice(invoice.invoice_id)
    assert api.invoice(invoice.invoice_id).paid_minor == 1200


def test_an_unpaid_usage_invoice_becomes_overdue(sandbox: Server, api: StripeApi) -> None:
    buyer = customer(api)
    meter = api.create_meter(event_name="usage", title="Usage")
    price = api.create_usage_price(meter_id=meter, event_name="usage", title="Usage", tiers=TIERS)
    found = api.subscribe_usage(tenant_id=TENANT, customer_id=buyer, price_id=price, key="usage")
    api.send_usage(
        event_name="usage", identifier="a", customer_id=buyer, units=9000, at=datetime.now(UTC)
    )
    sandbox.control.renew(found.subscription_id)
    sandbox.control.advance(31 * DAY_S)
    assert len(sandbox.control.event("invoice.overdue")) == 1


def test_usage_of_nobody_is_accepted_and_reported_later(sandbox: Server, api: StripeApi) -> None:
    meter = api.create_meter(event_name="usage", title="Usage")
    api.send_usage(
        event_name="usage", identifier="a", customer_id="cus_none", units=1, at=datetime.now(UTC)
    )
    thin = sandbox.control.objects("v2.core.event")[0]
    assert thin["type"] == "v1.billing.meter.error_report_triggered"
    assert thin["related_object"]["id"] == meter
    behind = api.fetch("v2.core.event", thin["id"])
    reason = behind["data"]["reason"]
    assert reason["error_types"][0]["code"] == "meter_event_customer_not_found"


def test_the_same_usage_counts_once(sandbox: Server, api: StripeApi) -> None:
    buyer = customer(api)
    api.create_meter(event_name="usage", title="Usage")
    name = str(new_id())
    for _ in range(2):
        with contextlib.suppress(StripeRefused):
            api.send_usage(
                event_name="usage", identifier=name, customer_id=buyer, units=5,
                at=datetime.now(UTC),
            )  # fmt: skip
    assert len(sandbox.control.objects("_usage")) == 1
