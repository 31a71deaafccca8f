"""Opening a tenant with its wallet, granting credit by hand, and changing how a tenant pays: what
operators do, audited.

The arithmetic is the ledger's; this file adds who may, what a new tenant starts with, and the log. It
grants nothing above the house's limit that a second operator has not approved (credit.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import cast, get_args
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from core import errors, jobs
from core.billing import ledger
from core.billing.ledger import Mode
from core.billing.sales_tables import BillingTerms, CreditRequest
from core.billing.tables import Account, Entry
from core.db import System
from core.identity import audit, names, tenants
from core.identity.access import Actor, require_operator
from core.identity.tables import PlanLimit, Tenant

GRANT_MAX_NUSD = 10**17  # a hundred million USD: beyond it a slip of the hand is likelier
_UNIT_NUSD = 1_000  # one unit of the meter: no invoice will ever ask for less
_REASON_LENGTH_MAX = 500
_KEY_LENGTH_MAX = 200


@dataclass(frozen=True, slots=True)
class GrantTerms:
    """What is granted by hand, checked: how much, once for which key, why, and until when."""

    amount_nusd: int
    key: str
    reason: str
    expires_at: datetime | None


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
    of the plan. Raises errors.BadInput, and errors.Forbidden as grant_credit does.
    """
    limit_nusd = _credit_limit_nusd(session, plan, mode, credit_limit_nusd)
    tenant_id = tenants.create_tenant(
        session, who, name, plan=plan, mode=mode, time_zone=time_zone, markup=markup
    )
    ledger.open_account(session, tenant_id, mode=mode, credit_limit_nusd=limit_nusd)
    if mode == "postpaid":
        jobs.defer(session, "billing.postpaid", tenant_id=tenant_id)
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

    Raises errors.BadInput, errors.NotFound without a wallet, errors.Conflict for a key that was used
    for another amount, and errors.Forbidden for an operator's grant above the house's limit that no
    second operator has approved under the same key.
    """
    require_operator(who)
    terms = grant_terms(amount_nusd, key=key, reason=reason, expires_at=expires_at)
    ledger.lock(session, tenant_id)
    known = granted(session, tenant_id, terms)
    if known is not None:
        return known
    if needs_approval(session, who, terms.amount_nusd) and not _approved(session, tenant_id, terms):
        raise errors.Forbidden(
            "This is more than one operator may grant: ask for it (credit.ask), and another"
            " operator decides."
        )
    entry = ledger.grant(
        session, tenant_id, terms.amount_nusd, kind="manual", key=terms.key,
        actor=audit.name_of(who), reason=terms.reason, expires_at=terms.expires_at,
    )  # fmt: skip
    audit.record(
        session, who, "credit.grant", f"entry:{entry.entry_id}", tenant_id=tenant_id,
        after={"amount_nusd": terms.amount_nusd, "key": terms.key, "reason": terms.reason,
               "expires_at": terms.expires_at},
    )  # fmt: skip
    return entry


def grant_terms(
    amount_nusd: int, *, key: str, reason: str, expires_at: datetime | None = None
) -> GrantTerms:
    """What is to be granted, cleaned. Raises errors.BadInput for what cannot be booked."""
    check_amount(amount_nusd, "amount")
    if amount_nusd == 0:
        raise errors.BadInput("A grant must be more than nothing.", param="amount")
    return GrantTerms(
        amount_nusd, names.name(key, "key", length_max=_KEY_LENGTH_MAX),
        names.name(reason, "reason", length_max=_REASON_LENGTH_MAX),
        names.future(expires_at, "expiry"),
    )  # fmt: skip


def granted(session: Session, tenant_id: UUID, terms: GrantTerms) -> Entry | None:
    """The grant that this key made before, however it was made. Raises errors.Conflict when it was
    of another amount."""
    known = session.scalar(
        select(Entry).where(
            Entry.tenant_id == tenant_id, Entry.idempotency_key == f"grant:{terms.key}"
        )
    )
    if known is not None and known.amount_nusd != terms.amount_nusd:
        raise errors.Conflict("This key was used for a grant of another amount.", param="key")
    return known


def needs_approval(session: Session, who: Actor, amount_nusd: int) -> bool:
    """Whether a second operator must agree. The command line is exempt: who runs it has the database.

    Without a row of terms everything an operator grants needs approval.
    """
    limit_nusd = session.scalar(select(BillingTerms.approval_above_nusd)) or 0
    return not isinstance(who, System) and amount_nusd > limit_nusd


def switch_mode(
    session: Session,
    who: Actor,
    tenant_id: UUID,
    mode: str,
    *,
    credit_limit_nusd: int | None = None,
    write_off: bool = False,
) -> None:
    """Change how a tenant pays, whatever runs: open holds stay and are captured under the new floor.

    To postpaid: `credit_limit_nusd`, or a month's budget of the plan. Leaving postpaid while something
    is receivable needs `write_off`, which books it as bad debt; leaving internal writes show-back off.
    So does debt for whoever is not prepaid from now on: it would refuse every call, with nothing to
    buy. Raises errors.BadInput, errors.NotFound, errors.Conflict.
    """
    require_operator(who)
    chosen = _mode(mode)
    ledger.lock(session, tenant_id)
    tenant = session.get_one(
        Tenant, tenant_id, populate_existing=True, with_for_update={"key_share": True}
    )
    left = tenant.mode
    if chosen == left:
        raise errors.BadInput(f"This tenant is {chosen} already.", param="mode")
    limit_nusd = _credit_limit_nusd(session, tenant.plan, chosen, credit_limit_nusd)
    account = session.get_one(Account, tenant_id, populate_existing=True)
    limit_before_nusd = -(account.floor_nusd or 0)
    written_off_nusd = _settle_receivable(session, who, account, left, write_off=write_off)
    if chosen != "prepaid":
        written_off_nusd += _settle_debt(session, who, account, chosen, write_off=write_off)
    tenants.set_mode(
        session, who, tenant_id, chosen, before={"credit_limit_nusd": limit_before_nusd},
        after={"credit_limit_nusd": limit_nusd, "written_off_nusd": written_off_nusd},
    )  # fmt: skip
    ledger.set_floor(session, tenant_id, mode=chosen, credit_limit_nusd=limit_nusd)
    if chosen == "postpaid":
        jobs.defer(session, "billing.postpaid", tenant_id=tenant_id)
    elif left == "postpaid":
        jobs.defer(session, "billing.prepaid_again", tenant_id=tenant_id)


def set_credit_limit(session: Session, who: Actor, tenant_id: UUID, credit_limit_nusd: int) -> None:
    """Let a postpaid tenant go further below zero, or less far.

    Below what it used already is allowed: then new calls are refused until enough is paid. Raises
    errors.BadInput (also for a tenant that is not postpaid), errors.NotFound, and errors.Conflict for
    no room at all while something is receivable.
    """
    require_operator(who)
    ledger.lock(session, tenant_id)
    tenant = session.get_one(
        Tenant, tenant_id, populate_existing=True, with_for_update={"key_share": True}
    )
    limit_nusd = _credit_limit_nusd(session, tenant.plan, tenant.mode, credit_limit_nusd)
    if tenant.mode != "postpaid":
        raise errors.BadInput("Only a postpaid tenant has a credit limit.", param="credit_limit")
    account = session.get_one(Account, tenant_id, populate_existing=True)
    if limit_nusd == 0 and account.receivable_nusd:
        raise errors.Conflict(
            "This tenant has not paid everything it used yet: its limit is more than nothing until then."
        )
    limit_before_nusd = -(account.floor_nusd or 0)
    ledger.set_floor(session, tenant_id, mode="postpaid", credit_limit_nusd=limit_nusd)
    audit.record(
        session, who, "tenant.credit_limit", f"tenant:{tenant_id}", tenant_id=tenant_id,
        before={"credit_limit_nusd": limit_before_nusd}, after={"credit_limit_nusd": limit_nusd},
    )  # fmt: skip


def check_amount(amount_nusd: int, param: str) -> None:
    """Refuse what is no whole amount that can be booked. Raises errors.BadInput naming `param`."""
    whole = isinstance(amount_nusd, int) and not isinstance(amount_nusd, bool)
    if not whole or not 0 <= amount_nusd <= GRANT_MAX_NUSD:
        raise errors.BadInput(f"The {param} is not an amount that can be booked.", param=param)


def _mode(text: str) -> Mode:
    """Raises errors.BadInput."""
    for mode in get_args(Mode):
        if text == mode:
            return cast("Mode", mode)
    raise errors.BadInput(f"The mode is one of {', '.join(get_args(Mode))}.", param="mode")


def _approved(session: Session, tenant_id: UUID, terms: GrantTerms) -> bool:
    """Whether two operators agreed on this very grant."""
    request = session.scalar(
        select(CreditRequest).where(
            CreditRequest.tenant_id == tenant_id, CreditRequest.key == terms.key
        )
    )
    return (
        request is not None
        and request.state == "granted"
        and request.amount_nusd == terms.amount_nusd
    )


def _credit_limit_nusd(session: Session, plan: str, mode: str, given_nusd: int | None) -> int:
    """How far below zero: what is given, else what the plan lets a postpaid tenant spend a month."""
    if given_nusd is None:
        given_nusd = _plan_budget_nusd(session, plan) if mode == "postpaid" else 0
    check_amount(given_nusd, "credit_limit")
    if given_nusd and mode != "postpaid":
        raise errors.BadInput("Only a postpaid tenant has a credit limit.", param="credit_limit")
    return given_nusd


def _plan_budget_nusd(session: Session, plan: str) -> int:
    """What the plan lets a tenant spend in a month; nothing where the plan does not say."""
    row = session.get(PlanLimit, (plan, "tenant", "monthly_nusd"))
    return row.maximum if row and row.maximum is not None else 0


def _settle_receivable(
    session: Session, who: Actor, account: Account, left: str, *, write_off: bool
) -> int:
    """Write off what the mode that is left made receivable; how much. Raises errors.Conflict."""
    receivable_nusd = account.receivable_nusd
    if receivable_nusd == 0:
        return 0
    if left == "postpaid" and receivable_nusd >= _UNIT_NUSD and not write_off:
        raise errors.Conflict(
            "This tenant has not paid everything it used yet. Wait for its invoice, or write it off."
        )
    ledger.write_off(
        session, account.tenant_id, contra="show_back" if left == "internal" else "bad_debt",
        key=f"mode:{account.seq}", actor=audit.name_of(who), reason=f"No longer {left}",
    )  # fmt: skip
    return receivable_nusd


def _settle_debt(
    session: Session, who: Actor, account: Account, chosen: str, *, write_off: bool
) -> int:
    """Write off the debt that nothing could pay any more; how much. Raises errors.Conflict."""
    debt_nusd = account.debt_nusd
    if debt_nusd == 0:
        return 0
    if not write_off:
        raise errors.Conflict(
            "This tenant is in debt. Let it pay or grant it credit first, or write the debt off."
        )
    ledger.write_off_debt(
        session, account.tenant_id, key=f"mode:{account.seq}:debt", actor=audit.name_of(who),
        reason=f"Now {chosen}",
    )  # fmt: skip
    return debt_nusd
