"""Checkout sessions: opened, read, listed, expired. How a buyer completes one is in paying."""

from __future__ import annotations

from core.billing.sandbox import catalogue, forms, lists, people
from core.billing.sandbox.refusals import Obj, Refused, wrong
from core.billing.sandbox.shapes import catalogue as catalogue_shapes
from core.billing.sandbox.shapes import checkout as shapes
from core.billing.sandbox.world import Ask, World

_LIFE_MIN_S, _LIFE_MAX_S, _SLACK_S = 30 * 60, 24 * 3_600, 120
_MODES = {"payment", "subscription"}
_UI_MODES = {None, "hosted_page"}
_ONLY_IN = {
    "payment": ("payment_intent_data", "invoice_creation", "submit_type", "customer_creation"),
    "subscription": ("subscription_data",),
}


def create(world: World, ask: Ask) -> Obj:
    """POST /v1/checkout/sessions"""
    params = ask.params
    mode = _check(params)
    items = [_line_item(world, row) for row in forms.rows(params, "line_items")]
    if not items:
        raise wrong("line_items", "Missing required param: line_items.", "parameter_missing")
    for item in items:
        if (item["price"]["type"] == "recurring") != (mode == "subscription"):
            raise wrong("line_items", f"The price does not fit the mode {mode}.")
    subtotal = sum(item["amount_subtotal"] for item in items)
    made = shapes.session(
        created=world.now(), expires_at=_expiry(world, params), mode=mode,
        currency=items[0]["currency"], subtotal=subtotal,
    )  # fmt: skip
    made |= _said(params)
    customer_id = forms.text(params, "customer")
    made["customer"] = people.living_customer(world, customer_id)["id"] if customer_id else None
    _take_data(made, params)
    made |= {"_items": items, "_intent": None, "url": f"{world.base_url}/pay/{made['id']}"}
    return world.store.add(made)


def read(world: World, ask: Ask) -> Obj:
    """GET /v1/checkout/sessions/{id}"""
    return world.store.get("checkout.session", ask.ids["id"])


def read_items(world: World, ask: Ask) -> Obj:
    """GET /v1/checkout/sessions/{id}/line_items"""
    return items_of(world.store.get("checkout.session", ask.ids["id"]))


def items_of(session: Obj) -> Obj:
    """What is sold in a session."""
    items = lists.whole(session["_items"], f"/v1/checkout/sessions/{session['id']}/line_items")
    del items["total_count"]
    return items


def list_sessions(world: World, ask: Ask) -> Obj:
    """GET /v1/checkout/sessions"""
    names = ("customer", "payment_intent", "subscription", "status")
    asked = {name: forms.text(ask.params, name) for name in names}
    return lists.page(world.store.where("checkout.session", **asked), ask.params, ask.path)


def expire_asked(world: World, ask: Ask) -> Obj:
    """POST /v1/checkout/sessions/{id}/expire"""
    found = world.store.get("checkout.session", ask.ids["id"])
    if found["status"] != "open":
        message = (
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout'
            f" Session has a status of {found['status']}."
        )
        raise Refused(400, message)
    return expire(world, found)


def expire(world: World, session: Obj) -> Obj:
    """Nobody can pay in it any more."""
    session |= {"status": "expired", "url": None}
    world.emit("checkout.session.expired", session)
    return session


def _check(params: Obj) -> str:
    forms.refuse_payment_method_types(params)
    mode = forms.needed(params, "mode")
    if mode not in _MODES:
        raise wrong("mode", f"The stand-in knows no mode {mode}.")
    if forms.text(params, "ui_mode") not in _UI_MODES:
        raise wrong("ui_mode", "Invalid ui_mode: must be hosted_page.")
    forms.needed(params, "success_url")
    for other, names in _ONLY_IN.items():
        for name in names:
            if other != mode and name in params:
                raise wrong(name, f"You can not pass `{name}` in `{mode}` mode.")
    if "customer_update" in params and "customer" not in params:
        raise wrong("customer_update", "`customer_update` needs a `customer`.")
    if "discounts" in params and "allow_promotion_codes" in params:
        raise wrong("discounts", "Pass either allow_promotion_codes or discounts.")
    return mode


def _expiry(world: World, params: Obj) -> int:
    said = forms.whole(params, "expires_at")
    if said is None:
        return world.now() + _LIFE_MAX_S
    # Callers go by the real clock; the stand-in's may have been advanced.
    at = said + world.store.offset_s
    if not world.now() + _LIFE_MIN_S - _SLACK_S <= at <= world.now() + _LIFE_MAX_S + _SLACK_S:
        raise wrong("expires_at", "The `expires_at` timestamp must be at least 30 minutes and less"
                    " than 24 hours from Checkout Session creation.")  # fmt: skip
    return at


def _said(params: Obj) -> Obj:
    is_taxed = forms.flag(forms.group(params, "automatic_tax"), "enabled") or False
    said: Obj = {
        "success_url": forms.needed(params, "success_url"),
        "cancel_url": forms.text(params, "cancel_url"), "locale": forms.text(params, "locale"),
        "client_reference_id": forms.text(params, "client_reference_id"),
        "customer_email": forms.text(params, "customer_email"),
        "metadata": forms.metadata(params),
        "allow_promotion_codes": forms.flag(params, "allow_promotion_codes"),
    }  # fmt: skip
    if is_taxed:
        said["automatic_tax"] = {
            "enabled": True, "liability": {"type": "self"}, "provider": "stripe",
            "status": "requires_location_inputs",
        }  # fmt: skip
    if forms.flag(forms.group(params, "tax_id_collection"), "enabled"):
        said["tax_id_collection"] = {"enabled": True, "required": "never"}
    return said


def _take_data(made: Obj, params: Obj) -> None:
    """What is for the payment, the subscription or the invoice that will come of it."""
    payment = forms.group(params, "payment_intent_data")
    subscription = forms.group(params, "subscription_data")
    creation = forms.group(params, "invoice_creation")
    made |= {
        "_intent_metadata": forms.metadata(payment),
        "_intent_description": forms.text(payment, "description"),
        "_future_usage": forms.text(payment, "setup_future_usage"),
        "_subscription_metadata": forms.metadata(subscription),
        "_trial_days": forms.whole(subscription, "trial_period_days") or 0,
    }
    if forms.flag(creation, "enabled"):
        metadata = forms.metadata(forms.group(creation, "invoice_data"))
        made["invoice_creation"] = shapes.invoice_creation(metadata)
    elif made["mode"] == "payment":
        made["invoice_creation"] = shapes.invoice_creation({}) | {"enabled": False}


def _line_item(world: World, row: Obj) -> Obj:
    quantity = forms.whole(row, "quantity") or 1
    price_id = forms.text(row, "price")
    if price_id is not None:
        price = world.store.get("price", price_id, param="line_items[0][price]")
        if not price["active"]:
            raise wrong("line_items[0][price]", "The price specified is inactive.")
    else:
        price = _price_of_data(world, forms.group(row, "price_data"))
    title = world.store.get("product", price["product"])["name"]
    return shapes.line_item(price=price, quantity=quantity, title=title)


def _price_of_data(world: World, data: Obj) -> Obj:
    """A price for this session alone; it is kept, but nobody else can buy it."""
    if "product_data" in data:
        product = catalogue_shapes.product(
            product_id=None, created=world.now(), metadata={},
            name=forms.needed(forms.group(data, "product_data"), "name"),
        )  # fmt: skip
        world.store.add(product | {"active": False})
    else:
        product_id = forms.needed(data, "product")
        product = world.store.get("product", product_id, param="line_items[0][price_data]")
    made = catalogue.make_price(world, data, product["id"])
    return world.store.add(made | {"active": False})
