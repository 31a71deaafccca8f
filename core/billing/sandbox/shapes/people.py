"""Customers and their payment methods, as the pinned API version shows them."""

from __future__ import annotations

from core.billing.sandbox.refusals import Obj
from core.billing.sandbox.shapes.blanks import address, nulls
from core.billing.sandbox.store import new_id


def customer(*, created: int, name: str | None, email: str | None, metadata: Obj) -> Obj:
    """A new customer without any payment method."""
    customer_id = new_id("cus")
    return nulls(
        "address customer_account currency default_source description discount phone shipping"
        " test_clock"
    ) | {
        "id": customer_id, "object": "customer", "balance": 0, "created": created,
        "delinquent": False, "email": email, "invoice_prefix": customer_id[4:12].upper(),
        "invoice_settings": {
            "custom_fields": None, "default_payment_method": None, "footer": None,
            "rendering_options": None,
        },
        "livemode": False, "metadata": metadata, "name": name, "next_invoice_sequence": 1,
        "preferred_locales": [], "tax_exempt": "none",
    }  # fmt: skip


def card(*, created: int, brand: str, last4: str, owner: Obj | None, behaviour: str) -> Obj:
    """A card; `behaviour` says how a payment with it will end."""
    return _payment_method(created, "card", owner, behaviour) | {
        "card": {
            "brand": brand,
            "checks": {
                "address_line1_check": "pass", "address_postal_code_check": "pass",
                "cvc_check": "pass",
            },
            "country": "US", "display_brand": brand, "exp_month": 8, "exp_year": 2034,
            "fingerprint": f"sandbox{last4}00000"[:16], "funding": "credit",
            "generated_from": None, "last4": last4,
            "networks": {"available": [brand], "preferred": None},
            "regulated_status": "unregulated", "three_d_secure_usage": {"supported": True},
            "wallet": None,
        }
    }  # fmt: skip


def bank_account(*, created: int, owner: Obj | None) -> Obj:
    """A bank account, which is debited days later."""
    return _payment_method(created, "us_bank_account", owner, "bank_debit") | {
        "us_bank_account": {
            "account_holder_type": "company", "account_type": "checking",
            "bank_name": "SANDBOX BANK", "financial_connections_account": None,
            "fingerprint": "sandboxbank00000", "last4": "6789",
            "networks": {"preferred": "ach", "supported": ["ach"]},
            "routing_number": "110000000", "status_details": {},
        }
    }  # fmt: skip


def billing_details(owner: Obj | None) -> Obj:
    return {
        "address": address(), "email": (owner or {}).get("email"),
        "name": (owner or {}).get("name"), "phone": None, "tax_id": None,
    }  # fmt: skip


def _payment_method(created: int, kind: str, owner: Obj | None, behaviour: str) -> Obj:
    return {
        "id": new_id("pm"), "object": "payment_method", "allow_redisplay": "limited",
        "billing_details": billing_details(owner), "created": created, "customer": None,
        "customer_account": None, "livemode": False, "metadata": {}, "type": kind,
        "_behaviour": behaviour,
    }  # fmt: skip
