alter table app.users
  add column made_by_tenant uuid references app.tenants(tenant_id),
  add column email_proven_at timestamptz;

-- Accounts whose password was chosen with a link, as the log tells it.
update app.users u set made_by_tenant = l.of_tenant
from (select distinct on (a.after ->> 'user_id') a.after ->> 'user_id' as user_id, a.of_tenant
    from app.audit_log a
    where a.action = 'invite.accept' and a.outcome = 'done' and (a.after ->> 'first_password')::boolean
    order by a.after ->> 'user_id', a.audit_id) l
where u.user_id = l.user_id::uuid;
