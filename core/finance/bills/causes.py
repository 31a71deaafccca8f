"""Puts our models and the bill's side by side and says why they differ. Pure: reads and books nothing.

A cause is named only where the data bear it out: a doubt that is too small to explain a difference
does not excuse it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeAlias

from core.finance.bills.ours import Doubt, Ours
from core.finance.bills.rows import less, total

Cause: TypeAlias = Literal[
    "agrees", "rounding", "named_differently", "not_final", "estimates", "no_generation_id", "midnight",
    "unrecorded", "only_ours", "unknown",
]  # fmt: skip
SENTENCES: dict[Cause, str] = {
    "agrees": "agrees",
    "rounding": "rounding: less than half a micro-USD per call",
    "named_differently": "the same amount under another name of the model",
    "not_final": "not final yet: the true cost of some calls is still being asked for",
    "estimates": "the cost of some calls was worked out from their text",
    "no_generation_id": "some of our calls ended before the provider named their generation",
    "midnight": "calls around midnight, which the provider dates on the other day",
    "unrecorded": "calls that we did not record",
    "only_ours": "the provider lists nothing of what we recorded",
    "unknown": "unknown",
}
AGREES_USD = Decimal("0.000001")
_ROUNDED_PER_CALL_USD = Decimal("0.0000005")
_NOTHING = Decimal(0)
_DATE = re.compile(r"-(?:\d{8}|\d{4}-\d{2}-\d{2})(?=:|$)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Theirs:
    """A model on the provider's bill of a day."""

    requests: int
    usd: Decimal


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """One model of a day on both sides. Exact USD."""

    model: str
    ours_usd: Decimal
    ours_requests: int
    theirs_usd: Decimal
    theirs_requests: int
    cause: Cause

    @property
    def difference_usd(self) -> Decimal:
        """What the provider took beyond what we recorded; negative: less."""
        return less(self.theirs_usd, self.ours_usd)


def compare(ours: Iterable[Ours], theirs: Mapping[str, Theirs]) -> tuple[ModelCheck, ...]:
    """Every model of either side once, by name, each with its cause."""
    mine: dict[str, list[Ours]] = defaultdict(list)
    known = Names(theirs)
    for model in ours:
        mine[known.find(model.model_served, model.model_requested) or model.model_served].append(
            model
        )
    sides = {name: (mine.get(name, []), theirs.get(name)) for name in mine.keys() | theirs.keys()}
    renamed = _renamed(sides)
    return tuple(_check(name, *sides[name], name in renamed) for name in sorted(sides))


def same_model(name: str, other: str) -> bool:
    """Whether two names may stand for the same model, whatever their date and variant."""
    return _bare(name) == _bare(other)


class Names:
    """Names of models, found as written, else without a date, else without date and variant."""

    def __init__(self, names: Iterable[str]) -> None:
        self._known = tuple(sorted(names))
        self._indexes = [(form, self._by(form)) for form in (str, _undated, _bare)]

    def find(self, *names: str) -> str | None:
        """The first of `names` that is known, the closest form first; None for none."""
        for form, index in self._indexes:
            for name in names:
                if (found := index.get(form(name))) is not None:
                    return found
        return None

    def _by(self, form: Callable[[str], str]) -> dict[str, str]:
        """The name of each form; of several the one that is written so: 'x/y', not 'x/y:free'."""
        grouped: dict[str, list[str]] = defaultdict(list)
        for name in self._known:
            grouped[form(name)].append(name)
        return {
            key: key if key in names else names[0]
            for key, names in grouped.items()
            if key in names or len(names) == 1
        }


def _undated(name: str) -> str:
    return _DATE.sub("", name.removeprefix("~"))


def _bare(name: str) -> str:
    return _undated(name).split(":", 1)[0]


_Side: TypeAlias = tuple[list[Ours], Theirs | None]


def _renamed(sides: Mapping[str, _Side]) -> set[str]:
    """Models only one side has, where exactly one of the other side only has cost the same."""
    only_ours = {n: total(o.usd for o in ours) for n, (ours, bill) in sides.items() if bill is None}
    only_theirs = {n: bill.usd for n, (ours, bill) in sides.items() if bill and not ours}
    pairs = [
        (name, other)
        for name, usd in only_ours.items()
        for other, their_usd in only_theirs.items()
        if usd > AGREES_USD and abs(less(usd, their_usd)) <= AGREES_USD
    ]
    named = [name for pair in pairs for name in pair]
    return {name for pair in pairs if all(named.count(n) == 1 for n in pair) for name in pair}


def _check(name: str, ours: list[Ours], bill: Theirs | None, is_renamed: bool) -> ModelCheck:  # noqa: FBT001
    theirs = bill or Theirs(0, _NOTHING)
    usd, requests = total(o.usd for o in ours), sum(o.requests for o in ours)
    gap = less(theirs.usd, usd)
    if abs(gap) <= AGREES_USD:
        cause: Cause = "agrees"
    elif is_renamed:
        cause = "named_differently"
    elif _is_rounding(gap, theirs, requests):
        cause = "rounding"
    else:
        extra = theirs.requests - requests
        cause = _doubted(ours, gap, extra) or _plain_cause(ours, bill, gap, extra)
    return ModelCheck(name, usd, requests, theirs.usd, theirs.requests, cause)


def _is_rounding(gap: Decimal, theirs: Theirs, requests: int) -> bool:
    calls = max(requests, theirs.requests)
    return abs(gap) <= calls * _ROUNDED_PER_CALL_USD and abs(gap) * 100 <= theirs.usd


def _doubted(ours: list[Ours], gap: Decimal, extra: int) -> Cause | None:
    """The first doubt there is, where all together can explain the difference.

    What is in doubt may turn out to cost nothing, or as much as was held for it.
    """
    doubts: list[tuple[Cause, Doubt]] = [
        ("not_final", o.not_final) for o in ours if o.not_final.calls
    ]
    doubts += [("estimates", o.estimates) for o in ours if o.estimates.calls]
    if 0 < extra <= sum(o.without_id.calls for o in ours):
        doubts += [("no_generation_id", o.without_id) for o in ours if o.without_id.calls]
    lowest = -total(doubt.booked_usd for _, doubt in doubts)
    highest = total(max(_NOTHING, less(d.held_usd, d.booked_usd)) for _, d in doubts)
    if doubts and lowest - AGREES_USD <= gap <= highest + AGREES_USD:
        return doubts[0][0]
    before, at_end = total(o.before_usd for o in ours), total(o.at_end_usd for o in ours)
    if -at_end - AGREES_USD <= gap <= before + AGREES_USD:
        return "midnight"
    return None


def _plain_cause(ours: list[Ours], bill: Theirs | None, gap: Decimal, extra: int) -> Cause:
    if bill is None:
        return "only_ours"
    if gap > 0 and (extra > 0 or not ours):
        return "unrecorded"
    return "unknown"
