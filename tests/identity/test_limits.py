"""core/identity/limits.py"""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from core import db, errors
from core.identity import keys, limits
from core.identity.access import Principal, Role
from core.identity.limits import LimitName, Limits, Subject
from tests.identity.people import SYSTEM, a_browser, a_tenant, audit_rows

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def member() -> Principal:
    return a_browser(a_tenant(plan="starter"), Role.ADMIN).principal


def _of(member: Principal, subject: Subject, subject_id: UUID) -> Limits:
    with db.transaction(member) as session:
        return limits.of(session, member.tenant_id, subject, subject_id)


def _set(
    member: Principal, subject: Subject, subject_id: UUID, name: LimitName, to: int | None
) -> None:
    with db.transaction(SYSTEM) as session:
        limits.set_limit(session, SYSTEM, member.tenant_id, subject, subject_id, name, to)


def test_the_plans_limits_apply(member: Principal) -> None:
    of_tenant = _of(member, Subject.TENANT, member.tenant_id)
    assert (of_tenant.monthly_messages, of_tenant.monthly_tokens) == (1_000, 1_000_000)
    assert (of_tenant.requests_per_minute, of_tenant.requests_per_hour) == (100, None)
    of_user = _of(member, Subject.USER, member.user_id)
    assert of_user == Limits(requests_per_minute=20, requests_per_hour=100)


def test_what_is_set_for_one_subject_wins_and_touches_no_other(member: Principal) -> None:
    colleague = a_browser(member.tenant_id).principal
    _set(member, Subject.USER, member.user_id, LimitName.REQUESTS_PER_MINUTE, 5)
    _set(member, Subject.USER, member.user_id, LimitName.REQUESTS_PER_HOUR, None)
    assert _of(member, Subject.USER, member.user_id) == Limits(requests_per_minute=5)
    assert _of(member, Subject.USER, colleague.user_id).requests_per_minute == 20


def test_zero_is_a_limit_and_none_is_none(member: Principal) -> None:
    _set(member, Subject.TENANT, member.tenant_id, LimitName.MONTHLY_NUSD, 0)
    assert _of(member, Subject.TENANT, member.tenant_id).monthly_nusd == 0
    _set(member, Subject.TENANT, member.tenant_id, LimitName.MONTHLY_NUSD, None)
    assert _of(member, Subject.TENANT, member.tenant_id).monthly_nusd is None


def test_an_unset_limit_is_the_plans_again(member: Principal) -> None:
    _set(member, Subject.USER, member.user_id, LimitName.REQUESTS_PER_MINUTE, 5)
    with db.transaction(SYSTEM) as session:
        limits.unset_limit(
            session, SYSTEM, member.tenant_id, Subject.USER, member.user_id,
            LimitName.REQUESTS_PER_MINUTE,
        )  # fmt: skip
    assert _of(member, Subject.USER, member.user_id).requests_per_minute == 20
    acts = [row[:2] for row in audit_rows(f"user:{member.user_id}") if row[0].startswith("limit")]
    assert acts == [("limit.set", "done"), ("limit.unset", "done")]


def test_what_was_not_set_cannot_be_unset(member: Principal) -> None:
    with pytest.raises(errors.NotFound), db.transaction(SYSTEM) as session:
        limits.unset_limit(
            session, SYSTEM, member.tenant_id, Subject.USER, member.user_id,
            LimitName.MONTHLY_TOKENS,
        )  # fmt: skip


def test_a_keys_budget_is_its_limit(member: Principal) -> None:
    with db.transaction(member) as session:
        issued = keys.issue(session, member, "ci", budget_nusd=7)
    assert _of(member, Subject.KEY, issued.key_id) == Limits(monthly_nusd=7)


@pytest.mark.parametrize("subject", list(Subject))
def test_a_foreign_subject_looks_like_a_missing_one(member: Principal, subject: Subject) -> None:
    stranger = a_browser(a_tenant("Other")).principal
    with db.transaction(stranger) as session:
        key = keys.issue(session, stranger, "ci").key_id
    foreign = {"tenant": stranger.tenant_id, "user": stranger.user_id, "key": key}[subject]
    messages = set()
    for subject_id in (foreign, uuid4()):
        with pytest.raises(errors.NotFound) as refusal:
            _of(member, subject, subject_id)
        messages.add(refusal.value.message)
        with pytest.raises(errors.NotFound):
            _set(member, subject, subject_id, LimitName.MONTHLY_NUSD, 1)
    assert len(messages) == 1


@pytest.mark.parametrize("maximum", [-1, 2**63])
def test_a_maximum_that_cannot_be_kept_is_refused(member: Principal, maximum: int) -> None:
    with pytest.raises(errors.BadInput):
        _set(member, Subject.USER, member.user_id, LimitName.MONTHLY_TOKENS, maximum)


def test_a_tenants_admin_sets_no_limits(member: Principal) -> None:
    with pytest.raises(errors.Forbidden), db.transaction(member) as session:
        limits.set_limit(
            session, member, member.tenant_id, Subject.USER, member.user_id,
            LimitName.MONTHLY_TOKENS, None,
        )  # fmt: skip
