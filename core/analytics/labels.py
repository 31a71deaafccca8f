"""What the parts of a breakdown are called: people and tenants as they were called when they last
used something in the period, keys by their name. Nothing that is disabled or revoked loses its name, and
no two parts have one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core.analytics.scope import Scope
from core.analytics.selection import Group, Value
from core.identity.tables import ApiKey
from core.periods import Period

_WITHOUT = {
    Group.COST_CENTER: "No cost center",
    Group.PROJECT: "No project",
    Group.KEY: "No API key",
}
_ZONES = timedelta(days=2)  # no tenant's day begins further from that of UTC


def of(
    session: Session, scope: Scope, period: Period, group: Group, values: Sequence[Value]
) -> dict[Value, str]:
    """The label of each value."""
    ids = [value for value in values if isinstance(value, UUID)]
    named: dict[UUID, str] = {}
    if group in {Group.TENANT, Group.USER} and ids:
        named = _subjects(session, scope, period, group, ids)
    elif group is Group.KEY and ids:
        query = select(ApiKey.key_id, ApiKey.name).where(ApiKey.key_id.in_(ids))
        named = {row.key_id: row.name for row in session.execute(query)}
    named = told_apart(named)
    return {
        value: named.get(value, str(value))
        if isinstance(value, UUID)
        else _WITHOUT[group]
        if value is None
        else value
        for value in values
    }


def told_apart(names: Mapping[UUID, str]) -> dict[UUID, str]:
    """The same names, with the end of its id where several bear one."""
    count = Counter(names.values())
    return {
        of: name if count[name] == 1 else f"{name} ({of.hex[-6:]})" for of, name in names.items()
    }


def _subjects(
    session: Session, scope: Scope, period: Period, group: Group, ids: list[UUID]
) -> dict[UUID, str]:
    rows = session.execute(
        text(_OF_TENANTS if group is Group.TENANT else _OF_PEOPLE),
        {
            "ids": ids, "tenants": None if scope.tenant_ids is None else list(scope.tenant_ids),
            "begins": datetime.combine(period.first, time(), UTC) - _ZONES,
            "ends": datetime.combine(period.last, time(), UTC) + _ZONES,
        },
    )  # fmt: skip
    return {row.subject_id: row.name for row in rows}


# Only whoever was called differently is looked for among the events.
_SUBJECTS = """
with known as (
  select tenant_id, subject_id, min(name) as name, count(*) as names from app.labels
  where subject_id = any(cast(:ids as uuid[]))
    and (cast(:tenants as uuid[]) is null or tenant_id = any(cast(:tenants as uuid[])))
  group by tenant_id, subject_id)
select distinct on (k.subject_id) k.subject_id, coalesce(used.name, k.name) as name
from known k left join lateral (
  select l.name from app.usage_events e
  join app.labels l on l.tenant_id = e.tenant_id and l.label_id = e.{subject}_label_id
  where k.names > 1 and e.tenant_id = k.tenant_id and e.{subject}_id = k.subject_id
    and e.occurred_at >= :begins and e.occurred_at < :ends
  order by e.occurred_at desc, e.event_id desc limit 1) as used on true
order by k.subject_id, used.name is null, k.tenant_id
"""
_OF_TENANTS = _SUBJECTS.format(subject="tenant")
_OF_PEOPLE = _SUBJECTS.format(subject="user")
