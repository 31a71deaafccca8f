"""How amounts, counts, times and names are written on the pages of figures. Draws nothing; what it
returns for Markdown cannot be taken for a formula or a link."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from core import clock
from core.money import exact, show, show_minor
from pages.widgets.text import plain

NONE = "\N{EN DASH}"
_EXPORTS = {
    "usage": "Usage events", "daily": "Daily usage", "statement": "Statement",
    "chargeback": "Chargeback", "focus": "FOCUS", "audit": "Audit log",
}  # fmt: skip


def usd(amount_nusd: int) -> str:
    """Money for people, safe within Markdown."""
    return show(amount_nusd).replace("$", "\\$")


def cents(amount_minor: int) -> str:
    """Money paid, in cents, safe within Markdown."""
    return show_minor(amount_minor).replace("$", "\\$")


def typed_cents(amount_minor: int | None) -> str:
    """Money paid as a person types it into a field; nothing for None."""
    return "" if amount_minor is None else show_minor(amount_minor).removeprefix("$")


def usd_exact(amount_nusd: int) -> str:
    """Every digit of an amount, for a table's cell (which is no Markdown)."""
    sign = "-" if amount_nusd < 0 else ""
    return f"{sign}${exact(abs(amount_nusd))}"


def usd_decimal(amount_usd: Decimal) -> str:
    """Every digit of an exact amount of USD, for a table's cell."""
    digits = format(abs(amount_usd), "f")
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return f"-${digits}" if amount_usd < 0 else f"${digits}"


def rate(amount_nusd: int) -> str:
    """A mean price to four significant digits: more would claim what no single call cost."""
    size = 10 ** max(0, len(str(abs(amount_nusd))) - 4)
    return show(round(amount_nusd / size) * size)


def percent(change: float | None) -> str | None:
    """A change as a signed percentage; None stays nothing."""
    return None if change is None else f"{change:+.1%}"


def share(part: Fraction | None) -> str:
    """A part of a whole as a percentage; a dash where there is no whole."""
    return NONE if part is None else f"{float(part):.1%}"


def zone() -> str:
    """The reader's time zone, as their browser says; UTC where it says nothing usable."""
    named = st.context.timezone or "UTC"
    try:
        return ZoneInfo(named).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "UTC"


def moment(at: datetime | None, time_zone: str | None = None) -> str:
    """A moment to the minute, in the reader's zone or a named one."""
    if at is None:
        return NONE
    local = at.astimezone(ZoneInfo(time_zone or zone()))
    return f"{local:%b} {local.day}, {local:%Y, %H:%M}"


def ago(at: datetime | None, now: datetime | None = None) -> str:
    """How long ago, in the largest whole unit."""
    if at is None:
        return NONE
    seconds = max(0, int(((now or clock.now()) - at).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "just now" if seconds < 10 else f"{seconds} s ago"


def browser(user_agent: str | None) -> str:
    """A browser and system in two words, from what it says of itself; safe within Markdown."""
    agent = user_agent or ""
    name = _first(agent, ("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"),
                  ("Chrome", "Chrome"), ("Safari", "Safari"))  # fmt: skip
    system = _first(agent, ("iPhone", "iPhone"), ("iPad", "iPad"), ("Android", "Android"),
                    ("Windows", "Windows"), ("Mac OS", "macOS"), ("Linux", "Linux"))  # fmt: skip
    if name and system:
        return f"{name} on {system}"
    return name or system or plain(agent[:40]) or "Unknown browser"


def _first(agent: str, *signs: tuple[str, str]) -> str:
    return next((name for sign, name in signs if sign in agent), "")


def export_name(kind: str) -> str:
    """What an export is called."""
    return _EXPORTS.get(kind, kind)
