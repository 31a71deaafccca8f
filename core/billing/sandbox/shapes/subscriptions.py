"""Subscriptions and their items, and meters, as the pinned API version shows them."""

from __future__ import annotations

from core.billing.sandbox.refusals import Obj
from core.billing.sandbox.shapes.blanks import nulls
from core.billing.sandbox.shapes.catalogue import plan
from core.billing.sandbox.store import new_id, public


def subscription(
    *, created: int, customer_id: str, currency: str, collection: str, days_until_due: int | None,
    method_id: str | None, metadata: Obj, is_taxed: bool, anchor: int,
) -> Obj:  # fmt: skip
    """A subscription without items, incomplete until something is paid."""
    liability = {"type": "self"} if is_taxed else None
    return nulls(
        "application application_fee_percent billing_cycle_anchor_config cancel_at canceled_at"
        " default_source description ended_at latest_invoice next_pending_invoice_item_invoice"
        " on_behalf_of pause_collection pending_invoice_item_interval pending_setup_intent"
        " pending_update schedule test_clock transfer_data trial_end trial_start"
        " billing_thresholds customer_account status_details presentment_details"
    ) | {
        "id": new_id("sub"), "object": "subscription",
        "automatic_tax": {"disabled_reason": None, "enabled": is_taxed, "liability": liability},
        "billing_cycle_anchor": anchor,
        "billing_mode": {
            "flexible": {"proration_discounts": "included"}, "type": "flexible",
            "updated_at": created,
        },
        "billing_schedules": [], "cancel_at_period_end": False,
        "cancellation_details": nulls("comment feedback feedback_option reason"),
        "collection_method": collection, "created": created, "currency": currency,
        "customer": customer_id, "days_until_due": days_until_due,
        "default_payment_method": method_id, "default_tax_rates": [], "discounts": [],
        "invoice_settings": nulls("account_tax_ids custom_fields description footer")
        | {"issuer": {"type": "self"}},
        "items": {}, "livemode": False, "managed_payments": {"enabled": False},
        "metadata": metadata,
        "payment_settings": {
            "payment_method_options": None, "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "start_date": created, "status": "incomplete",
        "trial_settings": {
            "end_behavior": {
                "billing_cycle_anchor": None, "missing_payment_method": "create_invoice"
            }
        },
    }  # fmt: skip


def item(*, created: int, subscription_id: str, price: Obj, quantity: int | None,
         period: tuple[int, int]) -> Obj:  # fmt: skip
    """What is subscribed to. A metered price has no quantity."""
    made: Obj = {
        "id": new_id("si"), "object": "subscription_item", "billing_thresholds": None,
        "created": created, "current_period_end": period[1], "current_period_start": period[0],
        "current_trial": None, "discounts": [], "metadata": {}, "plan": plan(price),
        "price": public(price), "quantity": quantity, "subscription": subscription_id,
        "tax_rates": [],
    }  # fmt: skip
    if quantity is None:
        del made["quantity"]
    return made


def pending_update(*, expires_at: int, items: list[Obj]) -> Obj:
    """A change that waits for its payment."""
    return nulls("billing_cycle_anchor trial_end trial_from_plan") | {
        "expires_at": expires_at, "subscription_items": items
    }  # fmt: skip


def meter(*, created: int, event_name: str, title: str, formula: str) -> Obj:
    """What usage is counted."""
    return {
        "id": f"mtr_test_{new_id('x')[2:]}", "object": "billing.meter", "created": created,
        "customer_mapping": {"event_payload_key": "stripe_customer_id", "type": "by_id"},
        "default_aggregation": {"formula": formula}, "display_name": title,
        "event_name": event_name, "event_time_window": None, "livemode": False,
        "status": "active", "status_transitions": {"deactivated_at": None}, "updated": created,
        "value_settings": {"event_payload_key": "value"},
    }  # fmt: skip


def meter_event(*, created: int, event_name: str, identifier: str, payload: Obj,
                timestamp: int) -> Obj:  # fmt: skip
    """That so much was used."""
    return {
        "object": "billing.meter_event", "created": created, "event_name": event_name,
        "identifier": identifier, "livemode": False, "payload": payload, "timestamp": timestamp,
    }  # fmt: skip
