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
-- midnights, of which Postgres takes the later one; the earlier has the offset of half a day before.
create function midnight(p_day date, p_zone text) returns timestamptz language sql stable as $$
select case when m.earlier at time zone p_zone = p_day::timestamp then least(m.earlier, m.taken)
  else m.taken end
from (select t.taken, t.taken - interval '12 hours'
      + ((t.taken at time zone p_zone) - ((t.taken - interval '12 hours') at time zone p_zone)) as earlier
    from (select p_day::timestamp at time zone p_zone as taken) t) m
$$;

-- When the month after that of a moment begins: in the zone that is in force then.
create function month_ends(p_tenant uuid, p_at timestamptz) returns timestamptz language sql stable as $$
select verbs.midnight((verbs.month_of(p_tenant, p_at) + interval '1 month')::date,
  verbs.zone_of(p_tenant, p_at))
$$;

-- Every stretch of time in which a tenant keeps one zone, for questions over many rows: the day of a moment
-- between starts_at and ends_at is greatest((moment at time zone time_zone)::date, starts_on).
create function zone_spans() returns table(tenant_id uuid, time_zone text, starts_at timestamptz,
  ends_at timestamptz, starts_on date) language sql stable as $$
select s.tenant_id, s.time_zone, s.starts_at,
  lead(s.starts_at, 1, 'infinity') over (partition by s.tenant_id order by s.starts_at), s.starts_on
from (select t.tenant_id, t.first_time_zone as time_zone, '-infinity'::timestamptz as starts_at,
    '-infinity'::date as starts_on from app.tenants t
  union all select z.tenant_id, z.time_zone, z.starts_at, z.starts_on from app.zone_changes z) s
$$;

grant execute on function zone_of, day_of, month_of, midnight, month_ends, zone_spans to app_rw, app_jobs;
