"""Opening a tenant with its wallet, and granting credit to one: what operators do, audited.

The arithmetic is the ledger's; this file adds who may, what a new tenant starts with, and the log.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from core import errors
from core.billing import ledger
from core.billing.tables import Account, Entry
from core.identity import audit, names, tenants
from core.identity.access import Actor, require_operator
from core.identity.tables import PlanLimit

GRANT_MAX_NUSD = 10**17  # a hundred million USD: beyond it a slip of the hand is likelier
_REASON_LENGTH_MAX = 500
_KEY_LENGTH_MAX = 200


def open_tenant(
    session: Session,
    who: Actor,
    name: str,
    *,
    plan: str = "free",
    mode: str = "prepaid",
    time_zone: str = "UTC",
    markup: Decimal | str | int = 0,
    credit_limit_nusd: int | None = None,
    credits_nusd: int | None = None,
) -> UUID:
    """A new tenant with its wallet; its id. `credits_nusd` (0 too) replaces the sign-up promotion.

    `credit_limit_nusd` is how far a postpaid tenant may go below zero; without it, a month's budget
    of the plan. Raises errors.BadInput.
    """
    if credit_limit_nusd is None:
        credit_limit_nusd = _plan_budget_nusd(session, plan) if mode == "postpaid" else 0
    _check_amount(credit_limit_nusd, "credit_limit")
    if credit_limit_nusd and mode != "postpaid":
        raise errors.BadInput("Only a postpaid tenant has a credit limit.", param="credit_limit")
    tenant_id = tenants.create_tenant(
        session, who, name, plan=plan, mode=mode, time_zone=time_zone, markup=markup
    )
    ledger.open_account(session, tenant_id, mode=mode, credit_limit_nusd=credit_limit_nusd)
    if credits_nusd is None:
        ledger.grant_sign_up(session, tenant_id, actor=audit.name_of(who))
    elif credits_nusd != 0:
        grant_credit(session, who, tenant_id, credits_nusd, key="opening", reason="Opening credit")
    return tenant_id


def grant_credit(
    session: Session,
    who: Actor,
    tenant_id: UUID,
    amount_nusd: int,
    *,
    key: str,
    reason: str,
    expires_at: datetime | None = None,
) -> Entry:
    """Grant credit by hand, once per `key`; the same grant again returns what was booked.

    Raises errors.BadInput, errors.NotFound without a wallet, and errors.Conflict for a key that was
    used for another amount.
    """
    require_operator(who)
    _check_amount(amount_nusd, "amount")
    key = names.name(key, "key", length_max=_KEY_LENGTH_MAX)
    reason = names.name(reason, "reason", length_max=_REASON_LENGTH_MAX)
    expires_at = names.future(expires_at, "expiry")
    if session.get(Account, tenant_id, with_for_update=True, populate_existing=True) is None:
        raise errors.NotFound("This tenant has no account.")
    known = _granted(session, tenant_id, key)
    if known is not None:
        if known.amount_nusd != amount_nusd:
            raise errors.Conflict("This key was used for a grant of another amount.", param="key")
        return known
    entry = ledger.grant(
        session, tenant_id, amount_nusd, kind="manual", key=key, actor=audit.name_of(who),
        reason=reason, expires_at=expires_at,
    )  # fmt: skip
    audit.record(
        session, who, "credit.grant", f"entry:{entry.entry_id}", tenant_id=tenant_id,
        after={"amount_nusd": amount_nusd, "key": key, "reason": reason, "expires_at": expires_at},
    )  # fmt: skip
    return entry


def _check_amount(amount_nusd: int, param: str) -> None:
    if not 0 <= amount_nusd <= GRANT_MAX_NUSD:
        raise errors.BadInput(f"The {param} is not an amount that can be booked.", param=param)


def _plan_budget_nusd(session: Session, plan: str) -> int:
    """What the plan lets a tenant spend in a month; nothing where the plan does not say."""
    row = session.get(PlanLimit, (plan, "tenant", "monthly_nusd"))
    return row.maximum if row and row.maximum is not None else 0


def _granted(session: Session, tenant_id: UUID, key: str) -> Entry | None:
    """The grant that `key` made before, however it was made."""
    return session.scalar(
        select(Entry).where(Entry.tenant_id == tenant_id, Entry.idempotency_key == f"grant:{key}")
    )
