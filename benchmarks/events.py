"""Made-up usage at size: months of events over many tenants, people and models, with their sums.

Written straight into the tables, as a superuser, in a database that has the product's tables and
verbs: admitting ten million calls would take an afternoon. Volume grows by the month; few tenants,
people and models do most of it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date
from uuid import UUID

import psycopg

from core.periods import following_month

_GROWTH = 1.06  # from one month to the next
_ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo")

_PEOPLE = """
create schema if not exists bench;
insert into app.tenants(tenant_id, name, plan, mode, first_time_zone, markup, status, label_id)
  select md5('tenant' || n)::uuid, 'Tenant ' || n, 'enterprise', 'postpaid',
    (%(zones)s::text[])[1 + n %% cardinality(%(zones)s::text[])], 0.1, 'active', md5('tenant' || n)::uuid
  from generate_series(0, %(tenants)s - 1) n;
insert into app.labels(tenant_id, label_id, subject_id, name)
  select tenant_id, label_id, tenant_id, name from app.tenants where name like 'Tenant %%';
create table bench.people as
  select n, md5('user' || n)::uuid as user_id,
    md5('tenant' || case when n < %(tenants)s then n
      else floor(%(tenants)s * power(random(), 2))::int end)::uuid as tenant_id,
    array['maker/model-' || floor(%(models)s * power(random(), 2))::int,
      'maker/model-' || floor(%(models)s * power(random(), 2))::int,
      'maker/model-' || floor(%(models)s * random())::int] as models,
    (array['Sales', 'Support', 'Engineering', 'Legal', null])[1 + n %% 5] as cost_center
  from generate_series(0, %(people)s - 1) n;
create unique index on bench.people(n);
insert into app.users(user_id, email, name, status)
  select user_id, 'user' || n || '@example.com', 'Person ' || n, 'active' from bench.people;
insert into app.labels(tenant_id, label_id, subject_id, name)
  select tenant_id, user_id, user_id, 'user' || n || '@example.com' from bench.people;
insert into app.memberships(tenant_id, user_id, role, label_id, status)
  select tenant_id, user_id, case when n < %(tenants)s then 'admin' else 'member' end, user_id, 'active'
  from bench.people;
"""
_MONTH = """
insert into app.usage_events(tenant_id, occurred_at, kind, call_id, user_id, tenant_label_id,
  user_label_id, cost_center, source, purpose, conversation_id, provider, model_requested, model_served,
  price_id, prompt_tokens, cached_tokens, cache_write_tokens, completion_tokens, reasoning_tokens,
  provider_cost_usd, list_nusd, billed_nusd, cost_source, outcome, latency_ms, first_token_ms,
  generation_id)
select p.tenant_id, s.at, 'call', gen_random_uuid(), p.user_id, p.tenant_id, p.user_id, p.cost_center,
  case when s.r2 < 0.8 then 'chat' else 'api' end, case when s.r2 < 0.8 then 'chat' else 'completion' end,
  case when s.r2 < 0.8 then md5(p.n || '/' || floor(s.r1 * 40))::uuid end, 'openrouter', m.model, m.model,
  1, s.prompt, s.prompt * (s.r1 < 0.2)::int / 2, 0, s.answer, 0,
  (s.prompt * 150 + s.answer * 600) / 1e9, s.prompt * 150 + s.answer * 600,
  s.prompt * 165 + s.answer * 660, 'provider', case when s.r3 < 0.01 then 'error' else 'ok' end,
  (300 + exp(6 + 1.1 * s.g))::int, (100 + exp(5 + 0.8 * s.g))::int, null
from (
  select %(from)s::timestamptz + (%(to)s::timestamptz - %(from)s::timestamptz) * (x::float8 / %(count)s)
      as at,
    floor(%(people)s * power(random(), 1.5))::int as n, random() as r1, random() as r2, random() as r3,
    (50 + 3000 * power(random(), 3))::int as prompt, (20 + 1500 * power(random(), 2))::int as answer,
    random_normal() as g
  from generate_series(0, %(count)s - 1) x) s
join bench.people p on p.n = s.n
cross join lateral (select p.models[1 + floor(3 * power(s.r1, 2))::int] as model) m
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is made."""

    events: int
    months: int = 24
    tenants: int = 200
    people: int = 5_000
    models: int = 60


@dataclass(frozen=True, slots=True)
class Made:
    """What was made: the tenant with the most events, an admin of it, and how fast events went in."""

    tenant_id: UUID
    admin_id: UUID
    events: int
    last_month: date
    events_per_s: float


def make(dsn: str, size: Size, last_month: date) -> Made:
    """Fill an empty migrated database with months of events that end with `last_month`."""
    first = _months_before(last_month, size.months - 1)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")  # no call rows, no triggers
        connection.execute("set client_min_messages = warning")
        connection.execute("select setseed(0.4)")
        for statement in _PEOPLE.split(";\n"):
            if statement.strip():
                connection.execute(
                    statement.encode(),
                    {"tenants": size.tenants, "people": size.people, "models": size.models,
                     "zones": list(_ZONES)},
                )  # fmt: skip
        started = time.perf_counter()
        month, weights = first, [_GROWTH**n for n in range(size.months)]
        for weight in weights:
            following = following_month(month)
            connection.execute("select app.ensure_usage_partition(%s)", (month,))
            connection.execute(
                _MONTH.encode(),
                {"from": month, "to": following, "people": size.people,
                 "count": round(size.events * weight / sum(weights))},
            )  # fmt: skip
            month = following
        elapsed = time.perf_counter() - started
        connection.execute("vacuum analyze app.usage_events")
        row = connection.execute(
            "select tenant_id, count(*) from app.usage_events group by 1 order by 2 desc limit 1"
        ).fetchone()
        admin = connection.execute(
            "select user_id from app.memberships where role = 'admin' and tenant_id = %s",
            (row[0] if row else None,),
        ).fetchone()
        counted = connection.execute("select count(*) from app.usage_events").fetchone()
    assert row and admin and counted
    return Made(row[0], admin[0], counted[0], last_month, counted[0] / elapsed)


def _months_before(month: date, count: int) -> date:
    total = month.year * 12 + month.month - 1 - count
    return date(total // 12, total % 12 + 1, 1)
