"""Portal sessions: the buyer's own page, opened by the merchant for one visit."""

from __future__ import annotations

from core.billing.sandbox import forms, people
from core.billing.sandbox.refusals import Obj, wrong
from core.billing.sandbox.shapes import checkout as shapes
from core.billing.sandbox.world import Ask, World

_FLOWS = {None, "payment_method_update"}


def create(world: World, ask: Ask) -> Obj:
    """POST /v1/billing_portal/sessions"""
    customer = people.living_customer(world, forms.needed(ask.params, "customer"))
    flow = forms.text(forms.group(ask.params, "flow_data"), "type")
    if flow not in _FLOWS:
        raise wrong("flow_data[type]", f"The stand-in knows no flow {flow}.")
    made = shapes.portal_session(
        created=world.now(), customer_id=customer["id"], url="", flow_type=flow,
        return_url=forms.text(ask.params, "return_url"),
    )  # fmt: skip
    made["url"] = f"{world.base_url}/portal/{made['id']}"
    return world.store.add(made)
