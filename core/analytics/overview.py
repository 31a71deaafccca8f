"""What operators look at across tenants: each one's spend and wallet, and how the product is doing.
Reads only, for operators only; no content, no secret, no address of a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import clock, schema
from core.identity import zones
from core.identity.access import Actor, require_operator


@dataclass(frozen=True, slots=True)
class TenantRow:
    """A tenant's terms, month (its own zone's) and wallet; `available_nusd` None where budgets gate.

    `time_zone` also names the one that is to come. `limit_percent` is how much is used of that of its
    monthly limits of which most is, None without one. `open_notices` are for a role, and were put
    away by nobody yet, operators included.
    """

    tenant_id: UUID
    name: str
    plan: str
    mode: str
    markup: Decimal
    time_zone: str
    status: str
    cost_center: str | None
    project: str | None
    members: int
    month: date
    spent_nusd: int
    requests: int
    posted_nusd: int
    held_nusd: int
    debt_nusd: int
    receivable_nusd: int
    available_nusd: int | None
    limit_percent: int | None
    open_notices: int
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Sync:
    """The last pass over a provider's model list."""

    provider: str
    synced_at: datetime
    outcome: str
    seen: int
    held: int
    retired: int


@dataclass(frozen=True, slots=True)
class Health:
    """The state of the parts, as the database knows it; `*_at` is None where there is none."""

    server: str
    database_bytes: int
    migration: str
    at_head: bool
    jobs_waiting: int
    jobs_running: int
    jobs_failed: int
    oldest_job_at: datetime | None
    calls_open: int
    leases_ended: int
    holds_open: int
    held_nusd: int
    oldest_hold_at: datetime | None
    lookups: int
    oldest_lookup_at: datetime | None
    syncs: tuple[Sync, ...]
    read_at: datetime


def tenants(session: Session, who: Actor) -> tuple[TenantRow, ...]:
    """Every tenant, the one that spent most this month first."""
    require_operator(who)
    calendars, now = zones.calendars(session), clock.now()
    return tuple(
        TenantRow(**row, time_zone=calendars[row["tenant_id"]].said(now))
        for row in session.execute(text(_TENANTS)).mappings()
    )


def health(session: Session, who: Actor) -> Health:
    """What the database says of itself, the job queue, open calls and the catalogue."""
    require_operator(who)
    found = session.execute(text(_HEALTH)).mappings().one()
    syncs = session.execute(text(_SYNCS)).mappings()
    return Health(
        **found,
        migration=schema.head(),
        at_head=schema.at_head(session.connection()),
        syncs=tuple(Sync(**row) for row in syncs),
    )


_TENANTS = """
select t.tenant_id, t.name, t.plan, t.mode, t.markup, t.status, t.cost_center, t.project,
  (select count(*) from app.memberships m
    where m.tenant_id = t.tenant_id and m.status = 'active') as members,
  month.first as month, used.spent_nusd, used.requests,
  coalesce(a.posted_nusd, 0) as posted_nusd, coalesce(a.held_nusd, 0) as held_nusd,
  coalesce(a.debt_nusd, 0) as debt_nusd, coalesce(a.receivable_nusd, 0) as receivable_nusd,
  case when a.floor_nusd is not null
    then greatest(0, a.posted_nusd - a.held_nusd - a.floor_nusd) end as available_nusd,
  (select max(case l.maximum when 0 then 100
      else least(9999, floor(coalesce(l.used, 0) * 100.0 / l.maximum)) end)::int
    from (values (most.limits[13], c.messages), (most.limits[14], c.tokens + c.tokens_held),
      (most.limits[15], c.spent_nusd + c.held_nusd)) as l(maximum, used)
    where l.maximum is not null) as limit_percent,
  (select count(*) from app.notices n
    where n.tenant_id = t.tenant_id and n.audience <> 'user'
      and not exists (select from app.notice_reads r
        where r.tenant_id = n.tenant_id and r.notice_id = n.notice_id)
      and not exists (select from app.operator_notice_reads r
        where r.notice_id = n.notice_id)) as open_notices,
  (select max(e.occurred_at) from app.usage_events e where e.tenant_id = t.tenant_id) as last_used_at
from app.tenants t
left join app.accounts a on a.tenant_id = t.tenant_id
cross join lateral (select verbs.month_of(t.tenant_id, now()) as first) as month
cross join lateral (select verbs.limits_of(t.tenant_id, null, null, t.plan) as limits) as most
left join app.counters c
  on c.tenant_id = t.tenant_id and c.subject_id = t.tenant_id and c.period = month.first
cross join lateral (
  select coalesce(sum(d.billed_nusd), 0)::bigint as spent_nusd,
    coalesce(sum(d.requests), 0)::bigint as requests
  from app.usage_daily_models d where d.tenant_id = t.tenant_id and d.day >= month.first) as used
order by used.spent_nusd desc, t.name, t.tenant_id
"""

_HEALTH = """
select current_setting('server_version') as server,
  pg_database_size(current_database()) as database_bytes,
  (select count(*) from jobs.procrastinate_jobs where status = 'todo') as jobs_waiting,
  (select count(*) from jobs.procrastinate_jobs where status = 'doing') as jobs_running,
  (select count(*) from jobs.procrastinate_jobs where status = 'failed') as jobs_failed,
  (select min(coalesce(j.scheduled_at, e.at)) from jobs.procrastinate_jobs j
    left join lateral (select min(at) as at from jobs.procrastinate_events e
      where e.job_id = j.id) e on true
    where j.status = 'todo' and coalesce(j.scheduled_at, now()) <= now()) as oldest_job_at,
  (select count(*) from app.calls where state = 'open') as calls_open,
  (select count(*) from app.calls where state = 'open' and lease_until < now()) as leases_ended,
  (select count(*) from app.calls where state = 'open') as holds_open,
  (select coalesce(sum(hold_nusd), 0)::bigint from app.calls where state = 'open')
    + (select coalesce(sum(kept_nusd), 0)::bigint from app.lookups) as held_nusd,
  (select min(opened_at) from app.calls where state = 'open') as oldest_hold_at,
  (select count(*) from app.lookups) as lookups,
  (select min(opened_at) from app.lookups) as oldest_lookup_at,
  now() as read_at
"""

_SYNCS = """
select distinct on (provider) provider, synced_at, outcome, seen, held, retired
from app.catalog_syncs order by provider, synced_at desc, sync_id desc
"""
