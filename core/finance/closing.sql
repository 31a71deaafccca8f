-- Closing a month: the lock it begins with and the row it ends in, also for the web role, which may
-- only read closings. No row is written for another tenant, nor sums that the events do not have.

-- Before anything of the month is read: see lock_month.
create function lock_closing(p_tenant uuid, p_month date) returns void
language sql security definer set search_path = app, verbs, pg_temp as $$
  select lock_month(acting_tenant(p_tenant), p_month);
$$;

-- The month of a tenant is closed from now on. Its bounds must be those of the tenant's calendar, nothing
-- that was opened in it may still run, and no transaction that began in it can be open any more. Its time
-- is taken under the lock: what was recorded before it is in the sums, and nothing else is.
create function record_closing(p_tenant uuid, p_closing uuid, p_month date, p_begins timestamptz,
  p_ends timestamptz, p_warnings jsonb, p_actor text) returns closings
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare of_tenant uuid := acting_tenant(p_tenant); instant interval := '1 microsecond'; c closings;
begin
  perform lock_month(of_tenant, p_month);
  if array[month_of(of_tenant, p_begins), month_of(of_tenant, p_ends - instant)]
        is distinct from array[p_month, p_month]
      or p_month in (month_of(of_tenant, p_begins - instant), month_of(of_tenant, p_ends)) then
    raise exception 'these are not the bounds of %', p_month using errcode = 'check_violation';
  end if;
  if clock_timestamp() < p_ends + interval '5 minutes' or exists (select from calls
      where tenant_id = of_tenant and state = 'open' and opened_at >= p_begins and opened_at < p_ends) then
    raise exception '% has not come to rest', p_month using errcode = 'check_violation';
  end if;
  insert into closings(tenant_id, closing_id, month, begins_at, ends_at, events, requests, tokens,
      list_nusd, billed_nusd, warnings, closed_by, closed_at)
    select of_tenant, p_closing, p_month, p_begins, p_ends, count(*),
        count(*) filter (where kind = 'call'), coalesce(sum(prompt_tokens + completion_tokens), 0),
        coalesce(sum(list_nusd), 0), coalesce(sum(billed_nusd), 0), p_warnings, p_actor,
        clock_timestamp()
      from usage_events
      where tenant_id = of_tenant and occurred_at >= p_begins and occurred_at < p_ends
    returning * into c;
  return c;
end $$;

grant execute on function lock_closing, record_closing to app_rw, app_jobs;
