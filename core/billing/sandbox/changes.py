"""Another price for a subscription: at once and prorated, with the next invoice, or without either."""

from __future__ import annotations

from core.billing.sandbox import collecting, forms, invoices, lines, standing
from core.billing.sandbox.refusals import Obj, wrong
from core.billing.sandbox.shapes import subscriptions as shapes
from core.billing.sandbox.world import World


def change_item(world: World, found: Obj, params: Obj, *, is_pending: bool) -> None:
    asked = only_item(params)
    item = standing.the_item(found)
    if forms.text(asked, "id") not in {None, item["id"]}:
        raise wrong("items[0][id]", f"Invalid subscription item: {asked['id']}",
                    "resource_missing")  # fmt: skip
    if forms.text(asked, "id") is None:
        raise wrong("items", "The stand-in sells one item: name its id to change its price.")
    price = price_asked(world, asked)
    quantity = forms.whole(asked, "quantity") or item.get("quantity")
    if price["id"] == item["price"]["id"] and quantity == item.get("quantity"):
        return
    behaviour = forms.text(params, "proration_behavior") or "create_prorations"
    if behaviour == "none":
        standing.set_price(world, found, price, quantity)
        return
    prorated = lines.proration_lines(world, found, price, quantity or 1)
    if behaviour == "create_prorations":
        found["_pending_lines"] += prorated
        standing.set_price(world, found, price, quantity)
        return
    _invoice_change(world, found, price, quantity, prorated, is_pending=is_pending)


def _invoice_change(
    world: World, found: Obj, price: Obj, quantity: int | None, prorated: list[Obj], *,
    is_pending: bool,
) -> None:  # fmt: skip
    now = world.now()
    invoice = invoices.draft(
        world, world.store.get("customer", found["customer"]), prorated, subscription=found,
        reason="subscription_update", currency=price["currency"], period=(now, now),
        is_taxed=found["automatic_tax"]["enabled"],
    )  # fmt: skip
    found["latest_invoice"] = invoice["id"]
    if not is_pending:
        standing.set_price(world, found, price, quantity)
    else:
        found["_pending"] = {"invoice": invoice["id"], "price": price["id"], "quantity": quantity}
        if invoice["total"] > 0:
            changed = standing.the_item(found) | {"price": price}
            found["pending_update"] = shapes.pending_update(
                expires_at=collecting.waits_until(world), items=[changed]
            )
    collecting.collect(world, invoice)
    if found.get("_pending"):
        world.emit("customer.subscription.updated", found, {"pending_update": None})


def only_item(params: Obj) -> Obj:
    items = forms.rows(params, "items")
    if len(items) != 1 or not isinstance(items[0], dict):
        raise wrong("items", "The stand-in takes exactly one item.")
    only: Obj = items[0]
    return only


def price_asked(world: World, asked: Obj) -> Obj:
    return world.store.get("price", forms.needed(asked, "price"), param="items[0][price]")
