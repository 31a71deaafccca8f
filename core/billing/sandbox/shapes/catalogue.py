"""Products, prices, coupons and promotion codes, as the pinned API version shows them."""

from __future__ import annotations

from decimal import Decimal

from core.billing.sandbox.refusals import Obj
from core.billing.sandbox.shapes.blanks import nulls
from core.billing.sandbox.store import new_id


def product(*, product_id: str | None, created: int, name: str, metadata: Obj) -> Obj:
    """A product."""
    return nulls(
        "default_price description package_dimensions shippable statement_descriptor tax_code"
        " unit_label url"
    ) | {
        "id": product_id or new_id("prod"), "object": "product", "active": True,
        "created": created, "images": [], "livemode": False, "marketing_features": [],
        "metadata": metadata, "name": name, "type": "service", "updated": created,
    }  # fmt: skip


def price(
    *, created: int, product_id: str, currency: str, unit_amount: Decimal | None,
    recurring: Obj | None, metadata: Obj, tax_behavior: str | None, nickname: str | None,
    tiers: list[Obj] | None, tiers_mode: str | None,
) -> Obj:  # fmt: skip
    """A price. Its tiers are only shown when they are asked for (expand)."""
    is_whole = unit_amount is not None and unit_amount == unit_amount.to_integral_value()
    return {
        "id": new_id("price"), "object": "price", "active": True,
        "billing_scheme": "tiered" if tiers else "per_unit", "created": created,
        "currency": currency, "custom_unit_amount": None, "livemode": False, "lookup_key": None,
        "metadata": metadata, "nickname": nickname, "product": product_id,
        "recurring": recurring, "tax_behavior": tax_behavior or "unspecified",
        "tiers_mode": tiers_mode, "transform_quantity": None,
        "type": "recurring" if recurring else "one_time",
        "unit_amount": int(unit_amount) if unit_amount is not None and is_whole else None,
        "unit_amount_decimal": None if unit_amount is None else _digits(unit_amount),
        "_tiers": tiers,
    }  # fmt: skip


def recurring(*, interval: str, interval_count: int, usage_type: str, meter: str | None) -> Obj:
    """How often a price is charged, and for what."""
    return {
        "interval": interval, "interval_count": interval_count, "meter": meter,
        "trial_period_days": None, "usage_type": usage_type,
    }  # fmt: skip


def tier(*, up_to: int | None, unit_amount: Decimal | None, flat_amount: Decimal | None) -> Obj:
    """One step of a tiered price; amounts in cents, exact."""
    return {
        "flat_amount": _whole(flat_amount), "flat_amount_decimal": _text(flat_amount),
        "unit_amount": _whole(unit_amount), "unit_amount_decimal": _text(unit_amount),
        "up_to": up_to,
    }  # fmt: skip


def plan(of: Obj) -> Obj:
    """The older view of a recurring price, which subscription items still carry."""
    rhythm = of["recurring"]
    return {
        "id": of["id"], "object": "plan", "active": of["active"], "amount": of["unit_amount"],
        "amount_decimal": of["unit_amount_decimal"], "billing_scheme": of["billing_scheme"],
        "created": of["created"], "currency": of["currency"], "interval": rhythm["interval"],
        "interval_count": rhythm["interval_count"], "livemode": False,
        "metadata": of["metadata"], "meter": rhythm["meter"], "nickname": of["nickname"],
        "product": of["product"], "tiers_mode": of["tiers_mode"], "transform_usage": None,
        "trial_period_days": None, "usage_type": rhythm["usage_type"],
    }  # fmt: skip


def coupon(*, created: int, name: str, percent_off: int) -> Obj:
    """So many percent off, once."""
    return nulls("amount_off currency duration_in_months max_redemptions redeem_by") | {
        "id": name, "object": "coupon", "created": created, "duration": "once",
        "livemode": False, "metadata": {}, "name": name, "percent_off": percent_off,
        "times_redeemed": 0, "valid": True,
    }  # fmt: skip


def promotion_code(*, created: int, code: str, coupon_id: str) -> Obj:
    """A word that a buyer can type for a coupon."""
    return nulls("customer customer_account expires_at max_redemptions") | {
        "id": new_id("promo"), "object": "promotion_code", "active": True, "code": code,
        "created": created, "livemode": False, "metadata": {},
        "promotion": {"coupon": coupon_id, "type": "coupon"},
        "restrictions": {
            "first_time_transaction": False, "minimum_amount": None,
            "minimum_amount_currency": None,
        },
        "times_redeemed": 0,
    }  # fmt: skip


def _digits(amount: Decimal) -> str:
    return format(amount.normalize(), "f")


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else _digits(amount)


def _whole(amount: Decimal | None) -> int | None:
    if amount is None or amount != amount.to_integral_value():
        return None
    return int(amount)
