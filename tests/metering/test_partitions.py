"""Partitions made ahead: each once, guarded, and never one that is there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime

import psycopg
import pytest
from sqlalchemy import text

from core import db, schema
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


def test_a_month_that_is_taken_out_leaves_the_sums_and_comes_back_whole(
    fresh_database_url: Callable[[str], str], worker_id: str
) -> None:
    url = fresh_database_url(f"purser_months_{worker_id}")
    schema.migrate(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")  # no call rows are needed here
        connection.execute("set search_path = app, verbs")
        connection.execute(_EVENTS)
        before = connection.execute(_COUNTED).fetchall()
        connection.execute("alter table app.usage_events detach partition app.usage_events_2031_01")
        assert connection.execute(_COUNTED).fetchall() == [(2, 1)]
        connection.execute(
            "alter table app.usage_events attach partition app.usage_events_2031_01"
            " for values from ('2031-01-01 00:00+00') to ('2031-02-01 00:00+00')"
        )
        connection.execute("select app.guard_partition('app.usage_events_2031_01')")
        assert connection.execute(_COUNTED).fetchall() == before == [(2, 2)]
        unguarded = "select has_table_privilege('app_rw', 'app.usage_events_2031_01', 'select')"
        assert connection.execute(unguarded).fetchone() == (False,)


# One event in each of two months, counted as they are counted.
_EVENTS = """
select app.ensure_usage_partition('2031-01-01'), app.ensure_usage_partition('2031-02-01');
insert into app.usage_events(tenant_id, occurred_at, kind, call_id, user_id, tenant_label_id,
  user_label_id, source, purpose, provider, model_requested, model_served, price_id, prompt_tokens,
  cached_tokens, cache_write_tokens, completion_tokens, reasoning_tokens, list_nusd, billed_nusd,
  cost_source, outcome, latency_ms)
select md5('t')::uuid, at, 'call', gen_random_uuid(), md5('u')::uuid, md5('t')::uuid, md5('u')::uuid,
  'api', 'test', 'openrouter', 'm', 'm', 1, 1, 0, 0, 1, 0, 1, 1, 'provider', 'ok', 1
from unnest(array['2031-01-15'::timestamptz, '2031-02-15']) as at;
insert into app.tenants(tenant_id, name, plan, mode, first_time_zone, markup, status, label_id)
  values (md5('t')::uuid, 'T', 'pro', 'prepaid', 'UTC', 0, 'active', md5('t')::uuid);
insert into app.usage_pending select tenant_id, event_id, occurred_at from app.usage_events;
select verbs.sum_usage(null, 10, true);
"""
_COUNTED = (
    "select (select count(*) from app.usage_daily), (select count(*) from app.usage_events"
    " where occurred_at < '2031-03-01')"
)
