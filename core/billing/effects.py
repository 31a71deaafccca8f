"""What came of one event from Stripe: done, of no concern here, or to be tried again later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Handled:
    """Its effect is booked in this transaction, or was before. `note` says what, for operators."""

    note: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing is to be done for it, now or later; `reason` is kept with the event."""

    reason: str


@dataclass(frozen=True, slots=True)
class Waits:
    """It came before what it is about: try again later. Nothing may have been changed for it."""

    reason: str


Effect: TypeAlias = Handled | Ignored | Waits
