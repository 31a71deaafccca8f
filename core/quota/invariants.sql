-- What must always hold of the counters: they say what the rows say. One row per offence.

-- name: counter nightly
-- Messages: calls admitted, less those that ended without any output. Tokens and money: settled and
-- corrected amounts of the calls of the period, and what is held for those that run or may cost more.
with subjects as (
  select c.call_id, c.tenant_id, c.period, s.scope, s.subject_id, c.state, c.gave_output,
    case c.state when 'open' then c.tokens_held else l.kept_tokens end as tokens_held,
    case c.state when 'open' then c.hold_nusd else l.kept_nusd end as held_nusd, u.tokens, u.spent
  from app.calls c
  cross join lateral (values ('user', c.user_id), ('key', c.api_key_id), ('tenant', c.tenant_id))
    as s(scope, subject_id)
  left join (select tenant_id, call_id, sum(prompt_tokens + completion_tokens) as tokens,
      sum(billed_nusd) as spent from app.usage_events group by tenant_id, call_id) u
    on u.tenant_id = c.tenant_id and u.call_id = c.call_id
  left join app.lookups l on l.tenant_id = c.tenant_id and l.call_id = c.call_id
  where s.subject_id is not null),
used as (
  select tenant_id, subject_id, period, scope,
    count(*) filter (where state = 'open' or gave_output) as messages,
    coalesce(sum(tokens), 0) as tokens, coalesce(sum(spent), 0) as spent_nusd,
    coalesce(sum(tokens_held), 0) as tokens_held, coalesce(sum(held_nusd), 0) as held_nusd
  from subjects group by 1, 2, 3, 4)
select format('%s %s of %s: %s messages, %s + %s tokens, %s + %s nano-USD; rows say %s, %s + %s, %s + %s',
  coalesce(c.scope, u.scope), coalesce(c.subject_id, u.subject_id), coalesce(c.period, u.period),
  coalesce(c.messages, 0), coalesce(c.tokens, 0), coalesce(c.tokens_held, 0),
  coalesce(c.spent_nusd, 0), coalesce(c.held_nusd, 0), coalesce(u.messages, 0),
  coalesce(u.tokens, 0), coalesce(u.tokens_held, 0), coalesce(u.spent_nusd, 0),
  coalesce(u.held_nusd, 0)) as detail
from app.counters c
full join used u on u.tenant_id = c.tenant_id and u.subject_id = c.subject_id
  and u.period = c.period and u.scope = c.scope
where (coalesce(c.messages, 0), coalesce(c.tokens, 0), coalesce(c.tokens_held, 0),
    coalesce(c.spent_nusd, 0), coalesce(c.held_nusd, 0))
  <> (coalesce(u.messages, 0), coalesce(u.tokens, 0), coalesce(u.tokens_held, 0),
    coalesce(u.spent_nusd, 0), coalesce(u.held_nusd, 0));

-- name: call_period
-- A call counts in the month of its tenant's zone in which it was opened; its limits were read just
-- before, so at midnight between two months either is right.
select format('call %s: counted in %s, opened %s', c.call_id, c.period, c.opened_at)
from app.calls c
where c.opened_at >= '-infinity'::timestamptz and c.period not in (verbs.month_of(c.tenant_id, c.opened_at),
  verbs.month_of(c.tenant_id, c.opened_at - interval '60 s'));
