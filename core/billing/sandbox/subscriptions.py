"""Subscriptions: begun, changed with or without proration, set to end, ended."""

from __future__ import annotations

from dataclasses import dataclass, field

from core.billing.sandbox import (
    changes,
    collecting,
    forms,
    invoices,
    lines,
    lists,
    months,
    people,
    standing,
)
from core.billing.sandbox.refusals import Obj, Refused, wrong
from core.billing.sandbox.shapes import subscriptions as shapes
from core.billing.sandbox.world import Ask, World

_WITH_PENDING = {
    "items", "payment_behavior", "proration_behavior", "proration_date", "billing_cycle_anchor",
    "trial_end", "trial_from_plan", "add_invoice_items", "off_session", "expand", "discounts",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a subscription begins."""

    metadata: Obj = field(default_factory=dict)
    quantity: int = 1
    collection: str = "charge_automatically"
    days_until_due: int | None = None
    trial_days: int = 0
    is_taxed: bool = False
    percent_off: int = 0
    method: Obj | None = None
    is_authenticated: bool = False


def create(world: World, ask: Ask) -> Obj:
    """POST /v1/subscriptions for one price."""
    params = ask.params
    customer = people.living_customer(world, forms.needed(params, "customer"))
    price = changes.price_asked(world, changes.only_item(params))
    collection = forms.text(params, "collection_method") or "charge_automatically"
    days = forms.whole(params, "days_until_due")
    if collection == "send_invoice" and days is None:
        raise wrong("days_until_due", "days_until_due is needed with send_invoice.",
                    "parameter_missing")  # fmt: skip
    named = forms.text(params, "default_payment_method")
    terms = Terms(
        metadata=forms.metadata(params), collection=collection, days_until_due=days,
        quantity=forms.whole(changes.only_item(params), "quantity") or 1,
        trial_days=forms.whole(params, "trial_period_days") or 0,
        is_taxed=forms.flag(forms.group(params, "automatic_tax"), "enabled") or False,
        method=people.own_method(world, customer["id"], named) if named else None,
    )  # fmt: skip
    return begin(world, customer, price, terms)


def begin(world: World, customer: Obj, price: Obj, terms: Terms) -> Obj:
    """A new subscription and its first invoice; incomplete until that is paid."""
    now = world.now()
    if price["type"] != "recurring":
        raise wrong("items", "The price must be recurring.")
    is_metered = price["recurring"]["usage_type"] == "metered"
    trial_end = now + terms.trial_days * 86_400 if terms.trial_days else None
    made = shapes.subscription(
        created=now, customer_id=customer["id"], currency=price["currency"],
        collection=terms.collection, days_until_due=terms.days_until_due,
        method_id=terms.method["id"] if terms.method else None, metadata=dict(terms.metadata),
        is_taxed=terms.is_taxed, anchor=trial_end or now,
    )  # fmt: skip
    end = trial_end or months.period_end(now, price["recurring"], 1)
    item = shapes.item(
        created=now, subscription_id=made["id"], price=price, period=(now, end),
        quantity=None if is_metered else terms.quantity,
    )  # fmt: skip
    made["items"] = lists.whole([item], f"/v1/subscription_items?subscription={made['id']}")
    made |= {"_periods": 0 if trial_end else 1, "trial_start": now if trial_end else None,
             "trial_end": trial_end, "_pending_lines": []}  # fmt: skip
    if is_metered or terms.collection == "send_invoice":
        made["status"] = "active"
    world.store.add(made)
    world.emit("customer.subscription.created", made)
    if not is_metered:
        _first_invoice(world, made, customer, price, terms)
    return made


def read(world: World, ask: Ask) -> Obj:
    """GET /v1/subscriptions/{id}"""
    return world.store.get("subscription", ask.ids["id"])


def list_subscriptions(world: World, ask: Ask) -> Obj:
    """GET /v1/subscriptions: without a status, all that have not ended."""
    status = forms.text(ask.params, "status")
    wanted = None if status in {None, "all", "ended"} else status
    found = world.store.where(
        "subscription", customer=forms.text(ask.params, "customer"), status=wanted
    )
    if status is None:
        found = [s for s in found if s["status"] not in standing.ENDED]
    if status == "ended":
        found = [s for s in found if s["status"] in standing.ENDED]
    return lists.page(found, ask.params, ask.path)


def update(world: World, ask: Ask) -> Obj:
    """POST /v1/subscriptions/{id}"""
    params = ask.params
    found = _running(world, ask.ids["id"])
    is_pending = forms.text(params, "payment_behavior") == "pending_if_incomplete"
    if is_pending and (unfit := set(params) - _WITH_PENDING):
        message = "These cannot be passed with payment_behavior=pending_if_incomplete: "
        raise wrong(min(unfit), message + ", ".join(sorted(unfit)))
    if "items" in params:
        changes.change_item(world, found, params, is_pending=is_pending)
    if "metadata" in params:
        standing.change(world, found, metadata=forms.metadata(params, found["metadata"]))
    named = forms.text(params, "default_payment_method")
    if named:
        method = people.own_method(world, found["customer"], named)
        standing.change(world, found, default_payment_method=method["id"])
    at_end = forms.flag(params, "cancel_at_period_end")
    if at_end is not None:
        set_cancel_at_period_end(world, found, is_cancelled=at_end)
    return found


def cancel(world: World, ask: Ask) -> Obj:
    """DELETE /v1/subscriptions/{id}: it ends now, with a last invoice for usage when asked."""
    found = _running(world, ask.ids["id"])
    if forms.flag(ask.params, "invoice_now"):
        bill_usage(world, found, until=world.now())
    standing.cancel(world, found, "cancellation_requested")
    return found


def set_cancel_at_period_end(world: World, subscription: Obj, *, is_cancelled: bool) -> None:
    """Set it to end with its period, or to go on."""
    if subscription["cancel_at_period_end"] == is_cancelled:
        return
    end = standing.the_item(subscription)["current_period_end"]
    details = dict(subscription["cancellation_details"])
    details["reason"] = "cancellation_requested" if is_cancelled else None
    standing.change(
        world, subscription, cancel_at_period_end=is_cancelled,
        cancel_at=end if is_cancelled else None, cancellation_details=details,
        canceled_at=world.now() if is_cancelled else None,
    )  # fmt: skip


def bill_usage(world: World, subscription: Obj, *, until: int) -> None:
    """A last invoice over what was used of a metered price in the running period."""
    item = standing.the_item(subscription)
    price = world.store.get("price", item["price"]["id"])
    if price["recurring"]["usage_type"] != "metered":
        return
    period = (item["current_period_start"], until)
    customer = world.store.get("customer", subscription["customer"])
    invoice = invoices.draft(
        world, customer, lines.usage_lines(world, subscription, period), subscription=subscription,
        reason="subscription_cycle", currency=price["currency"], period=period,
        collection=subscription["collection_method"],
    )  # fmt: skip
    subscription["latest_invoice"] = invoice["id"]
    collecting.collect(world, invoice, days_until_due=subscription["days_until_due"])


def _first_invoice(world: World, made: Obj, customer: Obj, price: Obj, terms: Terms) -> None:
    is_trial = terms.trial_days > 0
    invoice = invoices.draft(
        world, customer, [lines.period_line(world, made, is_trial=is_trial)], subscription=made,
        reason="subscription_create", currency=price["currency"],
        period=(world.now(), world.now()), collection=terms.collection, is_taxed=terms.is_taxed,
        percent_off=terms.percent_off,
    )  # fmt: skip
    made["latest_invoice"] = invoice["id"]
    invoices.finalize(world, invoice, days_until_due=terms.days_until_due)
    if is_trial:
        made["status"] = "trialing"
    if invoice["amount_due"] == 0:
        collecting.settle(world, invoice, None)
    elif terms.collection == "charge_automatically":
        collecting.attempt(
            world, invoice, is_off_session=True, method=terms.method,
            is_authenticated=terms.is_authenticated,
        )  # fmt: skip


def _running(world: World, subscription_id: str) -> Obj:
    found = world.store.get("subscription", subscription_id)
    if found["status"] in standing.ENDED:
        raise Refused(404, f"No such subscription: '{subscription_id}'", code="resource_missing",
                      param="id")  # fmt: skip
    return found
