"""`expand`: references replaced by what they refer to, and lists shown only when asked for."""

from __future__ import annotations

from typing import Any

from core.billing.sandbox import checkout, forms, lists
from core.billing.sandbox.refusals import Obj, wrong
from core.billing.sandbox.store import public
from core.billing.sandbox.world import World

_DEPTH_MAX = 4
_MAY_BE_ABSENT = {"payment_intent", "charge", "customer", "default_payment_method", "tiers"}


def answer(world: World, thing: Obj, params: Obj) -> Obj:
    """What goes over the wire: a copy without own notes, expanded where it was asked."""
    shown: Obj = public(thing)
    if shown.get("deleted"):
        return shown
    for path in forms.rows(params, "expand"):
        parts = str(path).split(".")
        if len(parts) > _DEPTH_MAX:
            raise wrong("expand", "You cannot expand more than 4 levels of a property.")
        _expand(world, shown, parts)
    return shown


def _expand(world: World, shown: Any, parts: list[str]) -> None:
    if isinstance(shown, list):
        for each in shown:
            _expand(world, each, parts)
        return
    if not isinstance(shown, dict):
        return
    name, *rest = parts
    if name not in shown:
        included = _included(world, shown, name)
        if included is None and name in _MAY_BE_ABSENT:
            return
        if included is None:
            raise wrong("expand", f"This property cannot be expanded ({name}).")
        shown[name] = included
    value = shown[name]
    if isinstance(value, str):
        found = world.store.find(value)
        if found is not None:
            shown[name] = public(found)
    if rest:
        _expand(world, shown[name], rest)


def _included(world: World, shown: Obj, name: str) -> Any:
    own = world.store.maybe(shown.get("object", ""), shown.get("id")) or {}
    if (name, own.get("object")) == ("line_items", "checkout.session"):
        return public(checkout.items_of(own))
    if (name, own.get("object")) == ("tiers", "price"):
        return public(own["_tiers"])
    if (name, own.get("object")) == ("payments", "invoice"):
        found = world.store.where("invoice_payment", invoice=own["id"])
        path = f"/v1/invoice_payments?invoice={own['id']}"
        return public(lists.whole(found, path))
    if (name, own.get("object")) == ("refunds", "charge"):
        found = world.store.where("refund", charge=own["id"])
        return public(lists.whole(found, f"/v1/charges/{own['id']}/refunds"))
    return None
