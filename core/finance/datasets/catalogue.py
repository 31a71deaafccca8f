"""The exports there are, who may have each, and how a period of one is read from the books.

Reads rows and writes no file. Whoever asks gets the rows of one tenant, or an operator those of all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from core import errors
from core.finance.datasets import audit, chargeback, daily, focus, scope, statement, usage
from core.finance.datasets.columns import Column, Dataset, Query
from core.finance.datasets.fields import Field, shown
from core.finance.datasets.scope import Scope
from core.identity import zones
from core.identity.access import (
    Actor,
    Principal,
    require_admin,
    require_finance,
    require_operator,
)
from core.metering import rollups
from core.periods import Period


@dataclass(frozen=True, slots=True)
class _Export:
    fields: tuple[Field, ...]
    query: Callable[[Scope], Query]
    allow: Callable[[Actor | None, UUID], None] = require_finance
    in_utc: bool = False
    of_sums: bool = False


_EXPORTS: Mapping[str, _Export] = {
    "usage": _Export(usage.FIELDS, usage.query),
    "daily": _Export(daily.FIELDS, daily.query, of_sums=True),
    "statement": _Export(statement.FIELDS, statement.query),
    "chargeback": _Export(chargeback.FIELDS, chargeback.query),
    "focus": _Export(focus.FIELDS, focus.query, in_utc=True),
    "audit": _Export(audit.FIELDS, audit.query, require_admin),
}
KINDS = tuple(_EXPORTS)


def dataset(
    session: Session, who: Actor, kind: str, period: Period, *, tenant_id: UUID | None
) -> Dataset:
    """A period of one export; without a tenant the asker's own, for operators that of all tenants.

    The period is of whole days of each tenant's calendar. Raises errors.Forbidden for whom it is not
    meant, errors.NotFound for another tenant, errors.BadInput for an unknown kind or a period that
    no books are of.
    """
    export = _export(kind)
    if tenant_id is None and isinstance(who, Principal):
        tenant_id = who.tenant_id
    if tenant_id is None:
        require_operator(who)
        calendars = zones.calendars(session)
    else:
        export.allow(who, tenant_id)
        calendars = {tenant_id: zones.calendar_of(session, tenant_id)}
    scope.check(period)
    if export.of_sums:
        rollups.flush(session, tenant_id)
    asked = Scope(period, tenant_id, calendars, for_operators=not isinstance(who, Principal))
    return Dataset(
        kind, columns_of(kind, for_operators=asked.for_operators), export.query(asked),
        "UTC" if export.in_utc else asked.zone,
    )  # fmt: skip


def columns_of(kind: str, *, for_operators: bool) -> tuple[Column, ...]:
    """The columns of an export, in their order. Raises errors.BadInput for an unknown kind."""
    fields = shown(_export(kind).fields, for_operators=for_operators)
    return tuple(field.column for field in fields)


def count(session: Session, found: Dataset) -> int:
    """How many rows a dataset has now."""
    statement = f"select count(*) from ({found.query.counted}) as rows"  # noqa: S608 - our own text
    counted = session.connection().exec_driver_sql(statement, dict(found.query.parameters))
    return int(counted.scalar_one())


def _export(kind: str) -> _Export:
    found = _EXPORTS.get(kind)
    if found is None:
        raise errors.BadInput(f"An export is one of: {', '.join(KINDS)}.", param="kind")
    return found
