"""The credit ledger: what a tenant was granted, holds, used and owes, to the nano-USD.

The arithmetic and the locks are in ledger.sql; holds and captures are opened and ended by the gate
alone. This file refuses amounts that are not positive; it never changes a balance by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core import db, errors, jobs
from core.billing.tables import Account, Entry, Lot, Promotion
from core.db import System, new_id
from core.money import NanoUsd

LotKind = Literal["purchase", "plan", "promo", "manual"]
SPENT_FIRST, SPENT_LAST = 10, 50  # what expires by its nature goes before what was bought
_PRIORITY: dict[str, int] = {"plan": SPENT_FIRST, "promo": SPENT_FIRST}


@dataclass(frozen=True, slots=True)
class Wallet:
    """A tenant's balance. `available_nusd` is None where budgets gate, not the wallet (internal)."""

    tenant_id: UUID
    posted_nusd: int
    held_nusd: int
    debt_nusd: int
    receivable_nusd: int
    available_nusd: int | None


def open_account(
    session: Session, tenant_id: UUID, *, mode: str, credit_limit_nusd: int = 0
) -> None:
    """Open the wallet of a new tenant: floor 0 prepaid, minus its limit postpaid, none internal."""
    floor = {"prepaid": 0, "postpaid": -credit_limit_nusd, "internal": None}[mode]
    session.execute(
        text("select verbs.open_account(:tenant, :floor)"), {"tenant": tenant_id, "floor": floor}
    )


def grant(
    session: Session,
    tenant_id: UUID,
    amount_nusd: int,
    *,
    kind: LotKind,
    key: str,
    actor: str,
    reason: str,
    expires_at: datetime | None = None,
    source: tuple[str, str] | None = None,
) -> Entry:
    """Credit a new lot, once per `key`; debt is paid from it first. Returns the entry booked."""
    if amount_nusd <= 0:
        raise errors.BadInput("A grant must be more than nothing.", param="amount")
    if not key or len(key) > 200:
        raise errors.BadInput("The key must have 1 to 200 characters.", param="key")
    source_type, source_id = source or (kind, key)
    seq = session.execute(
        text(
            "select verbs.grant_lot(:tenant, :lot, :kind, :amount, :priority, :expires,"
            " :source_type, :source_id, :key, :actor, :reason)"
        ),
        {
            "tenant": tenant_id, "lot": new_id(), "kind": kind, "amount": amount_nusd,
            "priority": _PRIORITY.get(kind, SPENT_LAST), "expires": expires_at,
            "source_type": source_type, "source_id": source_id, "key": f"grant:{key}",
            "actor": actor, "reason": reason,
        },
    ).scalar_one()  # fmt: skip
    return _entry(session, tenant_id, seq)


def grant_sign_up(session: Session, tenant_id: UUID, *, actor: str) -> Entry | None:
    """The promotional lot of a new tenant, as its row says; None when the row is gone or zero."""
    row = session.get(Promotion, "sign_up")
    if row is None or row.amount_nusd == 0:
        return None
    expires = None
    if row.expires_after_days is not None:
        expires = session.execute(
            text("select now() + make_interval(days => :days)"), {"days": row.expires_after_days}
        ).scalar_one()
    return grant(
        session, tenant_id, row.amount_nusd, kind="promo", key="sign_up", actor=actor,
        reason="Welcome credit", expires_at=expires,
    )  # fmt: skip


def revoke(
    session: Session,
    tenant_id: UUID,
    lot_id: UUID,
    amount_nusd: int,
    *,
    key: str,
    actor: str,
    reason: str,
) -> Entry:
    """Claw back part of a lot, once per `key`; what is spent already becomes debt."""
    if amount_nusd <= 0:
        raise errors.BadInput("A revocation must be more than nothing.", param="amount")
    seq = session.execute(
        text("select verbs.revoke_lot(:tenant, :lot, :amount, :key, :actor, :reason)"),
        {
            "tenant": tenant_id, "lot": lot_id, "amount": amount_nusd, "key": f"revoke:{key}",
            "actor": actor, "reason": reason,
        },
    ).scalar_one()  # fmt: skip
    return _entry(session, tenant_id, seq)


def expire(session: Session) -> int:
    """Write off what expired lots of all tenants have left; returns how many tenants had some."""
    due = session.scalars(
        text("select tenant_id from app.accounts where next_expiry_at <= now() order by tenant_id")
    ).all()
    written_off = 0
    for tenant_id in due:
        taken = session.execute(
            text("select verbs.expire_lots(:tenant)"), {"tenant": tenant_id}
        ).scalar_one()
        written_off += taken > 0
    return written_off


def wallet(session: Session, tenant_id: UUID) -> Wallet:
    """The tenant's balance now. Raises errors.NotFound where there is no account."""
    row = session.get(Account, tenant_id)
    if row is None:
        raise errors.NotFound("There is no such account.")
    available = None
    if row.floor_nusd is not None:
        available = max(0, row.posted_nusd - row.held_nusd - row.floor_nusd)
    return Wallet(
        tenant_id, NanoUsd(row.posted_nusd), NanoUsd(row.held_nusd), NanoUsd(row.debt_nusd),
        NanoUsd(row.receivable_nusd), available,
    )  # fmt: skip


def lots(session: Session, tenant_id: UUID) -> list[Lot]:
    """Every grant of a tenant, newest first."""
    order = select(Lot).where(Lot.tenant_id == tenant_id).order_by(Lot.effective_at.desc())
    return list(session.scalars(order))


def _entry(session: Session, tenant_id: UUID, seq: int) -> Entry:
    row = session.get(Entry, (tenant_id, seq))
    if row is None:
        raise errors.NotFound("There is no such entry.")
    return row


@jobs.periodic("5 * * * *", "billing.expire")
def _expire() -> None:
    with db.transaction(System("expiry")) as session:
        expire(session)
