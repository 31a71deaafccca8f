"""Opening tenants and granting credit: what they start with, once, refused cleanly, audited."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from core import db, errors
from core.billing import accounts, ledger
from core.money import NANO_PER_USD
from tests.factories import TESTS, make_place

pytestmark = pytest.mark.usefixtures("database")
USD = NANO_PER_USD


def open_tenant(**terms: object) -> UUID:
    with db.transaction(TESTS) as session:
        return accounts.open_tenant(session, TESTS, "Acme", **terms)  # type: ignore[arg-type]


def wallet(tenant_id: UUID) -> ledger.Wallet:
    with db.transaction(TESTS) as session:
        return ledger.wallet(session, tenant_id)


def audited(tenant_id: UUID) -> list[str]:
    with db.transaction(TESTS) as session:
        rows = text("select action from app.audit_log where of_tenant = :t order by audit_id")
        return list(session.scalars(rows, {"t": tenant_id}))


def grant(tenant_id: UUID, amount_nusd: int, key: str = "k", **more: object) -> int:
    with db.transaction(TESTS) as session:
        return accounts.grant_credit(
            session, TESTS, tenant_id, amount_nusd, key=key,
            **{"reason": "paid by transfer"} | more,  # type: ignore[arg-type]
        ).entry_id  # fmt: skip


def test_a_new_tenant_gets_the_sign_up_promotion() -> None:
    tenant_id = open_tenant()
    assert wallet(tenant_id).available_nusd == USD
    with db.transaction(TESTS) as session:
        assert [lot.kind for lot in ledger.lots(session, tenant_id)] == ["promo"]
    assert audited(tenant_id) == ["tenant.create"]


@pytest.mark.parametrize("credits_nusd", [0, 25 * USD])
def test_given_credits_replace_the_promotion(credits_nusd: int) -> None:
    tenant_id = open_tenant(credits_nusd=credits_nusd)
    assert wallet(tenant_id).available_nusd == credits_nusd
    assert audited(tenant_id) == ["tenant.create"] + ["credit.grant"] * bool(credits_nusd)


def test_a_postpaid_tenant_can_go_down_to_its_credit_limit() -> None:
    tenant_id = open_tenant(mode="postpaid", credit_limit_nusd=50 * USD, credits_nusd=0)
    assert wallet(tenant_id).available_nusd == 50 * USD


def test_an_internal_tenant_is_not_gated_by_its_wallet() -> None:
    assert wallet(open_tenant(mode="internal")).available_nusd is None


@pytest.mark.parametrize(
    "terms",
    [{"credits_nusd": -1}, {"credits_nusd": accounts.GRANT_MAX_NUSD + 1}, {"mode": "gratis"},
     {"plan": "nope"}, {"time_zone": "Mars/Base"}, {"credit_limit_nusd": 1},
     {"mode": "postpaid", "credit_limit_nusd": -1}],
)  # fmt: skip
def test_terms_that_cannot_be_are_refused_and_leave_no_tenant(terms: dict[str, object]) -> None:
    def count() -> int:
        with db.transaction(TESTS) as session:
            return session.scalar(text("select count(*) from app.tenants")) or 0

    before = count()
    with pytest.raises(errors.BadInput):
        open_tenant(**terms)
    assert count() == before


def test_a_grant_is_booked_and_audited_once_per_key() -> None:
    tenant_id = open_tenant(credits_nusd=0)
    assert grant(tenant_id, 5 * USD) == grant(tenant_id, 5 * USD)
    assert wallet(tenant_id).posted_nusd == 5 * USD
    assert audited(tenant_id) == ["tenant.create", "credit.grant"]


def test_a_key_used_for_another_amount_is_a_conflict() -> None:
    tenant_id = open_tenant(credits_nusd=0)
    grant(tenant_id, 5 * USD)
    with pytest.raises(errors.Conflict):
        grant(tenant_id, 6 * USD)
    assert wallet(tenant_id).posted_nusd == 5 * USD


@pytest.mark.parametrize(
    ("amount_nusd", "more"),
    [(0, {}), (-5, {}), (10**18, {}), (1, {"reason": ""}), (1, {"reason": "a\x00b"}),
     (1, {"key": ""}), (1, {"key": "k" * 201}), (1, {"key": "a\nb"}),
     (1, {"expires_at": datetime.now(UTC) - timedelta(days=1)})],
)  # fmt: skip
def test_a_grant_that_cannot_be_is_refused(amount_nusd: int, more: dict[str, object]) -> None:
    tenant_id = open_tenant(credits_nusd=0)
    with pytest.raises(errors.BadInput):
        grant(tenant_id, amount_nusd, **more)  # type: ignore[arg-type]
    assert wallet(tenant_id).posted_nusd == 0


def test_a_tenants_own_people_cannot_grant() -> None:
    place = make_place(role="admin")
    with db.transaction(TESTS) as session, pytest.raises(errors.Forbidden):
        accounts.grant_credit(session, place.who, place.tenant_id, USD, key="k", reason="please")


def test_without_a_wallet_there_is_nothing_to_grant_to() -> None:
    with pytest.raises(errors.NotFound):
        grant(UUID(int=7), USD)
