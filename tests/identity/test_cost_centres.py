"""core/identity/cost_centres.py: who may say where use is booked, and what the calls carry away."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from core import db, errors
from core.identity import cost_centres, keys
from core.identity.access import Actor, Principal
from core.identity.cost_centres import Assignment
from core.identity.limits import Subject
from core.quota import gate, standing
from core.quota.gate import Ask
from tests.analytics.using import correct, cost_of, use
from tests.factories import TESTS, Place, make_model, make_place
from tests.identity.people import audit_rows

pytestmark = pytest.mark.usefixtures("database")


def _assign(
    who: Actor, tenant_id: UUID, subject: Subject, subject_id: UUID, center: str | None,
    project: str | None = None,
) -> None:  # fmt: skip
    with db.transaction(who) as session:
        cost_centres.assign(session, who, tenant_id, subject, subject_id, center, project)


def _key(place: Place) -> keys.IssuedKey:
    with db.transaction(place.who) as session:
        return keys.issue(session, place.who, "nightly job")


def _of(who: Actor, tenant_id: UUID) -> dict[UUID, Assignment]:
    with db.transaction(who) as session:
        found = cost_centres.of_tenant(session, who, tenant_id)
    return {row.subject_id: row for row in found}


def _booked(call_id: UUID) -> list[tuple[str, str | None, str | None]]:
    with db.transaction(TESTS) as session:
        rows = session.execute(
            text("select kind, cost_center, project from app.usage_events where call_id = :call"
                 " order by event_id"),
            {"call": call_id},
        )  # fmt: skip
        return [(row.kind, row.cost_center, row.project) for row in rows]


def test_of_centre_and_project_alike_the_nearest_to_the_call_counts() -> None:
    place, model = make_place(role="admin"), make_model()
    key = _key(place)
    subjects = ((Subject.TENANT, place.tenant_id), (Subject.USER, place.user_id))
    assert standing.of_key(key.secret, model).cost_center is None
    seen = []
    for center, (subject, subject_id) in zip(("House", "Sales"), subjects, strict=True):
        _assign(place.who, place.tenant_id, subject, subject_id, center, f"{center} project")
        seen.append(standing.of_key(key.secret, model).cost_center)
    _assign(place.who, place.tenant_id, Subject.KEY, key.key_id, "Batch", None)
    found = standing.of_key(key.secret, model)
    assert [*seen, found.cost_center, found.project] == [
        "House", "Sales", "Batch", "Sales project",
    ]  # fmt: skip
    person = standing.of_member(place.who, model)
    assert (person.cost_center, person.project) == ("Sales", "Sales project")
    _assign(place.who, place.tenant_id, Subject.USER, place.user_id, None)
    assert standing.of_member(place.who, model).cost_center == "House"


def test_a_call_is_booked_where_it_was_admitted_and_its_correction_follows() -> None:
    place, model = make_place(role="admin"), make_model()
    _assign(TESTS, place.tenant_id, Subject.USER, place.user_id, "Before", "Old")
    call = gate.open_call(standing.of_member(place.who, model), Ask("chat", "test", 100))
    _assign(TESTS, place.tenant_id, Subject.USER, place.user_id, "After", "New")
    estimate = cost_of("0.01", lookup=True)
    gate.close(
        gate.settlement(call, estimate, outcome="ok", gave_output=True, latency_ms=1,
                        generation_id=f"gen-{call.call_id}")
    )  # fmt: skip
    correct(call, "0.02")
    assert _booked(call.call_id) == [
        ("call", "Before", "Old"), ("adjustment", "Before", "Old"),
    ]  # fmt: skip
    assert _booked(use(place.who, model).call_id) == [("call", "After", "New")]


def test_everything_that_can_be_booked_is_listed_with_what_is_set_and_what_counts() -> None:
    place = make_place(role="admin")
    key, ended = _key(place), _key(place)
    with db.transaction(place.who) as session:
        keys.revoke(session, place.who, ended.key_id)
    _assign(place.who, place.tenant_id, Subject.TENANT, place.tenant_id, " House ", "  ")
    _assign(place.who, place.tenant_id, Subject.KEY, key.key_id, None, "Robot")
    found = _of(place.who, place.tenant_id)
    assert found == _of(TESTS, place.tenant_id)
    tenant, person = found[place.tenant_id], found[place.user_id]
    assert (tenant.subject, tenant.name, tenant.cost_center, tenant.project) == (
        Subject.TENANT, place.who.tenant_name, "House", None,
    )  # fmt: skip
    assert (person.name, person.cost_center, person.booked_cost_center) == (
        place.who.email, None, "House",
    )  # fmt: skip
    listed = found[key.key_id]
    assert (listed.owner, listed.active, listed.project, listed.booked_cost_center) == (
        place.who.email, True, "Robot", "House",
    )  # fmt: skip
    assert not found[ended.key_id].active
    with db.transaction(place.who) as session:
        shown = {row.key_id: row for row in keys.mine(session, place.who)}[key.key_id]
    assert (shown.cost_center, shown.project) == ("House", "Robot")


def test_what_was_and_is_set_stands_in_the_log() -> None:
    place = make_place(role="admin")
    for center in ("First", "Second"):
        _assign(place.who, place.tenant_id, Subject.USER, place.user_id, center)
    with db.transaction(TESTS) as session:
        last = session.execute(
            text("select before, after from app.audit_log where object = :object"
                 " order by audit_id desc limit 1"),
            {"object": f"user:{place.user_id}"},
        ).one()  # fmt: skip
    assert last.before == {"cost_center": "First", "project": None}
    assert last.after == {"cost_center": "Second", "project": None}


@pytest.mark.parametrize("role", ["member", "finance"])
def test_nobody_books_their_own_use(role: str) -> None:
    place = make_place(role=role)
    with pytest.raises(errors.Forbidden):
        _assign(place.who, place.tenant_id, Subject.USER, place.user_id, "Elsewhere")
    assert audit_rows(f"user:{place.user_id}")[-1][:2] == ("cost_center.set", "denied")
    with db.transaction(place.who) as session, pytest.raises(errors.Forbidden):
        cost_centres.of_tenant(session, place.who, place.tenant_id)
    assert standing.of_member(place.who, None).cost_center is None


def test_not_even_an_admins_key() -> None:
    place = make_place(role="admin")
    keyed: Principal = replace(place.who, key_id=uuid4())
    with pytest.raises(errors.Forbidden):
        _assign(keyed, place.tenant_id, Subject.USER, place.user_id, "Elsewhere")


def test_other_tenants_subjects_are_as_missing_as_unknown_ones() -> None:
    place, other = make_place(role="admin"), make_place(role="admin")
    others_key = _key(other)
    for subject, subject_id in (
        (Subject.TENANT, other.tenant_id), (Subject.USER, other.user_id),
        (Subject.KEY, others_key.key_id), (Subject.USER, uuid4()), (Subject.KEY, uuid4()),
    ):  # fmt: skip
        for who in (place.who, TESTS):
            with pytest.raises(errors.NotFound):
                _assign(who, place.tenant_id, subject, subject_id, "Stolen", "Stolen")
    with pytest.raises(errors.NotFound):
        _assign(place.who, other.tenant_id, Subject.TENANT, other.tenant_id, "Stolen")
    for row in _of(TESTS, other.tenant_id).values():
        assert (row.cost_center, row.project) == (None, None)


@pytest.mark.parametrize(
    ("center", "param"),
    [("x" * 101, "cost center"), ("a\nb", "cost center"), ("none", "cost center")],
)
def test_a_name_that_cannot_stand_in_a_column_is_refused(center: str, param: str) -> None:
    place = make_place(role="admin")
    with pytest.raises(errors.BadInput) as refused:
        _assign(place.who, place.tenant_id, Subject.TENANT, place.tenant_id, center)
    assert refused.value.param == param


def test_the_web_role_books_only_subjects_of_its_own_tenant() -> None:
    place, other = make_place(), make_place()
    statement = text("select known from verbs.assign_cost_center(:t, :scope, :id, 'X', 'Y')")
    for scope, subject_id in (
        ("tenant", other.tenant_id), ("user", other.user_id), ("key", uuid4()),
    ):  # fmt: skip
        with db.transaction(place.who) as session:
            known = session.execute(
                statement, {"t": other.tenant_id, "scope": scope, "id": subject_id}
            )
            assert known.scalar_one() is False
    assert {row.cost_center for row in _of(TESTS, other.tenant_id).values()} == {None}
