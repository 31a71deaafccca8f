"""A model's price list: its rates per token, call and search, and what replaces them when.

Refuses every price that nobody could charge by. Knows no model, reads no clock, opens no database.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from decimal import Decimal

_ONE_MILLION = Decimal(1_000_000)
_STEP = Decimal("1e-12")  # finer digits in a price list are the dust of somebody's floats
_DEAREST_TOKEN_USD = Decimal("0.01")  # ten thousand USD per million: a price in another unit
_DEAREST_FEE_USD = Decimal(10)
_JUMP = 3
_UNCLEAR_UNIT = 100  # audio is sold at 2 to 13 times the text price, images at up to 20 times
_ANY_PROMPT_TOKENS = 10**12
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{0,60})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):?([0-5][0-9])", re.ASCII)
_FEES = frozenset({"request", "web_search"})
_MAX_OVERRIDES = 50


class PriceRefused(ValueError):
    """A price list that cannot be charged by; the text says why, in words for operators."""


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per token, per call (`request`) and per search. Zero means: not charged separately."""

    prompt: Decimal
    completion: Decimal
    input_cache_read: Decimal = Decimal(0)
    input_cache_write: Decimal = Decimal(0)
    input_cache_write_1h: Decimal = Decimal(0)
    internal_reasoning: Decimal = Decimal(0)
    image: Decimal = Decimal(0)
    image_token: Decimal = Decimal(0)
    image_output: Decimal = Decimal(0)
    audio: Decimal = Decimal(0)
    audio_output: Decimal = Decimal(0)
    input_audio_cache: Decimal = Decimal(0)
    request: Decimal = Decimal(0)
    web_search: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Override:
    """Rates that replace others for a whole request: above a prompt size, in a UTC window, or both.

    The window is in minutes of the day, from its first to before its last; it may pass midnight.
    """

    above_prompt_tokens: int | None
    window_utc: tuple[int, int] | None
    rates: tuple[tuple[str, Decimal], ...]

    def applies(self, prompt_tokens: int, minute: int | None) -> bool:
        """Whether these rates hold; without a time, no window does."""
        if self.above_prompt_tokens is not None and prompt_tokens <= self.above_prompt_tokens:
            return False
        if self.window_utc is None:
            return True
        start, end = self.window_utc
        if minute is None:
            return False
        return start <= minute < end if start < end else minute >= start or minute < end


@dataclass(frozen=True, slots=True)
class Terms:
    """A price list of one model: its rates and what replaces them, later overrides winning."""

    base: Rates
    overrides: tuple[Override, ...] = ()

    def rates_for(self, prompt_tokens: int, at: datetime | None = None) -> Rates:
        """The rates of a request of this size at this time."""
        utc = at.astimezone(UTC) if at else None
        minute = utc.hour * 60 + utc.minute if utc else None
        changes: dict[str, Decimal] = {}
        for override in self.overrides:
            if override.applies(prompt_tokens, minute):
                changes |= override.rates
        return replace(self.base, **changes) if changes else self.base

    def dearest(self, name: str, prompt_tokens: int) -> Decimal:
        """The highest rate of a name that a request of up to this size can meet at any time."""
        reachable = [getattr(self.base, name)]
        for override in self.overrides:
            if override.above_prompt_tokens is None or override.above_prompt_tokens < prompt_tokens:
                reachable += [rate for key, rate in override.rates if key == name]
        highest: Decimal = max(reachable)
        return highest

    @property
    def is_zero(self) -> bool:
        """Whether nothing at all is charged."""
        return not any(self.dearest(name, _ANY_PROMPT_TOKENS) for name in RATE_NAMES)

    @property
    def prompt_usd_per_million(self) -> Decimal:
        """For people: the prompt price without overrides."""
        return (self.base.prompt * _ONE_MILLION).normalize()

    @property
    def completion_usd_per_million(self) -> Decimal:
        """For people: the completion price without overrides."""
        return (self.base.completion * _ONE_MILLION).normalize()

    def to_json(self) -> dict[str, object]:
        """As stored: exact decimal strings, optional zeros left out; `read_terms` reads it."""
        stored: dict[str, object] = {
            name: _text(rate)
            for name in RATE_NAMES
            if (rate := getattr(self.base, name)) or name in ("prompt", "completion")
        }
        if self.overrides:
            stored["overrides"] = [_override_to_json(override) for override in self.overrides]
        return stored


RATE_NAMES: tuple[str, ...] = tuple(field.name for field in fields(Rates))


def parse_terms(pricing: object, *, known_free: bool = False) -> Terms:
    """A provider's price list, checked and cut to 12 places. Raises PriceRefused with the reason.

    Zero for both prompt and completion is taken only for a model known to be free by rule: a
    catalogue has listed models at 0/0 that are billed.
    """
    terms = read_terms(pricing)
    if not known_free:
        _refuse_zero(terms)
    return terms


def read_terms(pricing: object) -> Terms:
    """An accepted price as stored. Raises PriceRefused where it cannot be charged by."""
    if not isinstance(pricing, Mapping):
        raise PriceRefused("there is no price list")
    for name in ("prompt", "completion"):
        if pricing.get(name) is None:
            raise PriceRefused(f"the {name} price is missing")
    given = {
        name: _rate(name, pricing[name]) for name in RATE_NAMES if pricing.get(name) is not None
    }
    overrides = pricing.get("overrides") or []
    if not isinstance(overrides, list) or len(overrides) > _MAX_OVERRIDES:
        raise PriceRefused("the overrides are not a list of reasonable length")
    return Terms(Rates(**given), tuple(_read_override(override) for override in overrides))


def readable(stored: object) -> Terms | None:
    """A stored price for showing; None for none, and for one that nobody could charge by."""
    try:
        return read_terms(stored) if stored is not None else None
    except PriceRefused:
        return None


def suspicion(accepted: Terms | None, listed: Terms) -> str | None:
    """Why a listed price must not apply before an operator looked at it; None when it may.

    It may not when its units look wrong, or when a rate moved more than threefold either way.
    """
    if unclear := _unclear_unit(listed):
        return unclear
    if accepted is None:
        return None
    for name in RATE_NAMES:
        old, new = getattr(accepted.base, name), getattr(listed.base, name)
        if _is_jump(name, old, new):
            return f"the {name} price moved from {_text(old)} to {_text(new)} USD"
    for name in ("prompt", "completion"):
        old = accepted.dearest(name, _ANY_PROMPT_TOKENS)
        new = listed.dearest(name, _ANY_PROMPT_TOKENS)
        if _is_jump(name, old, new):
            return f"the dearest {name} price moved from {_text(old)} to {_text(new)} USD"
    return None


def _is_jump(name: str, old: Decimal, new: Decimal) -> bool:
    """Optional rates come and go with a model's features: only both together, or a fee, compare."""
    if name not in ("prompt", "completion", "request") and not (old and new):
        return False
    return new > old * _JUMP or old > new * _JUMP


def _unclear_unit(terms: Terms) -> str | None:
    for name in RATE_NAMES:
        if name in _FEES:
            continue
        text = "completion" if name.endswith(("output", "reasoning")) else "prompt"
        if getattr(terms.base, name) > getattr(terms.base, text) * _UNCLEAR_UNIT > 0:
            return f"the {name} price is more than {_UNCLEAR_UNIT} times the {text} price"
    return None


def _refuse_zero(terms: Terms) -> None:
    if not terms.base.prompt and not terms.base.completion:
        raise PriceRefused("prompt and completion cost nothing, but the model is not known as free")
    for override in terms.overrides:
        for name, rate in override.rates:
            if not rate and name in ("prompt", "completion") and getattr(terms.base, name):
                raise PriceRefused(f"an override makes the {name} price zero")


def _rate(name: str, value: object) -> Decimal:
    """One price: an exact number, not negative, in a believable unit, in whole steps of 1e-12."""
    if isinstance(value, Decimal):
        value = str(value)
    is_number = isinstance(value, str | int) and not isinstance(value, bool)
    if not is_number or not _NUMBER.fullmatch(str(value)):
        raise PriceRefused(f"the {name} price is not a number")
    amount = Decimal(str(value))
    if amount == -1:
        raise PriceRefused(f"the {name} price varies from call to call (-1)")
    if amount < 0:
        raise PriceRefused(f"the {name} price is negative")
    if amount > (_DEAREST_FEE_USD if name in _FEES else _DEAREST_TOKEN_USD):
        raise PriceRefused(f"the {name} price is too high to be in USD per unit")
    rounded = abs(amount.quantize(_STEP))  # abs: "-0" is zero
    if amount and not rounded:
        raise PriceRefused(f"the {name} price is too low to be in USD per unit")
    return rounded


def _read_override(raw: object) -> Override:
    if not isinstance(raw, Mapping):
        raise PriceRefused("an override is not an object")
    above = raw.get("min_prompt_tokens")
    if above is not None and (not isinstance(above, int) or isinstance(above, bool) or above < 0):
        raise PriceRefused("an override's prompt size is not a count")
    window = _read_window(raw.get("utc_start"), raw.get("utc_end"))
    if above is None and window is None:
        raise PriceRefused("an override has a condition that is not known")
    given = [(name, _rate(name, raw[name])) for name in RATE_NAMES if raw.get(name) is not None]
    return Override(above, window, tuple(given))


def _read_window(start: object, end: object) -> tuple[int, int] | None:
    if start is None and end is None:
        return None
    first, last = _minute_of_day(start), _minute_of_day(end)
    if first == last:
        raise PriceRefused("an override's time window is empty")
    return first, last


def _minute_of_day(value: object) -> int:
    text = f"{value:04d}" if isinstance(value, int) and value >= 0 else str(value)
    match = _CLOCK.fullmatch(text)
    if not match:
        raise PriceRefused("an override's time is not HHMM")
    return int(match[1]) * 60 + int(match[2])


def _override_to_json(override: Override) -> dict[str, object]:
    stored: dict[str, object] = {name: _text(rate) for name, rate in override.rates}
    if override.above_prompt_tokens is not None:
        stored["min_prompt_tokens"] = override.above_prompt_tokens
    if override.window_utc is not None:
        start, end = override.window_utc
        stored["utc_start"], stored["utc_end"] = _clock(start), _clock(end)
    return stored


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}{minute % 60:02d}"


def _text(rate: Decimal) -> str:
    """A price without an exponent or trailing zeros."""
    return format(rate.normalize(), "f")
