-- Row security on every tenant table, rights of each role, append-only tables, usage partitions.

create function app.tenant() returns uuid language sql stable parallel safe
  return nullif(current_setting('app.tenant_id', true), '')::uuid;

-- Policy of a tenant table: the web role sees one tenant, the jobs role and the owner all.
create function app.isolate(of_table regclass) returns void language plpgsql as $$
begin
  execute format('alter table %s enable row level security', of_table);
  execute format('alter table %s force row level security', of_table);
  execute format('create policy tenant_only on %s to app_rw using (tenant_id = (select app.tenant()))'
    ' with check (tenant_id = (select app.tenant()))', of_table);
  execute format('create policy all_tenants on %s to app_jobs, app_owner using (true) with check (true)',
    of_table);
end $$;

-- A partition is a table of its own, which the parent's policy does not guard: nobody may address it.
create function app.guard_partition(of_partition regclass) returns void language plpgsql as $$
begin
  execute format('alter table %s enable row level security', of_partition);
  execute format('alter table %s force row level security', of_partition);
  execute format('revoke all on %s from public, app_rw, app_jobs', of_partition);
end $$;

create function app.refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '% is append-only: correct it with a new row', tg_table_name
    using errcode = 'insufficient_privilege';
end $$;

create table app.usage_events_default partition of app.usage_events default;
select app.guard_partition('app.usage_events_default');

-- Makes the partition of one month; the owner's function, because run-time roles create nothing.
create function app.ensure_usage_partition(month date) returns boolean
language plpgsql security definer set search_path = app, pg_temp as $$
declare
  first date := date_trunc('month', month);
  partition text := 'usage_events_' || to_char(month, 'YYYY_MM');
begin
  perform pg_advisory_xact_lock(7002);
  if to_regclass('app.' || partition) is not null then
    return false;
  end if;
  execute format('create table app.%I partition of app.usage_events for values from (%L) to (%L)',
    partition, first::timestamp at time zone 'UTC', (first + interval '1 month') at time zone 'UTC');
  perform app.guard_partition(to_regclass('app.' || partition));
  return true;
end $$;
revoke execute on all functions in schema app from public;
grant execute on function app.tenant() to public;
grant execute on function app.ensure_usage_partition(date) to app_jobs;

do $$
declare t record;
begin
  for t in select a.attrelid::regclass as of_table from pg_attribute a
      join pg_class c on c.oid = a.attrelid
      where c.relnamespace = 'app'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
        and a.attname = 'tenant_id' and not a.attisdropped loop
    perform app.isolate(t.of_table);
  end loop;
  foreach t.of_table in array array['app.entries', 'app.lot_uses', 'app.usage_events', 'app.audit_log']::regclass[] loop
    execute format('create trigger append_only before update or delete or truncate on %s'
      ' for each statement execute function app.refuse_change()', t.of_table);
  end loop;
  for m in -1..3 loop
    perform app.ensure_usage_partition((now() + make_interval(months => m))::date);
  end loop;
end $$;

-- The web role: reference data, its tenant's books to read, its chats to write. All else through verbs.
grant select on app.plans, app.plan_limits, app.providers, app.models, app.prices, app.alembic_version to app_rw;
grant select on app.tenants, app.memberships, app.labels, app.api_keys, app.limit_overrides, app.calls,
  app.lookups, app.usage_events, app.usage_daily, app.accounts, app.lots, app.holds, app.entries,
  app.lot_uses, app.counters to app_rw;
grant select, insert, update on app.turns to app_rw;
grant select, insert, update, delete on app.conversations, app.messages to app_rw;

-- The jobs role: everything but changing what is append-only.
grant select, insert, update, delete on all tables in schema app to app_jobs;
revoke update, delete, truncate on app.entries, app.lot_uses, app.usage_events, app.audit_log from app_jobs;
revoke all on app.usage_events_default from app_jobs;
revoke insert, update, delete on app.alembic_version from app_jobs;
do $$
declare p regclass;
begin
  for p in select inhrelid::regclass from pg_inherits where inhparent = 'app.usage_events'::regclass loop
    perform app.guard_partition(p);
  end loop;
end $$;
