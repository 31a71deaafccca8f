"""The lines of a subscription's invoices: a period, what was used in it, the rest of one."""

from __future__ import annotations

from core.billing.sandbox import meters, standing
from core.billing.sandbox.refusals import Obj
from core.billing.sandbox.shapes import invoices as shapes
from core.billing.sandbox.world import World


def usage_lines(world: World, subscription: Obj, period: tuple[int, int]) -> list[Obj]:
    """One line per tier that something fell into."""
    item = standing.the_item(subscription)
    price = world.store.get("price", item["price"]["id"])
    product = world.store.get("product", price["product"])
    units = meters.used(world, price["recurring"]["meter"], subscription["customer"], period)
    parent = {"subscription": subscription["id"], "item": item["id"]}
    return [
        shapes.line(
            amount=charge.amount, quantity=charge.units, currency=price["currency"],
            description=f"{charge.units} x {product['name']} (Tier {number})", period=period,
            price=price, unit_amount=charge.unit_amount,
            metadata=dict(subscription["metadata"]), subscription=subscription["id"],
            parent=shapes.item_parent(**parent),
        )
        for number, charge in enumerate(meters.charges(price, units), start=1)
    ]  # fmt: skip


def period_line(world: World, subscription: Obj, *, is_trial: bool = False) -> Obj:
    """The line for the running period of a licensed price; free in a trial."""
    item = standing.the_item(subscription)
    price = item["price"]
    name = world.store.get("product", price["product"])["name"]
    amount = 0 if is_trial else price["unit_amount"] * item["quantity"]
    dollars, cents = divmod(price["unit_amount"], 100)
    rate = f"at ${dollars}.{cents:02d} / {price['recurring']['interval']}"
    said = f"Trial period for {name}" if is_trial else f"{item['quantity']} x {name} ({rate})"
    return shapes.line(
        amount=amount, quantity=item["quantity"], currency=price["currency"], description=said,
        period=(item["current_period_start"], item["current_period_end"]), price=price,
        unit_amount="0" if is_trial else price["unit_amount_decimal"],
        metadata=dict(subscription["metadata"]), subscription=subscription["id"],
        parent=shapes.item_parent(subscription=subscription["id"], item=item["id"]),
    )  # fmt: skip


def proration_lines(world: World, found: Obj, price: Obj, quantity: int) -> list[Obj]:
    item, now = standing.the_item(found), world.now()
    start, end = item["current_period_start"], item["current_period_end"]
    old = item["price"]
    names = [world.store.get("product", p["product"])["name"] for p in (old, price)]
    amounts = [
        -_share(old["unit_amount"] * item["quantity"], end - now, end - start),
        _share(price["unit_amount"] * quantity, end - now, end - start),
    ]
    credited = {"invoice": found["latest_invoice"], "invoice_line_items": []}
    return [
        shapes.line(
            amount=amount, quantity=quantity, currency=price["currency"], description=said,
            period=(now, end), price=of, unit_amount=str(amount),
            metadata=dict(found["metadata"]), subscription=found["id"], is_discountable=False,
            parent=shapes.item_parent(
                subscription=found["id"], item=item["id"], is_proration=True,
                credited=credited if amount < 0 else None,
            ),
        )
        for amount, of, said in (
            (amounts[0], old, f"Unused time on {names[0]}"),
            (amounts[1], price, f"Remaining time on {names[1]}"),
        )
    ]  # fmt: skip


def _share(amount: int, part_s: int, whole_s: int) -> int:
    """So much of an amount as a part of the period is of all of it, rounded half up."""
    return (2 * amount * part_s + whole_s) // (2 * whole_s)
