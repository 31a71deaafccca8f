-- What must always hold of closed months. One row per offence.

-- name: closed_month nightly
-- The events of a month that is closed come to what they came to then.
select format('tenant %s month %s: closed with %s events billed %s, now %s billed %s', c.tenant_id,
  to_char(c.month, 'YYYY-MM'), c.events, c.billed_nusd, e.events, e.billed_nusd) as detail
from app.closings c
cross join lateral (select count(*) as events, count(*) filter (where kind = 'call') as requests,
    coalesce(sum(prompt_tokens + completion_tokens), 0) as tokens,
    coalesce(sum(list_nusd), 0) as list_nusd, coalesce(sum(billed_nusd), 0) as billed_nusd
  from app.usage_events u
  where u.tenant_id = c.tenant_id and u.occurred_at >= c.begins_at and u.occurred_at < c.ends_at) e
where c.reopened_at is null
  and (c.events, c.requests, c.tokens, c.list_nusd, c.billed_nusd)
    is distinct from (e.events, e.requests, e.tokens, e.list_nusd, e.billed_nusd);

-- name: adjustment_dated nightly
-- An adjustment is dated by its call's opening; or by its own moment, if that month was closed then. One
-- that waited for a reopening bears the time at which it began to wait, hence the minute.
select format('event %s of call %s: dated %s, recorded %s, call of %s', e.event_id, e.call_id,
  e.occurred_at, e.recorded_at, c.opened_at)
from app.usage_events e
join app.calls c on c.tenant_id = e.tenant_id and c.call_id = e.call_id
cross join lateral (select exists (select from app.closings o where o.tenant_id = e.tenant_id
    and c.opened_at >= o.begins_at and c.opened_at < o.ends_at and o.closed_at <= e.recorded_at
    and e.recorded_at < coalesce(o.reopened_at, 'infinity') - interval '1 minute') as surely,
  exists (select from app.closings o where o.tenant_id = e.tenant_id
    and c.opened_at >= o.begins_at and c.opened_at < o.ends_at and o.closed_at <= e.occurred_at
    and e.recorded_at < coalesce(o.reopened_at, 'infinity')) as perhaps) closed
where e.kind = 'adjustment' and (e.occurred_at = c.opened_at and closed.surely
  or e.occurred_at <> c.opened_at and not (closed.perhaps and e.occurred_at >= e.recorded_at));
