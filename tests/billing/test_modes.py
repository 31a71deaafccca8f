"""How a tenant pays, changed while it works: floors, what is receivable, holds that are open."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from core import db, errors
from core.billing import accounts, ledger
from core.billing.ledger import BILLING
from core.billing.tables import Account, Entry
from core.db import new_id
from core.identity.access import Operator
from core.identity.tables import Tenant
from core.quota.gate import OpenCall
from tests.billing.purchases import USD, audited, offences, spend, wallet
from tests.factories import Place, make_model, make_place
from tests.quota.test_gate import close, cost, open_call

pytestmark = pytest.mark.usefixtures("database")
OPERATOR = Operator(new_id(), "op@example.com", "Op")


def switch(place: Place, mode: Any, **more: Any) -> None:
    with db.transaction(OPERATOR) as session:
        accounts.switch_mode(session, OPERATOR, place.tenant_id, mode, **more)


def floor(tenant_id: UUID) -> int | None:
    with db.transaction(BILLING) as session:
        return session.get_one(Account, tenant_id).floor_nusd


def mode_of(tenant_id: UUID) -> str:
    with db.transaction(BILLING) as session:
        return session.get_one(Tenant, tenant_id).mode


def deferred(tenant_id: UUID) -> list[str]:
    with db.transaction(BILLING) as session:
        rows = text(
            "select task_name from jobs.procrastinate_jobs where args ->> 'tenant_id' = :t order by id"
        )
        return list(session.scalars(rows, {"t": str(tenant_id)}))


def last_change(tenant_id: UUID) -> tuple[dict[str, Any], dict[str, Any]]:
    with db.transaction(BILLING) as session:
        row = session.execute(
            text(
                "select before, after from app.audit_log where of_tenant = :t"
                " and action = 'tenant.mode' order by audit_id desc limit 1"
            ),
            {"t": tenant_id},
        ).one()
        return row.before, row.after


def written_off(tenant_id: UUID) -> list[tuple[str, int]]:
    with db.transaction(BILLING) as session:
        rows = session.query(Entry).filter_by(tenant_id=tenant_id, kind="write_off")
        return [(row.contra, row.amount_nusd) for row in rows.order_by(Entry.seq)]


def in_mode(mode: str, **more: Any) -> Place:
    return make_place(credit_usd=0, mode=mode, **more)


def test_to_postpaid_the_wallet_may_go_below_zero_and_the_meter_is_prepared() -> None:
    place = in_mode("prepaid")
    switch(place, "postpaid", credit_limit_nusd=20 * USD)
    assert (mode_of(place.tenant_id), floor(place.tenant_id)) == ("postpaid", -20 * USD)
    spend(place, "5")
    assert wallet(place.tenant_id).receivable_nusd == 5 * USD
    assert deferred(place.tenant_id) == ["billing.postpaid"]
    assert last_change(place.tenant_id) == (
        {"mode": "prepaid", "credit_limit_nusd": 0},
        {"mode": "postpaid", "credit_limit_nusd": 20 * USD, "written_off_nusd": 0},
    )
    assert offences(place.tenant_id) == []


def test_without_a_limit_postpaid_gets_a_months_budget_of_its_plan() -> None:
    place = in_mode("prepaid", plan="pro")
    with db.transaction(BILLING) as session:
        budget_nusd = session.scalar(
            text("select maximum from app.plan_limits where plan = 'pro' and scope = 'tenant'"
                 " and limit_name = 'monthly_nusd'")
        )  # fmt: skip
    switch(place, "postpaid")
    assert floor(place.tenant_id) == -(budget_nusd or 0)


@pytest.mark.parametrize("mode", ["prepaid", "internal"])
def test_something_receivable_keeps_a_tenant_postpaid(mode: str) -> None:
    place = in_mode("postpaid", credit_limit_nusd=20 * USD)
    spend(place, "5")
    with pytest.raises(errors.Conflict):
        switch(place, mode)
    assert (mode_of(place.tenant_id), floor(place.tenant_id)) == ("postpaid", -20 * USD)
    assert wallet(place.tenant_id).receivable_nusd == 5 * USD
    assert deferred(place.tenant_id) == []


def test_less_than_a_unit_of_the_meter_keeps_nobody_postpaid() -> None:
    place = in_mode("postpaid", credit_limit_nusd=20 * USD)
    spend(place, "0.000000999")
    switch(place, "prepaid")
    assert written_off(place.tenant_id) == [("bad_debt", 999)]
    assert offences(place.tenant_id) == []


def test_written_off_as_bad_debt_it_may_leave() -> None:
    place = in_mode("postpaid", credit_limit_nusd=20 * USD)
    spend(place, "5")
    switch(place, "prepaid", write_off=True)
    assert written_off(place.tenant_id) == [("bad_debt", 5 * USD)]
    assert wallet(place.tenant_id) == ledger.Wallet(place.tenant_id, 0, 0, 0, 0, 0)
    assert deferred(place.tenant_id) == ["billing.prepaid_again"]
    assert last_change(place.tenant_id)[1]["written_off_nusd"] == 5 * USD
    with pytest.raises(errors.InsufficientCredit):
        spend(place, "0.01")
    assert offences(place.tenant_id) == []


def test_paid_up_a_postpaid_tenant_leaves_without_more() -> None:
    place = in_mode("postpaid", credit_limit_nusd=20 * USD)
    spend(place, "5")
    with db.transaction(BILLING) as session:
        ledger.receive_payment(
            session, place.tenant_id, 8 * USD, key="in_1", actor="tests", reason="paid",
            source=("invoice_line", "il_1"),
        )  # fmt: skip
    switch(place, "prepaid")
    assert written_off(place.tenant_id) == []
    assert wallet(place.tenant_id).available_nusd == 3 * USD


@pytest.mark.parametrize("mode", ["prepaid", "postpaid"])
def test_leaving_internal_writes_show_back_off(mode: str) -> None:
    place = in_mode("internal")
    spend(place, "5")
    switch(place, mode, **({"credit_limit_nusd": USD} if mode == "postpaid" else {}))
    assert written_off(place.tenant_id) == [("show_back", 5 * USD)]
    assert wallet(place.tenant_id).posted_nusd == 0
    assert wallet(place.tenant_id).receivable_nusd == 0
    assert offences(place.tenant_id) == []


def test_to_internal_budgets_gate_and_credit_stays() -> None:
    place = make_place(credit_usd=3)
    switch(place, "internal")
    assert floor(place.tenant_id) is None
    spend(place, "5")
    assert wallet(place.tenant_id).receivable_nusd == 2 * USD
    assert deferred(place.tenant_id) == []


@pytest.mark.parametrize("mode", ["postpaid", "internal"])
def test_debt_keeps_a_tenant_prepaid_until_it_is_paid_or_written_off(mode: str) -> None:
    place = make_place(credit_usd=1)
    spend(place, "3")
    more = {"credit_limit_nusd": 20 * USD} if mode == "postpaid" else {}
    with pytest.raises(errors.Conflict, match="debt"):
        switch(place, mode, **more)
    assert (mode_of(place.tenant_id), wallet(place.tenant_id).debt_nusd) == ("prepaid", 2 * USD)
    switch(place, mode, write_off=True, **more)
    assert written_off(place.tenant_id) == [("bad_debt", 2 * USD)]
    assert last_change(place.tenant_id)[1]["written_off_nusd"] == 2 * USD
    spend(place, "0.01")
    assert wallet(place.tenant_id).debt_nusd == 0
    assert wallet(place.tenant_id).receivable_nusd == USD // 100
    assert offences(place.tenant_id) == []


def test_debt_of_a_tenant_that_becomes_prepaid_stays_since_it_can_buy() -> None:
    place = in_mode("postpaid", credit_limit_nusd=20 * USD)
    with db.transaction(BILLING) as session:
        lot = ledger.grant(
            session, place.tenant_id, USD, kind="manual", key="k", actor="t", reason="r"
        ).lot_id
        assert lot is not None
    spend(place, "1")
    with db.transaction(BILLING) as session:
        ledger.revoke(session, place.tenant_id, lot, USD, key="k", actor="t", reason="r")
    switch(place, "prepaid", write_off=True)
    assert wallet(place.tenant_id).debt_nusd == USD
    assert written_off(place.tenant_id) == []


def limit(place: Place, limit_nusd: Any) -> None:
    with db.transaction(OPERATOR) as session:
        accounts.set_credit_limit(session, OPERATOR, place.tenant_id, limit_nusd)


def test_another_limit_holds_from_the_next_call_on_and_is_audited() -> None:
    place = in_mode("postpaid", credit_limit_nusd=4 * USD)
    spend(place, "3")
    limit(place, 10 * USD)
    assert wallet(place.tenant_id).available_nusd == 7 * USD
    limit(place, 2 * USD)  # less than is used: allowed, and new calls wait
    assert (floor(place.tenant_id), wallet(place.tenant_id).available_nusd) == (-2 * USD, 0)
    with pytest.raises(errors.InsufficientCredit):
        spend(place, "0.01")
    with db.transaction(BILLING) as session:
        found = session.execute(
            text(
                "select actor, before, after from app.audit_log where of_tenant = :t"
                " and action = 'tenant.credit_limit' order by audit_id"
            ),
            {"t": place.tenant_id},
        ).all()
    assert [(row.before["credit_limit_nusd"], row.after["credit_limit_nusd"]) for row in found] == [
        (4 * USD, 10 * USD), (10 * USD, 2 * USD),
    ]  # fmt: skip
    assert mode_of(place.tenant_id) == "postpaid" and deferred(place.tenant_id) == []
    assert offences(place.tenant_id) == []


@pytest.mark.parametrize("mode", ["prepaid", "internal"])
@pytest.mark.parametrize("limit_nusd", [0, USD])
def test_only_a_postpaid_tenant_gets_another_limit(mode: str, limit_nusd: int) -> None:
    place = in_mode(mode)
    before = floor(place.tenant_id)
    with pytest.raises(errors.BadInput):
        limit(place, limit_nusd)
    assert floor(place.tenant_id) == before
    assert "tenant.credit_limit" not in audited(place.tenant_id)


@pytest.mark.parametrize("limit_nusd", [-1, 10**18, 1.5])
def test_a_limit_that_cannot_be_changes_nothing(limit_nusd: Any) -> None:
    place = in_mode("postpaid", credit_limit_nusd=USD)
    with pytest.raises(errors.BadInput):
        limit(place, limit_nusd)
    assert floor(place.tenant_id) == -USD


def test_no_limit_at_all_waits_until_everything_is_paid() -> None:
    place = in_mode("postpaid", credit_limit_nusd=USD)
    spend(place, "0.5")
    with pytest.raises(errors.Conflict):
        limit(place, 0)
    assert floor(place.tenant_id) == -USD


def test_nobody_but_an_operator_sets_a_limit() -> None:
    place = in_mode("postpaid", credit_limit_nusd=USD, role="admin")
    with pytest.raises(errors.Forbidden), db.transaction(BILLING) as session:
        accounts.set_credit_limit(session, place.who, place.tenant_id, 9 * USD)
    with pytest.raises(errors.NotFound), db.transaction(BILLING) as session:
        accounts.set_credit_limit(session, BILLING, UUID(int=7), USD)


@pytest.mark.parametrize(
    ("mode", "more"),
    [("postpaid", {"credit_limit_nusd": -1}), ("prepaid", {}), ("gratis", {}),
     ("internal", {"credit_limit_nusd": 1}), ("postpaid", {"credit_limit_nusd": 10**18}),
     ("postpaid", {"credit_limit_nusd": 1.5})],
)  # fmt: skip
def test_terms_that_cannot_be_change_nothing(mode: str, more: dict[str, Any]) -> None:
    place = make_place(credit_usd=1)
    with pytest.raises(errors.BadInput):
        switch(place, mode, **more)
    assert (mode_of(place.tenant_id), floor(place.tenant_id)) == ("prepaid", 0)
    assert "tenant.mode" not in audited(place.tenant_id)


def test_only_operators_switch_and_only_what_exists() -> None:
    place = make_place(role="admin")
    with pytest.raises(errors.Forbidden), db.transaction(BILLING) as session:
        accounts.switch_mode(session, place.who, place.tenant_id, "postpaid")
    with pytest.raises(errors.NotFound), db.transaction(BILLING) as session:
        accounts.switch_mode(session, BILLING, UUID(int=7), "postpaid")


@pytest.mark.parametrize(
    ("left", "mode", "owed"),
    [("postpaid", "prepaid", "debt"), ("internal", "prepaid", "debt"),
     ("prepaid", "postpaid", "receivable"), ("prepaid", "internal", "receivable"),
     ("internal", "postpaid", "receivable"), ("postpaid", "internal", "receivable")],
)  # fmt: skip
def test_a_call_that_runs_through_the_switch_is_charged_under_the_new_mode(
    left: str, mode: str, owed: str
) -> None:
    limit = {"credit_limit_nusd": 20 * USD}
    place = make_place(credit_usd=1, mode=left, **(limit if left == "postpaid" else {}))
    call: OpenCall = open_call(place, make_model())
    switch(place, mode, **(limit if mode == "postpaid" else {}))
    assert wallet(place.tenant_id).held_nusd == call.hold_nusd
    close(call, cost("3"))
    found = wallet(place.tenant_id)
    assert (found.held_nusd, found.posted_nusd) == (0, -2 * USD)
    assert (found.debt_nusd, found.receivable_nusd) == (
        (2 * USD, 0) if owed == "debt" else (0, 2 * USD)
    )
    assert offences(place.tenant_id) == []


def test_there_and_back_again_writes_each_show_back_off_once() -> None:
    place = in_mode("internal")
    for usd in ("5", "7"):
        spend(place, usd)
        switch(place, "prepaid")
        switch(place, "internal")
    assert written_off(place.tenant_id) == [("show_back", 5 * USD), ("show_back", 7 * USD)]
    assert offences(place.tenant_id) == []
