"""Invoices, their lines and their payments, as the pinned API version shows them."""

from __future__ import annotations

from core.billing.sandbox.refusals import Obj
from core.billing.sandbox.shapes.blanks import address, nulls
from core.billing.sandbox.store import new_id

TAX_RATE = "txr_sandbox"


def invoice(
    *, created: int, customer: Obj, currency: str, reason: str, collection: str,
    period: tuple[int, int], parent: Obj | None, metadata: Obj, is_taxed: bool,
) -> Obj:  # fmt: skip
    """A draft without lines."""
    return nulls(
        "account_tax_ids application custom_fields customer_phone customer_shipping"
        " default_payment_method default_source description due_date effective_at ending_balance"
        " footer from_invoice hosted_invoice_url invoice_pdf last_finalization_error"
        " latest_revision next_payment_attempt number on_behalf_of receipt_number rendering"
        " shipping_cost shipping_details statement_descriptor test_clock webhooks_delivered_at"
        " automatically_finalizes_at customer_account status_details"
    ) | {
        "id": new_id("in"), "object": "invoice", "account_country": "US",
        "account_name": "Sandbox", "amount_due": 0, "amount_overpaid": 0, "amount_paid": 0,
        "amount_paid_off_stripe": 0, "amount_remaining": 0, "amount_shipping": 0,
        "attempt_count": 0, "attempted": False, "auto_advance": True,
        "automatic_tax": {
            "disabled_reason": None, "enabled": is_taxed,
            "liability": {"type": "self"} if is_taxed else None,
            "provider": "stripe" if is_taxed else None,
            "status": "complete" if is_taxed else None,
        },
        "billing_reason": reason, "collection_method": collection, "created": created,
        "currency": currency, "customer": customer["id"], "customer_address": address(),
        "customer_email": customer["email"], "customer_name": customer["name"],
        "customer_tax_exempt": "none", "customer_tax_ids": [], "default_tax_rates": [],
        "discounts": [], "issuer": {"type": "self"}, "livemode": False, "metadata": metadata,
        "parent": parent,
        "payment_settings": {
            "default_mandate": None, "payment_method_options": None, "payment_method_types": None
        },
        "period_end": period[1], "period_start": period[0],
        "post_payment_credit_notes_amount": 0, "pre_payment_credit_notes_amount": 0,
        "starting_balance": 0, "status": "draft",
        "status_transitions": nulls("finalized_at marked_uncollectible_at paid_at voided_at"),
        "subtotal": 0, "subtotal_excluding_tax": 0, "total": 0, "total_discount_amounts": [],
        "total_excluding_tax": 0, "total_pretax_credit_amounts": [], "total_taxes": [],
    }  # fmt: skip


def subscription_parent(subscription: Obj) -> Obj:
    """That an invoice is a subscription's; its metadata as it is now."""
    return {
        "quote_details": None,
        "subscription_details": {
            "metadata": dict(subscription["metadata"]), "subscription": subscription["id"]
        },
        "type": "subscription_details",
    }  # fmt: skip


def line(
    *, amount: int, quantity: int, currency: str, description: str, period: tuple[int, int],
    price: Obj, unit_amount: str, metadata: Obj, parent: Obj, subscription: str | None = None,
    is_discountable: bool = True,
) -> Obj:  # fmt: skip
    """One line; `amount` in cents before discounts and tax."""
    return {
        "id": new_id("il"), "object": "line_item", "amount": amount, "currency": currency,
        "description": description, "discount_amounts": [], "discountable": is_discountable,
        "discounts": [], "invoice": None, "livemode": False, "metadata": metadata,
        "parent": parent, "period": {"end": period[1], "start": period[0]},
        "pretax_credit_amounts": [],
        "pricing": {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details", "unit_amount_decimal": unit_amount,
        },
        "quantity": quantity, "quantity_decimal": str(quantity), "subscription": subscription,
        "subtotal": amount, "taxes": [],
    }  # fmt: skip


def item_parent(*, subscription: str, item: str, credited: Obj | None = None,
                is_proration: bool = False) -> Obj:  # fmt: skip
    """That a line is of a subscription's item, perhaps for a part of a period."""
    return {
        "invoice_item_details": None,
        "subscription_item_details": {
            "invoice_item": new_id("ii") if is_proration else None, "proration": is_proration,
            "proration_details": {"credited_items": credited}, "subscription": subscription,
            "subscription_item": item,
        },
        "type": "subscription_item_details",
    }  # fmt: skip


def pack_parent() -> Obj:
    """That a line was sold once."""
    return {
        "invoice_item_details": {
            "invoice_item": new_id("ii"), "proration": False,
            "proration_details": {"credited_items": None}, "subscription": None,
        },
        "subscription_item_details": None,
        "type": "invoice_item_details",
    }  # fmt: skip


def tax(*, amount: int, taxable: int) -> Obj:
    """The tax on a line or on all of them."""
    return {
        "amount": amount, "tax_behavior": "exclusive",
        "tax_rate_details": {"tax_rate": TAX_RATE}, "taxability_reason": "standard_rated",
        "taxable_amount": taxable, "type": "tax_rate_details",
    }  # fmt: skip


def payment(*, created: int, of: Obj, intent_id: str) -> Obj:
    """That this intent is to pay this invoice."""
    return {
        "id": new_id("inpay"), "object": "invoice_payment", "amount_paid": None,
        "amount_requested": of["amount_due"], "created": created, "currency": of["currency"],
        "invoice": of["id"], "is_default": True, "livemode": False,
        "payment": {"payment_intent": intent_id, "type": "payment_intent"}, "status": "open",
        "status_transitions": {"canceled_at": None, "paid_at": None},
    }  # fmt: skip
