"""Partitions made ahead: each once, guarded, and never one that is there."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from sqlalchemy import text

from core import db
from core.metering import partitions
from core.periods import following_month
from tests.factories import TESTS

pytestmark = pytest.mark.usefixtures("database")


def test_a_range_of_months_is_made_once_across_the_year() -> None:
    with db.transaction(TESTS) as session:
        assert partitions.ensure(session, date(2031, 11, 15), date(2032, 2, 1)) == 4
        assert partitions.ensure(session, date(2031, 11, 1), date(2032, 2, 28)) == 0
        made = session.scalars(
            text(
                "select relname from pg_class where relforcerowsecurity"
                " and relname ~ '^usage_events_203[12]' and relkind = 'r' order by relname"
            )
        ).all()
    assert list(made) == [
        "usage_events_2031_11", "usage_events_2031_12", "usage_events_2032_01",
        "usage_events_2032_02",
    ]  # fmt: skip


def test_three_months_ahead_are_there_afterwards() -> None:
    with db.transaction(TESTS) as session:
        partitions.ensure_ahead(session)
        assert partitions.ensure_ahead(session) == 0
        month = datetime.now(UTC).date().replace(day=1)
        for _ in range(partitions.MONTHS_AHEAD):
            month = following_month(month)
            name = f"app.usage_events_{month:%Y_%m}"
            assert session.scalar(text("select to_regclass(:name)"), {"name": name})
