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

-- Adds pending events to the sums of their tenants' days and conversations, each event once: it leaves
-- the queue in the transaction that adds it. Returns how many those were, at most `p_events_max`. One
-- transaction at a time sums a tenant: where another does, this one waits, or leaves the tenant to it.
create function sum_usage(p_tenant uuid, p_events_max int, p_waits boolean) returns int
language plpgsql security definer set search_path = app, verbs, pg_temp
-- Planned for the moments it is about: else it locks every month, and waits for one that is being rebuilt.
set plan_cache_mode = force_custom_plan as $$
declare of_tenant uuid := acting_tenant(p_tenant); one uuid; ours uuid[] := '{}'; summed int;
  earliest timestamptz; latest timestamptz;
begin
  if of_tenant is null and caller() = 'app_rw' then return 0; end if;
  for one in select distinct tenant_id from usage_pending
      where of_tenant is null or tenant_id = of_tenant order by 1 limit 500 loop
    if p_waits then
      perform pg_advisory_xact_lock(hashtextextended(one::text, 7031));
    elsif not pg_try_advisory_xact_lock(hashtextextended(one::text, 7031)) then
      continue;
    end if;
    ours := ours || one;
  end loop;
  if cardinality(ours) = 0 then return 0; end if;
  select min(occurred_at), max(occurred_at) into earliest, latest
    from usage_pending where tenant_id = any(ours);
  with taken as (
      delete from usage_pending where (tenant_id, event_id) in (
        select tenant_id, event_id from usage_pending where tenant_id = any(ours)
          and occurred_at between earliest and latest
        order by tenant_id, event_id limit p_events_max)
      returning *),
    events as materialized (
      select e.*, day_of(e.tenant_id, e.occurred_at) as day,
        (e.kind = 'call')::int as request,
        (e.kind = 'call' and e.outcome in ('error', 'timeout'))::int as error
      from taken t
      cross join lateral (select * from usage_events u where u.tenant_id = t.tenant_id
        and u.occurred_at = t.occurred_at and u.event_id = t.event_id
        and u.occurred_at between earliest and latest offset 0) e),
    days as materialized (
      select tenant_id, day, user_id, model_served as model, source, sum(request) as requests,
        sum(error) as errors, sum(prompt_tokens) as prompt_tokens, sum(cached_tokens) as cached_tokens,
        sum(cache_write_tokens) as cache_write_tokens, sum(completion_tokens) as completion_tokens,
        sum(reasoning_tokens) as reasoning_tokens, sum(list_nusd) as list_nusd,
        sum(billed_nusd) as billed_nusd
      from events group by 1, 2, 3, 4, 5),
    by_person as (
      insert into usage_daily as d select * from days
      on conflict (tenant_id, day, user_id, model, source) do update set
        requests = d.requests + excluded.requests, errors = d.errors + excluded.errors,
        prompt_tokens = d.prompt_tokens + excluded.prompt_tokens,
        cached_tokens = d.cached_tokens + excluded.cached_tokens,
        cache_write_tokens = d.cache_write_tokens + excluded.cache_write_tokens,
        completion_tokens = d.completion_tokens + excluded.completion_tokens,
        reasoning_tokens = d.reasoning_tokens + excluded.reasoning_tokens,
        list_nusd = d.list_nusd + excluded.list_nusd, billed_nusd = d.billed_nusd + excluded.billed_nusd),
    by_model as (
      insert into usage_daily_models as d
        select tenant_id, day, model, source, sum(requests), sum(errors), sum(prompt_tokens),
          sum(cached_tokens), sum(cache_write_tokens), sum(completion_tokens), sum(reasoning_tokens),
          sum(list_nusd), sum(billed_nusd)
        from days group by 1, 2, 3, 4
      on conflict (tenant_id, day, model, source) do update set
        requests = d.requests + excluded.requests, errors = d.errors + excluded.errors,
        prompt_tokens = d.prompt_tokens + excluded.prompt_tokens,
        cached_tokens = d.cached_tokens + excluded.cached_tokens,
        cache_write_tokens = d.cache_write_tokens + excluded.cache_write_tokens,
        completion_tokens = d.completion_tokens + excluded.completion_tokens,
        reasoning_tokens = d.reasoning_tokens + excluded.reasoning_tokens,
        list_nusd = d.list_nusd + excluded.list_nusd, billed_nusd = d.billed_nusd + excluded.billed_nusd),
    by_conversation as (
      insert into usage_conversations as c
        select tenant_id, conversation_id, (array_agg(user_id))[1],
          (array_agg(model_served order by occurred_at desc, event_id desc))[1], sum(request),
          sum(prompt_tokens + completion_tokens), sum(list_nusd), sum(billed_nusd), min(occurred_at),
          max(occurred_at)
        from events where conversation_id is not null group by 1, 2
      on conflict (tenant_id, conversation_id) do update set
        model = case when excluded.last_at >= c.last_at then excluded.model else c.model end,
        requests = c.requests + excluded.requests, tokens = c.tokens + excluded.tokens,
        list_nusd = c.list_nusd + excluded.list_nusd, billed_nusd = c.billed_nusd + excluded.billed_nusd,
        first_at = least(c.first_at, excluded.first_at), last_at = greatest(c.last_at, excluded.last_at))
    select count(*) into summed from taken;
  return summed;
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

grant execute on function beat, ask_stop, sum_usage to app_rw, app_jobs;
grant execute on function take_lease to app_jobs;
