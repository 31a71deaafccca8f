"""What a call is charged, in words and in SQL: the one place that says it, and whether it may change.

Derived from what was booked, never from the way a call ended.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.money import show


@dataclass(frozen=True, slots=True)
class Charge:
    """What is booked for a call so far; `billed_nusd` is None until anything is.

    It is final unless the provider is still being asked for the true cost: see `is_final`.
    """

    billed_nusd: int | None = None
    final: bool = False

    def in_short(self) -> str:
        """The amount beside an answer; an ellipsis until it is booked."""
        if self.billed_nusd is None:
            return "…"
        amount = show(self.billed_nusd)
        return amount if self.final else f"{amount} (estimated, may still change)"

    def sentence(self) -> str:
        """The same as a sentence, to follow what went wrong."""
        if self.billed_nusd is None:
            return "What it costs is not known yet."
        if self.billed_nusd == 0:
            words = "Nothing is charged"
            return f"{words}." if self.final else f"{words} so far; this may still change."
        if self.final:
            return f"{show(self.billed_nusd)} is charged."
        return f"{show(self.billed_nusd)} is charged for now; this is an estimate and may change."


def is_final(call: str) -> str:
    """SQL: whether the cost of a settled call, a row of that name, can no longer change.

    A row in app.lookups is the one sign that it can; it goes with the true cost or without hope of it.
    """
    return (
        "not exists (select from app.lookups"
        f" where lookups.tenant_id = {call}.tenant_id and lookups.call_id = {call}.call_id)"
    )
