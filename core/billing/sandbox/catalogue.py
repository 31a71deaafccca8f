"""Products, prices, and the promotion codes every stand-in starts with."""

from __future__ import annotations

from core.billing.sandbox import forms, lists
from core.billing.sandbox.refusals import Obj, Refused, wrong
from core.billing.sandbox.shapes import catalogue as shapes
from core.billing.sandbox.world import Ask, World

CODES = {"FREE100": 100, "HALF50": 50}  # percent off


def seed(world: World) -> None:
    """The promotion codes, once."""
    for code, percent in CODES.items():
        if not world.store.where("promotion_code", code=code):
            coupon = shapes.coupon(created=world.now(), name=code, percent_off=percent)
            world.store.add(coupon)
            made = shapes.promotion_code(created=world.now(), code=code, coupon_id=coupon["id"])
            world.store.add(made)


def create_product(world: World, ask: Ask) -> Obj:
    """POST /v1/products; the id may be given, once."""
    product_id = forms.text(ask.params, "id")
    if world.store.maybe("product", product_id):
        raise Refused(400, "Product already exists.", code="resource_already_exists", param="id")
    made = shapes.product(
        product_id=product_id, created=world.now(), name=forms.needed(ask.params, "name"),
        metadata=forms.metadata(ask.params),
    )  # fmt: skip
    for name in ("description", "tax_code", "unit_label"):
        made[name] = forms.text(ask.params, name)
    world.store.add(made)
    world.emit("product.created", made)
    return made


def read_product(world: World, ask: Ask) -> Obj:
    """GET /v1/products/{id}"""
    return world.store.get("product", ask.ids["id"])


def update_product(world: World, ask: Ask) -> Obj:
    """POST /v1/products/{id}"""
    found = world.store.get("product", ask.ids["id"])
    for name in ("name", "description", "default_price", "tax_code"):
        if name in ask.params:
            found[name] = forms.text(ask.params, name)
    active = forms.flag(ask.params, "active")
    found["active"] = found["active"] if active is None else active
    found["metadata"] = forms.metadata(ask.params, found["metadata"])
    found["updated"] = world.now()
    world.emit("product.updated", found)
    return found


def list_products(world: World, ask: Ask) -> Obj:
    """GET /v1/products by ids and activity."""
    ids = forms.rows(ask.params, "ids")
    found = world.store.where("product", active=forms.flag(ask.params, "active"))
    return lists.page([p for p in found if not ids or p["id"] in ids], ask.params, ask.path)


def create_price(world: World, ask: Ask) -> Obj:
    """POST /v1/prices"""
    params = ask.params
    if "product_data" in params:
        data = forms.group(params, "product_data")
        product = shapes.product(
            product_id=forms.text(data, "id"), created=world.now(),
            name=forms.needed(data, "name"), metadata=forms.metadata(data),
        )  # fmt: skip
        world.store.add(product)
    else:
        product = world.store.get("product", forms.needed(params, "product"), param="product")
    made = make_price(world, params, product["id"])
    _set_lookup_key(world, made, params)
    world.store.add(made)
    world.emit("price.created", made)
    return made


def make_price(world: World, params: Obj, product_id: str) -> Obj:
    """A price as these parameters say, not kept yet. Raises Refused."""
    tiers = [_tier(row) for row in forms.rows(params, "tiers")]
    unit_amount = forms.decimal(params, "unit_amount_decimal")
    if unit_amount is None:
        whole = forms.whole(params, "unit_amount")
        unit_amount = None if whole is None else forms.decimal({"n": str(whole)}, "n")
    if unit_amount is None and not tiers:
        raise wrong("unit_amount", "Missing required param: unit_amount.", "parameter_missing")
    if tiers and forms.text(params, "tiers_mode") != "graduated":
        raise wrong("tiers_mode", "The stand-in knows graduated tiers only.")
    return shapes.price(
        created=world.now(), product_id=product_id, currency=forms.needed(params, "currency"),
        unit_amount=None if tiers else unit_amount, recurring=_recurring(world, params),
        metadata=forms.metadata(params), tax_behavior=forms.text(params, "tax_behavior"),
        nickname=forms.text(params, "nickname"), tiers=tiers or None,
        tiers_mode=forms.text(params, "tiers_mode"),
    )  # fmt: skip


def read_price(world: World, ask: Ask) -> Obj:
    """GET /v1/prices/{id}"""
    return world.store.get("price", ask.ids["id"])


def update_price(world: World, ask: Ask) -> Obj:
    """POST /v1/prices/{id}: everything but what it costs."""
    found = world.store.get("price", ask.ids["id"])
    for fixed in ("unit_amount", "currency", "recurring", "tiers", "product"):
        if fixed in ask.params:
            raise wrong(fixed, f"Received unknown parameter: {fixed}", "parameter_unknown")
    active = forms.flag(ask.params, "active")
    found["active"] = found["active"] if active is None else active
    if "nickname" in ask.params:
        found["nickname"] = forms.text(ask.params, "nickname")
    found["metadata"] = forms.metadata(ask.params, found["metadata"])
    _set_lookup_key(world, found, ask.params)
    world.emit("price.updated", found)
    return found


def list_prices(world: World, ask: Ask) -> Obj:
    """GET /v1/prices by lookup keys, product, activity, type."""
    keys = forms.rows(ask.params, "lookup_keys")
    found = world.store.where(
        "price", product=forms.text(ask.params, "product"), type=forms.text(ask.params, "type"),
        active=forms.flag(ask.params, "active"), currency=forms.text(ask.params, "currency"),
    )  # fmt: skip
    return lists.page([p for p in found if not keys or p["lookup_key"] in keys], ask.params,
                      ask.path)  # fmt: skip


def list_codes(world: World, ask: Ask) -> Obj:
    """GET /v1/promotion_codes"""
    found = world.store.where("promotion_code", code=forms.text(ask.params, "code"))
    return lists.page(found, ask.params, ask.path)


def coupon_of(world: World, code: str) -> tuple[Obj, Obj]:
    """The promotion code a buyer typed and its coupon. Raises Refused."""
    found = world.store.where("promotion_code", code=code.strip().upper(), active=True)
    if not found:
        raise Refused(400, "This code is invalid.", code="promotion_code_invalid")
    return found[0], world.store.get("coupon", found[0]["promotion"]["coupon"])


def _set_lookup_key(world: World, price: Obj, params: Obj) -> None:
    key = forms.text(params, "lookup_key")
    if key is None:
        return
    for holder in world.store.where("price", lookup_key=key):
        if holder is price:
            continue
        if not forms.flag(params, "transfer_lookup_key"):
            message = f"A price (`{holder['id']}`) already uses that lookup key."
            raise wrong("lookup_key", message, "resource_already_exists")
        holder["lookup_key"] = None
        world.emit("price.updated", holder, {"lookup_key": key})
    price["lookup_key"] = key


def _recurring(world: World, params: Obj) -> Obj | None:
    asked = forms.group(params, "recurring")
    if not asked:
        return None
    meter = forms.text(asked, "meter")
    usage_type = forms.text(asked, "usage_type") or "licensed"
    if usage_type == "metered":
        world.store.get("billing.meter", meter or "", param="recurring[meter]")
    return shapes.recurring(
        interval=forms.needed(asked, "interval"), usage_type=usage_type, meter=meter,
        interval_count=forms.whole(asked, "interval_count") or 1,
    )  # fmt: skip


def _tier(row: Obj) -> Obj:
    up_to = forms.needed(row, "up_to")
    unit = forms.decimal(row, "unit_amount_decimal") or forms.decimal(row, "unit_amount")
    flat = forms.decimal(row, "flat_amount_decimal") or forms.decimal(row, "flat_amount")
    if "unit_amount" in row or "unit_amount_decimal" in row:
        unit = unit or forms.decimal({"zero": "0"}, "zero")
    return shapes.tier(
        up_to=None if up_to == "inf" else forms.whole(row, "up_to"), unit_amount=unit,
        flat_amount=flat,
    )  # fmt: skip
