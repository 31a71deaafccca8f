"""The wallet of a demo tenant over its ninety days: what the ledger's verbs would have booked then.

Pure: keeps accounts in memory by the ledger's rules, for rows that are written in one go.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from core.billing.ledger import SPENT_LAST
from core.demonstration.history import Done, made_id
from core.demonstration.script import Place
from core.money import NANO_PER_USD, billed_nusd

_LOW_NUSD = 3 * NANO_PER_USD
Row = dict[str, object]


@dataclass(slots=True)
class Books:
    """A tenant's account, lots and entries. Always: posted = sum of lots - receivable (of dues)."""

    tenant_id: UUID
    posted_nusd: int = 0
    receivable_nusd: int = 0
    lots: list[Row] = field(default_factory=list)
    entries: list[Row] = field(default_factory=list)
    lot_uses: list[Row] = field(default_factory=list)
    dues: list[Row] = field(default_factory=list)

    def top_up(self, rng: random.Random, amount_nusd: int, at: datetime) -> None:
        """A grant as an operator books a payment by bank transfer."""
        lot_id, key = made_id(rng, at), f"transfer-{len(self.lots) + 1}"
        left = {"remaining_nusd": amount_nusd, "consumed_nusd": 0}
        source = {"source_type": "manual", "source_id": key}
        self.lots.append(
            {"tenant_id": self.tenant_id, "lot_id": lot_id, "kind": "manual",
             "priority": SPENT_LAST, "granted_nusd": amount_nusd, "expired_nusd": 0,
             "revoked_nusd": 0, "effective_at": at, **left, **source}
        )  # fmt: skip
        self._post(
            at, "grant", "manual", amount_nusd, f"grant:{key}", lot_id=lot_id,
            actor="system:demo data", reason=f"Bank transfer {len(self.lots)}", **source,
        )  # fmt: skip

    def take(self, done: Done, amount_nusd: int, at: datetime, kind: str) -> None:
        """The debit of a call: out of the lots, the rest is receivable."""
        seq = self._post(
            at, kind, "usage", -amount_nusd, f"{kind}:{done.call_id}", call_id=done.call_id,
            source_type="call", source_id=str(done.call_id),
            actor="system" if kind == "capture" else "reconcile",
            reason=None if kind == "capture" else "true cost of the call",
        )  # fmt: skip
        owed = amount_nusd
        for lot in self.lots:
            left = lot["remaining_nusd"]
            taken = min(left if isinstance(left, int) else 0, owed)
            if taken:
                lot["remaining_nusd"] = left - taken  # type: ignore[operator]
                lot["consumed_nusd"] += taken  # type: ignore[operator]
                self.lot_uses.append(
                    {"tenant_id": self.tenant_id, "seq": seq, "lot_id": lot["lot_id"],
                     "amount_nusd": taken}
                )  # fmt: skip
                owed -= taken
        if owed:
            self.receivable_nusd += owed
            self.dues.append({"tenant_id": self.tenant_id, "seq": seq, "amount_nusd": owed})

    def _post(
        self, at: datetime, kind: str, contra: str, amount_nusd: int, key: str, **more: object
    ) -> int:
        self.posted_nusd += amount_nusd
        seq = len(self.entries) + 1
        self.entries.append(
            {"tenant_id": self.tenant_id, "seq": seq, "kind": kind, "contra": contra,
             "amount_nusd": amount_nusd, "posted_after_nusd": self.posted_nusd,
             "idempotency_key": key, "occurred_at": at, **more}
        )  # fmt: skip
        return seq


@dataclass(frozen=True, slots=True)
class _Movement:
    """A debit that is due at a moment."""

    at: datetime
    done: Done
    amount_nusd: int
    kind: str


def keep(place: Place, tenant_id: UUID, history: Sequence[Done]) -> Books:
    """Book every call of the tenant in order, topping a prepaid wallet up before it runs low."""
    rng = random.Random(f"books:{place.name}")  # noqa: S311 - the same books every time
    books = Books(tenant_id)
    top_up_nusd = place.top_up_usd * NANO_PER_USD
    for movement in sorted(_movements(history), key=lambda m: (m.at, m.done.call_id)):
        if top_up_nusd and books.posted_nusd < _LOW_NUSD + movement.amount_nusd:
            books.top_up(rng, top_up_nusd, movement.at - timedelta(minutes=30))
        books.take(movement.done, movement.amount_nusd, movement.at, movement.kind)
    return books


def booked_first_nusd(done: Done) -> int:
    """What a call was charged when it ended: its estimate where it had one."""
    if done.estimate_usd is None:
        return done.billed_nusd
    return billed_nusd(done.estimate_usd, done.markup)


def _movements(history: Sequence[Done]) -> list[_Movement]:
    found = []
    for done in history:
        first = booked_first_nusd(done)
        found.append(_Movement(done.settled_at, done, first, "capture"))
        found.append(_Movement(done.corrected_at, done, done.billed_nusd - first, "adjust"))
    return [movement for movement in found if movement.amount_nusd]
