"""Payment intents and charges: how a payment goes with each card, and delayed bank debits."""

from __future__ import annotations

from core.billing.sandbox import balance, forms, lists, people
from core.billing.sandbox.refusals import Obj, Refused, wrong
from core.billing.sandbox.shapes import money as shapes
from core.billing.sandbox.store import public
from core.billing.sandbox.world import Ask, World

AMOUNT_MIN = 50  # cents
DEBIT_DAYS = 4
_UNPAID = {"requires_payment_method", "requires_confirmation", "requires_action"}
_SAYS = {
    "declined": ("card_declined", "generic_decline", "Your card was declined."),
    "insufficient_funds": (
        "card_declined", "insufficient_funds", "Your card has insufficient funds."
    ),
    "authentication_required": (
        "authentication_required", "authentication_required",
        "Your card was declined. This transaction requires authentication.",
    ),
    "bank_debit": ("debit_not_authorized", "debit_not_authorized", "The debit was refused."),
}  # fmt: skip


def create(world: World, ask: Ask) -> Obj:
    """POST /v1/payment_intents, confirmed at once when asked."""
    params = ask.params
    forms.refuse_payment_method_types(params)
    amount = forms.whole(params, "amount")
    if amount is None or amount < AMOUNT_MIN:
        raise wrong("amount", "Amount must be at least 50 cents.", "amount_too_small")
    customer_id = forms.text(params, "customer")
    customer = people.living_customer(world, customer_id) if customer_id else None
    method = _method_asked(world, params, customer)
    is_confirmed = forms.flag(params, "confirm") or False
    is_off_session = forms.flag(params, "off_session") or False
    if is_off_session and not is_confirmed:
        raise wrong("off_session", "You cannot set off_session without confirm.")
    if is_confirmed and method is None:
        raise wrong("payment_method", "A payment method is needed to confirm.")
    intent = begin(
        world, amount=amount, currency=forms.needed(params, "currency"), customer=customer,
        metadata=forms.metadata(params), description=forms.text(params, "description"),
        future_usage=forms.text(params, "setup_future_usage"),
    )  # fmt: skip
    automatic = forms.group(params, "automatic_payment_methods")
    if automatic:
        intent["automatic_payment_methods"] = {
            "allow_redirects": forms.text(automatic, "allow_redirects") or "always",
            "enabled": forms.flag(automatic, "enabled") or False,
        }
    if is_confirmed and method is not None:
        return confirm(world, intent, method, is_off_session=is_off_session)
    return intent


def read(world: World, ask: Ask) -> Obj:
    """GET /v1/payment_intents/{id}"""
    return world.store.get("payment_intent", ask.ids["id"])


def list_intents(world: World, ask: Ask) -> Obj:
    """GET /v1/payment_intents"""
    found = world.store.where("payment_intent", customer=forms.text(ask.params, "customer"))
    return lists.page(found, ask.params, ask.path)


def confirm_again(world: World, ask: Ask) -> Obj:
    """POST /v1/payment_intents/{id}/confirm"""
    intent = world.store.get("payment_intent", ask.ids["id"])
    customer = world.store.maybe("customer", intent["customer"])
    method = _method_asked(world, ask.params, customer)
    if method is None:
        method = world.store.maybe("payment_method", intent["payment_method"])
    if method is None:
        raise wrong("payment_method", "A payment method is needed to confirm.")
    off_session = forms.flag(ask.params, "off_session") or False
    return confirm(world, intent, method, is_off_session=off_session)


def cancel(world: World, ask: Ask) -> Obj:
    """POST /v1/payment_intents/{id}/cancel"""
    intent = world.store.get("payment_intent", ask.ids["id"])
    if intent["status"] not in _UNPAID:
        raise _unexpected(intent, "cancel")
    reason = forms.text(ask.params, "cancellation_reason")
    intent |= {"status": "canceled", "canceled_at": world.now(), "cancellation_reason": reason,
               "next_action": None}  # fmt: skip
    world.emit("payment_intent.canceled", intent)
    return intent


def read_charge(world: World, ask: Ask) -> Obj:
    """GET /v1/charges/{id}"""
    return world.store.get("charge", ask.ids["id"])


def list_charges(world: World, ask: Ask) -> Obj:
    """GET /v1/charges"""
    found = world.store.where(
        "charge", customer=forms.text(ask.params, "customer"),
        payment_intent=forms.text(ask.params, "payment_intent"),
    )  # fmt: skip
    return lists.page(found, ask.params, ask.path)


def begin(
    world: World, *, amount: int, currency: str, customer: Obj | None, metadata: Obj,
    description: str | None = None, future_usage: str | None = None, method_type: str = "card",
) -> Obj:  # fmt: skip
    """A new intent; nobody has paid yet."""
    intent = shapes.payment_intent(
        created=world.now(), amount=amount, currency=currency.lower(),
        customer=customer["id"] if customer else None, metadata=dict(metadata),
        description=description, setup_future_usage=future_usage, method_type=method_type,
    )  # fmt: skip
    world.store.add(intent)
    world.emit("payment_intent.created", intent)
    return intent


def confirm(
    world: World, intent: Obj, method: Obj, *, is_off_session: bool, is_authenticated: bool = False
) -> Obj:
    """Try to take the money. Raises Refused (402) when the card says no."""
    if intent["status"] not in _UNPAID:
        raise _unexpected(intent, "confirm")
    behaviour = method["_behaviour"]
    if behaviour == "bank_debit":
        return _start_debit(world, intent, method)
    if behaviour == "authentication_required" and is_authenticated:
        behaviour = "ok"
    if behaviour == "authentication_required" and not is_off_session:
        url = f"{world.base_url}/authenticate/{intent['id']}"
        intent |= {
            "status": "requires_action", "payment_method": method["id"],
            "next_action": {
                "type": "redirect_to_url", "redirect_to_url": {"return_url": None, "url": url}
            },
        }  # fmt: skip
        world.emit("payment_intent.requires_action", intent)
        return intent
    charge = _charge(world, intent, method)
    if behaviour != "ok":
        raise _declined(world, intent, charge, method, behaviour)
    _succeed(world, intent, charge, method)
    return intent


def settle_debit(world: World, intent: Obj, *, is_ok: bool) -> Obj:
    """The bank's late answer to a debit under way."""
    if intent["status"] != "processing":
        raise _unexpected(intent, "settle")
    charge = world.store.get("charge", intent["latest_charge"])
    method = world.store.get("payment_method", charge["payment_method"])
    intent["processing"] = None
    intent.pop("_settles_at", None)
    if is_ok:
        _succeed(world, intent, charge, method)
    else:
        _fail(world, intent, charge, method, "bank_debit")
    return intent


def _method_asked(world: World, params: Obj, customer: Obj | None) -> Obj | None:
    name = forms.text(params, "payment_method")
    if name is None:
        return None
    method = people.method_named(world, name, customer)
    if customer and method["customer"] not in {None, customer["id"]}:
        raise wrong("payment_method", "This payment method belongs to another customer.")
    return method


def _start_debit(world: World, intent: Obj, method: Obj) -> Obj:
    charge = _charge(world, intent, method)
    intent |= {
        "status": "processing", "payment_method": method["id"],
        "_settles_at": world.now() + DEBIT_DAYS * 86_400,
    }  # fmt: skip
    world.emit("payment_intent.processing", intent)
    world.emit("charge.pending", charge)
    return intent


def _charge(world: World, intent: Obj, method: Obj) -> Obj:
    customer = world.store.maybe("customer", intent["customer"])
    receipt = f"{world.base_url}/receipt/{intent['id']}"
    charge = shapes.charge(
        created=world.now(), intent=intent, method=method, customer=customer, receipt=receipt
    )  # fmt: skip
    intent["latest_charge"] = charge["id"]
    return world.store.add(charge)


def _succeed(world: World, intent: Obj, charge: Obj, method: Obj) -> None:
    moved = balance.book_charge(world, charge)
    charge |= {
        "status": "succeeded", "paid": True, "captured": True,
        "amount_captured": charge["amount"], "balance_transaction": moved["id"],
        "outcome": shapes.outcome(decline_code=None, message="Payment complete."),
    }  # fmt: skip
    intent |= {
        "status": "succeeded", "amount_received": intent["amount"], "next_action": None,
        "last_payment_error": None, "payment_method": method["id"],
    }  # fmt: skip
    customer = world.store.maybe("customer", intent["customer"])
    if customer and intent["setup_future_usage"]:
        people.attach(world, method, customer)
    world.emit("charge.succeeded", charge)
    world.emit("payment_intent.succeeded", intent)


def _fail(world: World, intent: Obj, charge: Obj, method: Obj, behaviour: str) -> None:
    code, decline_code, message = _SAYS[behaviour]
    charge |= {
        "status": "failed", "failure_code": code, "failure_message": message,
        "outcome": shapes.outcome(decline_code=decline_code, message=message),
    }  # fmt: skip
    intent |= {
        "status": "requires_payment_method", "payment_method": None, "next_action": None,
        "last_payment_error": shapes.payment_error(
            charge_id=charge["id"], code=code, decline_code=decline_code, message=message,
            method=method,
        ),
    }  # fmt: skip
    world.emit("charge.failed", charge)
    world.emit("payment_intent.payment_failed", intent)


def _declined(world: World, intent: Obj, charge: Obj, method: Obj, behaviour: str) -> Refused:
    _fail(world, intent, charge, method, behaviour)
    error = public(intent["last_payment_error"])
    more = {name: error[name] for name in ("charge", "decline_code", "doc_url", "payment_method")}
    return Refused(
        402, error["message"], kind="card_error", code=error["code"],
        more=more | {"payment_intent": public(intent)}, is_kept=True,
    )  # fmt: skip


def _unexpected(intent: Obj, act: str) -> Refused:
    message = f"You cannot {act} this PaymentIntent because it has a status of {intent['status']}."
    more = {"payment_intent": public(intent)}
    return Refused(400, message, code="payment_intent_unexpected_state", more=more)
