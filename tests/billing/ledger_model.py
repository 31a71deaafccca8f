"""The sums of one account and how the ledger's verbs move them, without rows, keys or locks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(slots=True)
class Model:
    """The sums of one account and what moves them. `lots`: left in all lots; `used`: paid by them."""

    floor: int | None
    lots: int = 0
    used: int = 0
    held: int = 0
    debt: int = 0
    receivable: int = 0
    frozen: bool = False
    forgiven: int = 0
    settled: dict[str, int] = field(default_factory=dict)  # by what, the newest last

    @property
    def posted(self) -> int:
        return self.lots - self.debt - self.receivable

    def admits(self, amount: int) -> bool:
        if self.debt or self.frozen:
            return False
        return not amount or self.floor is None or self.posted - self.held - amount >= self.floor

    def grant(self, amount: int) -> None:
        paid = min(self.debt, amount)
        self.debt -= paid
        self.used += paid
        self.lots += amount - paid

    def spend(self, amount: int) -> None:
        paid = min(self.lots, amount)
        self.lots -= paid
        self.used += paid
        if self.floor == 0:
            self.debt += amount - paid
        else:
            self.receivable += amount - paid

    def refill(self, amount: int, *, call: bool) -> None:
        amount -= self._less("debt", amount)
        amount -= self._less("receivable" if call else "forgiven", amount)
        back = self._less("used", amount)
        self.lots += back
        amount -= back
        amount -= self._less("forgiven", amount)
        amount -= self._less("receivable", amount)
        for what in reversed(list(self.settled)):
            taken = min(self.settled[what], amount)
            self.settled[what] -= taken
            amount -= taken
            if what == "payment":
                self.lots += taken
        assert amount == 0

    def expire(self, expired: int) -> int:
        taken = min(expired, max(0, self.lots - self.held))
        self.lots -= taken
        return taken

    def revoke(self, amount: int, left: int, others: int) -> None:
        """`left` is what the lot has, `others` what unexpired other lots have."""
        taken = min(left, amount)
        netted = min(others, amount - taken)
        self.lots -= taken + netted
        self.used += netted
        self.debt += amount - taken - netted

    def reinstate(self, amount: int, revoked: int) -> None:
        returned = min(amount, revoked)
        paid = min(self.debt, returned)
        self.debt -= paid
        self.used += paid
        self.lots += returned - paid
        self.refill(amount - returned, call=False)

    def settle(self, what: str, amount: int) -> None:
        self.receivable -= amount
        self.settled[what] = self.settled.pop(what, 0) + amount

    def pay(self, amount: int) -> None:
        late = min(amount - min(amount, self.receivable), self.settled.get("bad_debt", 0))
        if late:
            self.settled["bad_debt"] -= late
            self.receivable += late
        if due := min(amount, self.receivable):
            self.settle("payment", due)
        if amount > due:
            self.grant(amount - due)

    def forgive(self) -> None:
        self.forgiven += self.debt
        self.debt = 0

    def _less(self, name: Literal["debt", "receivable", "used", "forgiven"], amount: int) -> int:
        taken = min(amount, int(getattr(self, name)))
        setattr(self, name, getattr(self, name) - taken)
        return taken
