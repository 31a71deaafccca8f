"""The daily sums, made anew from the usage events. Settlement keeps them; this repairs them.

Days are those of the tenant's zone as it is now; an adjustment counts on the day and for the model
of the call it corrects, as settlement counts it.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

_SUMS = (
    "prompt_tokens cached_tokens cache_write_tokens completion_tokens reasoning_tokens"
    " list_nusd billed_nusd"
)
_NAMES = ", ".join(_SUMS.split())
_SUMMED = ", ".join(f"sum(e.{name})::bigint" for name in _SUMS.split())

# Settlements wait for this lock before they add to a day. Those that already did have committed
# once it is ours, and are seen; the others add to what is written here.
_LOCK = "lock table app.usage_daily in share row exclusive mode"
_DELETE = "delete from app.usage_daily where cast(:tenant as uuid) is null or tenant_id = :tenant"
_INSERT = f"""
insert into app.usage_daily(tenant_id, day, user_id, model, source, requests, errors, {_NAMES})
select e.tenant_id, (e.occurred_at at time zone t.time_zone)::date, e.user_id,
  case when e.kind = 'call' then e.model_served else c.model_served end, e.source,
  count(*) filter (where e.kind = 'call'),
  count(*) filter (where e.kind = 'call' and e.outcome in ('error', 'timeout')), {_SUMMED}
from app.usage_events e
join app.tenants t on t.tenant_id = e.tenant_id
left join app.usage_events c on e.kind = 'adjustment' and c.tenant_id = e.tenant_id
  and c.call_id = e.call_id and c.occurred_at = e.occurred_at and c.kind = 'call'
where cast(:tenant as uuid) is null or e.tenant_id = :tenant
group by 1, 2, 3, 4, 5
"""  # noqa: S608 - our own column names


def rebuild(session: Session, tenant_id: UUID | None = None) -> int:
    """Recompute the sums of one tenant, or of all; returns how many rows there are then.

    Settlements wait meanwhile, so one transaction per tenant is kinder than one for all.
    """
    session.execute(text("set local statement_timeout = 0"))
    session.execute(text(_LOCK))
    session.execute(text(_DELETE), {"tenant": tenant_id})
    session.execute(text(_INSERT), {"tenant": tenant_id})
    counted = session.scalar(
        text(
            "select count(*) from app.usage_daily"
            " where cast(:tenant as uuid) is null or tenant_id = :tenant"
        ),
        {"tenant": tenant_id},
    )
    return counted or 0
