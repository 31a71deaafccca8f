"""What the demo data is made from: the tenants, people, habits and talks of the two seed files.

Reads them and makes nothing. The sign-ins below are for development and documented as such.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from core.identity.access import Role

PASSWORD = "purser-demo"  # noqa: S105 - of development's demo people, printed at every start
DEMO_EMAIL = "demo@purser.example"
OPERATOR_EMAIL = "operator@purser.example"

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Person:
    """A member of a demo tenant; `weight` is their share of its calls."""

    email: str
    name: str
    role: Role
    cost_center: str
    weight: int


@dataclass(frozen=True, slots=True)
class Move:
    """Somebody who asks another model in the month before this one, with this share of their calls."""

    email: str
    model_id: str
    share: float


@dataclass(frozen=True, slots=True)
class Place:
    """A demo tenant. A prepaid one is topped up by `top_up_usd` whenever its wallet runs low."""

    name: str
    plan: str
    mode: str
    time_zone: str
    markup: Decimal
    calls_per_day: int
    people: tuple[Person, ...]
    api_key: str | None = None
    api_project: str | None = None
    move: Move | None = None
    top_up_usd: int = 0
    credit_limit_usd: int = 0


@dataclass(frozen=True, slots=True)
class Habit:
    """How often a model is asked (`weight`), and how much it then reads and writes."""

    model_id: str
    weight: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation of the demo person."""

    title: str
    days_ago: int
    model_id: str
    exchanges: tuple[Exchange, ...]


def places() -> tuple[Place, ...]:
    """The demo tenants; the first is the demo person's."""
    found = []
    for raw in _read("places")["place"]:
        people = tuple(
            Person(**{**person, "role": Role(person["role"])}) for person in raw.pop("person")
        )
        move = Move(**raw.pop("move")) if "move" in raw else None
        found.append(
            Place(**{**raw, "markup": Decimal(raw["markup"]), "people": people, "move": move})
        )
    return tuple(found)


def habits() -> tuple[Habit, ...]:
    """The models that are asked."""
    return tuple(Habit(**raw) for raw in _read("places")["habit"])


def talks() -> tuple[Talk, ...]:
    """The demo person's conversations, oldest first."""
    return tuple(
        Talk(
            raw["title"], raw["days_ago"], raw["model_id"],
            tuple(Exchange(e["question"], e["answer"].strip()) for e in raw["exchange"]),
        )
        for raw in _read("talks")["talk"]
    )  # fmt: skip


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((_FOLDER / f"{name}.toml").read_text())
