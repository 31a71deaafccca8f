"""Credit by hand under four eyes: asked for by one operator, decided by another, and the house's
terms that say from which amount on. Books nothing itself: accounts.grant_credit does, once per key.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core import errors
from core.billing import accounts, ledger
from core.billing.accounts import GrantTerms
from core.billing.sales_tables import BillingTerms, CreditRequest
from core.billing.tables import Entry
from core.identity import audit
from core.identity.access import Actor, require_operator


def ask(
    session: Session,
    who: Actor,
    tenant_id: UUID,
    amount_nusd: int,
    *,
    key: str,
    reason: str,
    expires_at: datetime | None = None,
) -> Entry | CreditRequest:
    """Grant at once what one operator may, else keep the wish for another; once per `key`.

    The same wish again returns what came of it before. Raises errors.BadInput, errors.NotFound, and
    errors.Conflict for a key that stands for another wish.
    """
    require_operator(who)
    terms = accounts.grant_terms(amount_nusd, key=key, reason=reason, expires_at=expires_at)
    ledger.lock(session, tenant_id)
    asked = session.scalar(
        select(CreditRequest).where(
            CreditRequest.tenant_id == tenant_id, CreditRequest.key == terms.key
        )
    )
    if asked is not None:
        return _same(asked, terms)
    known = accounts.granted(session, tenant_id, terms)
    if known is not None:
        return known
    if accounts.needs_approval(session, who, terms.amount_nusd):
        return _keep(session, who, tenant_id, terms)
    return accounts.grant_credit(
        session, who, tenant_id, terms.amount_nusd, key=terms.key, reason=terms.reason,
        expires_at=terms.expires_at,
    )  # fmt: skip


def decide(
    session: Session, who: Actor, tenant_id: UUID, request_id: UUID, *, grant: bool
) -> CreditRequest:
    """Grant or refuse what another operator asked for; the same decision again changes nothing.

    Raises errors.NotFound, errors.Forbidden for whoever asked, errors.Conflict when it was decided the
    other way, and errors.BadInput when the credit would have expired by now.
    """
    decider = audit.name_of(require_operator(who))
    ledger.lock(session, tenant_id)
    request = session.get(CreditRequest, (tenant_id, request_id), populate_existing=True)
    if request is None:
        raise errors.NotFound("There is no such request.")
    if request.asked_by == decider:
        raise errors.Forbidden("Whoever asked does not decide: another operator must.")
    state = "granted" if grant else "refused"
    if request.state != "waiting":
        if request.state != state:
            raise errors.Conflict(f"This request was {request.state} already.")
        return request
    request.state, request.decided_by = state, decider
    request.decided_at = session.scalar(select(func.now()))
    session.flush()
    audit.record(
        session, who, "credit.approve" if grant else "credit.refuse",
        f"credit_request:{request_id}", tenant_id=tenant_id, before={"state": "waiting"},
        after={"state": state, "amount_nusd": request.amount_nusd, "asked_by": request.asked_by},
    )  # fmt: skip
    if grant:
        accounts.grant_credit(
            session, who, tenant_id, request.amount_nusd, key=request.key, reason=request.reason,
            expires_at=request.expires_at,
        )  # fmt: skip
    return request


def waiting(session: Session, who: Actor) -> list[CreditRequest]:
    """What waits for a second operator, of all tenants, oldest first."""
    require_operator(who)
    query = select(CreditRequest).where(CreditRequest.state == "waiting")
    return list(session.scalars(query.order_by(CreditRequest.asked_at, CreditRequest.request_id)))


def terms(session: Session, *, lock: bool = False) -> BillingTerms:
    """The house's terms. Raises errors.NotFound when their row is gone."""
    one = select(BillingTerms).execution_options(populate_existing=True)
    row = session.scalar(one.with_for_update() if lock else one)
    if row is None:
        raise errors.NotFound("The terms of billing are missing.")
    return row


def set_terms(
    session: Session, who: Actor, *, low_balance_nusd: int, approval_above_nusd: int
) -> None:
    """Change below which balance people are told, and above which amount two operators must agree.

    Raises errors.BadInput.
    """
    require_operator(who)
    accounts.check_amount(low_balance_nusd, "low_balance")
    accounts.check_amount(approval_above_nusd, "approval_above")
    row = terms(session, lock=True)
    before = _facts(row)
    row.low_balance_nusd, row.approval_above_nusd = low_balance_nusd, approval_above_nusd
    session.flush()
    audit.record(
        session, who, "billing.terms", "billing_terms:house", before=before, after=_facts(row)
    )


def _keep(session: Session, who: Actor, tenant_id: UUID, terms: GrantTerms) -> CreditRequest:
    request = CreditRequest(
        tenant_id=tenant_id, amount_nusd=terms.amount_nusd, reason=terms.reason, key=terms.key,
        expires_at=terms.expires_at, asked_by=audit.name_of(who),
    )  # fmt: skip
    session.add(request)
    session.flush()
    session.refresh(request)
    audit.record(
        session, who, "credit.ask", f"credit_request:{request.request_id}", tenant_id=tenant_id,
        after={"amount_nusd": terms.amount_nusd, "key": terms.key, "reason": terms.reason,
               "expires_at": terms.expires_at},
    )  # fmt: skip
    return request


def _same(asked: CreditRequest, terms: GrantTerms) -> CreditRequest:
    """The request, when it is this very wish."""
    wish = (asked.amount_nusd, asked.reason, asked.expires_at)
    if wish != (terms.amount_nusd, terms.reason, terms.expires_at):
        raise errors.Conflict("This key was used for another request.", param="key")
    return asked


def _facts(row: BillingTerms) -> audit.Facts:
    return {
        "low_balance_nusd": row.low_balance_nusd,
        "approval_above_nusd": row.approval_above_nusd,
    }
