"""core/alerts/notices.py"""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from core import db, errors
from core.alerts import notices
from core.identity import tenants
from core.identity.access import Actor, Operator, Principal, Role
from tests.analytics.using import colleague
from tests.factories import TESTS, Place, make_place

pytestmark = pytest.mark.usefixtures("database")


def _tell(place: Place, kind: str = "test.kind", key: str = "1", **more: object) -> bool:
    with db.transaction(TESTS) as session:
        return notices.post(
            session, place.tenant_id, kind=kind, key=key, facts={"amount_nusd": 5},
            **{"audience": "admins", **more},  # type: ignore[arg-type]
        )  # fmt: skip


def _kinds(who: Actor, *, unread_only: bool = False) -> list[str]:
    with db.transaction(who) as session:
        told = notices.inbox(session, who, unread_only=unread_only)
    tenant = who.bound_tenant_id
    return [t.kind for t in told if tenant is None or t.tenant_id == tenant]


def _operator() -> Operator:
    with db.transaction(TESTS) as session:
        user_id = tenants.create_user(session, TESTS, f"{uuid4().hex}@example.com", name="Olga")
        tenants.make_operator(session, TESTS, user_id, confirmed=True)
    return Operator(user_id, "olga@example.com", "Olga")


def test_a_thing_is_told_once() -> None:
    place = make_place(role="admin")
    assert [_tell(place), _tell(place), _tell(place, key="2")] == [True, False, True]
    assert _kinds(place.who) == ["test.kind", "test.kind"]


@pytest.mark.parametrize(
    ("audience", "readers"),
    [("admins", {Role.ADMIN}), ("finance", {Role.ADMIN, Role.FINANCE})],
)
def test_a_role_reads_what_is_for_it(audience: str, readers: set[Role]) -> None:
    place = make_place(role="admin")
    _tell(place, audience=audience)
    people = {role: replace(colleague(place, role), role=role) for role in Role}
    assert {role for role, who in people.items() if _kinds(who)} == readers


def test_what_is_for_one_person_is_read_by_nobody_else() -> None:
    place = make_place(role="admin")
    one, other = colleague(place), colleague(place)
    kind = f"personal.{uuid4().hex}"
    _tell(place, kind=kind, audience="user", user_id=one.user_id)
    assert (_kinds(one), _kinds(other), _kinds(place.who)) == ([kind], [], [])
    assert kind not in _kinds(_operator())


def test_an_operator_reads_what_is_for_them_alone() -> None:
    place, operator = make_place(role="admin"), _operator()
    _tell(place, kind="asked.for", audience="user", user_id=operator.user_id)
    assert "asked.for" in _kinds(operator)
    assert "asked.for" not in _kinds(_operator())


def test_another_tenant_reads_nothing_and_puts_nothing_away() -> None:
    place, stranger = make_place(role="admin"), make_place(role="admin").who
    _tell(place)
    with db.transaction(place.who) as session:
        (told,) = notices.inbox(session, place.who)
    assert _kinds(stranger) == []
    with db.transaction(stranger) as session, pytest.raises(errors.NotFound):
        notices.put_away(session, stranger, told.notice_id)


def test_putting_away_is_each_readers_own() -> None:
    place = make_place(role="admin")
    second = colleague(place, Role.ADMIN)
    _tell(place)
    for _ in range(2):  # again changes nothing
        with db.transaction(place.who) as session:
            (told,) = notices.inbox(session, place.who)
            notices.put_away(session, place.who, told.notice_id)
    assert (_kinds(place.who, unread_only=True), _kinds(second, unread_only=True)) == (
        [], ["test.kind"],
    )  # fmt: skip
    assert _kinds(place.who) == ["test.kind"]


def test_operators_read_every_tenants_and_their_own() -> None:
    place, operator = make_place(), _operator()
    kind = f"of.{uuid4().hex}"
    _tell(place, kind=kind)
    with db.transaction(operator) as session:
        assert notices.post_operators(session, kind=kind, key="platform", facts={})
        assert not notices.post_operators(session, kind=kind, key="platform", facts={})
    with db.transaction(operator) as session:
        mine = [told for told in notices.inbox(session, operator) if told.kind == kind]
        assert {told.tenant_id for told in mine} == {place.tenant_id, None}
        for told in mine:
            notices.put_away(session, operator, told.notice_id)
    assert kind not in _kinds(operator, unread_only=True)
    with db.transaction(place.who) as session:
        assert notices.unread(session, place.who) == 0  # a member is not an admin


def test_a_key_has_no_inbox() -> None:
    place = make_place(role="admin")
    by_key: Principal = replace(place.who, key_id=uuid4())
    with db.transaction(by_key) as session, pytest.raises(errors.Forbidden):
        notices.inbox(session, by_key)
