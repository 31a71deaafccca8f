"""Checkout sessions, their line items and portal sessions, as the pinned API version shows them."""

from __future__ import annotations

from core.billing.sandbox.refusals import Obj
from core.billing.sandbox.shapes.blanks import address, nulls
from core.billing.sandbox.store import new_id


def session(*, created: int, expires_at: int, mode: str, currency: str, subtotal: int) -> Obj:
    """An open visit to the payment page; what depends on the caller is put over it."""
    return nulls(
        "after_expiration client_secret consent consent_collection customer_creation"
        " customer_email locale payment_intent payment_link recovered_from setup_intent"
        " shipping_address_collection shipping_cost subscription permissions wallet_options"
        " origin_context currency_conversion customer_account integration_identifier"
        " presentment_details branding_settings name_collection optional_items"
        " excluded_payment_method_types allowed_payment_method_types client_reference_id customer"
        " customer_details invoice invoice_creation submit_type cancel_url success_url url"
    ) | {
        "id": new_id("cs_test"), "object": "checkout.session",
        "adaptive_pricing": {"enabled": False}, "allow_promotion_codes": None,
        "amount_subtotal": subtotal, "amount_total": subtotal,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "billing_address_collection": "auto",
        "collected_information": {
            "business_name": None, "individual_name": None, "shipping_details": None
        },
        "created": created, "currency": currency, "custom_fields": [],
        "custom_text": {
            "after_submit": None, "shipping_address": None, "submit": None,
            "terms_of_service_acceptance": None,
        },
        "discounts": [], "expires_at": expires_at, "livemode": False,
        "managed_payments": {"enabled": False}, "metadata": {}, "mode": mode,
        "payment_method_collection": "always" if mode == "subscription" else "if_required",
        "payment_method_configuration_details": {"id": "pmc_sandbox", "parent": None},
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "payment_method_types": ["card", "us_bank_account"], "payment_status": "unpaid",
        "phone_number_collection": {"enabled": False},
        "saved_payment_method_options": {
            "allow_redisplay_filters": ["always"], "payment_method_remove": "disabled",
            "payment_method_save": None,
        },
        "shipping_options": [], "status": "open",
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
    }  # fmt: skip


def customer_details(customer: Obj) -> Obj:
    """What the buyer entered on the page."""
    return {
        "address": address(), "business_name": None, "email": customer["email"],
        "individual_name": None, "name": customer["name"], "phone": None, "tax_exempt": "none",
        "tax_ids": [],
    }  # fmt: skip


def invoice_creation(metadata: Obj) -> Obj:
    """That an invoice is written for a payment, with this metadata."""
    blank = nulls("account_tax_ids custom_fields description footer issuer rendering_options")
    return {"enabled": True, "invoice_data": blank | {"metadata": metadata}}


def line_item(*, price: Obj, quantity: int, title: str) -> Obj:
    """One thing on the payment page."""
    amount = (price["unit_amount"] or 0) * quantity
    return {
        "id": new_id("li"), "object": "item", "adjustable_quantity": None, "amount_discount": 0,
        "amount_subtotal": amount, "amount_tax": 0, "amount_total": amount,
        "currency": price["currency"], "description": title, "metadata": {}, "price": price,
        "quantity": quantity,
    }  # fmt: skip


def portal_session(*, created: int, customer_id: str, return_url: str | None, url: str,
                   flow_type: str | None) -> Obj:  # fmt: skip
    """A visit to the buyer's own page at Stripe."""
    flow = None if flow_type is None else nulls(
        "customer_update subscription_cancel subscription_pause subscription_update"
        " subscription_update_confirm"
    ) | {
        "after_completion": {
            "hosted_confirmation": None, "redirect": None, "type": "portal_homepage"
        },
        "type": flow_type,
    }  # fmt: skip
    return {
        "id": new_id("bps"), "object": "billing_portal.session", "after_expiration": None,
        "configuration": "bpc_sandbox", "created": created, "customer": customer_id,
        "customer_account": None, "flow": flow, "livemode": False, "locale": None,
        "on_behalf_of": None, "return_url": return_url, "url": url,
    }  # fmt: skip
