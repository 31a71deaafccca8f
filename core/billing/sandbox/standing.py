"""How a subscription stands: every change of it is told, with what was before."""

from __future__ import annotations

from typing import Any

from core.billing.sandbox.refusals import Obj
from core.billing.sandbox.shapes.catalogue import plan
from core.billing.sandbox.store import public
from core.billing.sandbox.world import World

ENDED = {"canceled", "incomplete_expired"}


def change(world: World, subscription: Obj, **fields: Any) -> None:
    """Write these fields; silent when all of them are so already."""
    before = {name: subscription[name] for name in fields if subscription[name] != fields[name]}
    subscription |= fields
    if before:
        world.emit("customer.subscription.updated", subscription, before)


def cancel(world: World, subscription: Obj, reason: str) -> None:
    """It ends now."""
    now = world.now()
    subscription |= {"status": "canceled", "ended_at": now}
    subscription["canceled_at"] = subscription["canceled_at"] or now
    subscription["cancellation_details"]["reason"] = reason
    for invoice in world.store.where("invoice", _subscription=subscription["id"]):
        if invoice["status"] == "open":
            invoice |= {"next_payment_attempt": None, "auto_advance": False}
    world.emit("customer.subscription.deleted", subscription)


def the_item(subscription: Obj) -> Obj:
    """The one item that is subscribed to."""
    item: Obj = subscription["items"]["data"][0]
    return item


def set_price(world: World, subscription: Obj, price: Obj, quantity: int | None) -> None:
    """Subscribe to another price from now on."""
    item = the_item(subscription)
    before = {"items": {"data": [public(item)]}}
    item |= {"price": public(price), "plan": plan(price)}
    if quantity is not None:
        item["quantity"] = quantity
    world.emit("customer.subscription.updated", subscription, before)
