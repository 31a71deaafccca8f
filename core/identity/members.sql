-- People of a tenant in the hands of its admins: places, roles, sessions, invites, limits. Each function
-- takes the tenant by id and gives the web role nothing of any but its own; who may ask, core decides.

-- The tenant to act on: the web role's own when it is the one named, for the jobs role any.
create function administered(p_tenant uuid) returns uuid
language sql stable set search_path = app, verbs, pg_temp as $$
  select case when caller() = 'app_jobs' or p_tenant = app.tenant() then p_tenant end;
$$;

-- The id of this name of this subject: the row that froze it before, or a new one.
create function label_of(p_tenant uuid, p_label uuid, p_subject uuid, p_name text) returns uuid
language plpgsql set search_path = app, verbs, pg_temp as $$
declare found_id uuid;
begin
  insert into labels(tenant_id, label_id, subject_id, name)
    values (p_tenant, p_label, p_subject, p_name) on conflict do nothing;
  select l.label_id into found_id from labels l
    where l.tenant_id = p_tenant and l.subject_id = p_subject and l.name = p_name;
  return found_id;
end $$;

-- ---- places

-- Where a session works that chose p_chosen (or nothing): as `who` finds it, and for a person whom no
-- tenant takes any more, where they were.
create function place_of(p_user uuid, p_chosen uuid) returns uuid
language sql stable set search_path = app, verbs, pg_temp as $$
  select m.tenant_id from memberships m join tenants t on t.tenant_id = m.tenant_id
    where m.user_id = p_user
    order by (m.status = 'active' and t.status = 'active') desc,
      (m.tenant_id is not distinct from p_chosen) desc, m.created_at, m.tenant_id
    limit 1;
$$;

create function members_of(p_tenant uuid) returns table(user_id uuid, email text, name text, role text,
  status text, person_status text, joined_at timestamptz, last_seen_at timestamptz, sessions int)
language sql stable security definer set search_path = app, verbs, pg_temp as $$
  select u.user_id, u.email, u.name, m.role, m.status, u.status, m.created_at, s.last_seen_at,
      coalesce(s.live, 0)::int
    from memberships m join users u on u.user_id = m.user_id
    left join lateral (
      select max(n.last_seen_at) as last_seen_at,
          count(*) filter (where is_live(n)) as live
        from sessions n
        where n.user_id = m.user_id and place_of(m.user_id, n.of_tenant) = m.tenant_id) s on true
    where m.tenant_id = administered(p_tenant) order by u.email;
$$;

-- Whether an account may get a place or a right outside p_tenant (null: of the platform). Whoever opened
-- a link chose its password, so an account that a tenant's link made is that tenant's alone until
-- somebody has proven who reads its mailbox.
create function is_proven_for(p_tenant uuid, p_user users) returns boolean
language sql immutable as $$
  select p_user.made_by_tenant is null or p_user.email_proven_at is not null
    or p_user.made_by_tenant is not distinct from p_tenant;
$$;

-- Gives a person a place: 'ok', 'no_tenant', 'no_person', 'unproven', or 'member' where they have one
-- already, which stays. Not for the web role, which nobody can join but by a link.
create function join_tenant(p_tenant uuid, p_user uuid, p_role text, p_cost_center text, p_label uuid)
returns text
language plpgsql set search_path = app, verbs, pg_temp as $$
declare person users;
begin
  perform from tenants t where t.tenant_id = p_tenant;
  if not found then return 'no_tenant'; end if;
  select * into person from users u where u.user_id = p_user for key share;  -- a link may be claiming it
  if not found then return 'no_person'; end if;
  if not is_proven_for(p_tenant, person) then return 'unproven'; end if;
  insert into memberships(tenant_id, user_id, role, status, cost_center, label_id)
    values (p_tenant, p_user, p_role, 'active', p_cost_center,
      label_of(p_tenant, p_label, p_user, person.email)) on conflict do nothing;
  return case when found then 'ok' else 'member' end;
end $$;

-- Ends the sessions with which a person works in p_tenant (null: anywhere), and tickets that would
-- become such. Tickets go first: one that is being redeemed is waited for.
create function end_sessions_in(p_tenant uuid, p_user uuid) returns int
language plpgsql set search_path = app, verbs, pg_temp as $$
declare ended int;
begin
  delete from tickets t where t.user_id = p_user
    and (p_tenant is null or place_of(p_user, t.of_tenant) = p_tenant);
  update sessions s set revoked_at = now()
    where s.user_id = p_user and is_live(s)
      and (p_tenant is null or place_of(p_user, s.of_tenant) = p_tenant);
  get diagnostics ended = row_count;
  return ended;
end $$;

-- Changes a place; null leaves as it is. Ending one ends the sessions that work there. `code` is 'ok',
-- 'no_member', or 'last_admin': only the jobs role leaves a tenant without an active admin. The
-- tenant's lock makes that true when two admins demote each other at once.
create function change_member(p_tenant uuid, p_user uuid, p_role text, p_status text, out code text,
  out role_before text, out status_before text, out role text, out status text, out ended int)
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare of_tenant uuid := administered(p_tenant);
begin
  code := 'no_member';
  perform from tenants t where t.tenant_id = of_tenant for no key update;
  if not found then return; end if;
  select m.role, m.status into role_before, status_before from memberships m
    where m.tenant_id = of_tenant and m.user_id = p_user for no key update;
  if not found then return; end if;
  role := coalesce(p_role, role_before);
  status := coalesce(p_status, status_before);
  if caller() <> 'app_jobs' and role_before = 'admin' and status_before = 'active'
      and (role, status) <> ('admin', 'active') and not exists (
        select from memberships m join users u on u.user_id = m.user_id and u.status = 'active'
          where m.tenant_id = of_tenant and m.user_id <> p_user and m.role = 'admin'
            and m.status = 'active') then
    code := 'last_admin';
    return;
  end if;
  ended := case when status = 'disabled' then end_sessions_in(of_tenant, p_user) else 0 end;
  update memberships m set role = change_member.role, status = change_member.status
    where m.tenant_id = of_tenant and m.user_id = p_user;
  code := 'ok';
end $$;

-- Signs a member out: of what works in this tenant, or, asked by the jobs role, everywhere (with no
-- tenant named: whoever it is). Returns how many sessions ended, null for no such member.
create function sign_out_member(p_tenant uuid, p_user uuid) returns int
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare of_tenant uuid := administered(p_tenant); everywhere boolean := caller() = 'app_jobs';
begin
  if everywhere and p_tenant is null then
    perform from users u where u.user_id = p_user;
  else
    perform from memberships m where m.tenant_id = of_tenant and m.user_id = p_user;
  end if;
  if not found then return null; end if;
  return end_sessions_in(case when not everywhere then of_tenant end, p_user);
end $$;

-- ---- invites

-- Keeps a new link of which only the hash comes here; an open one for the same e-mail ends. Returns
-- 'ok', 'no_tenant', 'member', 'too_many_open' or, for more than p_hour_max of one hand within an hour,
-- 'too_many'. Ended links count within their hour, and links for the same e-mail count once as open.
create function make_invite(p_tenant uuid, p_invite uuid, p_hash bytea, p_email text, p_role text,
  p_by text, p_expires_at timestamptz, p_open_max int, p_hour_max int) returns text
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare for_tenant uuid := administered(p_tenant); open_others int; made int;
begin
  perform from tenants t where t.tenant_id = for_tenant for no key update;
  if not found then return 'no_tenant'; end if;
  perform from memberships m join users u on u.user_id = m.user_id
    where m.tenant_id = for_tenant and u.email = p_email and m.status = 'active';
  if found then return 'member'; end if;
  select count(*) filter (where i.accepted_at is null and i.revoked_at is null
        and i.expires_at > now() and i.email <> p_email),
      count(*) filter (where i.invited_by = p_by and i.created_at > now() - interval '1 hour')
    into open_others, made from invites i where i.of_tenant = for_tenant;
  if open_others >= p_open_max then return 'too_many_open'; end if;
  if made >= p_hour_max then return 'too_many'; end if;
  update invites i set revoked_at = now() where i.of_tenant = for_tenant and i.email = p_email
    and i.accepted_at is null and i.revoked_at is null;
  insert into invites(invite_hash, invite_id, of_tenant, email, role, invited_by, expires_at)
    values (p_hash, p_invite, for_tenant, p_email, p_role, p_by, p_expires_at);
  return 'ok';
end $$;

-- The links of a tenant that were neither used nor revoked, expired ones included.
create function invites_of(p_tenant uuid) returns table(invite_id uuid, email text, role text,
  invited_by text, created_at timestamptz, expires_at timestamptz)
language sql stable security definer set search_path = app, verbs, pg_temp as $$
  select i.invite_id, i.email, i.role, i.invited_by, i.created_at, i.expires_at from invites i
    where i.of_tenant = administered(p_tenant) and i.accepted_at is null and i.revoked_at is null
    order by i.created_at desc, i.invite_id;
$$;

-- Ends a link; true when it was open or only expired.
create function revoke_invite(p_tenant uuid, p_invite uuid) returns boolean
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
begin
  update invites i set revoked_at = now() where i.invite_id = p_invite
    and i.of_tenant = administered(p_tenant) and i.accepted_at is null and i.revoked_at is null;
  return found;
end $$;

-- Whether an account is still nobody's: made by hand, without a password, without a place in any tenant
-- (an ended one holds chats), without operator's rights, never signed in by any door. Only such a one may
-- get its first password from whoever holds a link: links are made by tenants' admins, and an account with
-- anything behind it would be theirs. Whatever else comes to identify a person counts here too.
create function is_unclaimed(p_user uuid) returns boolean
language sql stable set search_path = app, verbs, pg_temp as $$
  select exists (select from users u
      where u.user_id = p_user and u.status = 'active' and u.password_hash is null)
    and not exists (select from memberships m where m.user_id = p_user)
    and not exists (select from operators o where o.user_id = p_user)
    and not exists (select from sessions s where s.user_id = p_user)
    and not exists (select from tickets t where t.user_id = p_user);
$$;

-- The link of a hash while it can be used; nothing for any other, whatever is wrong with it. `proof` is
-- what its holder shows: 'new' chooses a password, a person who has one gives it, others are signed in.
create function invite_of(p_hash bytea) returns table(tenant_id uuid, tenant_name text, email text,
  role text, expires_at timestamptz, proof text, is_member boolean)
language sql stable security definer set search_path = app, verbs, pg_temp as $$
  select t.tenant_id, t.name, i.email, i.role, i.expires_at,
      case when u.user_id is null or is_unclaimed(u.user_id) then 'new'
        when u.password_hash is not null then 'password' else 'session' end,
      m.status is not distinct from 'active'
    from invites i join tenants t on t.tenant_id = i.of_tenant and t.status = 'active'
    left join users u on u.email = i.email
    left join memberships m on m.tenant_id = i.of_tenant and m.user_id = u.user_id
    where i.invite_hash = p_hash and i.accepted_at is null and i.revoked_at is null
      and i.expires_at > now();
$$;

-- Uses a link, once: the second of two that come at once waits for the first and finds it used. With
-- p_password_hash p_user is made for its e-mail, or an unclaimed account of that e-mail becomes theirs;
-- else p_user is who proved to be that person. The account's lock holds off whatever would claim it
-- meanwhile: a place, a session, a password. A place that was ended is renewed with the invited role;
-- one that is active stays as it is. `code` is 'ok', 'ended', 'known' where the e-mail is somebody's, or
-- 'unproven' where another tenant's link made the account.
create function accept_invite(p_hash bytea, p_user uuid, p_name text, p_password_hash text,
  p_label uuid, out code text, out person uuid)
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare i invites; place memberships; is_new boolean := false;
begin
  code := 'ended';
  select v.* into i from invites v join tenants t on t.tenant_id = v.of_tenant and t.status = 'active'
    where v.invite_hash = p_hash and v.accepted_at is null and v.revoked_at is null
      and v.expires_at > now() for update of v;
  if not found then return; end if;
  if p_password_hash is not null then
    insert into users(user_id, email, name, password_hash, status)
      values (p_user, i.email, p_name, p_password_hash, 'active') on conflict do nothing;
    is_new := found;
    person := p_user;
    if not is_new then
      select u.user_id into person from users u where u.email = i.email for update;
      if not is_unclaimed(person) then
        code := 'known';
        person := null;
        return;
      end if;
      update users u set name = p_name, password_hash = p_password_hash where u.user_id = person;
    end if;
    update users u set made_by_tenant = i.of_tenant where u.user_id = person;
  else
    select u.user_id into person from users u
      where u.user_id = p_user and u.email = i.email and u.status = 'active';
    if not found then return; end if;
  end if;
  select * into place from memberships m
    where m.tenant_id = i.of_tenant and m.user_id = person for no key update;
  if not found then
    code := join_tenant(i.of_tenant, person, i.role, null, p_label);
    if code = 'unproven' then
      person := null;
      return;
    end if;
  elsif place.status <> 'active' then
    update memberships m set role = i.role, status = 'active'
      where m.tenant_id = i.of_tenant and m.user_id = person;
  end if;
  update invites v set accepted_at = now() where v.invite_hash = p_hash;
  insert into audit_log(actor, of_tenant, action, object, outcome, before, after)
    values ('user:' || person, i.of_tenant, 'invite.accept', 'invite:' || i.invite_id, 'done',
      case when place.role is not null then
        jsonb_build_object('role', place.role, 'status', place.status) end,
      jsonb_build_object('user_id', person, 'role',
        case when place.status = 'active' then place.role else i.role end,
        'new_person', is_new, 'first_password', p_password_hash is not null));
  code := 'ok';
end $$;

-- ---- limits of people and keys (the jobs role: of tenants too)

-- Whether p_subject is one whose limits the caller may change.
create function has_subject(p_tenant uuid, p_scope text, p_subject uuid) returns boolean
language sql stable set search_path = app, verbs, pg_temp as $$
  select case p_scope
    when 'tenant' then caller() = 'app_jobs' and p_subject = p_tenant
      and exists (select from tenants t where t.tenant_id = p_tenant)
    when 'user' then exists (select from memberships m
      where m.tenant_id = p_tenant and m.user_id = p_subject)
    when 'key' then exists (select from api_keys k where k.tenant_id = p_tenant and k.key_id = p_subject)
    else false end;
$$;

-- Sets one limit (null: unlimited). `code` is 'ok' or 'no_subject'; what was set before, if anything.
create function set_limit(p_tenant uuid, p_scope text, p_subject uuid, p_name text, p_maximum bigint,
  out code text, out was_set boolean, out maximum_before bigint)
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare of_tenant uuid := administered(p_tenant);
begin
  perform from tenants t where t.tenant_id = of_tenant for no key update;
  if not found or not has_subject(of_tenant, p_scope, p_subject) then
    code := 'no_subject';
    return;
  end if;
  select o.maximum into maximum_before from limit_overrides o where o.tenant_id = of_tenant
    and o.scope = p_scope and o.subject_id = p_subject and o.limit_name = p_name;
  was_set := found;
  insert into limit_overrides(tenant_id, scope, subject_id, limit_name, maximum)
    values (of_tenant, p_scope, p_subject, p_name, p_maximum)
    on conflict (tenant_id, scope, subject_id, limit_name)
      do update set maximum = excluded.maximum, set_at = now();
  code := 'ok';
end $$;

-- Returns one limit to the plan's. `code` is 'ok', 'no_subject' or 'not_set'.
create function unset_limit(p_tenant uuid, p_scope text, p_subject uuid, p_name text,
  out code text, out maximum_before bigint)
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare of_tenant uuid := administered(p_tenant);
begin
  code := 'no_subject';
  if not has_subject(of_tenant, p_scope, p_subject) then return; end if;
  delete from limit_overrides o where o.tenant_id = of_tenant and o.scope = p_scope
    and o.subject_id = p_subject and o.limit_name = p_name
    returning o.maximum into maximum_before;
  code := case when found then 'ok' else 'not_set' end;
end $$;

-- What each subject of a tenant counts against its five limits now, in the order of `limit_names`: the
-- windows as `check_counter` slides them, the month's sums while it lasts. A window's `resets` is when
-- all that it counts now has left it.
create function uses_of(p_tenant uuid) returns table(subject_id uuid, used bigint[], held bigint[],
  resets timestamptz[])
language plpgsql stable security definer set search_path = app, verbs, pg_temp as $$
declare
  of_tenant uuid := administered(p_tenant);
  this_month date := month_of(of_tenant, now());
  month_end timestamptz := month_ends(of_tenant, now());
  now_s float8 := extract(epoch from clock_timestamp());
  minute_rest float8 := 1 - (now_s / 60 - floor(now_s / 60));
  hour_rest float8 := 1 - (now_s / 3600 - floor(now_s / 3600));
  c counters;
begin
  for c in select distinct on (n.subject_id) n.* from counters n
      where n.tenant_id = of_tenant and n.period <= this_month
      order by n.subject_id, n.period desc loop
    c := slide(c);
    subject_id := c.subject_id;
    used := array[ceil(c.minute_count + c.minute_before * minute_rest)::bigint,
      ceil(c.hour_count + c.hour_before * hour_rest)::bigint, 0, 0, 0];
    held := array[0, 0, 0, 0, 0];
    if c.period = this_month then
      used[3:5] := array[c.messages, c.tokens, c.spent_nusd];
      held[4:5] := array[c.tokens_held, c.held_nusd];
    end if;
    resets := array[
      case when c.minute_count > 0 then to_timestamp((floor(now_s / 60) + 2) * 60)
        when c.minute_before > 0 then to_timestamp((floor(now_s / 60) + 1) * 60) end,
      case when c.hour_count > 0 then to_timestamp((floor(now_s / 3600) + 2) * 3600)
        when c.hour_before > 0 then to_timestamp((floor(now_s / 3600) + 1) * 3600) end,
      month_end, month_end, month_end];
    return next;
  end loop;
end $$;

grant execute on function administered, members_of, change_member, sign_out_member, make_invite,
  invites_of, revoke_invite, invite_of, accept_invite, set_limit, unset_limit, uses_of
  to app_rw, app_jobs;
grant execute on function label_of, is_proven_for, join_tenant, place_of to app_jobs;

-- ---- the audit log, for a tenant's admins

-- The rows of the log that are about the tenant. What the platform earns by it stays out.
create function audit_of(p_tenant uuid, p_begins timestamptz, p_ends timestamptz) returns setof audit_log
language sql stable security definer set search_path = app, verbs, pg_temp as $$
  select l.audit_id, l.occurred_at, l.actor, l.of_tenant, l.action, l.object, l.outcome,
    l.before - 'markup', l.after - 'markup'
  from audit_log l
  where l.of_tenant = acting_tenant(p_tenant) and l.occurred_at >= p_begins and l.occurred_at < p_ends
$$;

grant execute on function audit_of to app_rw;
