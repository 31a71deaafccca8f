"""Credit by hand: at once below the house's limit, by two operators above it, once per key."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from core import db, errors
from core.billing import accounts, credit
from core.billing.ledger import BILLING
from core.billing.sales_tables import CreditRequest
from core.billing.tables import Entry
from core.db import System, new_id
from core.identity.access import Actor, Operator
from tests.billing.purchases import USD, audited, offences, wallet
from tests.factories import make_place

pytestmark = pytest.mark.usefixtures("database")
LIMIT_NUSD = 1000 * USD  # as seeded
ONE, OTHER = (Operator(new_id(), f"{name}@example.com", name) for name in ("one", "other"))


@pytest.fixture
def tenant_id() -> UUID:
    return make_place(credit_usd=0).tenant_id


def ask(
    tenant_id: UUID, amount_nusd: Any, *, who: Actor = ONE, key: str = "k", **more: Any
) -> Entry | CreditRequest:
    with db.transaction(who) as session:
        return credit.ask(
            session, who, tenant_id, amount_nusd, key=key, **{"reason": "paid by transfer"} | more
        )


def asked(tenant_id: UUID, amount_nusd: int = LIMIT_NUSD + 1, **more: Any) -> CreditRequest:
    request = ask(tenant_id, amount_nusd, **more)
    assert isinstance(request, CreditRequest)
    return request


def granted_by_hand(tenant_id: UUID, amount_nusd: Any) -> None:
    with db.transaction(BILLING) as session:
        accounts.grant_credit(session, BILLING, tenant_id, amount_nusd, key="k", reason="r")


def decide(request: CreditRequest, *, grant: bool, who: Actor = OTHER) -> CreditRequest:
    with db.transaction(who) as session:
        return credit.decide(session, who, request.tenant_id, request.request_id, grant=grant)


def posted(tenant_id: UUID) -> int:
    return wallet(tenant_id).posted_nusd


def test_up_to_the_limit_one_operator_grants_at_once(tenant_id: UUID) -> None:
    entry = ask(tenant_id, LIMIT_NUSD)
    assert isinstance(entry, Entry)
    assert entry.actor == f"operator:{ONE.user_id}"
    assert posted(tenant_id) == LIMIT_NUSD
    assert audited(tenant_id)[-1] == "credit.grant"


def test_above_it_nothing_is_booked_until_another_operator_agrees(tenant_id: UUID) -> None:
    request = asked(tenant_id)
    assert (request.state, posted(tenant_id)) == ("waiting", 0)
    decided = decide(request, grant=True)
    assert (decided.state, decided.decided_by) == ("granted", f"operator:{OTHER.user_id}")
    assert posted(tenant_id) == LIMIT_NUSD + 1
    assert audited(tenant_id)[-3:] == ["credit.ask", "credit.approve", "credit.grant"]
    assert offences(tenant_id) == []


def test_the_command_line_needs_no_second_person(tenant_id: UUID) -> None:
    assert isinstance(ask(tenant_id, 2 * LIMIT_NUSD, who=System("command line")), Entry)
    assert posted(tenant_id) == 2 * LIMIT_NUSD


@pytest.mark.parametrize("grant", [True, False])
def test_whoever_asked_does_not_decide(tenant_id: UUID, grant: bool) -> None:
    request = asked(tenant_id)
    with pytest.raises(errors.Forbidden):
        decide(request, grant=grant, who=ONE)
    assert posted(tenant_id) == 0


def test_the_database_holds_the_two_people_apart_too(tenant_id: UUID) -> None:
    request = asked(tenant_id)
    with pytest.raises(IntegrityError), db.transaction(BILLING) as session:
        session.execute(
            text(
                "update app.credit_requests set state = 'granted', decided_by = asked_by"
                " where request_id = :r"
            ),
            {"r": request.request_id},
        )


def test_a_refused_request_grants_nothing_and_stays_refused(tenant_id: UUID) -> None:
    request = asked(tenant_id)
    assert decide(request, grant=False).state == "refused"
    assert audited(tenant_id)[-1] == "credit.refuse"
    with pytest.raises(errors.Conflict):
        decide(request, grant=True)
    again = asked(tenant_id)
    assert (again.request_id, again.state, posted(tenant_id)) == (request.request_id, "refused", 0)


def test_deciding_twice_the_same_way_grants_once(tenant_id: UUID) -> None:
    request = asked(tenant_id)
    for _ in range(2):
        assert decide(request, grant=True).state == "granted"
    with pytest.raises(errors.Conflict):
        decide(request, grant=False)
    assert posted(tenant_id) == LIMIT_NUSD + 1


def test_two_operators_deciding_at_once_grant_once(tenant_id: UUID) -> None:
    request = asked(tenant_id)
    third = Operator(new_id(), "third@example.com", "third")
    with ThreadPoolExecutor(2) as pool:
        decided = list(pool.map(lambda who: decide(request, grant=True, who=who), (OTHER, third)))
    assert {found.state for found in decided} == {"granted"}
    assert posted(tenant_id) == LIMIT_NUSD + 1


def test_the_same_wish_again_is_the_same_request(tenant_id: UUID) -> None:
    first, again = asked(tenant_id), asked(tenant_id)
    assert first.request_id == again.request_id
    assert audited(tenant_id).count("credit.ask") == 1


@pytest.mark.parametrize(
    "other", [{"amount_nusd": LIMIT_NUSD + 2}, {"amount_nusd": 1}, {"reason": "another"},
              {"expires_at": datetime.now(UTC) + timedelta(days=9)}],
)  # fmt: skip
def test_a_key_that_stands_for_another_wish_is_a_conflict(
    tenant_id: UUID, other: dict[str, Any]
) -> None:
    asked(tenant_id)
    with pytest.raises(errors.Conflict):
        ask(tenant_id, **{"amount_nusd": LIMIT_NUSD + 1} | other)
    assert posted(tenant_id) == 0


def test_a_key_that_granted_before_cannot_be_asked_for_more(tenant_id: UUID) -> None:
    ask(tenant_id, USD)
    assert isinstance(ask(tenant_id, USD), Entry)
    with pytest.raises(errors.Conflict):
        ask(tenant_id, 2 * LIMIT_NUSD)
    assert posted(tenant_id) == USD


def test_what_was_asked_and_then_granted_at_the_command_line_is_granted_once(
    tenant_id: UUID,
) -> None:
    request = asked(tenant_id)
    with db.transaction(BILLING) as session:
        accounts.grant_credit(
            session, BILLING, tenant_id, LIMIT_NUSD + 1, key="k", reason="paid by transfer"
        )
    decide(request, grant=True)
    assert posted(tenant_id) == LIMIT_NUSD + 1


def test_there_is_no_side_door_above_the_limit(tenant_id: UUID) -> None:
    def grant(key: str, amount_nusd: int) -> None:
        with db.transaction(ONE) as session:
            accounts.grant_credit(session, ONE, tenant_id, amount_nusd, key=key, reason="quick")

    with pytest.raises(errors.Forbidden, match=r"credit\.ask"):
        grant("direct", LIMIT_NUSD + 1)
    request = asked(tenant_id)
    with pytest.raises(errors.Forbidden):
        grant("k", LIMIT_NUSD + 1)
    decide(request, grant=True)
    with pytest.raises(errors.Conflict):
        grant("k", LIMIT_NUSD + 2)
    assert posted(tenant_id) == LIMIT_NUSD + 1


def test_opening_credit_above_the_limit_opens_no_tenant() -> None:
    with pytest.raises(errors.Forbidden), db.transaction(ONE) as session:
        accounts.open_tenant(session, ONE, "Acme", credits_nusd=LIMIT_NUSD + 1)


@pytest.mark.parametrize(
    "amount_nusd",
    [-1, 0, 0.5, 1e30, float("nan"), float("inf"), Decimal("NaN"), Decimal("0.1"), 10**30, True,
     "5", None],
)  # fmt: skip
@pytest.mark.parametrize("act", [ask, granted_by_hand])
def test_an_amount_that_cannot_be_booked_is_refused(
    tenant_id: UUID, amount_nusd: object, act: Callable[[UUID, object], object]
) -> None:
    with pytest.raises(errors.BadInput):
        act(tenant_id, amount_nusd)
    assert posted(tenant_id) == 0


@pytest.mark.parametrize(
    "more", [{"reason": ""}, {"key": ""}, {"key": "k" * 201}, {"reason": "a\x00b"},
             {"expires_at": datetime.now(UTC) - timedelta(days=1)}],
)  # fmt: skip
def test_a_wish_without_key_or_reason_or_already_over_is_refused(
    tenant_id: UUID, more: dict[str, Any]
) -> None:
    with pytest.raises(errors.BadInput):
        ask(tenant_id, LIMIT_NUSD + 1, **more)


def test_credit_that_expired_while_it_waited_is_not_granted(tenant_id: UUID) -> None:
    request = asked(tenant_id, expires_at=datetime.now(UTC) + timedelta(hours=1))
    with db.transaction(BILLING) as session:
        session.execute(
            text("update app.credit_requests set expires_at = now() where request_id = :r"),
            {"r": request.request_id},
        )
    with pytest.raises(errors.BadInput):
        decide(request, grant=True)
    assert decide(request, grant=False).state == "refused"


def test_only_operators_ask_decide_and_see(tenant_id: UUID) -> None:
    admin, request = make_place(role="admin").who, asked(tenant_id)
    with pytest.raises(errors.Forbidden):
        ask(tenant_id, USD, who=admin)
    with pytest.raises(errors.Forbidden):
        decide(request, grant=True, who=admin)
    with pytest.raises(errors.Forbidden), db.transaction(admin) as session:
        credit.waiting(session, admin)
    with pytest.raises(errors.Forbidden), db.transaction(admin) as session:
        credit.set_terms(session, admin, low_balance_nusd=0, approval_above_nusd=0)


def test_unknown_tenants_and_requests_are_not_found(tenant_id: UUID) -> None:
    request = asked(tenant_id)
    with pytest.raises(errors.NotFound):
        ask(UUID(int=7), USD)
    with pytest.raises(errors.NotFound), db.transaction(OTHER) as session:
        credit.decide(session, OTHER, tenant_id, UUID(int=7), grant=True)
    other = make_place().tenant_id
    with pytest.raises(errors.NotFound), db.transaction(OTHER) as session:
        credit.decide(session, OTHER, other, request.request_id, grant=True)


def test_what_waits_is_listed_oldest_first_until_decided(tenant_id: UUID) -> None:
    first, second = asked(tenant_id, key="first"), asked(tenant_id, key="second")

    def waiting() -> list[UUID]:
        with db.transaction(OTHER) as session:
            found = credit.waiting(session, OTHER)
            return [row.request_id for row in found if row.tenant_id == tenant_id]

    assert waiting() == [first.request_id, second.request_id]
    decide(first, grant=False)
    assert waiting() == [second.request_id]


def test_the_house_changes_its_terms_and_they_count_at_once(tenant_id: UUID) -> None:
    with db.transaction(BILLING) as session:
        before = credit.terms(session)
        low_nusd, above_nusd = before.low_balance_nusd, before.approval_above_nusd
    try:
        with db.transaction(ONE) as session:
            credit.set_terms(session, ONE, low_balance_nusd=USD, approval_above_nusd=0)
            row = session.execute(
                text("select before, after from app.audit_log where action = 'billing.terms'"
                     " order by audit_id desc limit 1")
            ).one()  # fmt: skip
        assert row.before["approval_above_nusd"] == above_nusd
        assert row.after == {"low_balance_nusd": USD, "approval_above_nusd": 0}
        asked(tenant_id, 1)
    finally:
        with db.transaction(BILLING) as session:
            credit.set_terms(
                session, BILLING, low_balance_nusd=low_nusd, approval_above_nusd=above_nusd
            )


@pytest.mark.parametrize("amount", [-1, 10**18, 1.5, None])
def test_terms_that_are_no_amounts_are_refused(amount: Any) -> None:
    for terms in ({"low_balance_nusd": amount, "approval_above_nusd": 1},
                  {"low_balance_nusd": 1, "approval_above_nusd": amount}):  # fmt: skip
        with pytest.raises(errors.BadInput), db.transaction(BILLING) as session:
            credit.set_terms(session, ONE, **terms)
