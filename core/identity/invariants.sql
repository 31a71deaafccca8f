-- What the database's own catalogue must say about isolation, roles and money. One row per offence.

-- name: row_security
-- Every table of a tenant forces row security, has the web role's policy, and no wider one.
with guarded as (
  select c.oid, c.relname, c.relispartition, c.relrowsecurity and c.relforcerowsecurity as forced,
    a.attnotnull
  from pg_class c
  join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
  where c.relnamespace = 'app'::regnamespace and c.relkind in ('r', 'p')),
policies as (
  select g.oid, count(*) filter (where p.narrow and p.for_web) as narrow,
    count(*) filter (where not p.narrow and p.for_web) as wide
  from guarded g
  join lateral (select
      p.polroles && array[0::oid, 'app_rw'::regrole::oid] as for_web,
      coalesce(pg_get_expr(p.polqual, p.polrelid), 'true') ~ 'tenant_id = .*app\.tenant\(\)'
        and coalesce(pg_get_expr(p.polwithcheck, p.polrelid), 'tenant_id = app.tenant()')
          ~ 'tenant_id = .*app\.tenant\(\)' as narrow
    from pg_policy p where p.polrelid = g.oid and p.polpermissive) p on true
  group by g.oid)
select format('%s: %s', g.relname, case when not g.forced then 'row security is not forced'
  when not g.attnotnull then 'tenant_id may be null'
  when p.wide > 0 then 'a policy lets the web role see more than its tenant'
  else 'the web role has no policy' end) as detail
from guarded g
left join policies p on p.oid = g.oid
where not g.forced or not g.attnotnull or p.wide > 0
  or not g.relispartition and coalesce(p.narrow, 0) = 0;

-- name: partition_guard
-- The parent's policy does not guard a partition that is addressed by name.
select format('%s: %s may %s', c.relname, coalesce(r.rolname, 'everybody'), a.privilege_type)
from pg_class c
cross join lateral aclexplode(c.relacl) a
left join pg_roles r on r.oid = a.grantee
where c.relnamespace = 'app'::regnamespace and c.relispartition
  and (a.grantee = 0 or r.rolname in ('app_rw', 'app_jobs', 'purser_reporting'));

-- name: role
select format('%s: %s', r.rolname, case when r.rolsuper then 'is a superuser'
  when r.rolbypassrls then 'bypasses row security' when r.rolcreaterole then 'may create roles'
  else 'is a member of app_owner' end)
from pg_roles r
where r.rolname in ('app_rw', 'app_jobs', 'purser_reporting') and (r.rolsuper or r.rolbypassrls
  or r.rolcreaterole or pg_has_role(r.oid, 'app_owner', 'member'))
union all
select format('%s owns %s', c.relowner::regrole, c.oid::regclass)
from pg_class c
where c.relnamespace in ('app'::regnamespace, 'jobs'::regnamespace, 'reporting'::regnamespace)
  and c.relowner in (select oid from pg_roles
    where rolname in ('app_rw', 'app_jobs', 'purser_reporting'))
union all
select format('the web role may reach another''s rows: it is a member of %s', m.roleid::regrole)
from pg_auth_members m
where m.member = 'app_rw'::regrole and m.roleid in ('app_jobs'::regrole, 'app_owner'::regrole);

-- name: reporting
-- The reporting role reads the reporting views and nothing else; nothing of ours is everybody's.
select format('%s may %s on %s', coalesce(r.rolname, 'everybody'), a.privilege_type, c.oid::regclass)
from pg_class c
cross join lateral aclexplode(c.relacl) a
left join pg_roles r on r.oid = a.grantee
where c.relnamespace in ('app'::regnamespace, 'jobs'::regnamespace, 'reporting'::regnamespace)
  and (a.grantee = 0 or r.rolname = 'purser_reporting'
    and (c.relnamespace <> 'reporting'::regnamespace or a.privilege_type <> 'SELECT'));

-- name: definer
-- A function that runs with its owner's rights fixes its search path and is not everybody's.
select format('%s: %s', p.oid::regprocedure, case
  when p.proowner <> 'app_owner'::regrole then 'belongs to ' || p.proowner::regrole
  when not exists (select from unnest(p.proconfig) s where s like 'search_path=%') then 'has no search path'
  else 'everybody may execute it' end)
from pg_proc p
where p.pronamespace in ('app'::regnamespace, 'verbs'::regnamespace, 'reporting'::regnamespace,
    'jobs'::regnamespace)
  and p.prosecdef and (p.proowner <> 'app_owner'::regrole
  or not exists (select from unnest(p.proconfig) s where s like 'search_path=%')
  or exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
    where a.grantee = 0 and a.privilege_type = 'EXECUTE'));

-- name: append_only
select format('%s: %s', t.name, coalesce('the web or jobs role may ' || a.privilege_type,
  'its trigger is missing or off'))
from unnest(array['entries', 'lot_uses', 'dues', 'usage_events', 'audit_log']) as t(name)
left join pg_class c on c.relnamespace = 'app'::regnamespace and c.relname = t.name
left join pg_trigger g on g.tgrelid = c.oid and g.tgname = 'append_only' and g.tgenabled in ('O', 'A')
left join lateral (select x.privilege_type from aclexplode(c.relacl) x
  join pg_roles r on r.oid = x.grantee where r.rolname in ('app_rw', 'app_jobs')
  and x.privilege_type in ('UPDATE', 'DELETE', 'TRUNCATE')) a on true
where g.oid is null or a.privilege_type is not null;

-- name: foreign_key
-- A reference between two tenant tables carries the tenant, so no row can point at another's.
select format('%s on %s does not carry tenant_id', k.conname, k.conrelid::regclass)
from pg_constraint k
join pg_attribute here on here.attrelid = k.conrelid and here.attname = 'tenant_id'
  and not here.attisdropped
join pg_attribute there on there.attrelid = k.confrelid and there.attname = 'tenant_id'
  and not there.attisdropped
where k.contype = 'f' and k.connamespace = 'app'::regnamespace
  and not exists (select from unnest(k.conkey, k.confkey) as pair(a, b)
    where pair.a = here.attnum and pair.b = there.attnum);

-- name: money_column
select format('%s.%s is %s, not bigint', c.relname, a.attname, format_type(a.atttypid, a.atttypmod))
from pg_attribute a
join pg_class c on c.oid = a.attrelid
where c.relnamespace = 'app'::regnamespace and c.relkind in ('r', 'p') and not a.attisdropped
  and a.attname like '%\_nusd' and a.atttypid <> 'bigint'::regtype;
