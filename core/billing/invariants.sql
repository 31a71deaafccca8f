-- What must always hold of the credit ledger and its holds. One row per offence.

-- name: ledger_posted nightly
select format('tenant %s: posted %s, sum of entries %s', a.tenant_id, a.posted_nusd, e.total) as detail
from app.accounts a
cross join lateral (select coalesce(sum(amount_nusd), 0) as total from app.entries
  where tenant_id = a.tenant_id) e
where a.posted_nusd <> e.total;

-- name: ledger_seq nightly
select format('tenant %s: %s entries from %s to %s, account at %s',
  a.tenant_id, e.entries, e.first, e.last, a.seq)
from app.accounts a
cross join lateral (select count(*) as entries, coalesce(min(seq), 1) as first,
    coalesce(max(seq), 0) as last from app.entries where tenant_id = a.tenant_id) e
where e.first <> 1 or e.last <> e.entries or e.last <> a.seq;

-- name: ledger_running nightly
select format('tenant %s entry %s: posted after %s, running sum %s', tenant_id, seq,
  posted_after_nusd, running)
from (select tenant_id, seq, posted_after_nusd,
    sum(amount_nusd) over (partition by tenant_id order by seq) as running from app.entries) e
where posted_after_nusd <> running;

-- name: ledger_lots
select format('tenant %s: posted %s, lots %s - debt %s - receivable %s',
  a.tenant_id, a.posted_nusd, l.remaining, a.debt_nusd, a.receivable_nusd)
from app.accounts a
cross join lateral (select coalesce(sum(remaining_nusd), 0) as remaining from app.lots
  where tenant_id = a.tenant_id) l
where a.posted_nusd <> l.remaining - a.debt_nusd - a.receivable_nusd;

-- name: ledger_owed
select format('tenant %s: debt %s, receivable %s, floor %s', tenant_id, debt_nusd, receivable_nusd,
  floor_nusd)
from app.accounts
where debt_nusd < 0 or receivable_nusd < 0 or floor_nusd = 0 and receivable_nusd > 0;

-- name: debt_netted
-- Nobody owes beside credit: debt is what nothing is left for.
select format('tenant %s: debt %s beside %s', a.tenant_id, a.debt_nusd, sum(l.remaining_nusd))
from app.accounts a
join app.lots l on l.tenant_id = a.tenant_id and l.remaining_nusd > 0
  and l.effective_at <= now() and (l.expires_at is null or l.expires_at > now())
where a.debt_nusd > 0
group by a.tenant_id, a.debt_nusd;

-- name: lot_parts
select format('lot %s: granted %s, remaining %s, consumed %s, expired %s, revoked %s', lot_id,
  granted_nusd, remaining_nusd, consumed_nusd, expired_nusd, revoked_nusd)
from app.lots
where granted_nusd <> remaining_nusd + consumed_nusd + expired_nusd + revoked_nusd
  or least(remaining_nusd, consumed_nusd, expired_nusd, revoked_nusd) < 0;

-- name: lot_uses nightly
select format('lot %s: consumed %s, uses %s', l.lot_id, l.consumed_nusd, u.total)
from app.lots l
cross join lateral (select coalesce(sum(amount_nusd), 0) as total from app.lot_uses
  where tenant_id = l.tenant_id and lot_id = l.lot_id) u
where l.consumed_nusd <> u.total;

-- name: lot_entries nightly
-- A claw-back books all of it, less what was given back; the lot gives what it has left, the rest is
-- debt.
select format('lot %s: granted %s (booked %s), expired %s (booked %s), revoked %s (booked %s)',
  l.lot_id, l.granted_nusd, e.granted, l.expired_nusd, e.expired, l.revoked_nusd, e.revoked)
from app.lots l
left join (select tenant_id, lot_id,
    sum(amount_nusd) filter (where kind = 'grant') as granted,
    -coalesce(sum(amount_nusd) filter (where kind = 'expire'), 0) as expired,
    -coalesce(sum(amount_nusd) filter (where kind in ('revoke', 'reinstate')), 0) as revoked
  from app.entries where lot_id is not null group by tenant_id, lot_id) e
  on e.tenant_id = l.tenant_id and e.lot_id = l.lot_id
where e.granted is distinct from l.granted_nusd or e.expired <> l.expired_nusd
  or e.revoked < l.revoked_nusd or e.revoked > l.granted_nusd;

-- name: ledger_dues
select format('tenant %s: receivable %s, sum of dues %s', a.tenant_id, a.receivable_nusd, d.total)
from app.accounts a
cross join lateral (select coalesce(sum(amount_nusd), 0) as total from app.dues
  where tenant_id = a.tenant_id) d
where a.receivable_nusd <> d.total;

-- name: due_entry nightly
-- What was used and no lot covered is due from nobody but those who pay later; what lowers it is a
-- payment, a write-off or something given back.
select format('tenant %s entry %s (%s): due %s', d.tenant_id, d.seq, e.kind, d.amount_nusd)
from app.dues d
join app.entries e on e.tenant_id = d.tenant_id and e.seq = d.seq
where e.kind not in ('capture', 'adjust', 'reinstate', 'payment', 'write_off')
  or e.kind in ('payment', 'write_off') and d.amount_nusd <> -e.amount_nusd
  or e.kind in ('capture', 'adjust', 'reinstate')
    and (sign(d.amount_nusd) <> -sign(e.amount_nusd) or abs(d.amount_nusd) > abs(e.amount_nusd));

-- name: ledger_uses nightly
-- All that was used, and what claw-backs took beyond their lots, was paid by lots, is owed, or was paid
-- or written off afterwards.
select format('tenant %s: used %s + clawed back beyond the lots %s; lots paid %s, owed %s + %s, settled %s',
  a.tenant_id, e.used, e.clawed_back - l.revoked, l.consumed, a.debt_nusd, a.receivable_nusd, e.settled)
from app.accounts a
cross join lateral (select
    -coalesce(sum(amount_nusd) filter (where kind in ('capture', 'adjust')), 0) as used,
    -coalesce(sum(amount_nusd) filter (where kind in ('revoke', 'reinstate')), 0) as clawed_back,
    coalesce(sum(amount_nusd) filter (where kind in ('payment', 'write_off')), 0) as settled
  from app.entries where tenant_id = a.tenant_id) e
cross join lateral (select coalesce(sum(consumed_nusd), 0) as consumed,
    coalesce(sum(revoked_nusd), 0) as revoked from app.lots where tenant_id = a.tenant_id) l
where e.used + e.clawed_back - l.revoked
  <> l.consumed + a.debt_nusd + a.receivable_nusd + e.settled;

-- name: entry_future nightly
select format('tenant %s entry %s: dated %s', tenant_id, seq, occurred_at)
from app.entries
where occurred_at > clock_timestamp();

-- name: account_frozen
select format('tenant %s: frozen without an open dispute', a.tenant_id)
from app.accounts a
where a.frozen and not exists (select from app.claw_backs c where c.tenant_id = a.tenant_id
  and c.kind = 'dispute' and c.counts and c.status not in ('lost', 'won'));

-- name: wallet_held
-- What is held is for a call that runs, or was kept for one whose cost is not final.
select format('tenant %s: held %s, open holds %s, kept %s', a.tenant_id, a.held_nusd, h.total, k.total)
from app.accounts a
cross join lateral (select coalesce(sum(amount_nusd), 0) as total from app.holds
  where tenant_id = a.tenant_id and state = 'open') h
cross join lateral (select coalesce(sum(kept_nusd), 0) as total from app.lookups
  where tenant_id = a.tenant_id) k
where a.held_nusd <> h.total + k.total;

-- name: hold_capture nightly
select format('call %s: hold %s captured %s, entries %s of %s', h.call_id, h.state, h.captured_nusd,
  e.entries, e.total)
from app.holds h
left join (select tenant_id, call_id, count(*) as entries, -sum(amount_nusd) as total
  from app.entries where kind = 'capture' group by tenant_id, call_id) e
  on e.tenant_id = h.tenant_id and e.call_id = h.call_id
where coalesce(e.total, 0) <> h.captured_nusd or coalesce(e.entries, 0) > 1
  or (h.state = 'captured') <> (h.captured_nusd > 0);

-- name: hold_call nightly
select format('call %s: call %s, hold %s, call held %s, hold of %s', coalesce(c.call_id, h.call_id),
  coalesce(c.state, 'missing'), coalesce(h.state, 'missing'), c.hold_nusd, h.amount_nusd)
from app.calls c
full join app.holds h on h.tenant_id = c.tenant_id and h.call_id = c.call_id
where c.call_id is null or h.call_id is null or (c.state = 'open') <> (h.state = 'open')
  or c.hold_nusd <> h.amount_nusd;

-- name: hold_lease
select format('call %s: still held, lease ended %s', h.call_id, c.lease_until)
from app.holds h
join app.calls c on c.tenant_id = h.tenant_id and c.call_id = h.call_id
where h.state = 'open' and c.lease_until < clock_timestamp() - interval '60 s';

-- name: usage_ledger nightly
-- What events bill for a call is what the ledger took for it: no debit without usage, and reverse.
select format('call %s: events %s, entries %s', coalesce(u.call_id, e.call_id),
  coalesce(u.billed, 0), coalesce(e.taken, 0))
from (select tenant_id, call_id, sum(billed_nusd) as billed from app.usage_events
  group by tenant_id, call_id) u
full join (select tenant_id, call_id, -sum(amount_nusd) as taken from app.entries
  where kind in ('capture', 'adjust') group by tenant_id, call_id) e
  on e.tenant_id = u.tenant_id and e.call_id = u.call_id
where coalesce(u.billed, 0) <> coalesce(e.taken, 0);

-- name: float_column
select format('%s.%s is %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod))
from pg_attribute a
join pg_class c on c.oid = a.attrelid
where c.relnamespace = 'app'::regnamespace and c.relkind in ('r', 'p') and not a.attisdropped
  and a.attnum > 0 and (a.atttypid in ('float4'::regtype, 'float8'::regtype, 'money'::regtype)
    or a.attname ~ '(_nusd|_usd|_minor|units)$'
      and a.atttypid not in ('int8'::regtype, 'int4'::regtype, 'numeric'::regtype));
