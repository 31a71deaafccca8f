"""core/catalog/blocks.py: a model that one tenant switched off, and nobody else."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from core import db, errors
from core.catalog import blocks, models
from core.identity.access import Actor, Operator, Principal
from core.quota import standing
from tests.analytics.using import colleague, use
from tests.factories import TESTS, make_model, make_place
from tests.identity.people import audit_rows

pytestmark = pytest.mark.usefixtures("database")


def _block(who: Actor, tenant_id: UUID, model: str) -> None:
    with db.transaction(who) as session:
        blocks.block(session, who, tenant_id, model)


def _unblock(who: Actor, tenant_id: UUID, model: str) -> None:
    with db.transaction(who) as session:
        blocks.unblock(session, who, tenant_id, model)


def _listed(who: Principal, model: str) -> bool:
    with db.transaction(who) as session:
        rows = models.list_models(
            session, tenant_id=who.tenant_id, offered_to="api", development=True,
            configured={"openrouter"},
        )  # fmt: skip
    return model in {row.model_id for row in rows}


def test_a_model_switched_off_is_refused_and_unlisted_for_that_tenant_alone() -> None:
    model, other_model = make_model(), make_model()
    place, other = make_place(role="admin"), make_place()
    use(place.who, model)
    _block(place.who, place.tenant_id, model)
    with pytest.raises(errors.ModelForbidden, match="switched off by your team"):
        use(place.who, model)
    assert not _listed(place.who, model)
    use(place.who, other_model)
    use(other.who, model)
    assert _listed(other.who, model) and _listed(place.who, other_model)
    _unblock(place.who, place.tenant_id, model)
    use(place.who, model)
    assert _listed(place.who, model)


def test_a_refused_call_leaves_nothing_behind() -> None:
    place, model = make_place(role="admin"), make_model()
    _block(place.who, place.tenant_id, model)
    with pytest.raises(errors.ModelForbidden):
        use(place.who, model)
    with db.transaction(TESTS) as session:
        calls = text("select count(*) from app.calls where tenant_id = :tenant")
        assert session.execute(calls, {"tenant": place.tenant_id}).scalar_one() == 0


def test_who_asks_is_told_by_resolve_in_one_statement() -> None:
    place, model = make_place(role="admin"), make_model()
    assert standing.of_member(place.who, model).model_blocked is False
    assert standing.of_member(place.who, None).model_blocked is None
    _block(place.who, place.tenant_id, model)
    before = db.counted.statements
    assert standing.of_member(place.who, model).model_blocked is True
    assert db.counted.statements == before + 1


def test_twice_is_a_conflict_and_each_act_is_logged_once() -> None:
    place, model = make_place(role="admin"), make_model()
    _block(place.who, place.tenant_id, model)
    with pytest.raises(errors.Conflict, match="off already"):
        _block(place.who, place.tenant_id, model)
    _unblock(TESTS, place.tenant_id, model)
    with pytest.raises(errors.Conflict, match="on already"):
        _unblock(TESTS, place.tenant_id, model)
    acted = [row for row in audit_rows(f"tenant:{place.tenant_id}") if row[0].startswith("model.")]
    assert acted == [
        ("model.block", "done", f"user:{place.user_id}", place.tenant_id),
        ("model.unblock", "done", "system:tests", place.tenant_id),
    ]


@pytest.mark.parametrize("role", ["member", "finance"])
def test_other_roles_switch_nothing_and_the_attempt_is_logged(role: str) -> None:
    place, model = make_place(role=role), make_model()
    for act in (_block, _unblock):
        with pytest.raises(errors.Forbidden):
            act(place.who, place.tenant_id, model)
    outcomes = [row[:2] for row in audit_rows(f"tenant:{place.tenant_id}")]
    assert outcomes[-2:] == [("model.block", "denied"), ("model.unblock", "denied")]
    use(place.who, model)


def test_an_admins_api_key_switches_nothing() -> None:
    place, model = make_place(role="admin"), make_model()
    with pytest.raises(errors.Forbidden):
        _block(replace(place.who, key_id=uuid4()), place.tenant_id, model)


def test_another_tenant_looks_like_a_missing_one() -> None:
    place, other, model = make_place(role="admin"), make_place(), make_model()
    for tenant_id in (other.tenant_id, uuid4()):
        with pytest.raises(errors.NotFound, match="no such tenant"):
            _block(place.who, tenant_id, model)
    with pytest.raises(errors.NotFound, match="no such tenant"):
        _block(TESTS, uuid4(), model)
    with pytest.raises(errors.NotFound, match="no such model"):
        _block(place.who, place.tenant_id, "nobody/nothing")
    use(other.who, model)


def test_operators_see_who_switched_a_model_off_and_nobody_else_does() -> None:
    model = make_model()
    places = [make_place(role="admin") for _ in range(2)]
    for place in places:
        _block(place.who, place.tenant_id, model)
    operator = Operator(uuid4(), "o@example.com", "Olga")
    with db.transaction(operator) as session:
        found = blocks.everywhere(session, operator)
    assert found[model] == tuple(sorted(place.who.tenant_name for place in places))
    with db.transaction(places[0].who) as session, pytest.raises(errors.Forbidden):
        blocks.everywhere(session, places[0].who)


def test_one_tenants_blocks_are_not_anothers_to_read() -> None:
    place, other, model = make_place(role="admin"), make_place(), make_model()
    _block(place.who, place.tenant_id, model)
    with db.transaction(other.who) as session:
        assert blocks.of_tenant(session, place.tenant_id) == frozenset()
    with db.transaction(colleague(place)) as session:
        assert blocks.of_tenant(session, place.tenant_id) == {model}


def test_the_web_role_switches_models_of_its_own_tenant_only() -> None:
    place, other, model = make_place(), make_place(), make_model()
    arguments = {"tenant": other.tenant_id, "model": model}
    with db.transaction(place.who) as session:
        session.execute(text("select verbs.block_model(:tenant, :model)"), arguments)
    with db.transaction(TESTS) as session:
        assert blocks.of_tenant(session, other.tenant_id) == frozenset()
        assert blocks.of_tenant(session, place.tenant_id) == {model}
