"""The audit log as an export: a tenant's admins read what concerns it, and not what it earns us."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from core import db
from core.db import new_id
from core.identity import audit
from core.identity.access import Operator
from core.periods import Period
from tests.factories import TESTS, make_place
from tests.finance.rows import ever_since, export, read, rows_of

pytestmark = pytest.mark.usefixtures("database")
OPERATOR = Operator(new_id(), "op@example.com", "Op")
ALWAYS = ever_since(date(2026, 1, 1))


def test_what_the_platform_earns_is_for_operators() -> None:
    place = make_place(role="admin", markup="0.3")
    (theirs,) = (r for r in read(place.who, "audit", ALWAYS) if r["action"] == "tenant.create")
    assert '"plan": "enterprise"' in theirs["after"]
    assert "markup" not in theirs["after"]
    (ours,) = (
        r
        for r in read(OPERATOR, "audit", ALWAYS, place.tenant_id)
        if r["action"] == "tenant.create"
    )
    assert '"markup": "0.3"' in ours["after"]


def test_refusals_and_the_actors_address_are_in_it() -> None:
    place = make_place(role="admin")
    with db.transaction(place.who) as session:
        audit.record(session, place.who, "key.issue", "key:1", "denied")
    row = read(place.who, "audit", ALWAYS)[-1]
    assert (row["action"], row["object"], row["outcome"]) == ("key.issue", "key:1", "denied")
    assert (row["actor"], row["actor_email"]) == (f"user:{place.user_id}", place.who.email)
    assert (row["before"], row["after"]) == (None, None)


def test_acts_on_the_platform_are_in_the_log_of_all() -> None:
    with db.transaction(TESTS) as session:
        audit.record(session, TESTS, "house.clean", "house:1")
    rows = read(OPERATOR, "audit", ALWAYS)
    (found,) = (row for row in rows if row["action"] == "house.clean")
    assert found["tenant_id"] is None
    assert [row["audit_id"] for row in rows] == sorted(row["audit_id"] for row in rows)


def test_the_day_is_that_of_the_tenants_zone(database_url: str) -> None:
    early = datetime(2026, 3, 1, 11, tzinfo=UTC)  # the second of March in Kiritimati
    places = [make_place(role="admin", time_zone=zone)
              for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago")]  # fmt: skip
    with psycopg.connect(database_url) as connection:
        connection.execute("alter table app.audit_log disable trigger append_only")
        for place in places:
            connection.execute(
                "update app.audit_log set occurred_at = %s where of_tenant = %s",
                (early, place.tenant_id),
            )
        connection.execute("alter table app.audit_log enable trigger append_only")
    second = Period(date(2026, 3, 2), date(2026, 3, 2))
    first = Period(second.first - timedelta(days=1), second.last - timedelta(days=1))
    named = {str(place.tenant_id) for place in places}
    for period, expected in ((second, places[0]), (first, places[1])):
        everything = {row["tenant_id"] for row in read(OPERATOR, "audit", period)}
        assert everything & named == {str(expected.tenant_id)}
        for place in places:
            assert bool(read(place.who, "audit", period)) is (place is expected)
            assert rows_of(OPERATOR, export(OPERATOR, "audit", period, place.tenant_id)) == [] or (
                place is expected
            )
