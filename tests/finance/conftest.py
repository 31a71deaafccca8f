"""A tenant whose books have something in them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from core import db
from tests.analytics.using import use
from tests.factories import Place, make_model
from tests.finance.books import last_month, old_place, within
from tests.finance.rows import change


@pytest.fixture(scope="module")
def used_model(database: db.Database) -> str:
    db.install(database)
    return make_model()


@pytest.fixture
def used(used_model: str) -> Place:
    """A tenant with some calls of last month, a markup, and cost centres that look like formulas."""
    place = old_place(time_zone="Europe/Berlin", markup="0.25")
    change(
        "update app.tenants set cost_center = '=1+1' where tenant_id = :tenant",
        tenant=place.tenant_id,
    )
    begins = within(place, last_month(place))
    for hours, usd in enumerate(("0.0123456789", "0.000000001", "1.5")):
        use(place.who, used_model, usd, at=begins + timedelta(hours=hours))
    return place
