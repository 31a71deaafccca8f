-- The life of a call between admission and settlement: its lease, its stop flag, its generation id.

-- Extends the lease and reports whether the caller still holds it and whether a stop was asked for.
-- The id of the generation is worth a flush to disk; a heartbeat is not.
create function beat(p_tenant uuid, p_call uuid, p_lease_token uuid, p_lease_s int,
  p_delivered_tokens int, p_generation text, out alive boolean, out stop boolean)
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
begin
  perform set_config('app.tenant_id', p_tenant::text, true);
  if p_generation is null then
    perform set_config('synchronous_commit', 'off', true);
  end if;
  update calls set
      lease_until = greatest(lease_until, clock_timestamp() + make_interval(secs => p_lease_s)),
      delivered_tokens = greatest(delivered_tokens, p_delivered_tokens),
      generation_id = coalesce(generation_id, p_generation)
    where tenant_id = p_tenant and call_id = p_call and lease_token = p_lease_token and state = 'open'
    returning true, stop_requested_at is not null into alive, stop;
  alive := coalesce(alive, false);
  stop := coalesce(stop, false);
end $$;

-- Asks whoever runs this person's call to stop it. True when the call is still open.
create function ask_stop(p_tenant uuid, p_user uuid, p_call uuid) returns boolean
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
begin
  perform set_config('app.tenant_id', p_tenant::text, true);
  update calls set stop_requested_at = coalesce(stop_requested_at, clock_timestamp())
    where tenant_id = p_tenant and call_id = p_call and user_id = p_user and state = 'open';
  return found;
end $$;

-- Takes over a call whose lease ended, so that its old owner can no longer write. Null when it lives.
create function take_lease(p_tenant uuid, p_call uuid, p_lease_token uuid, p_lease_s int)
returns setof calls
language sql security definer set search_path = app, verbs, pg_temp as $$
  update calls set lease_token = p_lease_token,
      lease_until = clock_timestamp() + make_interval(secs => p_lease_s)
    where tenant_id = p_tenant and call_id = p_call and state = 'open'
      and lease_until < clock_timestamp()
    returning *;
$$;

-- Adds one event (or a correction) to the sums of the tenant's own day and to its conversation's. One
-- statement after the other, so that two settlements take the rows in the same order.
create function add_to_day(e usage_events, p_requests int, p_errors int) returns void
language plpgsql set search_path = app, verbs, pg_temp as $$
declare on_day date := day_of(e.tenant_id, e.occurred_at);
begin
  insert into usage_daily as d
    values (e.tenant_id, on_day, e.user_id, e.model_served, e.source, p_requests, p_errors,
      e.prompt_tokens, e.cached_tokens, e.cache_write_tokens, e.completion_tokens, e.reasoning_tokens,
      e.list_nusd, e.billed_nusd)
  on conflict (tenant_id, day, user_id, model, source) do update set
    requests = d.requests + excluded.requests, errors = d.errors + excluded.errors,
    prompt_tokens = d.prompt_tokens + excluded.prompt_tokens,
    cached_tokens = d.cached_tokens + excluded.cached_tokens,
    cache_write_tokens = d.cache_write_tokens + excluded.cache_write_tokens,
    completion_tokens = d.completion_tokens + excluded.completion_tokens,
    reasoning_tokens = d.reasoning_tokens + excluded.reasoning_tokens,
    list_nusd = d.list_nusd + excluded.list_nusd, billed_nusd = d.billed_nusd + excluded.billed_nusd;
  insert into usage_daily_models as d
    values (e.tenant_id, on_day, e.model_served, e.source, p_requests, p_errors,
      e.prompt_tokens, e.cached_tokens, e.cache_write_tokens, e.completion_tokens, e.reasoning_tokens,
      e.list_nusd, e.billed_nusd)
  on conflict (tenant_id, day, model, source) do update set
    requests = d.requests + excluded.requests, errors = d.errors + excluded.errors,
    prompt_tokens = d.prompt_tokens + excluded.prompt_tokens,
    cached_tokens = d.cached_tokens + excluded.cached_tokens,
    cache_write_tokens = d.cache_write_tokens + excluded.cache_write_tokens,
    completion_tokens = d.completion_tokens + excluded.completion_tokens,
    reasoning_tokens = d.reasoning_tokens + excluded.reasoning_tokens,
    list_nusd = d.list_nusd + excluded.list_nusd, billed_nusd = d.billed_nusd + excluded.billed_nusd;
  if e.conversation_id is not null then
    insert into usage_conversations as c
      values (e.tenant_id, e.conversation_id, e.user_id, e.model_served, p_requests,
        e.prompt_tokens + e.completion_tokens, e.list_nusd, e.billed_nusd, e.occurred_at, e.occurred_at)
    on conflict (tenant_id, conversation_id) do update set
      model = case when excluded.last_at >= c.last_at then excluded.model else c.model end,
      requests = c.requests + excluded.requests, tokens = c.tokens + excluded.tokens,
      list_nusd = c.list_nusd + excluded.list_nusd, billed_nusd = c.billed_nusd + excluded.billed_nusd,
      first_at = least(c.first_at, excluded.first_at), last_at = greatest(c.last_at, excluded.last_at);
  end if;
end $$;

-- One closing of a month at a time, and no correction of the month meanwhile. Taken before any row.
create function lock_month(p_tenant uuid, p_month date) returns void
language sql set search_path = app, verbs, pg_temp as $$
  select pg_advisory_xact_lock(hashtextextended(p_tenant::text || p_month::text, 7030));
$$;

-- Whether the month of a moment was closed. While the answer is being used nobody can close it.
create function month_is_closed(p_tenant uuid, p_at timestamptz) returns boolean
language plpgsql set search_path = app, verbs, pg_temp as $$
declare month_asked date := month_of(p_tenant, p_at);
begin
  perform pg_advisory_xact_lock_shared(hashtextextended(p_tenant::text || month_asked::text, 7030));
  return exists (select from closings c where c.tenant_id = p_tenant and c.month = month_asked
    and c.reopened_at is null);
end $$;

grant execute on function beat, ask_stop to app_rw, app_jobs;
grant execute on function take_lease to app_jobs;
