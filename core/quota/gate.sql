-- The gate: `resolve` reads who asks, for what, under which limits; `admit` reserves all counters and
-- the wallet at once; `settle` does the reverse; `correct` books the truth when it comes later.
-- Locks: call, then the counters of person, key, tenant, then account, holds, lots.

create type standing as (
  tenant_id uuid, user_id uuid, key_id uuid, tenant_label_id uuid, user_label_id uuid, cost_center text,
  project text, tenant_status text, user_status text, key_status text, scopes text[], role text, email text, name text,
  tenant_name text, plan text, mode text, time_zone text, markup numeric, period date,
  period_ends timestamptz,
  model_id text, provider text, model_active boolean, model_blocked boolean, context_tokens int, output_tokens_max int,
  answer_tokens_default int, input_modalities text[], output_modalities text[],
  supported_parameters text[], is_free boolean,
  price_id bigint, terms jsonb, sends_cost boolean, keeps_generations boolean,
  connect_ms int, first_token_ms int, idle_ms int, total_ms int,
  limits bigint[], available_nusd bigint, debt_nusd bigint, spend_left_nusd bigint, tokens_left bigint);

-- The fifteen limits in the order of `limit_names` for person, key, tenant; null means unlimited.
create function limit_names() returns text[] language sql immutable return array[
  'requests_per_minute', 'requests_per_hour', 'monthly_messages', 'monthly_tokens', 'monthly_nusd'];

create function limits_of(p_tenant uuid, p_user uuid, p_key uuid, p_plan text) returns bigint[]
language plpgsql stable set search_path = app, verbs, pg_temp as $$
declare
  names text[] := limit_names();
  scopes text[] := array['user', 'key', 'tenant'];
  limits bigint[] := array_fill(null::bigint, array[15]);
  l record;
begin
  for l in select scope, limit_name, maximum from plan_limits where plan = p_plan loop
    limits[array_position(scopes, l.scope) * 5 - 5 + array_position(names, l.limit_name)] := l.maximum;
  end loop;
  for l in select scope, limit_name, maximum from limit_overrides
      where tenant_id = p_tenant and subject_id in (p_user, p_key, p_tenant) loop
    limits[array_position(scopes, l.scope) * 5 - 5 + array_position(names, l.limit_name)] := l.maximum;
  end loop;
  return limits;
end $$;

create function resolve(p_key_hash bytea, p_tenant uuid, p_user uuid, p_model text) returns standing
language plpgsql stable security definer set search_path = app, verbs, pg_temp as $$
declare s standing; k api_keys; a accounts; c counters; place int;
begin
  if p_key_hash is not null then
    select * into k from api_keys
      where (tenant_id, key_id) = (select of_tenant, key_id from api_key_hashes where key_hash = p_key_hash);
    if not found then return null; end if;
    p_tenant := k.tenant_id;
    p_user := k.user_id;
    s.key_id := k.key_id;
    s.scopes := k.scopes;
    s.key_status := case when k.revoked_at is not null then 'revoked'
      when k.expires_at <= now() then 'expired' else 'active' end;
  end if;
  select t.tenant_id, u.user_id, t.label_id, m.label_id,
      coalesce(k.cost_center, m.cost_center, t.cost_center), coalesce(k.project, m.project, t.project), t.status,
      case when u.status = 'active' and m.status = 'active' then 'active' else 'disabled' end,
      m.role, u.email, u.name, t.name, t.plan, t.mode, zone_of(t.tenant_id, now()), t.markup,
      month_of(t.tenant_id, now()), month_ends(t.tenant_id, now())
    into s.tenant_id, s.user_id, s.tenant_label_id, s.user_label_id, s.cost_center, s.project, s.tenant_status,
      s.user_status, s.role, s.email, s.name, s.tenant_name, s.plan, s.mode, s.time_zone, s.markup,
      s.period, s.period_ends
    from memberships m join tenants t on t.tenant_id = m.tenant_id join users u on u.user_id = m.user_id
    where m.tenant_id = p_tenant and m.user_id = p_user;
  if not found then return null; end if;
  select m.model_id, m.provider, m.active and coalesce(m.expires_on > current_date, true),
      exists (select from model_blocks b where b.tenant_id = s.tenant_id and b.model_id = m.model_id),
      m.context_tokens, m.output_tokens_max, m.answer_tokens_default, m.input_modalities,
      m.output_modalities, m.supported_parameters, m.is_free, m.price_id, p.terms, v.sends_cost, v.keeps_generations,
      v.connect_ms, v.first_token_ms, v.idle_ms, v.total_ms
    into s.model_id, s.provider, s.model_active, s.model_blocked, s.context_tokens, s.output_tokens_max,
      s.answer_tokens_default, s.input_modalities, s.output_modalities, s.supported_parameters, s.is_free, s.price_id,
      s.terms, s.sends_cost, s.keeps_generations, s.connect_ms, s.first_token_ms, s.idle_ms, s.total_ms
    from models m join providers v on v.provider = m.provider left join prices p on p.price_id = m.price_id
    where m.model_id = p_model;
  s.limits := limits_of(s.tenant_id, s.user_id, s.key_id, s.plan);
  for c in select * from counters where tenant_id = s.tenant_id and period = s.period
      and subject_id in (s.user_id, s.key_id, s.tenant_id) loop
    place := array_position(array['user', 'key', 'tenant'], c.scope);
    s.tokens_left := least(s.tokens_left, s.limits[place * 5 - 1] - c.tokens - c.tokens_held);
    s.spend_left_nusd := least(s.spend_left_nusd, s.limits[place * 5] - c.spent_nusd - c.held_nusd);
  end loop;
  for place in 1..3 loop  -- a subject without a row yet has its whole limit left
    s.tokens_left := least(s.tokens_left, s.limits[place * 5 - 1]);
    s.spend_left_nusd := least(s.spend_left_nusd, s.limits[place * 5]);
  end loop;
  select * into a from accounts where tenant_id = s.tenant_id;
  s.debt_nusd := coalesce(a.debt_nusd, 0);
  s.available_nusd := greatest(0, a.posted_nusd - a.held_nusd - a.floor_nusd);
  return s;
end $$;

create type admission as (
  call_id uuid, tenant_id uuid, user_id uuid, key_id uuid, tenant_label_id uuid, user_label_id uuid,
  cost_center text, project text, source text, purpose text, conversation_id uuid, provider text, model_id text,
  price_id bigint, markup numeric, prompt_tokens_guess int, answer_tokens_max int, tokens_held bigint,
  hold_nusd bigint, period date, idempotency_key text, lease_token uuid, lease_s int, total_ms int,
  limits bigint[]);

-- `code` is 'ok' or what refused: 'repeated', 'requests_per_minute', ..., 'frozen', 'debt',
-- 'credit'.
create type verdict as (
  code text, scope text, used bigint, maximum bigint, retry_ms int, first_call_id uuid, first_turn_id uuid);

-- Slides the rate windows of a locked row to now.
create function slide(c counters) returns counters language plpgsql as $$
declare
  minute_now int := floor(extract(epoch from clock_timestamp()) / 60);
  hour_now int := floor(extract(epoch from clock_timestamp()) / 3600);
begin
  if c.minute <> minute_now then
    c.minute_before := case when c.minute = minute_now - 1 then c.minute_count else 0 end;
    c.minute_count := 0;
    c.minute := minute_now;
  end if;
  if c.hour <> hour_now then
    c.hour_before := case when c.hour = hour_now - 1 then c.hour_count else 0 end;
    c.hour_count := 0;
    c.hour := hour_now;
  end if;
  return c;
end $$;

-- The subject's row of the month, locked; made on first use with the windows of the month before.
create function lock_counter(p_tenant uuid, p_subject uuid, p_scope text, p_period date) returns counters
language plpgsql set search_path = app, verbs, pg_temp as $$
declare c counters;
begin
  select * into c from counters
    where tenant_id = p_tenant and subject_id = p_subject and period = p_period for update;
  if not found then
    insert into counters(tenant_id, subject_id, period, scope, minute, minute_count, minute_before,
        hour, hour_count, hour_before)
      select p_tenant, p_subject, p_period, p_scope, coalesce(b.minute, 0), coalesce(b.minute_count, 0),
          coalesce(b.minute_before, 0), coalesce(b.hour, 0), coalesce(b.hour_count, 0),
          coalesce(b.hour_before, 0)
        from (select 1) as one left join lateral (select * from counters
          where tenant_id = p_tenant and subject_id = p_subject and period < p_period
          order by period desc limit 1) as b on true
      on conflict do nothing;
    select * into c from counters
      where tenant_id = p_tenant and subject_id = p_subject and period = p_period for update;
  end if;
  return slide(c);
end $$;

-- Which limit, if any, one more call of a subject would break. The windows are slid to now already.
create function check_counter(c counters, p_limits bigint[], p_tokens bigint, p_nusd bigint)
returns verdict language plpgsql as $$
declare
  v verdict;
  now_s float8 := extract(epoch from clock_timestamp());
  minute_rest float8 := 1 - (now_s / 60 - floor(now_s / 60));
  hour_rest float8 := 1 - (now_s / 3600 - floor(now_s / 3600));
  minute_used float8 := c.minute_count + c.minute_before * minute_rest;
  hour_used float8 := c.hour_count + c.hour_before * hour_rest;
begin
  v.scope := c.scope;
  if minute_used + 1 > p_limits[1] then
    v.code := 'requests_per_minute'; v.used := ceil(minute_used); v.maximum := p_limits[1];
    v.retry_ms := ceil(60000 * case when c.minute_count + 1 > p_limits[1] or c.minute_before = 0
      then minute_rest else least(minute_rest, (minute_used + 1 - p_limits[1]) / c.minute_before) end);
  elsif hour_used + 1 > p_limits[2] then
    v.code := 'requests_per_hour'; v.used := ceil(hour_used); v.maximum := p_limits[2];
    v.retry_ms := ceil(3600000 * case when c.hour_count + 1 > p_limits[2] or c.hour_before = 0
      then hour_rest else least(hour_rest, (hour_used + 1 - p_limits[2]) / c.hour_before) end);
  elsif c.messages + 1 > p_limits[3] then
    v.code := 'monthly_messages'; v.used := c.messages; v.maximum := p_limits[3];
  elsif c.tokens + c.tokens_held + p_tokens > p_limits[4] then
    v.code := 'monthly_tokens'; v.used := c.tokens + c.tokens_held; v.maximum := p_limits[4];
  elsif p_nusd > 0 and c.spent_nusd + c.held_nusd + p_nusd > p_limits[5] then
    v.code := 'monthly_nusd'; v.used := c.spent_nusd + c.held_nusd; v.maximum := p_limits[5];
  end if;
  return v;
end $$;

create function reserve_counter(c counters, p_tokens bigint, p_nusd bigint) returns void
language sql set search_path = app, verbs, pg_temp as $$
  update counters set minute = c.minute, minute_count = c.minute_count + 1,
      minute_before = c.minute_before, hour = c.hour, hour_count = c.hour_count + 1,
      hour_before = c.hour_before, messages = messages + 1, tokens_held = tokens_held + p_tokens,
      held_nusd = held_nusd + p_nusd
    where tenant_id = c.tenant_id and subject_id = c.subject_id and period = c.period;
$$;

create function admit(a admission) returns verdict
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare v verdict; person counters; key counters; tenant counters;
begin
  perform set_config('app.tenant_id', a.tenant_id::text, true);
  person := lock_counter(a.tenant_id, a.user_id, 'user', a.period);
  select call_id into v.first_call_id from calls where tenant_id = a.tenant_id and call_id = a.call_id;
  if not found and a.idempotency_key is not null then
    select call_id into v.first_call_id from calls where tenant_id = a.tenant_id
      and api_key_id = a.key_id and idempotency_key = a.idempotency_key;
  end if;
  if v.first_call_id is not null then  -- this very call, sent again after a lost answer, is admitted
    v.code := case when v.first_call_id = a.call_id then 'ok' else 'repeated' end;
    return v;
  end if;
  v := check_counter(person, a.limits[1:5], a.tokens_held, a.hold_nusd);
  if v.code is not null then return v; end if;
  if a.key_id is not null then
    key := lock_counter(a.tenant_id, a.key_id, 'key', a.period);
    v := check_counter(key, a.limits[6:10], a.tokens_held, a.hold_nusd);
    if v.code is not null then return v; end if;
  end if;
  tenant := lock_counter(a.tenant_id, a.tenant_id, 'tenant', a.period);
  v := check_counter(tenant, a.limits[11:15], a.tokens_held, a.hold_nusd);
  if v.code is not null then return v; end if;
  v.scope := 'tenant';
  v.code := reserve(a.tenant_id, a.hold_nusd);
  if v.code <> 'ok' then
    select greatest(0, posted_nusd - held_nusd - floor_nusd), debt_nusd into v.maximum, v.used
      from accounts where tenant_id = a.tenant_id;
    return v;
  end if;
  insert into calls(call_id, tenant_id, user_id, api_key_id, tenant_label_id, user_label_id, cost_center,
      project, source, purpose, conversation_id, provider, model_requested, price_id, markup,
      prompt_tokens_guess, answer_tokens_max, tokens_held, hold_nusd, period, idempotency_key, state,
      lease_token, lease_until, deadline_at)
    values (a.call_id, a.tenant_id, a.user_id, a.key_id, a.tenant_label_id, a.user_label_id,
      a.cost_center, a.project, a.source, a.purpose, a.conversation_id, a.provider, a.model_id, a.price_id,
      a.markup, a.prompt_tokens_guess, a.answer_tokens_max, a.tokens_held, a.hold_nusd, a.period,
      a.idempotency_key, 'open', a.lease_token, clock_timestamp() + make_interval(secs => a.lease_s),
      clock_timestamp() + make_interval(secs => a.total_ms / 1000.0));
  perform hold(a.tenant_id, a.call_id, a.hold_nusd);
  perform reserve_counter(person, a.tokens_held, a.hold_nusd);
  if a.key_id is not null then perform reserve_counter(key, a.tokens_held, a.hold_nusd); end if;
  perform reserve_counter(tenant, a.tokens_held, a.hold_nusd);
  return v;
end $$;

create type settlement as (
  tenant_id uuid, call_id uuid, lease_token uuid, outcome text, gave_output boolean,
  prompt_tokens bigint, cached_tokens bigint, cache_write_tokens bigint, completion_tokens bigint,
  reasoning_tokens bigint, provider_cost_usd numeric, list_nusd bigint, billed_nusd bigint,
  cost_source text, latency_ms int, first_token_ms int, generation_id text, model_served text,
  needs_lookup boolean, actor text, kept_nusd bigint, kept_tokens bigint);

-- What was booked for a call. `code`: 'ok' now, 'settled' before, 'stale' when the lease is another's.
-- `generation_known`: another call named the same generation before, which no provider should let be.
create type receipt as (code text, list_nusd bigint, billed_nusd bigint, cost_source text, final boolean,
  generation_known boolean);

create function receipt_of(p_tenant uuid, p_call uuid, p_code text) returns receipt
language sql stable set search_path = app, verbs, pg_temp as $$
  select row(p_code, sum(list_nusd)::bigint, sum(billed_nusd)::bigint,
      (array_agg(cost_source order by event_id desc))[1],
      not exists (select from lookups l where l.tenant_id = p_tenant and l.call_id = p_call),
      false)::receipt
    from usage_events where tenant_id = p_tenant and call_id = p_call;
$$;

-- An adjustment is dated by its call's opening while that month is open; afterwards, by its own moment.
create function event_of(c calls, s settlement, p_kind text) returns usage_events
language plpgsql set search_path = app, verbs, pg_temp as $$
declare e usage_events; dated timestamptz := c.opened_at;
begin
  if p_kind = 'adjustment' and month_is_closed(c.tenant_id, c.opened_at) then
    dated := clock_timestamp();
  end if;
  insert into usage_events(tenant_id, occurred_at, kind, call_id, adjusts_call_id, user_id, api_key_id,
      tenant_label_id, user_label_id, cost_center, project, source, purpose, conversation_id, provider,
      model_requested, model_served, price_id, prompt_tokens, cached_tokens, cache_write_tokens,
      completion_tokens, reasoning_tokens, provider_cost_usd, list_nusd, billed_nusd, cost_source,
      outcome, latency_ms, first_token_ms, generation_id)
    values (c.tenant_id, dated, p_kind, c.call_id,
      case when p_kind = 'adjustment' then c.call_id end, c.user_id, c.api_key_id, c.tenant_label_id,
      c.user_label_id, c.cost_center, c.project, c.source, c.purpose, c.conversation_id, c.provider,
      c.model_requested, coalesce(s.model_served, c.model_requested), c.price_id, s.prompt_tokens,
      s.cached_tokens, s.cache_write_tokens, s.completion_tokens, s.reasoning_tokens,
      s.provider_cost_usd, s.list_nusd, s.billed_nusd, s.cost_source, s.outcome, s.latency_ms,
      s.first_token_ms, s.generation_id)
    returning * into e;
  insert into usage_pending(tenant_id, event_id, occurred_at)
    values (e.tenant_id, e.event_id, e.occurred_at);
  return e;
end $$;

-- Adds to what a call's subjects used (a correction: takes from it), and frees what was reserved for it.
create function count_use(c calls, p_tokens bigint, p_nusd bigint, p_tokens_freed bigint,
  p_nusd_freed bigint, p_messages int)
returns void language plpgsql set search_path = app, verbs, pg_temp as $$
declare subject uuid;
begin
  foreach subject in array array_remove(array[c.user_id, c.api_key_id, c.tenant_id], null) loop
    update counters set tokens = tokens + p_tokens, spent_nusd = spent_nusd + p_nusd,
        tokens_held = tokens_held - p_tokens_freed, held_nusd = held_nusd - p_nusd_freed,
        messages = messages + p_messages
      where tenant_id = c.tenant_id and subject_id = subject and period = c.period;
  end loop;
end $$;

-- Ends the wait for a call's truth: its use changes by so much (tokens, money), and what was kept until
-- now for what it might cost comes back. Callers hold the call's lock.
create function end_lookup(c calls, p_tokens bigint, p_nusd bigint) returns void
language plpgsql set search_path = app, verbs, pg_temp as $$
declare l lookups;
begin
  delete from lookups where tenant_id = c.tenant_id and call_id = c.call_id returning * into l;
  perform count_use(c, p_tokens, p_nusd, coalesce(l.kept_tokens, 0), coalesce(l.kept_nusd, 0), 0);
  perform release_kept(c.tenant_id, l.kept_nusd);
end $$;

create function settle(s settlement) returns receipt
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare c calls; e usage_events; known boolean := false;
begin
  perform set_config('app.tenant_id', s.tenant_id::text, true);
  update calls set state = 'settled', outcome = s.outcome, gave_output = s.gave_output,
      settled_at = clock_timestamp(), generation_id = coalesce(s.generation_id, generation_id)
    where tenant_id = s.tenant_id and call_id = s.call_id and lease_token = s.lease_token
      and state = 'open'
    returning * into c;
  if not found then
    perform from calls where tenant_id = s.tenant_id and call_id = s.call_id
      and lease_token = s.lease_token;
    return case when found then receipt_of(s.tenant_id, s.call_id, 'settled')
      else row('stale', null, null, null, null, false)::receipt end;
  end if;
  s.generation_id := c.generation_id;
  s.needs_lookup := s.needs_lookup and s.generation_id is not null;
  s.kept_nusd := case when s.needs_lookup then coalesce(s.kept_nusd, 0) else 0 end;
  s.kept_tokens := case when s.needs_lookup then coalesce(s.kept_tokens, 0) else 0 end;
  e := event_of(c, s, 'call');
  perform count_use(c, s.prompt_tokens + s.completion_tokens, s.billed_nusd,
    c.tokens_held - s.kept_tokens, c.hold_nusd - s.kept_nusd, case when s.gave_output then 0 else -1 end);
  perform capture(s.tenant_id, s.call_id, c.hold_nusd - s.kept_nusd, s.billed_nusd, s.actor);
  if s.generation_id is not null then
    insert into generations(generation_id, tenant_id, call_id)
      values (s.generation_id, s.tenant_id, s.call_id) on conflict do nothing;
    known := not found;
    if s.needs_lookup then
      insert into lookups(tenant_id, call_id, provider, generation_id, due_at, kept_nusd, kept_tokens)
        values (s.tenant_id, s.call_id, c.provider, s.generation_id, clock_timestamp() + interval '1 s',
          s.kept_nusd, s.kept_tokens);
    end if;
  end if;
  return row('ok', s.list_nusd, s.billed_nusd, s.cost_source, not s.needs_lookup, known)::receipt;
end $$;

-- Books the truth about a settled call, once: an adjustment event with the differences, and the money.
-- From then on the call is final. A call whose truth is known already is left as it is.
create function correct(s settlement) returns receipt
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare c calls; e usage_events; had record;
begin
  perform set_config('app.tenant_id', s.tenant_id::text, true);
  select * into c from calls where tenant_id = s.tenant_id and call_id = s.call_id for update;
  if not found or c.state = 'open' then
    return row('stale', null, null, null, null, false)::receipt;
  end if;
  perform from usage_events where tenant_id = s.tenant_id and call_id = s.call_id
    and (kind = 'adjustment' or cost_source = 'provider'
      and not exists (select from lookups where tenant_id = s.tenant_id and call_id = s.call_id));
  if found then
    return receipt_of(s.tenant_id, s.call_id, 'settled');
  end if;
  select * into strict had from usage_events
    where tenant_id = s.tenant_id and call_id = s.call_id and kind = 'call';
  s.prompt_tokens := s.prompt_tokens - had.prompt_tokens;
  s.cached_tokens := s.cached_tokens - had.cached_tokens;
  s.cache_write_tokens := s.cache_write_tokens - had.cache_write_tokens;
  s.completion_tokens := s.completion_tokens - had.completion_tokens;
  s.reasoning_tokens := s.reasoning_tokens - had.reasoning_tokens;
  s.list_nusd := s.list_nusd - had.list_nusd;
  s.billed_nusd := s.billed_nusd - had.billed_nusd;
  s.outcome := had.outcome;
  s.latency_ms := had.latency_ms;
  s.first_token_ms := had.first_token_ms;
  s.generation_id := coalesce(s.generation_id, had.generation_id);
  s.model_served := had.model_served;  -- counted where the call was
  e := event_of(c, s, 'adjustment');
  perform end_lookup(c, s.prompt_tokens + s.completion_tokens, s.billed_nusd);
  perform adjust(s.tenant_id, s.call_id, s.billed_nusd, 'adjust:' || s.call_id, s.actor,
    'true cost of the call');
  return receipt_of(s.tenant_id, s.call_id, 'ok');
end $$;

-- Makes an estimate final that nobody could correct for so long; true when it became final now.
create function give_up_lookup(p_tenant uuid, p_call uuid, p_patience_s int) returns boolean
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare c calls;
begin
  perform set_config('app.tenant_id', p_tenant::text, true);
  select * into strict c from calls where tenant_id = p_tenant and call_id = p_call for update;
  perform from lookups where tenant_id = p_tenant and call_id = p_call
    and opened_at < clock_timestamp() - make_interval(secs => p_patience_s);
  if not found then return false; end if;
  perform end_lookup(c, 0, 0);
  return true;
end $$;

grant execute on function resolve, admit, settle, correct, limit_names, limits_of to app_rw, app_jobs;
grant execute on function give_up_lookup to app_jobs;
