"""core/analytics/model_use.py: thirty days of each tenant's own calendar, and nobody else's."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from core import db, errors
from core.analytics import model_use
from core.analytics.model_use import ModelUse
from core.identity import zones
from core.identity.access import Actor
from tests.analytics.using import correct, cost_of, use
from tests.factories import TESTS, make_model, make_place

pytestmark = pytest.mark.usefixtures("database")


def _of(who: Actor, tenant_id: UUID | None, model: str) -> ModelUse | None:
    with db.transaction(who) as session:
        return model_use.of_models(session, who, tenant_id).get(model)


def test_the_thirtieth_day_counts_from_its_first_moment_in_the_tenants_zone() -> None:
    place, model = make_place(role="admin", time_zone="Pacific/Kiritimati"), make_model()
    with db.transaction(TESTS) as session:
        calendar = zones.calendar_of(session, place.tenant_id)
    begins = calendar.start_of(calendar.today() - timedelta(days=29))
    use(place.who, model, "0.25", at=begins)
    use(place.who, model, "0.5", at=begins - timedelta(seconds=1))
    assert _of(place.who, place.tenant_id, model) == ModelUse(1, 250_000_000)


def test_a_correction_is_billed_and_is_no_request() -> None:
    place, model = make_place(role="admin"), make_model()
    call = use(place.who, model, cost=cost_of("0.01", lookup=True))
    correct(call, "0.03")
    assert _of(place.who, place.tenant_id, model) == ModelUse(1, 30_000_000)


def test_a_team_sees_its_own_use_and_operators_that_of_all() -> None:
    model = make_model()
    first, second = make_place(role="admin"), make_place(role="admin", markup="1")
    use(first.who, model, "0.25")
    use(second.who, model, "0.25")
    assert _of(first.who, first.tenant_id, model) == ModelUse(1, 250_000_000)
    assert _of(TESTS, second.tenant_id, model) == ModelUse(1, 500_000_000)
    assert _of(TESTS, None, model) == ModelUse(2, 750_000_000)


def test_nobody_sees_more_than_they_may() -> None:
    admin, member = make_place(role="admin"), make_place(role="finance")
    for tenant_id in (member.tenant_id, uuid4()):
        with pytest.raises(errors.NotFound):
            _of(admin.who, tenant_id, "any")
    with pytest.raises(errors.Forbidden):
        _of(admin.who, None, "any")
    with pytest.raises(errors.Forbidden):
        _of(member.who, member.tenant_id, "any")
