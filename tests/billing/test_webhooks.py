"""What every event of Stripe's causes here, taken by itself."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, text

from core import db
from core.billing import stripe_api, stripe_objects, webhooks
from core.billing.effects import Effect, Handled, Ignored, Waits
from core.billing.ledger import BILLING
from core.billing.sales_tables import (
    Order,
    StripeCustomer,
    Subscription,
)
from core.billing.tables import Account
from core.billing.webhooks import Need
from core.db import Database
from tests.billing.shuffles import SaidNow, state_of
from tests.billing.story import PAID, Story, names, tell
from tests.factories import TESTS


@pytest.fixture
def story(database: Database) -> Story:
    made = tell()
    stripe_api.install(SaidNow(made))
    return made


def apply(story: Story, name: str, **fields: Any) -> Effect:
    """One event of a fixture, applied in a transaction of its own."""
    event = stripe_objects.event(story.event(name) | fields)
    need = webhooks.needed(event)
    fetched = webhooks.read(need) if need else None
    with db.transaction(BILLING) as session:
        return webhooks.tried(session, lambda: webhooks.apply(session, event, fetched))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("payment_intent.created", "nothing is paid yet"),
        ("payment_intent.processing", "under way"),
        ("payment_intent.succeeded", "paid through its session"),
        ("charge.succeeded", "payouts match it"),
        ("charge.refunded.partial", "a running total"),
        ("charge.dispute.funds_withdrawn", "booked when the dispute was opened"),
    ],
)
def test_events_of_no_concern_say_why(story: Story, name: str, said: str) -> None:
    effect = apply(story, name)
    assert isinstance(effect, Ignored) and said in effect.reason


@pytest.mark.parametrize("name", ["invoice.created", "invoice.will_be_due", "tax.settings.updated"])
def test_types_we_do_not_use_are_ignored(story: Story, name: str) -> None:
    effect = apply(story, "charge.succeeded", type=name)
    assert isinstance(effect, Ignored) and effect.reason


def test_a_subscription_is_read_anew_whatever_its_event_said(story: Story) -> None:
    effect = apply(story, "customer.subscription.updated.activated")
    assert isinstance(effect, Handled)
    with db.transaction(TESTS) as session:
        row = session.scalars(
            select(Subscription).where(Subscription.tenant_id == story.place.tenant_id)
        ).one()
    assert row.status == "canceled"


def test_an_older_reading_of_a_subscription_never_wins(story: Story) -> None:
    event = stripe_objects.event(story.event("customer.subscription.updated.past_due"))
    need = webhooks.needed(event)
    assert need is not None
    earlier = webhooks.read(need)
    apply(story, "customer.subscription.updated.renewed")
    with db.transaction(BILLING) as session:
        effect = webhooks.tried(session, lambda: webhooks.apply(session, event, earlier))
    assert isinstance(effect, Waits)


@pytest.mark.parametrize("version", ["2017-08-15", None, ""])
def test_an_event_of_another_version_is_read_anew(story: Story, version: str | None) -> None:
    event = story.event(PAID) | {"api_version": version}
    event["data"]["object"] = {"id": event["data"]["object"]["id"], "object": "checkout.session"}
    found = stripe_objects.event(event)
    need = webhooks.needed(found)
    assert need == Need("checkout.session", event["data"]["object"]["id"])
    fetched = webhooks.read(need)
    with db.transaction(BILLING) as session:
        assert isinstance(webhooks.apply(session, found, fetched), Handled)
        order = session.get_one(Order, (story.place.tenant_id, story.orders["paid"]))
        assert order.state == "fulfilled"


def test_the_pinned_version_needs_nothing_from_stripe(story: Story) -> None:
    read = {name for name in names() if webhooks.needed(stripe_objects.event(story.event(name)))}
    assert read == {name for name in names() if name.startswith("customer.subscription.")} | {
        "thin.v1.checkout.session.completed"
    }


def test_an_invoice_whose_lines_did_not_fit_is_read_whole(story: Story) -> None:
    event = story.event("invoice.paid.subscription_create")
    event["data"]["object"]["lines"]["has_more"] = True
    need = webhooks.needed(stripe_objects.event(event))
    assert need == Need("invoice", event["data"]["object"]["id"])


def test_a_thin_event_does_what_its_snapshot_does(story: Story) -> None:
    assert isinstance(apply(story, "thin.v1.checkout.session.completed"), Handled)
    with db.transaction(TESTS) as session:
        assert state_of(session, story)["orders"]["paid"]["state"] == "fulfilled"


def test_a_deleted_customer_is_nobody_to_charge(story: Story) -> None:
    deleted = {"id": story.customer_id, "object": "customer", "deleted": True}
    effect = apply(story, "charge.succeeded", type="customer.deleted", data={"object": deleted})
    assert isinstance(effect, Handled)
    with db.transaction(TESTS) as session:
        assert session.get_one(StripeCustomer, story.customer_id).deleted_at is not None


@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("customer.updated", {"object": "customer", "id": "{customer}"}),
        ("payment_method.attached", {"object": "payment_method", "customer": "{customer}"}),
        ("customer.updated", {"object": "customer", "id": "cus_stranger"}),
        ("payment_method.detached", {"object": "payment_method", "customer": None}),
    ],
)
def test_another_card_is_read_by_a_job(story: Story, name: str, about: dict[str, Any]) -> None:
    said = {k: story.customer_id if v == "{customer}" else v for k, v in about.items()}
    effect = apply(story, "charge.succeeded", type=name, data={"object": said})
    ours = story.customer_id in said.values()
    assert isinstance(effect, Handled if ours else Ignored)
    with db.transaction(TESTS) as session:
        waiting = session.execute(
            text(
                "select count(*) from jobs.procrastinate_jobs where args ->> 'tenant_id' = :tenant"
                " and task_name = 'billing.refresh_card'"
            ),
            {"tenant": str(story.place.tenant_id)},
        ).scalar_one()
    assert waiting == ours


def test_a_payout_is_compared_by_a_job(story: Story) -> None:
    payout = {"id": "po_1", "object": "payout"}
    effect = apply(
        story, "charge.succeeded", type="payout.reconciliation_completed", data={"object": payout}
    )
    assert isinstance(effect, Handled)
    with db.transaction(TESTS) as session:
        query = "select count(*) from jobs.procrastinate_jobs where task_name = 'billing.payouts'"
        assert session.execute(text(query)).scalar_one() >= 1


def test_an_event_of_a_stranger_has_no_effect(story: Story) -> None:
    stranger = tell()
    event = stranger.event(PAID)
    event["data"]["object"]["customer"] = "cus_of_another_shop"
    found = stripe_objects.event(event)
    with db.transaction(BILLING) as session:
        webhooks.tried(session, lambda: webhooks.apply(session, found, None))
    with db.transaction(TESTS) as session:
        assert session.get_one(Account, stranger.place.tenant_id).posted_nusd == 0
