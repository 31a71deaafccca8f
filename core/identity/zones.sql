-- A tenant's own days and months. A change of zone takes effect with a month: at the moment the old
-- zone's month ends. From then on no moment belongs to a day before that month, so every moment has
-- exactly one day and one month, and a month that ended stays as it was.

create function zone_of(p_tenant uuid, p_at timestamptz) returns text language sql stable as $$
select coalesce(
  (select z.time_zone from app.zone_changes z where z.tenant_id = p_tenant and z.starts_at <= p_at
    order by z.starts_at desc limit 1),
  (select t.first_time_zone from app.tenants t where t.tenant_id = p_tenant))
$$;

create function day_of(p_tenant uuid, p_at timestamptz) returns date language sql stable as $$
select greatest((p_at at time zone verbs.zone_of(p_tenant, p_at))::date,
  (select max(z.starts_on) from app.zone_changes z where z.tenant_id = p_tenant and z.starts_at <= p_at))
$$;

create function month_of(p_tenant uuid, p_at timestamptz) returns date language sql stable as $$
select date_trunc('month', verbs.day_of(p_tenant, p_at))::date
$$;

-- The first moment of a day of that zone. Where the clock goes back over midnight there are two
-- midnights, of which Postgres takes the later one.
create function midnight(p_day date, p_zone text) returns timestamptz language sql stable as $$
select case
  when ((p_day::timestamp at time zone p_zone) - interval '1 hour') at time zone p_zone = p_day::timestamp
    then (p_day::timestamp at time zone p_zone) - interval '1 hour'
  else p_day::timestamp at time zone p_zone end
$$;

-- When the month after that of a moment begins: in the zone that is in force then.
create function month_ends(p_tenant uuid, p_at timestamptz) returns timestamptz language sql stable as $$
select verbs.midnight((verbs.month_of(p_tenant, p_at) + interval '1 month')::date,
  verbs.zone_of(p_tenant, p_at))
$$;

grant execute on function zone_of, day_of, month_of, midnight, month_ends to app_rw, app_jobs;
