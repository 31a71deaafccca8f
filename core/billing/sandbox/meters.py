"""Meters, what was used of them, and what that costs by a tiered price."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal

from core.billing.sandbox import forms, lists
from core.billing.sandbox.refusals import Obj, Refused, wrong
from core.billing.sandbox.shapes import subscriptions as shapes
from core.billing.sandbox.store import new_id
from core.billing.sandbox.world import Ask, World

_PAST_MAX_S, _FUTURE_MAX_S = 35 * 86_400, 300


@dataclass(frozen=True, slots=True)
class TierCharge:
    """What fell into one tier: units, cents per unit (exact), cents in all (whole)."""

    units: int
    unit_amount: str
    amount: int


def create(world: World, ask: Ask) -> Obj:
    """POST /v1/billing/meters"""
    name = forms.needed(ask.params, "event_name")
    if world.store.where("billing.meter", event_name=name, status="active"):
        message = f"An active meter with event_name {name} exists already."
        raise wrong("event_name", message, "resource_already_exists")
    formula = forms.needed(forms.group(ask.params, "default_aggregation"), "formula")
    title = forms.needed(ask.params, "display_name")
    made = shapes.meter(created=world.now(), event_name=name, title=title, formula=formula)
    return world.store.add(made)


def read(world: World, ask: Ask) -> Obj:
    """GET /v1/billing/meters/{id}"""
    return world.store.get("billing.meter", ask.ids["id"])


def list_meters(world: World, ask: Ask) -> Obj:
    """GET /v1/billing/meters"""
    found = world.store.where("billing.meter", status=forms.text(ask.params, "status"))
    return lists.page(found, ask.params, ask.path)


def record(world: World, ask: Ask) -> Obj:
    """POST /v1/billing/meter_events. A wrong customer is only found out later, by a thin event."""
    name = forms.needed(ask.params, "event_name")
    found = world.store.where("billing.meter", event_name=name, status="active")
    if not found:
        raise wrong("event_name", f"No active meter found for event name {name}.",
                    "resource_missing")  # fmt: skip
    payload = forms.group(ask.params, "payload")
    identifier = forms.text(ask.params, "identifier") or new_id("mev")
    if world.store.maybe("_usage", identifier):
        raise Refused(400, f"An event already exists with identifier {identifier}.",
                      code="resource_already_exists", param="identifier")  # fmt: skip
    said_at = forms.whole(ask.params, "timestamp")
    # Callers go by the real clock; the stand-in's may have been advanced.
    at = world.now() if said_at is None else said_at + world.store.offset_s
    if not world.now() - _PAST_MAX_S <= at <= world.now() + _FUTURE_MAX_S:
        raise wrong("timestamp", "The timestamp is too far in the past or the future.",
                    "timestamp_invalid")  # fmt: skip
    problem = _problem(world, payload)
    if problem:
        report(world, found[0], problem)
    else:
        world.store.add({
            "object": "_usage", "id": identifier, "created": world.now(), "at": at,
            "meter": found[0]["id"], "customer": payload["stripe_customer_id"],
            "units": str(payload["value"]),
        })  # fmt: skip
    return shapes.meter_event(
        created=world.now(), event_name=name, identifier=identifier, payload=payload,
        timestamp=said_at if said_at is not None else at,
    )  # fmt: skip


def used(world: World, meter_id: str, customer_id: str, period: tuple[int, int]) -> int:
    """The sum of what a customer used in a period."""
    return sum(
        int(Decimal(usage["units"]))
        for usage in world.store.where("_usage", meter=meter_id, customer=customer_id)
        if period[0] <= usage["at"] < period[1]
    )


def charges(price: Obj, units: int) -> list[TierCharge]:
    """What so many units cost, tier by tier; each tier is rounded half up to whole cents."""
    if price["billing_scheme"] == "per_unit":
        return [_tier_charge(units, Decimal(price["unit_amount_decimal"]), Decimal(0))]
    made: list[TierCharge] = []
    below = 0
    for tier in price["_tiers"]:
        top = tier["up_to"]
        inside = (units if top is None else min(units, top)) - below
        if inside > 0 or not made:
            unit = Decimal(tier["unit_amount_decimal"] or 0)
            flat = Decimal(tier["flat_amount_decimal"] or 0) if inside > 0 else Decimal(0)
            made.append(_tier_charge(max(inside, 0), unit, flat))
        if top is None or units <= top:
            break
        below = top
    return made


def _tier_charge(units: int, unit: Decimal, flat: Decimal) -> TierCharge:
    cents = (unit * units + flat).quantize(Decimal(1), ROUND_HALF_UP)
    return TierCharge(units, format(unit.normalize(), "f"), int(cents))


def _problem(world: World, payload: Obj) -> str | None:
    customer = world.store.maybe("customer", str(payload.get("stripe_customer_id")))
    if customer is None or customer.get("deleted"):
        return "meter_event_customer_not_found"
    value = str(payload.get("value", ""))
    return None if value.isascii() and value.isdigit() else "meter_event_invalid_value"


def report(world: World, meter: Obj, code: str) -> None:
    """A thin event: it names the meter, and its data is only read by fetching it."""
    made = datetime.fromtimestamp(world.now(), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    event: Obj = {
        "id": f"evt_test_{new_id('x')[2:]}", "object": "v2.core.event",
        "type": "v1.billing.meter.error_report_triggered", "created": made, "livemode": False,
        "context": None, "reason": None,
        "related_object": {
            "id": meter["id"], "type": "billing.meter",
            "url": f"/v1/billing/meters/{meter['id']}",
        },
        "_data": {
            "developer_message_summary": "There is 1 invalid event", "validation_start": made,
            "validation_end": made,
            "reason": {
                "error_count": 1,
                "error_types": [{"code": code, "error_count": 1, "sample_errors": []}],
            },
        },
    }  # fmt: skip
    world.store.add(event)
    world.queue(event)
