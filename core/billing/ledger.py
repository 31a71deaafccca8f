"""The credit ledger: what a tenant was granted, holds, used, owes and paid, to the nano-USD.

The arithmetic and the locks are in the .sql files beside it; holds and captures are opened and ended
by the gate alone. This file refuses amounts that are not positive; it never changes a balance by hand.
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
from core.jobs import Queue
from core.money import NanoUsd

BILLING = System("billing")
_EXPIRY = System("expiry")

LotKind = Literal["purchase", "plan", "promo", "manual"]
Mode = Literal["prepaid", "postpaid", "internal"]
SPENT_FIRST, SPENT_LAST = 10, 50  # what expires by its nature goes before what was bought
_PRIORITY: dict[str, int] = {"plan": SPENT_FIRST, "promo": SPENT_FIRST}
_KEY_LENGTH_MAX = 200
LOTS_MAX = 200  # so many of the newest are shown


@dataclass(frozen=True, slots=True)
class Wallet:
    """A tenant's balance. `available_nusd` is None where budgets gate, not the wallet (internal)."""

    tenant_id: UUID
    posted_nusd: int
    held_nusd: int
    debt_nusd: int
    receivable_nusd: int
    available_nusd: int | None


def lock(session: Session, tenant_id: UUID) -> None:
    """Lock the tenant's account until the end of the transaction, before anything is decided on.

    Raises errors.NotFound where there is no account.
    """
    locked = select(Account.tenant_id).where(Account.tenant_id == tenant_id).with_for_update()
    if session.scalar(locked) is None:
        raise errors.NotFound("There is no such account.")


def open_account(
    session: Session, tenant_id: UUID, *, mode: str, credit_limit_nusd: int = 0
) -> None:
    """Open the wallet of a new tenant: floor 0 prepaid, minus its limit postpaid, none internal."""
    session.execute(
        text("select verbs.open_account(:tenant, :floor)"),
        {"tenant": tenant_id, "floor": _floor_nusd(mode, credit_limit_nusd)},
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
    """Credit a new lot, once per `key` and once per `source`; debt is paid from it first.

    Returns the entry booked; for a key or a source seen before, the one booked then.
    """
    _check(amount_nusd, key, "A grant")
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
    """Claw back part of a lot, once per `key`. What is spent already is taken from other lots, bought
    ones first; what they do not cover becomes debt.

    More than was granted and not yet clawed back breaks a check of the database.
    """
    _check(amount_nusd, key, "A revocation")
    seq = session.execute(
        text("select verbs.revoke_lot(:tenant, :lot, :amount, :key, :actor, :reason)"),
        {
            "tenant": tenant_id, "lot": lot_id, "amount": amount_nusd, "key": f"revoke:{key}",
            "actor": actor, "reason": reason,
        },
    ).scalar_one()  # fmt: skip
    return _entry(session, tenant_id, seq)


def reinstate(
    session: Session,
    tenant_id: UUID,
    lot_id: UUID,
    amount_nusd: int,
    *,
    key: str,
    actor: str,
    reason: str,
) -> Entry:
    """Give back, once per `key`, (part of) what was revoked of a lot; debt is paid from it first.

    What had become debt by then returns to the lots that paid it since. More than was revoked
    breaks a check of the database. An expired lot's part expires again with the next run.
    """
    _check(amount_nusd, key, "What is given back")
    seq = session.execute(
        text("select verbs.reinstate_lot(:tenant, :lot, :amount, :key, :actor, :reason)"),
        {
            "tenant": tenant_id, "lot": lot_id, "amount": amount_nusd, "key": f"reinstate:{key}",
            "actor": actor, "reason": reason,
        },
    ).scalar_one()  # fmt: skip
    return _entry(session, tenant_id, seq)


def clawed_back(session: Session, tenant_id: UUID, lot_id: UUID) -> int:
    """What was revoked of a lot and not given back since, spent or not, in nano-USD."""
    found = session.execute(
        text("select verbs.clawed_back(:tenant, :lot)"), {"tenant": tenant_id, "lot": lot_id}
    )
    return int(found.scalar_one())


def receive_payment(
    session: Session,
    tenant_id: UUID,
    amount_nusd: int,
    *,
    key: str,
    actor: str,
    reason: str,
    source: tuple[str, str],
) -> Entry:
    """Book, once per `key`, what was paid for use: it lowers the receivable.

    What exceeds it and had been given up as bad debt is not written off any more; the rest becomes
    a 'purchase' lot, whose source is (type + "_above", key).
    Returns the payment's entry, or the grant's where nothing was receivable.
    """
    _check(amount_nusd, key, "A payment")
    seq = session.execute(
        text(
            "select verbs.receive_payment(:tenant, :lot, :amount, :priority, :source_type,"
            " :source_id, :key, :actor, :reason)"
        ),
        {
            "tenant": tenant_id, "lot": new_id(), "amount": amount_nusd, "priority": SPENT_LAST,
            "source_type": source[0], "source_id": source[1], "key": f"payment:{key}",
            "actor": actor, "reason": reason,
        },
    ).scalar_one()  # fmt: skip
    return _entry(session, tenant_id, seq)


def write_off(
    session: Session,
    tenant_id: UUID,
    *,
    contra: Literal["show_back", "bad_debt"],
    key: str,
    actor: str,
    reason: str,
) -> Entry | None:
    """Write off, once per `key`, all that is receivable; None where there is nothing."""
    _check(1, key, "A write-off")
    seq = session.execute(
        text("select verbs.write_off(:tenant, :contra, :key, :actor, :reason)"),
        {
            "tenant": tenant_id, "contra": contra, "key": f"write_off:{key}", "actor": actor,
            "reason": reason,
        },
    ).scalar_one()  # fmt: skip
    return None if seq is None else _entry(session, tenant_id, seq)


def write_off_debt(
    session: Session, tenant_id: UUID, *, key: str, actor: str, reason: str
) -> Entry | None:
    """Write off, once per `key`, all debt; None where there is none. What is given back of the claw-back
    or call it came from shrinks the write-off."""
    _check(1, key, "A write-off")
    seq = session.execute(
        text("select verbs.write_off_debt(:tenant, :key, :actor, :reason)"),
        {"tenant": tenant_id, "key": f"write_off:{key}", "actor": actor, "reason": reason},
    ).scalar_one()
    return None if seq is None else _entry(session, tenant_id, seq)


def set_floor(session: Session, tenant_id: UUID, *, mode: Mode, credit_limit_nusd: int = 0) -> None:
    """Set how far the wallet may go below zero in a mode: prepaid 0, postpaid minus its limit.

    An account with something receivable cannot become prepaid: that breaks a check of the database.
    """
    session.execute(
        text("select verbs.set_floor(:tenant, :floor)"),
        {"tenant": tenant_id, "floor": _floor_nusd(mode, credit_limit_nusd)},
    )


def set_frozen(session: Session, tenant_id: UUID, frozen: bool) -> None:  # noqa: FBT001 - what is set
    """Refuse the tenant's new calls, or admit them again; calls that are open end as ever."""
    session.execute(
        text("select verbs.set_frozen(:tenant, :frozen)"), {"tenant": tenant_id, "frozen": frozen}
    )


def expire() -> int:
    """Write off what expired lots of all tenants have left; returns how many tenants had some.

    Opens a transaction for each tenant: no tenant's calls wait for the others to be done.
    """
    with db.transaction(_EXPIRY) as session:
        due = session.scalars(text(_DUE_TO_EXPIRE)).all()
    written_off = 0
    for tenant_id in due:
        with db.transaction(_EXPIRY) as session:
            taken = session.scalar(text("select verbs.expire_lots(:tenant)"), {"tenant": tenant_id})
            written_off += (taken or 0) > 0
    return written_off


_DUE_TO_EXPIRE = (
    "select tenant_id from app.accounts where next_expiry_at <= now() order by tenant_id"
)


def wallet(session: Session, tenant_id: UUID) -> Wallet:
    """The tenant's balance now. Raises errors.NotFound where there is no account."""
    row = session.get(Account, tenant_id, populate_existing=True)  # the verbs changed it
    if row is None:
        raise errors.NotFound("There is no such account.")
    available = None
    if row.floor_nusd is not None:
        available = max(0, row.posted_nusd - row.held_nusd - row.floor_nusd)
    return Wallet(
        tenant_id, NanoUsd(row.posted_nusd), NanoUsd(row.held_nusd), NanoUsd(row.debt_nusd),
        NanoUsd(row.receivable_nusd), available,
    )  # fmt: skip


def lots(session: Session, tenant_id: UUID, *, limit: int | None = LOTS_MAX) -> list[Lot]:
    """The grants of a tenant, newest first: as many as a page shows, or all (`limit=None`)."""
    newest = (Lot.effective_at.desc(), Lot.lot_id.desc())
    order = select(Lot).where(Lot.tenant_id == tenant_id).order_by(*newest).limit(limit)
    return list(session.scalars(order.execution_options(populate_existing=True)))


def _check(amount_nusd: int, key: str, what: str) -> None:
    if amount_nusd <= 0:
        raise errors.BadInput(f"{what} must be more than nothing.", param="amount")
    if not key or len(key) > _KEY_LENGTH_MAX:
        raise errors.BadInput("The key must have 1 to 200 characters.", param="key")


def _floor_nusd(mode: str, credit_limit_nusd: int) -> int | None:
    return {"prepaid": 0, "postpaid": -credit_limit_nusd, "internal": None}[mode]


def _entry(session: Session, tenant_id: UUID, seq: int) -> Entry:
    row = session.get(Entry, (tenant_id, seq))
    if row is None:
        raise errors.NotFound("There is no such entry.")
    return row


@jobs.periodic("5 * * * *", "billing.expire", Queue.MONEY)
def _expire() -> None:
    expire()
