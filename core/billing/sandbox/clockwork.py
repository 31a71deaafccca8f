"""What falls due as time passes: renewals, retries, expiries, debits and payouts, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from core.billing.sandbox import (
    balance,
    checkout,
    collecting,
    invoices,
    lines,
    months,
    paying,
    people,
    standing,
    subscriptions,
)
from core.billing.sandbox.refusals import Obj
from core.billing.sandbox.store import public
from core.billing.sandbox.world import World

DRAFT_S = 3_600  # a renewal's invoice is a draft for an hour
_RUNNING = {"active", "trialing", "past_due"}
Due = tuple[int, Callable[[], object]]


def advance(world: World, seconds: int) -> None:
    """Let time pass; whatever falls due in between happens at its own moment."""
    run_due(world, until=world.now() + max(0, seconds))
    world.store.offset_s += max(0, seconds)


def run_due(world: World, *, until: int | None = None) -> int:
    """Do what is due by now, or by a moment that has not come yet. Returns how much it was."""
    limit = world.now() if until is None else until
    done = 0
    while True:
        soonest = min(_due(world), key=lambda due: due[0], default=None)
        if soonest is None or soonest[0] > limit:
            break
        with world.pinned(soonest[0]):
            soonest[1]()
        done += 1
    world.forget_old()
    return done


def _due(world: World) -> Iterator[Due]:
    for session in world.store.where("checkout.session", status="open"):
        yield session["expires_at"], partial(checkout.expire, world, session)
    for intent in world.store.where("payment_intent", status="processing"):
        yield intent["_settles_at"], partial(paying.finish_debit, world, intent, is_ok=True)
    for invoice in world.store.where("invoice", status="draft"):
        yield invoice["_finalize_at"], partial(_finalize, world, invoice)
    for invoice in world.store.where("invoice", status="open"):
        if invoice["next_payment_attempt"]:
            again = partial(collecting.attempt, world, invoice, is_off_session=True)
            yield invoice["next_payment_attempt"], again
        elif invoice["due_date"] and not invoice.get("_is_overdue"):
            yield invoice["due_date"], partial(_overdue, world, invoice)
    for subscription in world.store.all("subscription"):
        yield from _due_of(world, subscription)
    payout_at = balance.due_at(world)
    if payout_at is not None:
        yield payout_at, partial(balance.pay_out, world)


def _due_of(world: World, subscription: Obj) -> Iterator[Due]:
    if subscription["pending_update"]:
        expires_at = subscription["pending_update"]["expires_at"]
        yield expires_at, partial(collecting.give_up, world, subscription)
    if subscription["status"] == "incomplete":
        limit = subscription["created"] + 23 * 3_600
        yield limit, partial(collecting.give_up, world, subscription)
    if subscription["status"] in _RUNNING:
        end = standing.the_item(subscription)["current_period_end"]
        yield end, partial(_roll, world, subscription)


def _roll(world: World, subscription: Obj) -> None:
    """A period ends: so does the subscription, or the next period begins with its invoice."""
    item = standing.the_item(subscription)
    old = (item["current_period_start"], item["current_period_end"])
    if subscription["cancel_at"] is not None and subscription["cancel_at"] <= old[1]:
        subscriptions.bill_usage(world, subscription, until=old[1])
        standing.cancel(world, subscription, "cancellation_requested")
        return
    before = {
        "items": {"data": [public(item)]}, "latest_invoice": subscription["latest_invoice"],
        "status": subscription["status"],
    }  # fmt: skip
    subscription["_periods"] += 1
    item["current_period_start"] = old[1]
    item["current_period_end"] = months.period_end(
        subscription["billing_cycle_anchor"], item["price"]["recurring"], subscription["_periods"]
    )
    if subscription["status"] == "trialing":
        subscription["status"] = "active"
    invoice = _renewal_invoice(world, subscription, old)
    subscription["latest_invoice"] = invoice["id"]
    changed = {name: value for name, value in before.items() if subscription[name] != value}
    world.emit("customer.subscription.updated", subscription, changed)


def _renewal_invoice(world: World, subscription: Obj, old: tuple[int, int]) -> Obj:
    item = standing.the_item(subscription)
    if item["price"]["recurring"]["usage_type"] == "metered":
        charged = lines.usage_lines(world, subscription, old)
    else:
        charged = [*subscription["_pending_lines"], lines.period_line(world, subscription)]
        subscription["_pending_lines"] = []
    invoice = invoices.draft(
        world, world.store.get("customer", subscription["customer"]), charged,
        subscription=subscription, reason="subscription_cycle",
        currency=subscription["currency"], period=old,
        collection=subscription["collection_method"],
        is_taxed=subscription["automatic_tax"]["enabled"],
    )  # fmt: skip
    invoice["_finalize_at"] = world.now() + DRAFT_S
    invoice["automatically_finalizes_at"] = invoice["_finalize_at"]
    return invoice


def _finalize(world: World, invoice: Obj) -> None:
    subscription = world.store.maybe("subscription", invoice["_subscription"])
    invoice["automatically_finalizes_at"] = None
    if subscription is not None:
        _bill_late_usage(world, invoice, subscription)
    days = subscription["days_until_due"] if subscription else None
    collecting.collect(world, invoice, days_until_due=days)


def _bill_late_usage(world: World, invoice: Obj, subscription: Obj) -> None:
    """Usage told of while the invoice was a draft still counts."""
    price = standing.the_item(subscription)["price"]
    if price["recurring"]["usage_type"] != "metered":
        return
    period = (invoice["period_start"], invoice["period_end"])
    invoices.replace_lines(invoice, lines.usage_lines(world, subscription, period))


def _overdue(world: World, invoice: Obj) -> None:
    invoice["_is_overdue"] = True
    world.emit("invoice.overdue", invoice)
    subscription = world.store.maybe("subscription", invoice["_subscription"])
    if subscription is not None and subscription["status"] == "active":
        standing.change(world, subscription, status="past_due")


def set_default_card(world: World, customer: Obj, method: Obj) -> None:
    """The buyer chose another card: subscriptions and invoices are paid with it from now on."""
    before = {"invoice_settings": public(customer["invoice_settings"])}
    people.set_default(world, customer, method)
    world.emit("customer.updated", customer, before)
    for subscription in world.store.where("subscription", customer=customer["id"]):
        if subscription["status"] in _RUNNING:
            world.emit("customer.subscription.updated", subscription, {})
