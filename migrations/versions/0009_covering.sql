-- The heap holds a little of every tenant on each page. The key with all that is asked of an event holds
-- a tenant's month side by side: a tenth of the time, and it is the index that was there anyway.
alter table app.usage_events drop constraint usage_events_pkey;
alter table app.usage_events add constraint usage_events_pkey
  primary key (tenant_id, occurred_at, event_id)
  include (kind, user_id, api_key_id, cost_center, project, source, purpose, conversation_id, provider,
    model_served, prompt_tokens, cached_tokens, cache_write_tokens, completion_tokens, reasoning_tokens,
    list_nusd, billed_nusd, outcome, latency_ms, first_token_ms);

-- The newest events of all tenants, in order.
drop index app.usage_events_recent_idx;
create index usage_events_recent_idx on app.usage_events (occurred_at, event_id);

-- An index answers alone where vacuum has seen that a page's rows are there for everybody: it looks as
-- soon as a hundredth of a month is new, rather than a fifth.
create or replace function app.ensure_usage_partition(month date) returns boolean
language plpgsql security definer set search_path = app, pg_temp as $$
declare
  first date := date_trunc('month', month);
  partition text := 'usage_events_' || to_char(month, 'YYYY_MM');
begin
  perform pg_advisory_xact_lock(7002);
  if to_regclass('app.' || partition) is not null then
    return false;
  end if;
  execute format('create table app.%I partition of app.usage_events for values from (%L) to (%L)'
    ' with (autovacuum_vacuum_insert_scale_factor = 0.01)',
    partition, first::timestamp at time zone 'UTC', (first + interval '1 month') at time zone 'UTC');
  perform app.guard_partition(to_regclass('app.' || partition));
  return true;
end $$;

do $$
declare p regclass;
begin
  for p in select inhrelid from pg_inherits where inhparent = 'app.usage_events'::regclass loop
    execute format('alter table %s set (autovacuum_vacuum_insert_scale_factor = 0.01)', p);
  end loop;
end $$;
