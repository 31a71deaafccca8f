-- What the provider's bill says of one generation, booked into our books: as an adjustment of the call it
-- belongs to, or of a call made for it. Nothing is booked twice: the line on the bill is locked.

-- What the provider took for a call, exactly: the newest amount it told of it, else what we worked out.
create function provider_usd(p_tenant uuid, p_call uuid, p_opened_at timestamptz) returns numeric
language sql stable set search_path = app, verbs, pg_temp as $$
  select coalesce((array_agg(provider_cost_usd order by event_id desc)
      filter (where provider_cost_usd is not null))[1], sum(list_nusd) * 0.000000001, 0)
    from usage_events
    where tenant_id = p_tenant and call_id = p_call and occurred_at >= p_opened_at;
$$;

-- A nano-USD is what rounding a call may differ by.
create function same_usd(a numeric, b numeric) returns boolean language sql immutable
  return abs(a - b) <= 0.000000001;

-- Adjusts a settled call to the bill's amount. Without `p_bills` its tenant pays what it paid before.
create function book_bill_line(c calls, l bill_lines, p_bills boolean, p_actor text) returns void
language plpgsql set search_path = app, verbs, pg_temp as $$
declare s settlement; e usage_events; had record; booked record;
begin
  select * into strict had from usage_events
    where tenant_id = c.tenant_id and call_id = c.call_id and kind = 'call' and occurred_at = c.opened_at;
  select sum(list_nusd)::bigint as list_nusd, sum(billed_nusd)::bigint as billed_nusd,
      sum(prompt_tokens + completion_tokens)::bigint as tokens into strict booked
    from usage_events
    where tenant_id = c.tenant_id and call_id = c.call_id and occurred_at >= c.opened_at;
  s.outcome := had.outcome;
  s.latency_ms := had.latency_ms;
  s.first_token_ms := had.first_token_ms;
  s.model_served := had.model_served;  -- counted where the call was
  s.generation_id := l.generation_id;
  s.prompt_tokens := case when booked.tokens = 0 then l.prompt_tokens else 0 end;
  s.completion_tokens := case when booked.tokens = 0 then l.completion_tokens else 0 end;
  s.cached_tokens := 0;
  s.cache_write_tokens := 0;
  s.reasoning_tokens := 0;
  s.provider_cost_usd := l.cost_usd;
  s.cost_source := 'provider';
  s.list_nusd := ceil(l.cost_usd * 1000000000)::bigint - booked.list_nusd;
  s.billed_nusd := case when p_bills
    then ceil(l.cost_usd * (1 + c.markup) * 1000000000)::bigint - booked.billed_nusd else 0 end;
  e := event_of(c, s, 'adjustment');
  perform lock_counter(c.tenant_id, c.user_id, 'user', c.period);  -- made where a month has none yet
  if c.api_key_id is not null then
    perform lock_counter(c.tenant_id, c.api_key_id, 'key', c.period);
  end if;
  perform lock_counter(c.tenant_id, c.tenant_id, 'tenant', c.period);
  perform end_lookup(c, s.prompt_tokens + s.completion_tokens, s.billed_nusd);
  perform adjust(c.tenant_id, c.call_id, s.billed_nusd, 'bill:' || e.event_id, p_actor,
    'the provider''s bill');
end $$;

-- Gives a settled call that never learned its generation the one on the bill; null when it is no such
-- call (any more), or something was booked for it.
create function adopt_generation(p_tenant uuid, p_call uuid, l bill_lines) returns calls
language plpgsql set search_path = app, verbs, pg_temp as $$
declare c calls;
begin
  select * into c from calls where tenant_id = p_tenant and call_id = p_call for update;
  if not found or c.state <> 'settled' or c.generation_id is not null or c.provider <> l.provider
      or exists (select from usage_events where tenant_id = p_tenant and call_id = p_call
        and occurred_at >= c.opened_at and (list_nusd <> 0 or billed_nusd <> 0)) then
    return null;
  end if;
  update calls set generation_id = l.generation_id where tenant_id = p_tenant and call_id = p_call
    returning * into c;
  return c;
end $$;

-- Makes the record of a call that is known from the bill alone: settled, at no cost yet. It is dated by
-- the bill while that month is open (and kept), else by now. Its person is the tenant's first admin.
create function call_of_bill_line(p_tenant uuid, p_call uuid, p_model text, l bill_lines) returns calls
language plpgsql set search_path = app, verbs, pg_temp as $$
declare c calls; t tenants; m memberships; s settlement; e usage_events; dated timestamptz := l.occurred_at;
begin
  select * into strict t from tenants where tenant_id = p_tenant;
  select * into strict m from memberships where tenant_id = p_tenant
    order by status <> 'active', role <> 'admin', created_at, user_id limit 1;
  if month_is_closed(p_tenant, dated) or to_regclass('app.usage_events_'
      || to_char(dated at time zone 'UTC', 'YYYY_MM')) is null then
    dated := clock_timestamp();
  end if;
  insert into calls(call_id, tenant_id, user_id, tenant_label_id, user_label_id, cost_center, project,
      source, purpose, provider, model_requested, price_id, markup, prompt_tokens_guess,
      answer_tokens_max, tokens_held, hold_nusd, period, state, outcome, lease_token, lease_until,
      deadline_at, generation_id, gave_output, opened_at, settled_at)
    values (p_call, p_tenant, m.user_id, t.label_id, m.label_id, t.cost_center, t.project,
      'background', 'imported', l.provider, p_model,
      coalesce((select price_id from models where model_id = p_model), 0), t.markup, 0,
      0, 0, 0, month_of(p_tenant, dated), 'settled', 'error', gen_random_uuid(), dated,
      dated, l.generation_id, false, dated, clock_timestamp())
    returning * into c;
  insert into holds(tenant_id, call_id, amount_nusd, state, settled_at)
    values (p_tenant, p_call, 0, 'released', clock_timestamp());
  s.outcome := 'error';
  s.prompt_tokens := 0;
  s.cached_tokens := 0;
  s.cache_write_tokens := 0;
  s.completion_tokens := 0;
  s.reasoning_tokens := 0;
  s.list_nusd := 0;
  s.billed_nusd := 0;
  s.provider_cost_usd := 0;
  s.cost_source := 'provider';
  s.latency_ms := 0;
  s.generation_id := l.generation_id;
  e := event_of(c, s, 'call');
  return c;
end $$;

-- Books one line of the bill: 'imported'; 'known' when our books say the same (by now); 'open' while its
-- call runs; 'taken' when the call it was for is no candidate any more; 'missing'.
-- A line whose generation we know corrects its call, for its tenant too unless we bore it so far.
-- Otherwise `p_adopts` says that `p_call` is the call it belongs to; without, a call of that id is made
-- for `p_tenant`.
create function import_generation(p_generation text, p_tenant uuid, p_call uuid, p_adopts boolean,
  p_model text, p_bills boolean, p_actor text) returns text
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare l bill_lines; c calls; is_known boolean;
begin
  select * into l from bill_lines where generation_id = p_generation for update;
  if not found then return 'missing'; end if;
  if l.state in ('matched', 'imported') then return 'known'; end if;
  perform from calls where state = 'open' and generation_id = p_generation;
  if found then return 'open'; end if;
  select x.* into c from generations g
    join calls x on x.tenant_id = g.tenant_id and x.call_id = g.call_id
    where g.generation_id = p_generation for update of x;
  is_known := found;
  if is_known and same_usd(l.cost_usd, provider_usd(c.tenant_id, c.call_id, c.opened_at)) then
    update bill_lines set state = 'matched', ours_usd = cost_usd, of_tenant = c.tenant_id,
        call_id = c.call_id where generation_id = p_generation;
    return 'known';
  end if;
  if not is_known then
    if p_adopts then
      c := adopt_generation(p_tenant, p_call, l);
    else
      c := call_of_bill_line(p_tenant, p_call, p_model, l);
    end if;
    if c.call_id is null then return 'taken'; end if;
    insert into generations(generation_id, tenant_id, call_id)
      values (p_generation, c.tenant_id, c.call_id);
  end if;
  if is_known then
    p_bills := l.imported_at is null or exists (select from usage_events where tenant_id = c.tenant_id
      and call_id = c.call_id and occurred_at >= c.opened_at and billed_nusd <> 0);
  end if;
  perform book_bill_line(c, l, p_bills, p_actor);
  update bill_lines set state = 'imported', ours_usd = cost_usd, of_tenant = c.tenant_id,
      call_id = c.call_id, imported_at = clock_timestamp()
    where generation_id = p_generation;
  return 'imported';
end $$;

grant execute on function provider_usd, same_usd, import_generation to app_jobs;
