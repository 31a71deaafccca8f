"""Customers and payment methods: made, read, changed, attached; which card is the default."""

from __future__ import annotations

from dataclasses import dataclass

from core.billing.sandbox import forms, lists
from core.billing.sandbox.refusals import Obj, missing, wrong
from core.billing.sandbox.shapes import people as shapes
from core.billing.sandbox.world import Ask, World


@dataclass(frozen=True, slots=True)
class TestCard:
    """A card of the stand-in and how payments with it end."""

    behaviour: str
    brand: str
    last4: str


CARDS = {
    "pm_card_visa": TestCard("ok", "visa", "4242"),
    "pm_card_mastercard": TestCard("ok", "mastercard", "4444"),
    "pm_card_chargeDeclined": TestCard("declined", "visa", "0002"),
    "pm_card_chargeDeclinedInsufficientFunds": TestCard("insufficient_funds", "visa", "9995"),
    "pm_card_chargeCustomerFail": TestCard("declined", "visa", "0341"),
    "pm_card_authenticationRequired": TestCard("authentication_required", "visa", "3184"),
}
BANK = "pm_usBankAccount"


def create_customer(world: World, ask: Ask) -> Obj:
    """POST /v1/customers"""
    made = shapes.customer(
        created=world.now(), name=forms.text(ask.params, "name"),
        email=forms.text(ask.params, "email"), metadata=forms.metadata(ask.params),
    )  # fmt: skip
    world.store.add(made)
    world.emit("customer.created", made)
    return made


def read_customer(world: World, ask: Ask) -> Obj:
    """GET /v1/customers/{id}; a deleted one says so."""
    return world.store.get("customer", ask.ids["id"])


def update_customer(world: World, ask: Ask) -> Obj:
    """POST /v1/customers/{id}"""
    found = living_customer(world, ask.ids["id"], param="id")
    before = {"metadata": found["metadata"], "name": found["name"], "email": found["email"]}
    found["metadata"] = forms.metadata(ask.params, found["metadata"])
    for name in ("name", "email", "description"):
        if name in ask.params:
            found[name] = forms.text(ask.params, name)
    chosen = forms.text(forms.group(ask.params, "invoice_settings"), "default_payment_method")
    if chosen:
        set_default(world, found, own_method(world, found["id"], chosen))
    world.emit("customer.updated", found, {k: v for k, v in before.items() if found[k] != v})
    return found


def delete_customer(world: World, ask: Ask) -> Obj:
    """DELETE /v1/customers/{id}: the id stays known as a deleted one's."""
    found = living_customer(world, ask.ids["id"], param="id")
    world.emit("customer.deleted", found)
    gone = {"id": found["id"], "object": "customer", "deleted": True}
    world.store.add(gone | {"created": found["created"], "_gone": True})
    return gone


def list_customers(world: World, ask: Ask) -> Obj:
    """GET /v1/customers, also by e-mail."""
    email = forms.text(ask.params, "email")
    living = [c for c in world.store.where("customer", email=email) if not c.get("deleted")]
    return lists.page(living, ask.params, ask.path)


def read_method(world: World, ask: Ask) -> Obj:
    """GET /v1/payment_methods/{id}, also under its customer."""
    found = world.store.get("payment_method", ask.ids["method"])
    if "id" in ask.ids and found["customer"] != ask.ids["id"]:
        raise missing("payment_method", found["id"])
    return found


def list_methods(world: World, ask: Ask) -> Obj:
    """GET /v1/payment_methods?customer=… and GET /v1/customers/{id}/payment_methods"""
    customer_id = ask.ids.get("id") or forms.needed(ask.params, "customer")
    living_customer(world, customer_id)
    kind = forms.text(ask.params, "type")
    found = world.store.where("payment_method", customer=customer_id, type=kind)
    return lists.page(found, ask.params, ask.path)


def attach_method(world: World, ask: Ask) -> Obj:
    """POST /v1/payment_methods/{id}/attach; a test card's name makes a new card."""
    customer = living_customer(world, forms.needed(ask.params, "customer"))
    return attach(world, method_named(world, ask.ids["method"], customer), customer)


def detach_method(world: World, ask: Ask) -> Obj:
    """POST /v1/payment_methods/{id}/detach"""
    found = world.store.get("payment_method", ask.ids["method"])
    owner = world.store.maybe("customer", found["customer"])
    found["customer"] = None
    if owner and owner["invoice_settings"]["default_payment_method"] == found["id"]:
        owner["invoice_settings"]["default_payment_method"] = None
    world.emit("payment_method.detached", found, {"customer": owner and owner["id"]})
    return found


def living_customer(world: World, customer_id: str, *, param: str = "customer") -> Obj:
    """The customer. Raises Refused when there is none or it was deleted."""
    found = world.store.get("customer", customer_id, param=param)
    if found.get("deleted"):
        raise missing("customer", customer_id, param=param, status=404 if param == "id" else 400)
    return found


def method_named(world: World, name: str, customer: Obj | None) -> Obj:
    """The payment method of this id, or a new one for a test card's name."""
    if name in CARDS:
        card = CARDS[name]
        return world.store.add(
            shapes.card(
                created=world.now(), brand=card.brand, last4=card.last4, owner=customer,
                behaviour=card.behaviour,
            )
        )  # fmt: skip
    if name == BANK:
        return world.store.add(shapes.bank_account(created=world.now(), owner=customer))
    return world.store.get("payment_method", name, param="payment_method")


def own_method(world: World, customer_id: str, method_id: str) -> Obj:
    """A payment method attached to this customer. Raises Refused."""
    found = world.store.get("payment_method", method_id, param="payment_method")
    if found["customer"] != customer_id:
        raise wrong(
            "payment_method",
            "The customer does not have a payment method with the ID"
            f" {method_id}. The payment method must be attached to the customer.",
            "resource_missing",
        )
    return found


def attach(world: World, method: Obj, customer: Obj) -> Obj:
    """Keep a payment method with its customer."""
    if method["customer"] != customer["id"]:
        method["customer"] = customer["id"]
        world.emit("payment_method.attached", method)
    return method


def set_default(world: World, customer: Obj, method: Obj) -> None:
    """Invoices are paid with this method; so are the subscriptions that named another."""
    customer["invoice_settings"]["default_payment_method"] = method["id"]
    for subscription in world.store.where("subscription", customer=customer["id"]):
        if subscription["status"] not in {"canceled", "incomplete_expired"}:
            subscription["default_payment_method"] = method["id"]


def paying_method(world: World, customer_id: str, named: str | None) -> Obj | None:
    """What an invoice is charged to: the named method, the default, or the newest card."""
    customer = world.store.maybe("customer", customer_id)
    settings: Obj = (customer or {}).get("invoice_settings", {})
    default = settings.get("default_payment_method")
    for method_id in (named, default):
        method = world.store.maybe("payment_method", method_id)
        if method is not None and method["customer"] == customer_id:
            return method
    cards = world.store.where("payment_method", customer=customer_id, type="card")
    return cards[-1] if cards else None
