"""core/analytics/overview.py"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from core import db, errors, schema
from core.alerts.tables import Notice, NoticeRead, OperatorNoticeRead
from core.analytics import overview
from core.analytics.overview import TenantRow
from core.billing import ledger
from core.db import new_id
from core.identity import cost_centres, limits, tenants, terms
from core.identity.limits import LimitName, Subject
from core.quota import gate, standing
from core.quota.gate import Ask
from tests.analytics.using import colleague, cost_of, opened_at, use
from tests.factories import TESTS, Place, make_model, make_place

pytestmark = pytest.mark.usefixtures("database")


def _row(place: Place) -> TenantRow:
    with db.transaction(TESTS) as session:
        found = overview.tenants(session, TESTS)
    return next(row for row in found if row.tenant_id == place.tenant_id)


def test_a_tenants_row_says_what_its_wallet_says() -> None:
    place = make_place(credit_usd=2)
    colleague(place)
    use(place.who, make_model(), "0.5")
    gate.open_call(standing.of_member(place.who, make_model()), Ask("api", "t", 100))
    row = _row(place)
    with db.transaction(TESTS) as session:
        wallet = ledger.wallet(session, place.tenant_id)
    assert (row.posted_nusd, row.held_nusd) == (wallet.posted_nusd, wallet.held_nusd)
    assert row.available_nusd == wallet.available_nusd
    assert (row.spent_nusd, row.requests, row.members) == (500_000_000, 1, 2)
    assert row.last_used_at is not None


def test_spend_is_of_the_tenants_own_month() -> None:
    place = make_place()
    use(place.who, make_model(), "0.5", days_ago=40)
    assert _row(place).spent_nusd == 0


def test_a_tenants_row_has_its_terms_and_the_zone_that_is_to_come() -> None:
    place = make_place(markup="0.2", time_zone="Europe/Berlin")
    with db.transaction(TESTS) as session:
        span = terms.set_time_zone(session, TESTS, place.tenant_id, "America/New_York")
        cost_centres.assign(
            session, TESTS, place.tenant_id, Subject.TENANT, place.tenant_id, "House", "Web"
        )
    assert span is not None
    row = _row(place)
    assert row.time_zone == f"Europe/Berlin, from {span.starts_on:%b} 1: America/New_York"
    assert (row.markup, row.cost_center, row.project) == (Decimal("0.2"), "House", "Web")


def test_the_limit_of_which_most_is_used_is_shown_running_calls_included() -> None:
    place, model = make_place(), make_model()
    for name in (LimitName.MONTHLY_NUSD, LimitName.MONTHLY_MESSAGES, LimitName.MONTHLY_TOKENS):
        _limit(place, name, None)
    assert _row(place).limit_percent is None
    use(place.who, model, "0.5")
    _limit(place, LimitName.MONTHLY_NUSD, 1_000_000_000)
    _limit(place, LimitName.MONTHLY_MESSAGES, 10)
    assert _row(place).limit_percent == 50
    _limit(place, LimitName.MONTHLY_TOKENS, 160)
    assert _row(place).limit_percent == 93  # 150 of 160
    _limit(place, LimitName.MONTHLY_TOKENS, 100_000)
    _limit(place, LimitName.MONTHLY_MESSAGES, 2)
    gate.open_call(standing.of_member(place.who, model), Ask("api", "t", 100))
    assert _row(place).limit_percent == 100
    _limit(place, LimitName.MONTHLY_MESSAGES, 0)
    _limit(place, LimitName.MONTHLY_NUSD, 1)
    assert _row(place).limit_percent == 9_999


def test_a_notice_is_open_until_somebody_puts_it_away() -> None:
    place = make_place(role="admin")
    with db.transaction(TESTS) as session:
        notices = [
            Notice(tenant_id=place.tenant_id, kind="quota", key=key, audience="admins", facts={})
            for key in ("a", "b")
        ]
        session.add_all(notices)
        session.add(
            Notice(
                tenant_id=place.tenant_id, kind="quota", key="one person's", audience="user",
                user_id=place.user_id, facts={},
            )
        )  # fmt: skip
    assert _row(place).open_notices == 2
    with db.transaction(TESTS) as session:
        session.add(
            NoticeRead(
                tenant_id=place.tenant_id, notice_id=notices[0].notice_id, user_id=place.user_id
            )
        )
    assert _row(place).open_notices == 1
    with db.transaction(TESTS) as session:
        operator = tenants.create_user(session, TESTS, f"{new_id().hex}@example.com")
        session.add(OperatorNoticeRead(notice_id=notices[1].notice_id, user_id=operator))
    assert _row(place).open_notices == 0


def _limit(place: Place, name: LimitName, maximum: int | None) -> None:
    with db.transaction(TESTS) as session:
        limits.set_limit(
            session, TESTS, place.tenant_id, Subject.TENANT, place.tenant_id, name, maximum
        )


def test_internal_tenants_have_no_available_balance() -> None:
    assert _row(make_place(mode="internal", credit_usd=0)).available_nusd is None


def test_health_shows_what_waits() -> None:
    place = make_place()
    use(place.who, make_model(), cost=cost_of("0.001", lookup=True))
    call = gate.open_call(standing.of_member(place.who, make_model()), Ask("api", "t", 100))
    opened_at(call, datetime.now(UTC) - timedelta(hours=3))
    with db.transaction(TESTS) as session:
        found = overview.health(session, TESTS)
    assert found.at_head
    assert found.migration == schema.head()
    assert found.calls_open >= 1
    assert found.held_nusd >= call.hold_nusd
    assert found.lookups >= 1
    assert found.oldest_hold_at is not None
    assert found.oldest_lookup_at is not None


def test_nobody_else_may_look(database: db.Database) -> None:
    admin = make_place(role="admin").who
    with db.transaction(admin) as session:
        with pytest.raises(errors.Forbidden):
            overview.tenants(session, admin)
        with pytest.raises(errors.Forbidden):
            overview.health(session, admin)
