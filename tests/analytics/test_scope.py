"""core/analytics/scope.py: who sees whose rows, and that what is refused looks as if it were missing."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from core import db
from core.analytics import conversations, details, figures, latencies
from core.analytics.figures import Totals
from core.analytics.scope import Scope, scope_of
from core.analytics.selection import Grain, Group, Selection, Value
from core.db import System
from core.identity.access import Actor, Operator, Principal, Role
from core.periods import last_days
from tests.analytics.using import colleague, cost_of, use
from tests.factories import make_model, make_place

OPERATOR = Operator(db.new_id(), "ops@example.com", "Ops")
HERE, THERE, PERSON = db.new_id(), db.new_id(), db.new_id()


def selection(**filters: Value) -> Selection:
    found = Selection(last_days(30, datetime.now(UTC).date()))
    for group, value in filters.items():
        found = found.only(Group(group), value)
    return found


def principal(role: Role, key_id: UUID | None = None) -> Principal:
    return Principal(
        tenant_id=HERE, user_id=PERSON, role=role, email="", name="", tenant_name="", plan="free",
        mode="prepaid", time_zone="UTC", key_id=key_id,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("who", "filters", "expected"),
    [
        (principal(Role.MEMBER), {}, Scope((HERE,), PERSON, sees_list_cost=False)),
        (principal(Role.MEMBER, db.new_id()), {}, Scope((HERE,), PERSON, sees_list_cost=False)),
        (principal(Role.ADMIN), {}, Scope((HERE,), None, sees_list_cost=False)),
        (principal(Role.FINANCE), {}, Scope((HERE,), None, sees_list_cost=False)),
        (principal(Role.ADMIN), {"tenant": HERE}, Scope((HERE,), None, sees_list_cost=False)),
        (principal(Role.ADMIN), {"tenant": THERE}, Scope((), None, sees_list_cost=False)),
        (OPERATOR, {}, Scope(None, None, sees_list_cost=True)),
        (OPERATOR, {"tenant": THERE}, Scope((THERE,), None, sees_list_cost=True)),
        (System("tests"), {}, Scope(None, None, sees_list_cost=True)),
    ],
)
def test_each_role_sees_what_is_its_own(
    who: Actor, filters: dict[str, Value], expected: Scope
) -> None:
    assert scope_of(who, selection(**filters)) == expected


def _everything(who: Principal, asked: Selection) -> list[object]:
    """Every answer there is, empty where nothing may be seen."""
    with db.transaction(who) as session:
        found: list[object] = [figures.totals(session, who, asked) == Totals()]
        for group in Group:
            found.append(figures.groups(session, who, asked, group) == ())
            found.append(figures.series(session, who, asked, Grain.HOUR, group) == ())
        found.append(figures.hours(session, who, asked) == ())
        found.append(figures.active(session, who, asked).month_people == 0)
        found.append(figures.estimates(session, who, asked).calls == 0)
        found.append(details.rows(session, who, asked).rows == ())
        found.append(details.sums(session, who, asked) == Totals())
        found.append(latencies.overall(session, who, asked).latency.calls == 0)
        found.append(latencies.by(session, who, asked, Group.MODEL).rows == ())
        found.append(conversations.average_length(session, who, asked) is None)
    return found


def test_another_tenants_and_a_missing_one_look_the_same(database: object) -> None:
    theirs, place = make_place(role="admin"), make_place(role="admin")
    use(theirs.who, make_model(), conversation_id=db.new_id())
    for missing in (theirs.tenant_id, db.new_id()):
        assert all(_everything(place.who, selection(tenant=missing)))
    for missing in (theirs.user_id, db.new_id()):
        assert all(_everything(place.who, selection(user=missing)))


def test_a_colleague_and_a_missing_person_look_the_same_to_a_member(database: object) -> None:
    place = make_place(role="admin")
    member = colleague(place, Role.MEMBER)
    model = make_model()
    use(place.who, model, conversation_id=db.new_id())
    use(member, model, conversation_id=db.new_id(), cost=cost_of("0.001", lookup=True))
    for missing in (place.user_id, db.new_id()):
        assert all(_everything(member, selection(user=missing)))
    assert not any(_everything(member, selection(user=member.user_id)))


def test_row_security_holds_where_a_principal_is_forged(database: object) -> None:
    victim, thief = make_place(role="admin"), make_place(role="admin")
    use(victim.who, make_model())
    with db.transaction(thief.who) as session:  # bound to the thief's tenant
        for who in (victim.who, OPERATOR, System("tests")):
            asked = selection(tenant=victim.tenant_id)
            assert figures.totals(session, who, asked).requests == 0
            assert details.rows(session, who, asked).rows == ()


@pytest.mark.parametrize("role", [Role.ADMIN, Role.FINANCE])
def test_admins_and_finance_see_the_whole_tenant(role: Role, database: object) -> None:
    place = make_place()
    model = make_model()
    whole, other = colleague(place, role), colleague(place)
    for who in (whole, other, place.who):
        use(who, model, "0.001")
    with db.transaction(whole) as session:
        rows = figures.groups(session, whole, selection(), Group.USER)
    assert {row.value for row in rows} == {place.user_id, whole.user_id, other.user_id}
