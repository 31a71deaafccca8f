-- A tenant's own terms in the hands of its admins and operators: cost centres, models, zone. Each
-- function takes the acting tenant, locks its row first, and says what was there before.

-- Puts a tenant into another zone from its next month on. What was planned before is replaced, and
-- taken back where the zone asked for is the one in force. `zone` is that one, null for no such tenant.
create function change_zone(p_tenant uuid, p_zone text, out zone text, out planned text,
  out starts_on date, out starts_at timestamptz)
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare of_tenant uuid := acting_tenant(p_tenant); asked_at timestamptz;
begin
  perform from tenants t where t.tenant_id = of_tenant for no key update;
  if not found then return; end if;
  asked_at := clock_timestamp();
  zone := zone_of(of_tenant, asked_at);
  delete from zone_changes z where z.tenant_id = of_tenant and z.starts_at > asked_at
    returning z.time_zone into planned;
  if p_zone <> zone then
    starts_on := month_of(of_tenant, asked_at) + interval '1 month';
    starts_at := month_ends(of_tenant, asked_at);
    insert into zone_changes(tenant_id, starts_on, starts_at, time_zone)
      values (of_tenant, change_zone.starts_on, change_zone.starts_at, p_zone);
  end if;
end $$;

-- Books what a tenant, one of its people or one of its keys uses from now on to a cost centre and a
-- project. `known` is false where the tenant has no such subject.
create function assign_cost_center(p_tenant uuid, p_scope text, p_subject uuid, p_cost_center text,
  p_project text, out known boolean, out cost_center text, out project text)
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare of_tenant uuid := acting_tenant(p_tenant);
begin
  if p_scope = 'tenant' then
    select t.cost_center, t.project into cost_center, project from tenants t
      where t.tenant_id = of_tenant and t.tenant_id = p_subject for no key update;
    known := found;
    update tenants t set cost_center = p_cost_center, project = p_project
      where t.tenant_id = of_tenant and known;
  elsif p_scope = 'user' then
    select m.cost_center, m.project into cost_center, project from memberships m
      where m.tenant_id = of_tenant and m.user_id = p_subject for no key update;
    known := found;
    update memberships m set cost_center = p_cost_center, project = p_project
      where m.tenant_id = of_tenant and m.user_id = p_subject;
  else
    select k.cost_center, k.project into cost_center, project from api_keys k
      where k.tenant_id = of_tenant and k.key_id = p_subject for no key update;
    known := found;
    update api_keys k set cost_center = p_cost_center, project = p_project
      where k.tenant_id = of_tenant and k.key_id = p_subject;
  end if;
end $$;

-- Switches a model off for a tenant; true when it was on. The keys say whether both exist.
create function block_model(p_tenant uuid, p_model text) returns boolean
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
begin
  insert into model_blocks(tenant_id, model_id) values (acting_tenant(p_tenant), p_model)
    on conflict do nothing;
  return found;
end $$;

-- Switches a model on again for a tenant; true when it was off.
create function unblock_model(p_tenant uuid, p_model text) returns boolean
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
begin
  delete from model_blocks b where b.tenant_id = acting_tenant(p_tenant) and b.model_id = p_model;
  return found;
end $$;

grant execute on function change_zone, assign_cost_center, block_model, unblock_model
  to app_rw, app_jobs;
