"""Payment intents, charges, refunds, disputes and what moves the balance, as the API shows them."""

from __future__ import annotations

from core.billing.sandbox.refusals import Obj
from core.billing.sandbox.shapes.blanks import nulls
from core.billing.sandbox.shapes.people import billing_details
from core.billing.sandbox.store import new_id, public

_EVIDENCE = (
    "access_activity_log billing_address cancellation_policy cancellation_policy_disclosure"
    " cancellation_rebuttal customer_communication customer_email_address customer_name"
    " customer_purchase_ip customer_signature duplicate_charge_documentation"
    " duplicate_charge_explanation duplicate_charge_id product_description receipt refund_policy"
    " refund_policy_disclosure refund_refusal_explanation service_date service_documentation"
    " shipping_address shipping_carrier shipping_date shipping_documentation"
    " shipping_tracking_number uncategorized_file uncategorized_text"
)


def payment_intent(
    *, created: int, amount: int, currency: str, customer: str | None, metadata: Obj,
    setup_future_usage: str | None, description: str | None, method_type: str = "card",
) -> Obj:  # fmt: skip
    """A payment nobody has tried yet."""
    intent_id = f"pi_3{new_id('x')[2:25]}"
    options: Obj = {
        "card": {
            "installments": None, "mandate_options": None, "network": None,
            "request_three_d_secure": "automatic",
        }
    }  # fmt: skip
    if method_type == "us_bank_account":
        options = {method_type: {"mandate_options": {}, "verification_method": "automatic"}}
    return nulls(
        "application application_fee_amount automatic_payment_methods canceled_at"
        " cancellation_reason last_payment_error latest_charge next_action on_behalf_of"
        " payment_method payment_method_configuration_details processing receipt_email review"
        " shipping statement_descriptor statement_descriptor_suffix transfer_data transfer_group"
        " source excluded_payment_method_types customer_account allowed_payment_method_types"
        " payment_record"
    ) | {
        "id": intent_id, "object": "payment_intent", "amount": amount, "amount_capturable": 0,
        "amount_details": {"tip": {}}, "amount_received": 0, "capture_method": "automatic_async",
        "client_secret": f"{intent_id}_secret_{new_id('x')[2:]}",
        "confirmation_method": "automatic", "created": created, "currency": currency,
        "customer": customer, "description": description, "livemode": False,
        "managed_payments": {"enabled": False}, "metadata": metadata,
        "payment_details": {"customer_reference": None, "order_reference": None},
        "payment_method_options": options, "payment_method_types": [method_type],
        "setup_future_usage": setup_future_usage, "status": "requires_payment_method",
    }  # fmt: skip


def charge(*, created: int, intent: Obj, method: Obj, customer: Obj | None, receipt: str) -> Obj:
    """One attempt to take the money of an intent; still pending."""
    is_card = method["type"] == "card"
    return nulls(
        "application application_fee application_fee_amount balance_transaction description"
        " failure_balance_transaction failure_code failure_message on_behalf_of outcome"
        " receipt_number review shipping source_transfer statement_descriptor"
        " statement_descriptor_suffix transfer_data transfer_group"
    ) | {
        "id": new_id("ch" if is_card else "py"), "object": "charge", "amount": intent["amount"],
        "amount_captured": 0, "amount_refunded": 0, "billing_details": billing_details(customer),
        "calculated_statement_descriptor": "SANDBOX", "captured": False, "created": created,
        "currency": intent["currency"], "customer": intent["customer"], "disputed": False,
        "fraud_details": {}, "livemode": False, "metadata": dict(intent["metadata"]),
        "paid": False, "payment_intent": intent["id"], "payment_method": method["id"],
        "payment_method_details": _method_details(method, intent["amount"]), "radar_options": {},
        "receipt_email": (customer or {}).get("email"), "receipt_url": receipt,
        "refunded": False, "status": "pending",
    }  # fmt: skip


def outcome(*, decline_code: str | None, message: str) -> Obj:
    """What the card's network said."""
    is_approved = decline_code is None
    return {
        "advice_code": None, "network_advice_code": None,
        "network_decline_code": None if is_approved else "05",
        "network_status": "approved_by_network" if is_approved else "declined_by_network",
        "reason": decline_code, "risk_level": "normal", "risk_score": 12,
        "seller_message": message, "type": "authorized" if is_approved else "issuer_declined",
    }  # fmt: skip


def payment_error(*, charge_id: str, code: str, decline_code: str, message: str,
                  method: Obj) -> Obj:  # fmt: skip
    """The last error of an intent."""
    return {
        "advice_code": "try_again_later" if code == "card_declined" else None,
        "charge": charge_id, "code": code, "decline_code": decline_code,
        "doc_url": f"https://docs.stripe.com/error-codes/{code.replace('_', '-')}",
        "message": message, "payment_method": public(method), "type": "card_error",
    }  # fmt: skip


def refund(*, created: int, amount: int, of: Obj, reason: str | None, metadata: Obj) -> Obj:
    """Money of a charge on its way back."""
    kind = of["payment_method_details"]["type"]
    details: Obj = {"card": {"type": "refund"} | {
        "reference_status": "pending", "reference_type": "acquirer_reference_number"
    }} if kind == "card" else {"us_bank_transfer": {"reference": None, "reference_status": None}}  # fmt: skip
    return nulls(
        "balance_transaction customer_account receipt_number source_transfer_reversal"
        " transfer_reversal"
    ) | {
        "id": f"re_3{new_id('x')[2:25]}", "object": "refund", "amount": amount,
        "charge": of["id"], "created": created, "currency": of["currency"],
        "customer": of["customer"],
        "destination_details": details | {"type": next(iter(details))}, "metadata": metadata,
        "payment_intent": of["payment_intent"], "payment_method": of["payment_method"],
        "reason": reason, "status": "succeeded",
    }  # fmt: skip


def dispute(*, created: int, of: Obj, reason: str) -> Obj:
    """A charge its card's holder contests."""
    return {
        "id": new_id("du"), "object": "dispute", "amount": of["amount"],
        "balance_transactions": [], "charge": of["id"], "created": created,
        "currency": of["currency"], "enhanced_eligibility_types": [],
        "evidence": nulls(_EVIDENCE) | {"enhanced_evidence": {}},
        "evidence_details": {
            "due_by": created + 9 * 86_400, "enhanced_eligibility": {}, "has_evidence": False,
            "past_due": False, "submission_count": 0, "submission_method": "not_submitted",
        },
        "is_charge_refundable": False, "livemode": False, "metadata": {},
        "payment_intent": of["payment_intent"],
        "payment_method_details": {
            "card": {
                "brand": "visa", "case_type": "chargeback", "network": "visa",
                "network_reason_code": "10.4",
            },
            "type": "card",
        },
        "reason": reason, "status": "needs_response",
    }  # fmt: skip


def fraud_warning(*, created: int, of: Obj) -> Obj:
    """The card's network thinks that this charge is fraud."""
    return {
        "id": new_id("issfr"), "object": "radar.early_fraud_warning", "actionable": True,
        "charge": of["id"], "created": created, "fraud_type": "made_with_stolen_card",
        "livemode": False, "payment_intent": of["payment_intent"],
    }  # fmt: skip


def balance_transaction(
    *, created: int, available_on: int, amount: int, fee: int, currency: str, source: str,
    kind: str, category: str, description: str, fee_name: str = "Stripe processing fees",
) -> Obj:  # fmt: skip
    """One movement of the balance; `net` is what is left of it after the fee. Cents."""
    fees = [{"amount": fee, "application": None, "currency": currency, "description": fee_name,
             "type": "stripe_fee"}] if fee else []  # fmt: skip
    return {
        "id": new_id("txn"), "object": "balance_transaction", "amount": amount,
        "available_on": available_on, "balance_type": "payments", "created": created,
        "currency": currency, "description": description, "exchange_rate": None, "fee": fee,
        "fee_details": fees, "net": amount - fee, "reporting_category": category,
        "source": source, "status": "available" if available_on <= created else "pending",
        "type": kind, "_payout": None,
    }  # fmt: skip


def payout(*, created: int, amount: int, currency: str) -> Obj:
    """The balance paid to the merchant's bank."""
    return nulls(
        "application_fee application_fee_amount balance_transaction failure_balance_transaction"
        " failure_code failure_message original_payout payout_method reversed_by"
        " statement_descriptor"
    ) | {
        "id": new_id("po"), "object": "payout", "amount": amount, "arrival_date": created,
        "automatic": True, "created": created, "currency": currency,
        "description": "STRIPE PAYOUT", "destination": "ba_sandbox", "livemode": False,
        "metadata": {}, "method": "standard", "reconciliation_status": "completed",
        "source_type": "card", "status": "paid", "type": "bank_account",
        "trace_id": {"status": "pending", "value": None},
    }  # fmt: skip


def _method_details(method: Obj, amount: int) -> Obj:
    if method["type"] != "card":
        kept = "account_holder_type account_type bank_name fingerprint last4 routing_number"
        bank = {name: method["us_bank_account"][name] for name in kept.split()}
        more = {"expected_debit_date": None, "mandate": None, "payment_reference": None}
        return {"type": "us_bank_account", "us_bank_account": bank | more}
    kept = "brand checks country exp_month exp_year fingerprint funding last4 regulated_status"
    unavailable = {"status": "unavailable"}
    return {
        "card": {name: method["card"][name] for name in kept.split()} | {
            "amount_authorized": amount, "authorization_code": "123456",
            "extended_authorization": {"status": "disabled"},
            "incremental_authorization": unavailable, "installments": None, "mandate": None,
            "multicapture": unavailable, "network": method["card"]["brand"],
            "network_token": {"used": False}, "network_transaction_id": "753109876543210",
            "overcapture": {"maximum_amount_capturable": amount, "status": "unavailable"},
            "three_d_secure": None, "transaction_link_id": None, "wallet": None,
        },
        "type": "card",
    }  # fmt: skip
