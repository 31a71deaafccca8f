"""The sums of usage by day and by conversation: a job adds the events that came since, each second, and
`rebuild` makes them anew from all events.

Days are those of the tenant's calendar; an event counts on the day it is dated. Whoever needs exact sums
lets `flush` add what is still pending.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db, jobs
from core.db import System
from core.jobs import Queue

_BATCH_EVENTS = 5_000

_SUMS = (
    "prompt_tokens cached_tokens cache_write_tokens completion_tokens reasoning_tokens"
    " list_nusd billed_nusd"
)
_NAMES = ", ".join(_SUMS.split())
_SUMMED = ", ".join(f"sum({name})::bigint" for name in _SUMS.split())
_OF_TENANT = "where (cast(:tenant as uuid) is null or tenant_id = :tenant)"

# Whoever adds to the sums waits for this lock. What they took out of the queue has been committed once it is
# ours, and is seen; what is pending then, others add to what is written here.
_TABLES = ("usage_daily", "usage_daily_models", "usage_conversations")
_LOCK = f"lock table {', '.join(f'app.{table}' for table in _TABLES)} in share row exclusive mode"
_SUMMED_ALREADY = (
    "not exists (select from app.usage_pending p"
    " where p.tenant_id = e.tenant_id and p.event_id = e.event_id)"
)
_BY_PERSON = f"""
insert into app.usage_daily(tenant_id, day, user_id, model, source, requests, errors, {_NAMES})
select e.tenant_id, greatest((e.occurred_at at time zone s.time_zone)::date, s.starts_on), e.user_id,
  e.model_served, e.source, count(*) filter (where e.kind = 'call'),
  count(*) filter (where e.kind = 'call' and e.outcome in ('error', 'timeout')), {_SUMMED}
from app.usage_events e
join verbs.zone_spans() s on s.tenant_id = e.tenant_id and e.occurred_at >= s.starts_at
  and e.occurred_at < s.ends_at
where (cast(:tenant as uuid) is null or e.tenant_id = :tenant) and {_SUMMED_ALREADY}
group by 1, 2, 3, 4, 5
"""  # noqa: S608 - our own column names
_BY_MODEL = f"""
insert into app.usage_daily_models(tenant_id, day, model, source, requests, errors, {_NAMES})
select tenant_id, day, model, source, sum(requests)::bigint, sum(errors)::bigint, {_SUMMED}
from app.usage_daily {_OF_TENANT}
group by 1, 2, 3, 4
"""  # noqa: S608 - as above
_BY_CONVERSATION = f"""
insert into app.usage_conversations(tenant_id, conversation_id, user_id, model, requests, tokens,
  list_nusd, billed_nusd, first_at, last_at)
select tenant_id, conversation_id, (array_agg(user_id))[1],
  (array_agg(model_served order by occurred_at desc, event_id desc))[1],
  count(*) filter (where kind = 'call'), sum(prompt_tokens + completion_tokens)::bigint,
  sum(list_nusd)::bigint, sum(billed_nusd)::bigint, min(occurred_at), max(occurred_at)
from app.usage_events e {_OF_TENANT} and conversation_id is not null and {_SUMMED_ALREADY}
group by 1, 2
"""  # noqa: S608 - as above


def flush(session: Session, tenant_id: UUID | None = None) -> int:
    """Add to the sums what is pending of one tenant, or of all; returns how many events those were.

    From then on the sums are exact for what was committed by now. Until the end of the transaction
    nobody else adds to those of the same tenants.
    """
    total, added = 0, _BATCH_EVENTS
    while added == _BATCH_EVENTS:
        added = _sum(session, tenant_id, waits=True)
        total += added
    return total


@jobs.periodic("* * * * * *", "metering.sums", Queue.MONEY)
def add_pending() -> None:
    """Add to the sums what is pending, a batch in each transaction."""
    added = _BATCH_EVENTS
    while added == _BATCH_EVENTS:
        with db.transaction(System("usage sums")) as session:
            added = _sum(session, None, waits=False)


def _sum(session: Session, tenant_id: UUID | None, *, waits: bool) -> int:
    asked = {"tenant": tenant_id, "batch": _BATCH_EVENTS, "waits": waits}
    found = session.scalar(text("select verbs.sum_usage(:tenant, :batch, :waits)"), asked)
    return int(found or 0)


def rebuild(session: Session, tenant_id: UUID | None = None) -> int:
    """Recompute the sums of one tenant, or of all; returns how many rows by person there are then.

    Nothing is added to any sums meanwhile, so one transaction per tenant is kinder than one for all.
    """
    flush(session, tenant_id)
    of_tenant = {"tenant": tenant_id}
    session.execute(text("set local statement_timeout = 0"))
    session.execute(text(_LOCK))
    for table in _TABLES:
        session.execute(text(f"delete from app.{table} {_OF_TENANT}"), of_tenant)  # noqa: S608
    for statement in (_BY_PERSON, _BY_MODEL, _BY_CONVERSATION):
        session.execute(text(statement), of_tenant)
    counted = session.scalar(
        text(f"select count(*) from app.usage_daily {_OF_TENANT}"),  # noqa: S608
        of_tenant,
    )
    return counted or 0
