"""Money as whole nano-USD (1e-9 USD). Refuses floats, and rounds in one direction at one place only."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from typing import NewType

NanoUsd = NewType("NanoUsd", int)

NANO_PER_USD = 1_000_000_000
NANO_PER_CENT = NANO_PER_USD // 100
ZERO = NanoUsd(0)
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,30})?", re.ASCII)
_LARGEST = 9_000_000_000 * NANO_PER_USD  # what a BIGINT column can hold, with room to add


class NotMoney(ValueError):
    """The text or number given is not an amount of money that can be booked."""


class NotCents(NotMoney):
    """The amount is money, but what is paid is whole cents."""


def ceil_nusd(amount_usd: Decimal) -> NanoUsd:
    """An exact USD amount as nano-USD, rounded up: the one rounding of a call's cost."""
    return NanoUsd(int((amount_usd * NANO_PER_USD).to_integral_value(ROUND_CEILING)))


def billed_nusd(amount_usd: Decimal, markup: Decimal) -> NanoUsd:
    """What the tenant pays for `amount_usd` at a markup (0.1 = ten percent), rounded up once."""
    return ceil_nusd(amount_usd * (1 + markup))


def parse_usd(text: str) -> NanoUsd:
    """A person's USD amount ('12.50') as nano-USD; refuses signs, exponents, fractions of a nano."""
    cleaned = text.strip().removeprefix("$").replace(",", "")
    if not _AMOUNT.fullmatch(cleaned):
        raise NotMoney(f"{text[:40]!r} is not an amount in USD")
    amount = Decimal(cleaned)
    nano = amount * NANO_PER_USD
    if nano != nano.to_integral_value() or nano > _LARGEST:
        raise NotMoney(f"{text[:40]!r} has more digits than can be booked")
    return NanoUsd(int(nano))


def parse_minor(text: str) -> int:
    """A person's USD amount ('12.50') as cents, for what is paid. Raises NotMoney, NotCents."""
    cents, rest = divmod(parse_usd(text), NANO_PER_CENT)
    if rest:
        raise NotCents(f"{text[:40]!r} is not in whole cents")
    return cents


def to_usd(amount_nusd: int) -> Decimal:
    """Nano-USD as an exact USD decimal."""
    return Decimal(amount_nusd) / NANO_PER_USD


def exact(amount_nusd: int) -> str:
    """Exact USD without an exponent or trailing zeros: '0.0007144', for headers and JSON."""
    text = f"{to_usd(amount_nusd):.9f}".rstrip("0").rstrip(".")
    return "0" if text in {"", "-0"} else text


def show(amount_nusd: int) -> str:
    """USD for people: cents from a cent up, all significant digits below ('$0.0007144')."""
    sign = "-" if amount_nusd < 0 else ""
    size = abs(amount_nusd)
    if size == 0:
        return "$0.00"
    if size >= NANO_PER_CENT:
        return (
            f"{sign}${to_usd(size):,.2f}" if size >= NANO_PER_USD else f"{sign}${to_usd(size):.4f}"
        )
    return f"{sign}${exact(size)}"


def show_minor(amount_minor: int) -> str:
    """Money paid, for people ('$1,234.50'); always with its cents."""
    sign = "-" if amount_minor < 0 else ""
    return f"{sign}${Decimal(abs(amount_minor)) / 100:,.2f}"
