"""Invoices: written, made final, paid, voided and read. Who pays them is decided in collecting."""

from __future__ import annotations

from collections.abc import Sequence

from core.billing.sandbox import forms, lists, taxes
from core.billing.sandbox.refusals import Obj, Refused
from core.billing.sandbox.shapes import invoices as shapes
from core.billing.sandbox.store import new_id
from core.billing.sandbox.world import Ask, World


def read(world: World, ask: Ask) -> Obj:
    """GET /v1/invoices/{id}"""
    return world.store.get("invoice", ask.ids["id"])


def read_lines(world: World, ask: Ask) -> Obj:
    """GET /v1/invoices/{id}/lines"""
    lines = world.store.get("invoice", ask.ids["id"])["lines"]["data"]
    return lists.page(_made_up_times(lines), ask.params, ask.path)


def list_invoices(world: World, ask: Ask) -> Obj:
    """GET /v1/invoices"""
    found = world.store.where(
        "invoice", customer=forms.text(ask.params, "customer"),
        status=forms.text(ask.params, "status"),
        _subscription=forms.text(ask.params, "subscription"),
    )  # fmt: skip
    return lists.page(found, ask.params, ask.path)


def list_payments(world: World, ask: Ask) -> Obj:
    """GET /v1/invoice_payments, of an invoice or of a payment."""
    payment = forms.group(ask.params, "payment")
    found = world.store.where(
        "invoice_payment", invoice=forms.text(ask.params, "invoice"),
        status=forms.text(ask.params, "status"),
        _intent=forms.text(payment, "payment_intent"),
    )  # fmt: skip
    return lists.page(found, ask.params, ask.path)


def read_payment(world: World, ask: Ask) -> Obj:
    """GET /v1/invoice_payments/{id}"""
    return world.store.get("invoice_payment", ask.ids["id"])


def draft(
    world: World, customer: Obj, lines: Sequence[Obj], *, reason: str, currency: str,
    period: tuple[int, int], subscription: Obj | None = None, metadata: Obj | None = None,
    collection: str = "charge_automatically", is_taxed: bool = False, percent_off: int = 0,
) -> Obj:  # fmt: skip
    """A new invoice with its sums; nothing is owed yet."""
    made = shapes.invoice(
        created=world.now(), customer=customer, currency=currency, reason=reason,
        collection=collection, period=period, metadata=metadata or {}, is_taxed=is_taxed,
        parent=shapes.subscription_parent(subscription) if subscription else None,
    )  # fmt: skip
    made["_subscription"] = subscription["id"] if subscription else None
    _put_lines(made, lines, percent_off)
    world.store.add(made)
    world.emit("invoice.created", made)
    return made


def finalize(world: World, invoice: Obj, *, days_until_due: int | None = None) -> Obj:
    """From now on it is owed; the customer's balance is used up first."""
    customer = world.store.get("customer", invoice["customer"])
    owed = invoice["total"] + customer["balance"]
    number = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04d}"
    customer["next_invoice_sequence"] += 1
    page = f"{world.base_url}/invoice/{invoice['id']}"
    invoice |= {
        "starting_balance": customer["balance"], "ending_balance": min(0, owed),
        "amount_due": max(0, owed), "amount_remaining": max(0, owed), "number": number,
        "status": "open", "hosted_invoice_url": page, "invoice_pdf": f"{page}?print",
        "effective_at": world.now(), "webhooks_delivered_at": invoice["created"],
    }  # fmt: skip
    customer["balance"] = min(0, owed)
    invoice.pop("_finalize_at", None)
    invoice["status_transitions"]["finalized_at"] = world.now()
    if days_until_due is not None:
        invoice["due_date"] = world.now() + days_until_due * 86_400
    world.emit("invoice.finalized", invoice)
    return invoice


def mark_paid(world: World, invoice: Obj, intent: Obj | None) -> None:
    """It is paid, by this payment or by nothing at all."""
    invoice |= {
        "status": "paid", "amount_paid": invoice["amount_due"], "amount_remaining": 0,
        "attempted": True, "auto_advance": False, "next_payment_attempt": None,
    }  # fmt: skip
    invoice["status_transitions"]["paid_at"] = world.now()
    world.emit("invoice.paid", invoice)
    world.emit("invoice.payment_succeeded", invoice)
    if intent is None:
        return
    payment = payment_of(world, invoice, intent)
    payment |= {"status": "paid", "amount_paid": invoice["amount_paid"]}
    payment["status_transitions"]["paid_at"] = world.now()
    world.emit("invoice_payment.paid", payment)


def payment_of(world: World, invoice: Obj, intent: Obj) -> Obj:
    """The link between an invoice and the payment that is to pay it."""
    found = world.store.where("invoice_payment", invoice=invoice["id"], _intent=intent["id"])
    if found:
        return found[0]
    made = shapes.payment(created=world.now(), of=invoice, intent_id=intent["id"])
    return world.store.add(made | {"_intent": intent["id"]})


def void(world: World, invoice: Obj) -> Obj:
    """It is owed no more. Raises Refused when it was paid."""
    if invoice["status"] == "paid":
        raise Refused(400, "You cannot void an invoice that was paid.", code="invoice_not_editable")
    invoice |= {"status": "void", "next_payment_attempt": None, "auto_advance": False}
    invoice["status_transitions"]["voided_at"] = world.now()
    world.emit("invoice.voided", invoice)
    return invoice


def replace_lines(invoice: Obj, lines: Sequence[Obj]) -> None:
    """Other lines in a draft."""
    _put_lines(invoice, lines, 0)


def _put_lines(invoice: Obj, lines: Sequence[Obj], percent_off: int) -> None:
    for line in lines:
        line["invoice"] = invoice["id"]
    invoice["lines"] = lists.whole(list(lines), f"/v1/invoices/{invoice['id']}/lines")
    subtotal = sum(line["amount"] for line in lines)
    discount = subtotal * percent_off // 100 if subtotal > 0 else 0
    tax = taxes.on(subtotal - discount, is_taxed=invoice["automatic_tax"]["enabled"])
    if discount:
        given = [{"amount": discount, "discount": new_id("di")}]
        invoice |= {"discounts": [given[0]["discount"]], "total_discount_amounts": given}
        lines[-1] |= {"discount_amounts": given, "discounts": invoice["discounts"]}
    if tax:
        entries = [shapes.tax(amount=tax, taxable=subtotal - discount)]
        invoice["total_taxes"] = entries
        lines[-1]["taxes"] = entries
    invoice |= {
        "subtotal": subtotal, "subtotal_excluding_tax": subtotal,
        "total_excluding_tax": subtotal - discount, "total": subtotal - discount + tax,
    }  # fmt: skip


def _made_up_times(lines: list[Obj]) -> list[Obj]:
    # Lines have no time of making, and are listed in their own order, not newest first.
    return [line | {"created": 0} for line in reversed(lines)]
