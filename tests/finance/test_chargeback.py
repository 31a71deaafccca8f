"""Chargeback adds up to what was used, by cost centre and project as they were when the call was made."""

from __future__ import annotations

import pytest

from core import db, errors
from core.finance import chargeback
from core.finance.chargeback import Share
from core.identity import cost_centres
from core.identity.limits import Subject
from core.periods import month_of
from tests.analytics.using import colleague, use
from tests.factories import TESTS, Place, make_model, make_place
from tests.finance.books import an_operator, calendar_of, keeper

pytestmark = pytest.mark.usefixtures("database")
CENT = 10**7


def _charged_to(place: Place, center: str, project: str) -> None:
    with db.transaction(TESTS) as session:
        cost_centres.assign(
            session, TESTS, place.tenant_id, Subject.TENANT, place.tenant_id, center, project
        )


def test_parts_are_by_cost_centre_and_project_and_add_up() -> None:
    place, models = make_place(markup="0.5"), (make_model(), make_model())
    use(place.who, models[0], "0.02")
    _charged_to(place, "R&D", "Atlas")
    for model in models:
        use(place.who, model, "0.04")
    _charged_to(place, "R&D", "Zephyr")
    use(place.who, models[0], "0.01")
    period, who = month_of(calendar_of(place).today()), keeper(place)
    with db.transaction(who) as session:
        found = chargeback.read(session, who, period, tenant_id=place.tenant_id)
    tenant = place.tenant_id, place.who.tenant_name
    assert found == (
        Share(*tenant, "R&D", "Atlas", 2, 300, 12 * CENT, None),
        Share(*tenant, None, None, 1, 150, 3 * CENT, None),
        Share(*tenant, "R&D", "Zephyr", 1, 150, 15 * CENT // 10, None),
    )
    operator = an_operator()
    with db.transaction(operator) as session:
        seen = chargeback.read(session, operator, period, tenant_id=place.tenant_id)
        whole = chargeback.read(session, operator, period, tenant_id=None)
    assert [share.list_nusd for share in seen] == [8 * CENT, 2 * CENT, CENT]
    assert [share for share in whole if share.tenant_id == place.tenant_id] == list(seen)


def test_the_same_name_in_two_tenants_is_two_cost_centres() -> None:
    first, second = make_place(), make_place()
    for place in (first, second):
        _charged_to(place, "Operations", "")
        use(place.who, make_model(), "0.01")
    with db.transaction(TESTS) as session:
        period = month_of(calendar_of(first).today())
        found = chargeback.read(session, TESTS, period, tenant_id=None)
    ours = {first.tenant_id, second.tenant_id}
    assert {share.tenant_id for share in found if share.cost_center == "Operations"} >= ours


def test_it_is_for_who_keeps_the_books() -> None:
    place, other = make_place(), make_place()
    period = month_of(calendar_of(place).today())
    for who, tenant_id, refusal in (
        (colleague(place), place.tenant_id, errors.Forbidden),
        (keeper(other), place.tenant_id, errors.NotFound),
    ):
        with pytest.raises(refusal), db.transaction(who) as session:
            chargeback.read(session, who, period, tenant_id=tenant_id)
