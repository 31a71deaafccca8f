"""core/analytics/providers.py"""

from __future__ import annotations

from fractions import Fraction

import pytest
from sqlalchemy import text

from core import db, errors
from core.analytics import providers
from tests.analytics.using import use
from tests.factories import TESTS, make_model, make_place

pytestmark = pytest.mark.usefixtures("database")


def test_the_last_day_of_a_provider_counts_successes_and_failures() -> None:
    name = f"maker-{db.new_id().hex[-6:]}"
    with db.transaction(TESTS) as session:
        session.execute(
            text(
                "insert into app.providers(provider, title, sends_cost, keeps_generations,"
                " development_only, connect_ms, first_token_ms, idle_ms, total_ms)"
                " values (:name, :name, true, true, false, 1, 1, 1, 1)"
            ),
            {"name": name},
        )
    place, model = make_place(), make_model(provider=name)
    for _ in range(3):
        use(place.who, model)
    use(place.who, model, outcome="error")
    use(place.who, model, days_ago=2)
    with db.transaction(TESTS) as session:
        (row,) = [r for r in providers.providers(session, TESTS) if r.provider == name]
    assert (row.calls, row.failed, row.succeeded) == (4, 1, Fraction(3, 4))
    assert row.duration_ms == (1_500, 1_500, 1_500)
    assert row.first_token_ms == (200, 200, 200)


def test_a_tenants_admin_may_not_ask() -> None:
    admin = make_place(role="admin").who
    with db.transaction(admin) as session, pytest.raises(errors.Forbidden):
        providers.providers(session, admin)
