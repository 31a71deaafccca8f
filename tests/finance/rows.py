"""Rows of exports for the tests: read as whoever asks, the way a file is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import text

from core import db
from core.finance.datasets import catalogue
from core.finance.datasets.columns import Dataset
from core.finance.tables import Closing
from core.identity.access import Actor
from core.periods import Period, month_of
from tests.factories import TESTS

Row = Mapping[str, Any]
JULY = month_of(date(2026, 7, 1))


def ever_since(first: date) -> Period:
    """From that day until a year from now, whenever the tests run."""
    return Period(first, datetime.now(UTC).date() + timedelta(days=366))


def export(who: Actor, kind: str, period: Period, tenant_id: UUID | None = None) -> Dataset:
    with db.transaction(who) as session:
        return catalogue.dataset(session, who, kind, period, tenant_id=tenant_id)


def rows_of(who: Actor, found: Dataset) -> list[Row]:
    """The rows that `who`'s transaction gets from a query, whoever it was made for."""
    with db.transaction(who) as session:
        result = session.connection().exec_driver_sql(found.query.sql, dict(found.query.parameters))
        return [dict(row) for row in result.mappings()]


def read(who: Actor, kind: str, period: Period, tenant_id: UUID | None = None) -> list[Row]:
    return rows_of(who, export(who, kind, period, tenant_id))


def total(rows: Iterable[Row], name: str = "billed_cost_usd") -> Decimal:
    return sum((row[name] for row in rows), Decimal(0))


def close_july(tenant_id: UUID) -> None:
    """Close July of a tenant in UTC, as far as what comes later is concerned."""
    with db.transaction(TESTS) as session:
        session.add(
            Closing(
                tenant_id=tenant_id, month=JULY.first, begins_at=datetime(2026, 7, 1, tzinfo=UTC),
                ends_at=datetime(2026, 8, 1, tzinfo=UTC), events=0, requests=0, tokens=0,
                list_nusd=0, billed_nusd=0, warnings={}, closed_by="tests",
            )
        )  # fmt: skip


def change(statement: str, **values: object) -> None:
    with db.transaction(TESTS) as session:
        session.execute(text(statement), values)
