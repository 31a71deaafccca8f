-- What the web role may do to the closed tables of identity: sign-in, sessions, keys, the audit log.
-- Every function filters its tenant or person itself; none hands out a hash that could be replayed,
-- except the password's to the one attempt that was counted for it.

-- The role the caller runs as: inside a definer function current_user is the owner.
create function caller() returns text language sql stable as $$
  select case when current_setting('role') = 'none' then session_user::text
    else current_setting('role') end;
$$;

-- The tenant an act belongs to: the web role cannot name another than the one it is bound to.
create function acting_tenant(p_given uuid) returns uuid
language sql stable set search_path = app, verbs, pg_temp as $$
  select case when caller() = 'app_jobs' then coalesce(app.tenant(), p_given) else app.tenant() end;
$$;

create function append_audit(p_actor text, p_tenant uuid, p_action text, p_object text, p_outcome text,
  p_before jsonb, p_after jsonb) returns void
language sql security definer set search_path = app, verbs, pg_temp as $$
  insert into audit_log(actor, of_tenant, action, object, outcome, before, after)
    values (p_actor, acting_tenant(p_tenant), p_action, p_object, p_outcome, p_before, p_after);
$$;

-- ---- signing in with a password

-- Failures fade in a straight line to nothing within fifteen minutes of the last one.
create function faded(p_failures int, p_last timestamptz) returns int language sql stable as $$
  select greatest(0, ceil(p_failures
    * (1 - greatest(0, extract(epoch from clock_timestamp() - p_last)) / 900)))::int;
$$;

-- Counts an attempt for each of its subjects (a name at one address, a name, an address; or a browser
-- that is known) before it is made, so that parallel guesses cannot slip past the lock. Where one has
-- reached its maximum nothing more is counted, and no password hash is given.
create function begin_sign_in(p_email text, p_subjects bytea[], p_maxima int[], out user_id uuid, out email text, out name text, out password_hash text,
  out locked boolean)
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare subject record; found_failures int;
begin
  locked := false;
  for subject in select v.hash, v.maximum
      from unnest(p_subjects, p_maxima) as v(hash, maximum) order by v.hash loop
    insert into sign_in_failures as f (subject_hash, failures) values (subject.hash, 0)
      on conflict (subject_hash) do update set failures = f.failures  -- locks the row
      returning faded(f.failures, f.last_failed_at) into found_failures;
    locked := locked or found_failures >= subject.maximum;
  end loop;
  if locked then return; end if;
  update sign_in_failures f
    set failures = faded(f.failures, f.last_failed_at) + 1, last_failed_at = clock_timestamp()
    where f.subject_hash = any(p_subjects);
  select u.user_id, u.email, u.name, u.password_hash into user_id, email, name, password_hash
    from users u where u.email = p_email and u.status = 'active' and u.password_hash is not null;
end $$;

-- Ends an attempt. Passed: its first subject starts anew, others get the attempt back. Failed: one row
-- in the audit log, unless the lock refused it (an attacker must not fill the log). p_action is what
-- the password was asked for.
create function end_sign_in(p_passed boolean, p_locked boolean, p_user uuid, p_subjects bytea[],
  p_from text, p_action text) returns void
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare subject record;
begin
  if p_passed then
    for subject in select f.subject_hash from sign_in_failures f
        where f.subject_hash = any(p_subjects) order by f.subject_hash for update loop
      update sign_in_failures f
        set failures = case when f.subject_hash = p_subjects[1] then 0
          else greatest(0, f.failures - 1) end
        where f.subject_hash = subject.subject_hash;
    end loop;
    delete from sign_in_failures where subject_hash in (select f.subject_hash from sign_in_failures f
      where f.last_failed_at < now() - interval '1 hour' limit 100 for update skip locked);
  elsif not p_locked then
    perform append_audit(coalesce('user:' || p_user, 'nobody'), null, p_action,
      coalesce('user:' || p_user, 'user:unknown'), 'denied', null,
      jsonb_build_object('address', p_from));
  end if;
end $$;

-- ---- tickets and sessions

-- p_tenant, where the person has a place, is where the session begins; else with their first.
create function issue_ticket(p_hash bytea, p_user uuid, p_door text, p_tenant uuid) returns boolean
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
begin
  delete from tickets where expires_at < now() - interval '1 hour';
  insert into tickets(ticket_hash, user_id, door, expires_at, of_tenant)
    select p_hash, u.user_id, p_door, now() + interval '30 s', p_tenant
      from users u where u.user_id = p_user and u.status = 'active'
        and (exists (select from operators o where o.user_id = p_user)
          or exists (select from tenants_of(p_user)));
  return found;
end $$;

create function redeem_ticket(p_ticket bytea, p_session uuid, p_token bytea, p_address text,
  p_user_agent text) returns boolean
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare opened sessions;
begin
  with spent as (delete from tickets where ticket_hash = p_ticket returning user_id, door, expires_at,
    of_tenant)
  insert into sessions(session_id, token_hash, user_id, door, expires_at, address, user_agent, of_tenant)
    select p_session, p_token, u.user_id, s.door, now() + interval '12 h', p_address, p_user_agent,
        s.of_tenant
      from spent s join users u on u.user_id = s.user_id
      where s.expires_at > now() and u.status = 'active'
    returning * into opened;
  if not found then return false; end if;
  perform append_audit('user:' || opened.user_id, null, 'session.open',
    'session:' || opened.session_id, 'done', null,
    jsonb_build_object('door', opened.door, 'address', p_address));
  return true;
end $$;

-- A session that nobody used for so long has ended, though its cookie lives on.
create function idle_limit() returns interval language sql immutable as $$ select interval '4 h' $$;

-- Whether a session can still be used.
create function is_live(p_session app.sessions) returns boolean language sql stable as $$
  select p_session.revoked_at is null and p_session.expires_at > now()
    and p_session.last_seen_at > now() - verbs.idle_limit();
$$;

create type identity as (
  session_id uuid, user_id uuid, email text, name text, is_operator boolean, tenant_id uuid,
  tenant_name text, role text, plan text, mode text, time_zone text, key_id uuid, scopes text[]);

-- Who each of these tokens of sessions stands for now: the chosen tenant while its membership is
-- active, else the person's first. Those whose session, person or every membership has ended are left
-- out. It touches nothing: a page that looks by itself keeps nobody signed in.
create function who_are(p_tokens bytea[]) returns table(token_hash bytea, found identity)
language sql stable security definer set search_path = app, verbs, pg_temp as $$
  select s.token_hash, row(s.session_id, u.user_id, u.email, u.name, o.user_id is not null, m.tenant_id,
      m.tenant_name, m.role, m.plan, m.mode, zone_of(m.tenant_id, now()), null, null)::identity
    from sessions s
    join users u on u.user_id = s.user_id and u.status = 'active'
    left join operators o on o.user_id = u.user_id
    left join lateral (
      select p.tenant_id, t.name as tenant_name, p.role, t.plan, t.mode
        from memberships p join tenants t on t.tenant_id = p.tenant_id
        where p.user_id = u.user_id and p.status = 'active' and t.status = 'active'
        order by (p.tenant_id is not distinct from s.of_tenant) desc, p.created_at, p.tenant_id
        limit 1) m on true
    where s.token_hash = any(p_tokens) and is_live(s)
      and (o.user_id is not null or m.tenant_id is not null);
$$;

-- Who a session's token stands for now, and that it was used. Nobody when it has ended.
create function who(p_token bytea) returns setof identity
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
begin
  update sessions s set last_seen_at = now()
    where s.token_hash = p_token and is_live(s) and s.last_seen_at < now() - interval '1 minute';
  return query select (w.found).* from who_are(array[p_token]) w;
end $$;

create function end_session(p_token bytea) returns boolean
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare ended sessions;
begin
  update sessions set revoked_at = now() where token_hash = p_token and revoked_at is null
    returning * into ended;
  if not found then return false; end if;
  perform append_audit('user:' || ended.user_id, null, 'session.end', 'session:' || ended.session_id,
    'done', null, null);
  return true;
end $$;

create function sessions_of(p_user uuid) returns table(session_id uuid, door text,
  created_at timestamptz, last_seen_at timestamptz, expires_at timestamptz, address text,
  user_agent text)
language sql stable security definer set search_path = app, verbs, pg_temp as $$
  select s.session_id, s.door, s.created_at, s.last_seen_at, s.expires_at, s.address, s.user_agent
    from sessions s where s.user_id = p_user and is_live(s)
    order by s.last_seen_at desc, s.session_id;
$$;

-- Ends the sessions of one person: one of them, or (p_but) all but one. Returns how many ended.
create function end_sessions_of(p_user uuid, p_only uuid, p_but uuid) returns int
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare ended int;
begin
  update sessions s set revoked_at = now()
    where user_id = p_user and is_live(s)
      and (session_id = p_only or p_only is null and session_id <> p_but);
  get diagnostics ended = row_count;
  return ended;
end $$;

-- Gives the person of a live session a new password. p_old_hash is what their counted attempt was
-- handed (begin_sign_in), so a password that was changed meanwhile stays. Tickets go before sessions:
-- one that is being redeemed is waited for, and its session then ends with the others. Returns how
-- many other sessions ended and, where asked, keys of theirs in all tenants; nulls when nothing was changed.
create function change_password(p_token bytea, p_old_hash text, p_new_hash text, p_end_keys boolean,
  out ended int, out keys_ended int)
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare asking identity;
begin
  select * into asking from who(p_token);
  update users u set password_hash = p_new_hash
    where u.user_id = asking.user_id and u.status = 'active' and u.password_hash = p_old_hash;
  if not found then return; end if;
  delete from tickets t where t.user_id = asking.user_id;
  ended := end_sessions_of(asking.user_id, null, asking.session_id);
  keys_ended := 0;
  if p_end_keys then
    update api_keys k set revoked_at = now() where k.user_id = asking.user_id and k.revoked_at is null;
    get diagnostics keys_ended = row_count;
  end if;
  perform append_audit('user:' || asking.user_id, null, 'user.password_change',
    'user:' || asking.user_id, 'done', null,
    jsonb_build_object('sessions_ended', ended, 'keys_revoked', keys_ended));
end $$;

create function tenants_of(p_user uuid) returns table(tenant_id uuid, name text, role text)
language sql stable security definer set search_path = app, verbs, pg_temp as $$
  select m.tenant_id, t.name, m.role from memberships m join tenants t on t.tenant_id = m.tenant_id
    where m.user_id = p_user and m.status = 'active' and t.status = 'active'
    order by m.created_at, m.tenant_id;
$$;

create function choose_tenant(p_user uuid, p_session uuid, p_tenant uuid) returns boolean
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
begin
  update sessions set of_tenant = p_tenant
    where session_id = p_session and user_id = p_user and revoked_at is null
      and p_tenant in (select t.tenant_id from tenants_of(p_user) t);
  return found;
end $$;

-- ---- people and keys of the bound tenant

create function members() returns table(user_id uuid, email text, name text, role text, status text)
language sql stable security definer set search_path = app, verbs, pg_temp as $$
  select m.user_id, u.email, u.name, m.role,
      case when u.status = 'active' and m.status = 'active' then 'active' else 'disabled' end
    from memberships m join users u on u.user_id = m.user_id
    where m.tenant_id = app.tenant() order by u.email;
$$;

-- Returns 'ok', 'no_member' or 'too_many'. The membership's lock makes the count of live keys true.
create function issue_key(p_tenant uuid, p_user uuid, p_key uuid, p_hash bytea, p_name text,
  p_prefix text, p_scopes text[], p_expires_at timestamptz, p_budget_nusd bigint, p_live_max int)
returns text
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare of_tenant uuid := acting_tenant(p_tenant); live int;
begin
  perform from memberships m join users u on u.user_id = m.user_id and u.status = 'active'
    where m.tenant_id = of_tenant and m.user_id = p_user and m.status = 'active' for update of m;
  if not found then return 'no_member'; end if;
  select count(*) into live from api_keys k where k.tenant_id = of_tenant and k.user_id = p_user
    and k.revoked_at is null and (k.expires_at is null or k.expires_at > now());
  if live >= p_live_max then return 'too_many'; end if;
  insert into api_keys(tenant_id, key_id, user_id, name, prefix, scopes, expires_at)
    values (of_tenant, p_key, p_user, p_name, p_prefix, p_scopes, p_expires_at);
  insert into api_key_hashes(key_hash, of_tenant, key_id) values (p_hash, of_tenant, p_key);
  if p_budget_nusd is not null then
    insert into limit_overrides(tenant_id, scope, subject_id, limit_name, maximum)
      values (of_tenant, 'key', p_key, 'monthly_nusd', p_budget_nusd);
  end if;
  return 'ok';
end $$;

-- Revokes a key of the acting tenant (the jobs role may leave the tenant open), of one person when
-- p_owner is given. Returns the key's tenant, null when there is no such live key.
create function revoke_key(p_tenant uuid, p_key uuid, p_owner uuid) returns uuid
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare of_tenant uuid := acting_tenant(p_tenant); revoked_of uuid;
begin
  update api_keys k set revoked_at = now()
    where k.key_id = p_key and k.revoked_at is null and (p_owner is null or k.user_id = p_owner)
      and (k.tenant_id = of_tenant or of_tenant is null and caller() = 'app_jobs')
    returning k.tenant_id into revoked_of;
  return revoked_of;
end $$;

-- Who a presented key stands for now. Nobody when the key, the person or the membership has ended.
create function who_by_key(p_hash bytea) returns setof identity
language sql stable security definer set search_path = app, verbs, pg_temp as $$
  select null::uuid, u.user_id, u.email, u.name, false, t.tenant_id, t.name, m.role, t.plan, t.mode,
      zone_of(t.tenant_id, now()), k.key_id, k.scopes
    from api_key_hashes h
    join api_keys k on k.tenant_id = h.of_tenant and k.key_id = h.key_id
    join users u on u.user_id = k.user_id
    join memberships m on m.tenant_id = k.tenant_id and m.user_id = k.user_id
    join tenants t on t.tenant_id = k.tenant_id
    where h.key_hash = p_hash and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
      and u.status = 'active' and m.status = 'active' and t.status = 'active';
$$;

-- A new function is open to everyone until this is said of it.
revoke execute on all functions in schema verbs from public;
grant execute on function caller, acting_tenant, append_audit, begin_sign_in, end_sign_in, issue_ticket,
  redeem_ticket, idle_limit, who, end_session, sessions_of, end_sessions_of, change_password, tenants_of,
  choose_tenant, members, issue_key, revoke_key, who_are, who_by_key to app_rw, app_jobs;
