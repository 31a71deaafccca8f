"""What a chart is drawn of: steps of time and the parts of each, with what a person reads and what a
click says. Knows nothing of where the numbers come from."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from core.analytics.selection import Grain
from core.money import NANO_PER_USD, exact

_NAME_MAX = 22


@dataclass(frozen=True, slots=True)
class Part:
    """One thing a chart tells apart: what a click says, what a person reads, its colour, its values."""

    key: str
    name: str
    color: str
    values: tuple[int, ...]

    @property
    def total(self) -> int:
        """All its values together."""
        return sum(self.values)


@dataclass(frozen=True, slots=True)
class Unit:
    """What the values are: how they are drawn, and how each is read off, exactly."""

    scaled: Callable[[int], float]
    written: Callable[[int], str]
    axis_prefix: str = ""
    axis_format: str = "~s"


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a time axis; those of hours are clock times of the tenant's zone."""

    begins: tuple[date | datetime, ...]
    grain: Grain

    @property
    def tick_format(self) -> str:
        """How the axis writes them."""
        return {Grain.HOUR: "%b %-d, %H:%M", Grain.MONTH: "%b %Y"}.get(self.grain, "%b %-d")

    def written(self) -> list[str]:
        """Each step as a person reads it."""
        return [_step(begin, self.grain) for begin in self.begins]


def exact_usd(amount_nusd: int) -> str:
    """Every digit of an amount."""
    return f"{'-' if amount_nusd < 0 else ''}${exact(abs(amount_nusd))}"


def dollars(amount_nusd: int) -> float:
    """An amount as a length on paper; never to be summed or shown."""
    return amount_nusd / NANO_PER_USD


def spelled(name: str) -> str:
    """A name as Plotly shall draw it: its signs shown, not obeyed."""
    return html.escape(" ".join(name.split()), quote=False)


def short(name: str) -> str:
    """A name for an axis: of a long model id what follows the vendor, of a long address what is
    before the at sign, and dots for what is still too long."""
    one_line = " ".join(name.split())
    if len(one_line) > _NAME_MAX:
        one_line = one_line.rpartition("/")[2].partition("@")[0] or one_line
    if len(one_line) > _NAME_MAX:
        one_line = f"{one_line[: _NAME_MAX - 1]}\N{HORIZONTAL ELLIPSIS}"
    return spelled(one_line)


def hovers(texts: Sequence[str], key: str, steps: Sequence[date | datetime]) -> list[list[str]]:
    """What each point of a part carries: what is read off it, and what a click on it says."""
    return [[text, key, step.isoformat()] for text, step in zip(texts, steps, strict=True)]


def _step(begin: date | datetime, grain: Grain) -> str:
    match grain:
        case Grain.HOUR:
            return f"{begin:%a, %b} {begin.day}, {begin:%H:%M}"
        case Grain.WEEK:
            return f"Week of {begin:%b} {begin.day}"
        case Grain.MONTH:
            return f"{begin:%B %Y}"
    return f"{begin:%a, %b} {begin.day}"


USD = Unit(dollars, exact_usd, "$", "~g")
TOKENS = Unit(float, "{:,} tokens".format)
