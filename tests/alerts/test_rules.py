"""core/alerts/rules.py on usage made through the gate."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import select

from core import db
from core.alerts import rules
from core.alerts.tables import Notice
from core.identity.limits import LimitName, Subject, set_limit
from core.money import NANO_PER_USD
from core.quota import gate, standing
from core.quota.gate import Ask
from tests.analytics.using import cost_of, use
from tests.factories import TESTS, Place, make_model, make_place, sum_up

pytestmark = pytest.mark.usefixtures("database")


def _told(place: Place) -> list[Notice]:
    with db.transaction(TESTS) as session:
        rules.look(session)
    with db.transaction(TESTS) as session:
        found = select(Notice).where(Notice.tenant_id == place.tenant_id).order_by(Notice.key)
        return list(session.scalars(found))


def _talk(place: Place, model: str, conversation_id: UUID, usd: str) -> None:
    """A chat call of a conversation."""
    call = gate.open_call(
        standing.of_member(place.who, model),
        Ask("chat", "chat", 100, max_tokens=1_000, conversation_id=conversation_id),
    )
    gate.close(
        gate.settlement(
            call, cost_of(usd), outcome="ok", gave_output=True, latency_ms=900,
            generation_id=f"gen-{call.call_id}",
        )
    )  # fmt: skip
    sum_up()


def test_a_conversation_above_ten_dollars_is_told_once_to_the_admins() -> None:
    place, model, talk = make_place(credit_usd=100), make_model(), db.new_id()
    _talk(place, model, talk, "10")
    assert _told(place) == []  # exactly ten is not above
    _talk(place, model, talk, "0.000000001")
    (notice,) = _told(place)
    assert (notice.kind, notice.audience, notice.key) == ("conversation.dear", "admins", str(talk))
    assert notice.facts["billed_nusd"] == 10 * NANO_PER_USD + 1
    _talk(place, model, talk, "1")
    assert len(_told(place)) == 1


def _limited(place: Place, subject: Subject, subject_id: UUID, maximum_nusd: int) -> None:
    with db.transaction(TESTS) as session:
        set_limit(
            session, TESTS, place.tenant_id, subject, subject_id, LimitName.MONTHLY_NUSD,
            maximum_nusd,
        )  # fmt: skip


@pytest.mark.parametrize(("usd", "told"), [("0.799999999", 0), ("0.8", 1)])
def test_four_fifths_of_a_persons_budget_are_told_to_that_person(usd: str, told: int) -> None:
    place, model = make_place(), make_model()
    _limited(place, Subject.USER, place.user_id, NANO_PER_USD)
    use(place.who, model, usd)
    found = _told(place)
    assert [(n.kind, n.audience, n.user_id) for n in found] == [
        ("quota.near", "user", place.user_id)
    ] * told


def test_a_tenants_budget_is_told_to_its_admins_once_a_month() -> None:
    place, model = make_place(), make_model()
    _limited(place, Subject.TENANT, place.tenant_id, NANO_PER_USD)
    use(place.who, model, "0.9")
    (notice,) = _told(place)
    assert (notice.audience, notice.facts["used"], notice.facts["maximum"]) == (
        "admins", 900_000_000, NANO_PER_USD,
    )  # fmt: skip
    use(place.who, model, "0.05")
    assert len(_told(place)) == 1


def test_without_a_limit_nothing_is_told() -> None:
    place, model = make_place(), make_model()
    use(place.who, model, "5")
    assert _told(place) == []
