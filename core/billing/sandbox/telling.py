"""The events that were: listed by type and by whether they were delivered, and read one by one."""

from __future__ import annotations

from core.billing.sandbox import forms, lists
from core.billing.sandbox.refusals import Obj, wrong
from core.billing.sandbox.store import public
from core.billing.sandbox.world import Ask, World

_TYPES_MAX = 20


def read(world: World, ask: Ask) -> Obj:
    """GET /v1/events/{id}"""
    return world.store.get("event", ask.ids["id"])


def list_events(world: World, ask: Ask) -> Obj:
    """GET /v1/events"""
    types = forms.rows(ask.params, "types")
    if len(types) > _TYPES_MAX:
        raise wrong("types", f"You can pass at most {_TYPES_MAX} types.")
    only = forms.text(ask.params, "type")
    if only is not None:
        types = [*types, only]
    was_delivered = forms.flag(ask.params, "delivery_success")
    found = [
        event
        for event in world.store.all("event")
        if world.is_listed(event)
        and (not types or _is_one_of(event["type"], types))
        and (was_delivered is None or was_delivered == (event["pending_webhooks"] == 0))
    ]
    return lists.page(found, ask.params, ask.path)


def read_thin(world: World, ask: Ask) -> Obj:
    """GET /v2/core/events/{id}: a thin event with its data."""
    found = world.store.get("v2.core.event", ask.ids["id"])
    shown: Obj = public(found)
    return shown | {"data": found["_data"]}


def _is_one_of(kind: str, types: list[str]) -> bool:
    return any(
        kind == wanted or (wanted.endswith(".*") and kind.startswith(wanted[:-1]))
        for wanted in types
    )
