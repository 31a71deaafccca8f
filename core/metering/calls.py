"""The life of a call while it runs: its lease, its stop flag, its generation id.

A call is made by the gate alone; this file never opens or settles one.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from core import db

LEASE_S = 15
RENEW_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat found: is the lease still ours, and was a stop asked for."""

    alive: bool
    stop: bool


def beat(
    tenant_id: UUID,
    call_id: UUID,
    lease_token: UUID,
    *,
    delivered_tokens: int = 0,
    generation_id: str | None = None,
) -> Beat:
    """Extend the lease. A generation id is committed for good before this returns."""
    row = db.current().call_again(
        "select alive, stop from verbs.beat(%s, %s, %s, %s, %s, %s)",
        (tenant_id, call_id, lease_token, LEASE_S, delivered_tokens, generation_id),
    )
    return Beat(alive=bool(row and row["alive"]), stop=bool(row and row["stop"]))


def ask_stop(tenant_id: UUID, user_id: UUID, call_id: UUID) -> bool:
    """Ask whoever runs a person's call to stop; False when it has ended, or is not theirs."""
    row = db.current().call_again(
        "select verbs.ask_stop(%s, %s, %s) as asked", (tenant_id, user_id, call_id)
    )
    return bool(row and row["asked"])
