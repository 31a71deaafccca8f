"""Ninety days of calls and more as a team makes them, by a random number generator with a fixed start.

Pure: reads no clock and no database. Costs are those of the catalogue's prices.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

from core.catalog import pricing
from core.catalog.answers import Usage
from core.catalog.pricing import Terms
from core.demonstration.script import Habit, Place
from core.money import billed_nusd, ceil_nusd
from core.periods import month_of

DAYS_MIN = 90
_WEEKEND_SHARE = 0.12
_API_SHARE = 0.18
_DAY_STARTS_H, _DAY_ENDS_H = 8, 19
_SETTLED_BEFORE_NOW = timedelta(minutes=20)
_OUTCOMES = {"ok": 940, "stopped": 30, "error": 20, "timeout": 4, "cut": 6}
_MS_PER_TOKEN = 9
_ESTIMATED_SHARE = Decimal("0.8")  # what a cut answer was guessed at, of its true cost


@dataclass(frozen=True, slots=True)
class Offer:
    """A model as it can be called: its provider and the price that applies."""

    model_id: str
    provider: str
    keeps_generations: bool
    price_id: int
    terms: Terms


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as calls and events name them."""

    tenant_id: UUID
    tenant_label_id: UUID
    user_id: UUID
    user_label_id: UUID
    cost_center: str
    email: str
    weight: int


@dataclass(frozen=True, slots=True)
class Done:
    """A call that has ended. `estimate_usd` is what a cut one was booked at before it was final."""

    call_id: UUID
    opened_at: datetime
    caller: Caller
    key_id: UUID | None
    offer: Offer
    markup: Decimal
    outcome: str
    usage: Usage
    cost_usd: Decimal
    first_token_ms: int | None
    latency_ms: int
    generation_id: str | None
    estimate_usd: Decimal | None = None
    conversation_id: UUID | None = None
    project: str | None = None

    @property
    def source(self) -> str:
        """Where the call came from."""
        return "chat" if self.key_id is None else "api"

    @property
    def purpose(self) -> str:
        """What the call was made for."""
        return "chat" if self.key_id is None else "completion"

    @property
    def settled_at(self) -> datetime:
        """When it was booked first."""
        return self.opened_at + timedelta(milliseconds=self.latency_ms)

    @property
    def corrected_at(self) -> datetime:
        """When an estimate became final."""
        return self.settled_at + timedelta(minutes=2)

    @property
    def gave_output(self) -> bool:
        """Whether the person got anything."""
        return self.usage.completion_tokens > 0

    @property
    def list_nusd(self) -> int:
        """The true cost, in nano-USD."""
        return ceil_nusd(self.cost_usd)

    @property
    def billed_nusd(self) -> int:
        """What the tenant pays for it."""
        return billed_nusd(self.cost_usd, self.markup)


def of_place(
    place: Place,
    callers: Sequence[Caller],
    key_id: UUID | None,
    offers: Mapping[str, Offer],
    habits: Sequence[Habit],
    now: datetime,
) -> list[Done]:
    """The calls of one tenant from its first day to `now`, oldest first."""
    rng = random.Random(f"purser:{place.name}")  # noqa: S311 - the same history every time
    asked = [habit for habit in habits if habit.model_id in offers]
    done = []
    for opened_at in _moments(rng, place, now):
        caller = rng.choices(callers, [c.weight for c in callers])[0]
        habit = rng.choices(asked, [h.weight for h in asked])[0]
        if moved := _moved(rng, place, caller, opened_at, now):
            habit = next((h for h in asked if h.model_id == moved), habit)
        by_key = key_id is not None and caller is callers[0] and rng.random() < _API_SHARE * 3
        done.append(
            replace(
                _call(rng, place, caller, key_id if by_key else None, offers[habit.model_id], habit,
                      opened_at),
                project=place.api_project if by_key else None,
            )
        )  # fmt: skip
    return done


def first_day(now: datetime, time_zone: str) -> date:
    """Where the history begins: ninety days back or more, so that two whole months are in it."""
    today = now.astimezone(ZoneInfo(time_zone)).date()
    last_month = month_of(month_of(today).first - timedelta(days=1))
    return min(last_month.before.first, today - timedelta(days=DAYS_MIN - 1))


def made_id(rng: random.Random, at: datetime) -> UUID:
    """A version 7 UUID of that moment, so that old rows sort before new ones."""
    milliseconds = int(at.timestamp() * 1000)
    value = milliseconds << 80 | 7 << 76 | rng.getrandbits(12) << 64 | 2 << 62 | rng.getrandbits(62)
    return UUID(int=value)


def answered(
    rng: random.Random, caller: Caller, offer: Offer, markup: Decimal, opened_at: datetime,
    usage: Usage, conversation_id: UUID | None = None,
) -> Done:  # fmt: skip
    """A call of that size that went well."""
    first_token_ms = rng.randint(280, 1400)
    return Done(
        call_id=made_id(rng, opened_at), opened_at=opened_at, caller=caller, key_id=None,
        offer=offer, markup=markup, outcome="ok", usage=usage,
        cost_usd=pricing.cost_usd(offer.terms, usage), first_token_ms=first_token_ms,
        latency_ms=first_token_ms + usage.completion_tokens * _MS_PER_TOKEN,
        generation_id=_generation(rng, offer), conversation_id=conversation_id,
    )  # fmt: skip


def tokens(prompt: int, completion: int, *, cached: int = 0, reasoning: int = 0) -> Usage:
    """A usage of that many tokens."""
    return Usage(prompt, cached, 0, completion, reasoning, 0, 0, 0, 0, None)


def _moments(rng: random.Random, place: Place, now: datetime) -> Iterator[datetime]:
    """When calls were made: on working days, in office hours there, a little more each week."""
    zone = ZoneInfo(place.time_zone)
    today = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    days = (today.date() - first_day(now, place.time_zone)).days + 1
    for days_ago in range(days - 1, -1, -1):
        day = today - timedelta(days=days_ago)
        growth = 0.7 + 0.6 * (days - days_ago) / days
        share = _WEEKEND_SHARE if day.weekday() >= 5 else 1.0
        count = max(0, round(rng.gauss(place.calls_per_day * growth * share, 2)))
        seconds = sorted(
            rng.randint(_DAY_STARTS_H * 3600, _DAY_ENDS_H * 3600) for _ in range(count)
        )
        for second in seconds:
            moment = (day + timedelta(seconds=second, milliseconds=rng.randint(0, 999))).astimezone(
                now.tzinfo
            )
            if moment < now - _SETTLED_BEFORE_NOW:
                yield moment


def _call(
    rng: random.Random, place: Place, caller: Caller, key_id: UUID | None, offer: Offer,
    habit: Habit, opened_at: datetime,
) -> Done:  # fmt: skip
    outcome = rng.choices(list(_OUTCOMES), list(_OUTCOMES.values()))[0]
    usage = _usage(rng, habit, outcome)
    failed = outcome in {"error", "timeout"}
    first_token_ms = None if failed else int(rng.lognormvariate(6.3, 0.45))
    latency_ms = (
        rng.randint(900, 9_000) if first_token_ms is None
        else first_token_ms + usage.completion_tokens * _MS_PER_TOKEN
    )  # fmt: skip
    cost_usd = Decimal(0) if failed else pricing.cost_usd(offer.terms, usage)
    estimated = outcome == "cut" and offer.keeps_generations
    return Done(
        call_id=made_id(rng, opened_at), opened_at=opened_at, caller=caller, key_id=key_id,
        offer=offer, markup=place.markup, outcome=outcome, usage=usage, cost_usd=cost_usd,
        first_token_ms=first_token_ms, latency_ms=latency_ms,
        generation_id=None if failed else _generation(rng, offer),
        estimate_usd=cost_usd * _ESTIMATED_SHARE if estimated else None,
    )  # fmt: skip


def _moved(
    rng: random.Random, place: Place, caller: Caller, at: datetime, now: datetime
) -> str | None:
    """The model somebody moved most of their work to in the month before this one, if it is they."""
    move, zone = place.move, ZoneInfo(place.time_zone)
    if move is None or move.email != caller.email:
        return None
    last_month = month_of(month_of(now.astimezone(zone).date()).first - timedelta(days=1))
    is_then = last_month.first <= at.astimezone(zone).date() <= last_month.last
    return move.model_id if is_then and rng.random() < move.share else None


def _usage(rng: random.Random, habit: Habit, outcome: str) -> Usage:
    """Sizes around the habit's; a failed call read and wrote nothing, a stopped one wrote less."""
    if outcome in {"error", "timeout"}:
        return tokens(0, 0)
    prompt = max(20, int(habit.prompt_tokens * rng.lognormvariate(-0.3, 0.8)))
    completion = max(5, int(habit.completion_tokens * rng.lognormvariate(-0.2, 0.6)))
    if outcome != "ok":
        completion = max(3, completion // 3)
    cached = int(prompt * rng.uniform(0.3, 0.7)) if rng.random() < 0.25 else 0
    return tokens(prompt, completion, cached=cached)


def _generation(rng: random.Random, offer: Offer) -> str | None:
    return f"gen-demo-{rng.getrandbits(64):016x}" if offer.keeps_generations else None
