"""What happens when a buyer acts on the payment page: by card, by debit, with a code, or not."""

from __future__ import annotations

from dataclasses import dataclass

from core.billing.sandbox import (
    catalogue,
    collecting,
    invoices,
    payments,
    people,
    subscriptions,
    taxes,
)
from core.billing.sandbox.refusals import Obj, Refused
from core.billing.sandbox.shapes import checkout as shapes
from core.billing.sandbox.shapes import invoices as invoice_shapes
from core.billing.sandbox.shapes import people as people_shapes
from core.billing.sandbox.subscriptions import Terms
from core.billing.sandbox.world import World

_METHODS = {
    "card": "pm_card_visa",
    "declined": "pm_card_chargeDeclined",
    "authenticated": "pm_card_authenticationRequired",
    "bank_debit": people.BANK,
}


@dataclass(frozen=True, slots=True)
class Sum:
    """What is to be paid, in cents."""

    total: int
    discount: int
    tax: int
    percent_off: int
    promotion_code_id: str | None


def add_up(world: World, session: Obj, code: str | None) -> Sum:
    """What this session costs with that code. Raises Refused for a code nobody issued."""
    percent, code_id = 0, None
    if code:
        if not session["allow_promotion_codes"]:
            raise Refused(400, "This page takes no codes.", code="promotion_code_invalid")
        found, coupon = catalogue.coupon_of(world, code)
        percent, code_id = coupon["percent_off"], found["id"]
    discount = session["amount_subtotal"] * percent // 100
    net = session["amount_subtotal"] - discount
    tax = taxes.on(net, is_taxed=session["automatic_tax"]["enabled"])
    return Sum(net + tax, discount, tax, percent, code_id)


def complete(world: World, session: Obj, how: str, *, code: str | None = None) -> Obj:
    """The buyer pays. Raises Refused when the card says no or the session is over."""
    if session["status"] != "open":
        raise Refused(400, f"This payment page is {session['status']}.")
    if session["mode"] == "subscription" and how == "bank_debit":
        raise Refused(400, "The stand-in subscribes by card only.")
    asked = add_up(world, session, code)
    customer = _customer(world, session)
    if session["mode"] == "subscription":
        _subscribe(world, session, customer, how, asked)
    elif asked.total == 0:
        session["payment_status"] = "no_payment_required"
    else:
        _pay(world, session, customer, how, asked)
    _close(world, session, customer, asked)
    return session


def finish_debit(world: World, intent: Obj, *, is_ok: bool) -> Obj:
    """The bank's answer to a debit, and what its session and invoice make of it."""
    payments.settle_debit(world, intent, is_ok=is_ok)
    for session in world.store.where("checkout.session", payment_intent=intent["id"]):
        invoice = world.store.maybe("invoice", session["invoice"])
        if is_ok:
            session["payment_status"] = "paid"
            world.emit("checkout.session.async_payment_succeeded", session)
            if invoice:
                collecting.settle(world, invoice, intent)
        else:
            world.emit("checkout.session.async_payment_failed", session)
            if invoice:
                invoices.void(world, invoice)
    return intent


def _customer(world: World, session: Obj) -> Obj:
    found = world.store.maybe("customer", session["customer"])
    if found is not None and not found.get("deleted"):
        return found
    made = people_shapes.customer(
        created=world.now(), name="Sandbox buyer", metadata={},
        email=session["customer_email"] or "buyer@example.com",
    )  # fmt: skip
    world.store.add(made)
    world.emit("customer.created", made)
    session["customer"] = made["id"]
    return made


def _method(world: World, how: str, customer: Obj) -> Obj:
    if how not in _METHODS:
        raise Refused(400, "Choose how to pay.")
    return people.method_named(world, _METHODS[how], customer)


def _pay(world: World, session: Obj, customer: Obj, how: str, asked: Sum) -> None:
    method = _method(world, how, customer)
    intent = world.store.maybe("payment_intent", session["_intent"])
    if intent is None or intent["amount"] != asked.total or method["type"] != "card":
        intent = payments.begin(
            world, amount=asked.total, currency=session["currency"], customer=customer,
            metadata=session["_intent_metadata"], description=session["_intent_description"],
            future_usage=session["_future_usage"], method_type=method["type"],
        )  # fmt: skip
        session["_intent"] = intent["id"]
    payments.confirm(
        world, intent, method, is_off_session=False, is_authenticated=how == "authenticated"
    )
    session["payment_intent"] = intent["id"]
    session["payment_status"] = "paid" if intent["status"] == "succeeded" else "unpaid"
    if (session["invoice_creation"] or {}).get("enabled"):
        _write_invoice(world, session, customer, intent, asked)


def _write_invoice(world: World, session: Obj, customer: Obj, intent: Obj, asked: Sum) -> None:
    now = world.now()
    lines = [
        invoice_shapes.line(
            amount=item["amount_subtotal"], quantity=item["quantity"],
            currency=item["currency"], description=item["description"], period=(now, now),
            price=item["price"], unit_amount=str(item["price"]["unit_amount_decimal"]),
            metadata={}, parent=invoice_shapes.pack_parent(),
        )
        for item in session["_items"]
    ]  # fmt: skip
    invoice = invoices.draft(
        world, customer, lines, reason="manual", currency=session["currency"],
        period=(now, now), metadata=dict(session["invoice_creation"]["invoice_data"]["metadata"]),
        is_taxed=session["automatic_tax"]["enabled"], percent_off=asked.percent_off,
    )  # fmt: skip
    session["invoice"] = invoice["id"]
    invoices.finalize(world, invoice)
    invoice |= {"attempt_count": 1, "attempted": True}
    invoices.payment_of(world, invoice, intent)
    if intent["status"] == "succeeded":
        invoices.mark_paid(world, invoice, intent)


def _subscribe(world: World, session: Obj, customer: Obj, how: str, asked: Sum) -> None:
    item = session["_items"][0]
    method = None
    if asked.total or how != "free":
        method = _method(world, how, customer)
        if method["_behaviour"] in {"declined", "insufficient_funds"}:
            world.store.drop("payment_method", method["id"])
            raise Refused(402, "Your card was declined.", kind="card_error", code="card_declined")
        people.attach(world, method, customer)
    terms = Terms(
        metadata=session["_subscription_metadata"], quantity=item["quantity"],
        trial_days=session["_trial_days"], is_taxed=session["automatic_tax"]["enabled"],
        percent_off=asked.percent_off, method=method, is_authenticated=how == "authenticated",
    )  # fmt: skip
    made = subscriptions.begin(world, customer, item["price"], terms)
    session |= {"subscription": made["id"], "invoice": made["latest_invoice"]}
    is_free = asked.total == 0 or session["_trial_days"] > 0
    session["payment_status"] = "no_payment_required" if is_free else "paid"


def _close(world: World, session: Obj, customer: Obj, asked: Sum) -> None:
    session |= {
        "status": "complete", "url": None, "amount_total": asked.total,
        "customer_details": shapes.customer_details(customer),
        "total_details": {
            "amount_discount": asked.discount, "amount_shipping": 0, "amount_tax": asked.tax
        },
    }  # fmt: skip
    if asked.promotion_code_id:
        session["discounts"] = [{"coupon": None, "promotion_code": asked.promotion_code_id}]
    if session["automatic_tax"]["enabled"]:
        session["automatic_tax"]["status"] = "complete"
    world.emit("checkout.session.completed", session)
