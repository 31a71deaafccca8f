-- What must always hold of calls, usage events and their daily sums. One row per offence.

-- name: call_lease
select format('call %s: still open, lease ended %s', call_id, lease_until) as detail
from app.calls
where state = 'open' and lease_until < clock_timestamp() - interval '60 s';

-- name: usage_once
select format('call %s: %s, %s usage events', c.call_id, c.state, count(e.call_id))
from app.calls c
left join app.usage_events e
  on e.tenant_id = c.tenant_id and e.call_id = c.call_id and e.kind = 'call'
    and e.occurred_at >= '-infinity'::timestamptz
where c.opened_at >= '-infinity'::timestamptz
group by c.tenant_id, c.call_id, c.state
having count(e.call_id) <> case c.state when 'settled' then 1 else 0 end;

-- name: usage_call
-- An event belongs to a call of the same tenant and person, and is dated by its admission.
select format('event %s: call %s is missing or another''s', e.event_id, e.call_id)
from app.usage_events e
left join app.calls c on c.tenant_id = e.tenant_id and c.call_id = e.call_id
where e.occurred_at >= '-infinity'::timestamptz
  and (c.call_id is null or e.kind = 'call' and c.opened_at <> e.occurred_at
  or e.occurred_at < c.opened_at or c.user_id <> e.user_id
  or c.api_key_id is distinct from e.api_key_id or c.source <> e.source
  or e.kind = 'adjustment' and e.adjusts_call_id <> e.call_id);

-- name: usage_negative nightly
select format('call %s: list %s, billed %s, tokens %s', call_id, sum(list_nusd), sum(billed_nusd),
  sum(prompt_tokens + completion_tokens))
from app.usage_events
group by tenant_id, call_id
having least(sum(list_nusd), sum(billed_nusd), sum(prompt_tokens), sum(completion_tokens)) < 0;

-- name: usage_pending
-- Sums are made each second.
select format('event %s waits for its sums since %s', p.event_id, e.recorded_at)
from app.usage_pending p
join app.usage_events e on e.tenant_id = p.tenant_id and e.occurred_at = p.occurred_at
  and e.event_id = p.event_id
where e.recorded_at < clock_timestamp() - interval '120 s'
union all
select format('event %s waits for its sums and does not exist', p.event_id)
from app.usage_pending p
where not exists (select from app.usage_events e where e.tenant_id = p.tenant_id
  and e.occurred_at = p.occurred_at and e.event_id = p.event_id);

-- name: usage_daily nightly
with events as (
  select e.tenant_id, greatest((e.occurred_at at time zone s.time_zone)::date, s.starts_on) as day,
    e.user_id,
    e.model_served as model, e.source,
    count(*) filter (where e.kind = 'call') as requests,
    count(*) filter (where e.kind = 'call' and e.outcome in ('error', 'timeout')) as errors,
    sum(e.prompt_tokens) as prompt_tokens, sum(e.cached_tokens) as cached_tokens,
    sum(e.cache_write_tokens) as cache_write_tokens, sum(e.completion_tokens) as completion_tokens,
    sum(e.reasoning_tokens) as reasoning_tokens, sum(e.list_nusd) as list_nusd,
    sum(e.billed_nusd) as billed_nusd
  from app.usage_events e
  join verbs.zone_spans() s on s.tenant_id = e.tenant_id and e.occurred_at >= s.starts_at
    and e.occurred_at < s.ends_at
  where not exists (select from app.usage_pending p
    where p.tenant_id = e.tenant_id and p.event_id = e.event_id)
  group by 1, 2, 3, 4, 5)
select format('tenant %s day %s person %s model %s source %s: %s requests billed %s, events say %s billed %s',
  coalesce(d.tenant_id, e.tenant_id), coalesce(d.day, e.day), coalesce(d.user_id, e.user_id),
  coalesce(d.model, e.model), coalesce(d.source, e.source), coalesce(d.requests, 0),
  coalesce(d.billed_nusd, 0), coalesce(e.requests, 0), coalesce(e.billed_nusd, 0))
from app.usage_daily d
full join events e on e.tenant_id = d.tenant_id and e.day = d.day and e.user_id = d.user_id
  and e.model = d.model and e.source = d.source
where d.tenant_id is null or e.tenant_id is null
  or (d.requests, d.errors, d.prompt_tokens, d.cached_tokens, d.cache_write_tokens,
      d.completion_tokens, d.reasoning_tokens, d.list_nusd, d.billed_nusd)
    is distinct from (e.requests, e.errors, e.prompt_tokens, e.cached_tokens, e.cache_write_tokens,
      e.completion_tokens, e.reasoning_tokens, e.list_nusd, e.billed_nusd);

-- name: usage_daily_models nightly
select format('tenant %s day %s model %s source %s: %s requests billed %s, by person %s billed %s',
  coalesce(m.tenant_id, d.tenant_id), coalesce(m.day, d.day), coalesce(m.model, d.model),
  coalesce(m.source, d.source), coalesce(m.requests, 0), coalesce(m.billed_nusd, 0),
  coalesce(d.requests, 0), coalesce(d.billed_nusd, 0))
from app.usage_daily_models m
full join (
  select tenant_id, day, model, source, sum(requests) as requests, sum(errors) as errors,
    sum(prompt_tokens) as prompt_tokens, sum(cached_tokens) as cached_tokens,
    sum(cache_write_tokens) as cache_write_tokens, sum(completion_tokens) as completion_tokens,
    sum(reasoning_tokens) as reasoning_tokens, sum(list_nusd) as list_nusd,
    sum(billed_nusd) as billed_nusd
  from app.usage_daily group by 1, 2, 3, 4) d
  on d.tenant_id = m.tenant_id and d.day = m.day and d.model = m.model and d.source = m.source
where m.tenant_id is null or d.tenant_id is null
  or (m.requests, m.errors, m.prompt_tokens, m.cached_tokens, m.cache_write_tokens,
      m.completion_tokens, m.reasoning_tokens, m.list_nusd, m.billed_nusd)
    is distinct from (d.requests, d.errors, d.prompt_tokens, d.cached_tokens, d.cache_write_tokens,
      d.completion_tokens, d.reasoning_tokens, d.list_nusd, d.billed_nusd);

-- name: usage_conversations nightly
select format('conversation %s: %s requests billed %s, events say %s billed %s',
  coalesce(c.conversation_id, e.conversation_id), coalesce(c.requests, 0), coalesce(c.billed_nusd, 0),
  coalesce(e.requests, 0), coalesce(e.billed_nusd, 0))
from app.usage_conversations c
full join (
  select tenant_id, conversation_id, count(*) filter (where kind = 'call') as requests,
    sum(prompt_tokens + completion_tokens) as tokens, sum(list_nusd) as list_nusd,
    sum(billed_nusd) as billed_nusd, min(occurred_at) as first_at, max(occurred_at) as last_at
  from app.usage_events u where conversation_id is not null
    and not exists (select from app.usage_pending p
      where p.tenant_id = u.tenant_id and p.event_id = u.event_id)
  group by 1, 2) e
  on e.tenant_id = c.tenant_id and e.conversation_id = c.conversation_id
where c.tenant_id is null or e.tenant_id is null
  or (c.requests, c.tokens, c.list_nusd, c.billed_nusd, c.first_at, c.last_at)
    is distinct from (e.requests, e.tokens, e.list_nusd, e.billed_nusd, e.first_at, e.last_at);

-- name: generation_once nightly
-- The generation of a settled call is registered, and a registered one is that of its call.
select format('call %s: its generation is not registered', c.call_id)
from app.calls c
left join app.generations g on g.generation_id = c.generation_id
where c.state = 'settled' and c.generation_id is not null and g.generation_id is null
union all
select format('call %s: a generation is registered for it that is not its own', g.call_id)
from app.generations g
left join app.calls c on c.tenant_id = g.tenant_id and c.call_id = g.call_id
where c.generation_id is distinct from g.generation_id;

-- name: lookup_call
select format('call %s: looked up while %s', l.call_id, coalesce(c.state, 'missing'))
from app.lookups l
left join app.calls c on c.tenant_id = l.tenant_id and c.call_id = l.call_id
where c.state is distinct from 'settled';

-- name: lookup_patience
-- Nobody's money is kept beyond a day for a cost that no provider tells.
select format('call %s: not final since %s', call_id, opened_at)
from app.lookups
where opened_at < clock_timestamp() - interval '26 h';

-- name: partition_missing nightly
select format('%s usage events lie in the default partition', count(*))
from app.usage_events where tableoid = to_regclass('app.usage_events_default')
having count(*) > 0
union all
select format('the partition of %s is not there', to_char(m.month, 'YYYY-MM'))
from (select date_trunc('month', now() at time zone 'UTC') + make_interval(months => n) as month
  from generate_series(0, 1) n) m
where not exists (select from pg_inherits i where i.inhparent = 'app.usage_events'::regclass
  and i.inhrelid = to_regclass('app.usage_events_' || to_char(m.month, 'YYYY_MM')));
