-- What a call may still cost beyond what was booked, reserved until its cost is final. Look-ups opened
-- before this keep nothing.
alter table app.lookups
  add column kept_nusd bigint default 0 not null,
  add column kept_tokens bigint default 0 not null,
  add constraint lookups_kept_check check (kept_nusd >= 0 and kept_tokens >= 0);

create or replace view reporting.holds as
select h.tenant_id, reporting.usd(h.amount_nusd) as amount_usd,
  reporting.usd(h.captured_nusd) as captured_usd, h.state, h.call_id, h.opened_at, h.settled_at,
  c.lease_until, reporting.usd(coalesce(l.kept_nusd, 0)) as kept_usd
from app.holds h join app.calls c on c.tenant_id = h.tenant_id and c.call_id = h.call_id
left join app.lookups l on l.tenant_id = h.tenant_id and l.call_id = h.call_id;
