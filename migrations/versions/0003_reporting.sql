-- The reporting views: stable for finance tools. They run as app_owner, hold no content, and are
-- granted to purser_reporting only. Amounts are exact USD.

create function reporting.usd(nusd bigint) returns numeric language sql immutable parallel safe
  return nusd::numeric / 1000000000;

create view reporting.usage_events as
select e.event_id, e.kind, e.adjusts_call_id, e.call_id, e.occurred_at, e.recorded_at, e.tenant_id,
  t.name as tenant_name, e.user_id, u.name as user_email, e.api_key_id, e.cost_center, e.source,
  e.purpose, e.conversation_id, e.provider, e.model_requested, e.model_served, e.prompt_tokens,
  e.cached_tokens, e.cache_write_tokens, e.completion_tokens, e.reasoning_tokens,
  reporting.usd(e.list_nusd) as list_cost_usd, reporting.usd(e.billed_nusd) as billed_cost_usd,
  e.provider_cost_usd, e.cost_source,
  not exists (select from app.lookups l where l.tenant_id = e.tenant_id and l.call_id = e.call_id) as final,
  e.outcome, e.latency_ms, e.first_token_ms, e.cached, e.generation_id
from app.usage_events e
join app.labels t on t.tenant_id = e.tenant_id and t.label_id = e.tenant_label_id
join app.labels u on u.tenant_id = e.tenant_id and u.label_id = e.user_label_id;

create view reporting.usage_daily as
select d.tenant_id, d.user_id, d.model, d.source, d.day, d.requests, d.prompt_tokens, d.cached_tokens,
  d.cache_write_tokens, d.completion_tokens, d.reasoning_tokens,
  reporting.usd(d.list_nusd) as list_cost_usd, reporting.usd(d.billed_nusd) as billed_cost_usd, d.errors
from app.usage_daily d;

create view reporting.wallets as
select a.tenant_id, reporting.usd(a.posted_nusd) as posted_usd, reporting.usd(a.held_nusd) as held_usd,
  case when a.floor_nusd is not null
    then reporting.usd(greatest(0, a.posted_nusd - a.held_nusd - a.floor_nusd)) end as available_usd,
  reporting.usd(a.debt_nusd) as debt_usd, reporting.usd(a.receivable_nusd) as receivable_usd
from app.accounts a;

create view reporting.ledger_entries as
select e.entry_id, e.tenant_id, e.seq, e.kind, e.contra, reporting.usd(e.amount_nusd) as amount_usd,
  reporting.usd(e.posted_after_nusd) as balance_after_usd, e.call_id, e.lot_id, e.source_type,
  e.source_id, e.actor, e.reason, e.occurred_at
from app.entries e;

create view reporting.lots as
select l.tenant_id, l.lot_id, reporting.usd(l.granted_nusd) as granted,
  reporting.usd(l.remaining_nusd) as remaining, reporting.usd(l.consumed_nusd) as consumed,
  reporting.usd(l.expired_nusd) as expired, reporting.usd(l.revoked_nusd) as revoked, l.kind,
  l.effective_at, l.expires_at, l.source_type || ':' || l.source_id as source
from app.lots l;

create view reporting.holds as
select h.tenant_id, reporting.usd(h.amount_nusd) as amount_usd,
  reporting.usd(h.captured_nusd) as captured_usd, h.state, h.call_id, h.opened_at, h.settled_at,
  c.lease_until
from app.holds h join app.calls c on c.tenant_id = h.tenant_id and c.call_id = h.call_id;

create view reporting.turns as
select t.tenant_id, t.turn_id, t.call_id, t.conversation_id, t.status, t.started_at, t.ended_at
from app.turns t;

create view reporting.calls as
select c.tenant_id, c.call_id, c.source, c.purpose, c.model_requested, c.state, c.outcome, c.opened_at,
  c.settled_at, c.lease_until
from app.calls c;

create view reporting.audit_log as
select a.audit_id, a.actor, a.of_tenant as tenant, a.action, a.object, a.outcome, a.before, a.after,
  a.occurred_at
from app.audit_log a;

grant select on all tables in schema reporting to purser_reporting;
