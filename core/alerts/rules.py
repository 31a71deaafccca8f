"""What people are told without asking: a conversation that became dear, and a limit of which four
fifths are used. Each once: a conversation for good, a limit once a month.

Reads what settlement counted; a job looks every minute, so that no call waits for it.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db, jobs
from core.db import System
from core.jobs import Queue
from core.money import NANO_PER_USD

DEAR_CONVERSATION_NUSD = 10 * NANO_PER_USD
QUOTA_WARNING_PERCENT = 80
_WATCHER = System("alerts")


def look(session: Session) -> int:
    """Tell what is to be told now; returns how many notices that were."""
    told = session.execute(text(_DEAR), {"above": DEAR_CONVERSATION_NUSD}).all()
    limits = session.execute(text(_QUOTAS), {"percent": QUOTA_WARNING_PERCENT}).all()
    return len(told) + len(limits)


# Facts carry who and how much; which conversation it is, its owner alone can open.
_DEAR = """
insert into app.notices(tenant_id, notice_id, kind, key, audience, facts)
select c.tenant_id, gen_random_uuid(), 'conversation.dear', c.conversation_id::text, 'admins',
  jsonb_build_object('conversation_id', c.conversation_id, 'user_id', c.user_id, 'model', c.model,
    'billed_nusd', c.billed_nusd)
from app.usage_conversations c
where c.billed_nusd > 10000000000 and c.billed_nusd > :above
  and not exists (select from app.notices n where n.tenant_id = c.tenant_id
    and n.kind = 'conversation.dear' and n.key = c.conversation_id::text)
on conflict do nothing returning 1
"""

_QUOTAS = """
with used as (
  select c.tenant_id, c.subject_id, c.scope, c.period, u.limit_name, u.used,
    case when o.limit_name is not null then o.maximum else p.maximum end as maximum
  from app.counters c
  join app.tenants t on t.tenant_id = c.tenant_id
  cross join lateral (values ('monthly_messages', c.messages), ('monthly_tokens', c.tokens),
    ('monthly_nusd', c.spent_nusd)) as u(limit_name, used)
  left join app.limit_overrides o on o.tenant_id = c.tenant_id and o.scope = c.scope
    and o.subject_id = c.subject_id and o.limit_name = u.limit_name
  left join app.plan_limits p on p.plan = t.plan and p.scope = c.scope and p.limit_name = u.limit_name
  where c.period > current_date - 40 and c.period = verbs.month_of(c.tenant_id, now()))
insert into app.notices(tenant_id, notice_id, kind, key, audience, user_id, facts)
select u.tenant_id, gen_random_uuid(), 'quota.near',
  concat_ws(':', u.scope, u.subject_id, u.limit_name, u.period),
  case when u.scope = 'tenant' then 'admins' else 'user' end,
  case u.scope when 'user' then u.subject_id when 'key' then k.user_id end,
  jsonb_build_object('scope', u.scope, 'subject_id', u.subject_id, 'limit', u.limit_name,
    'used', u.used, 'maximum', u.maximum, 'month', u.period)
from used u
left join app.api_keys k on u.scope = 'key' and k.tenant_id = u.tenant_id and k.key_id = u.subject_id
where u.maximum > 0 and u.used * 100 >= u.maximum * :percent
on conflict do nothing returning 1
"""


@jobs.periodic("* * * * *", "alerts.look", Queue.MONEY)
def _look() -> None:
    with db.transaction(_WATCHER) as session:
        look(session)
