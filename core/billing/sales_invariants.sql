-- What must always hold between what was paid, what was granted for it, and what Stripe told. One row
-- per offence.

-- name: order_fulfilled
-- Paid credit is granted once, as it was ordered: the lots bear the id of what paid for them.
select format('order %s: %s, credit %s + %s, fulfilled by %s with lots of %s', o.order_id, o.kind,
  o.credits_nusd, o.bonus_nusd, coalesce(f.stripe_id, 'nothing'), l.total)
from app.orders o
left join app.fulfilments f on f.tenant_id = o.tenant_id and f.order_id = o.order_id
cross join lateral (select coalesce(sum(granted_nusd), 0) as total from app.lots
  where tenant_id = o.tenant_id and source_id = f.stripe_id
    and source_type in (f.kind, f.kind || '_bonus')) l
where o.kind in ('package', 'topup') and (
  (o.state = 'fulfilled') <> (f.stripe_id is not null)
  or o.state = 'fulfilled' and l.total <> o.credits_nusd + o.bonus_nusd);

-- name: fulfilment_lots
-- A fulfilment booked what it says: as lots, or as the payment of what was receivable.
select format('%s %s: granted %s, booked %s', f.kind, f.stripe_id, f.granted_nusd, b.total)
from app.fulfilments f
cross join lateral (select coalesce(sum(e.amount_nusd), 0) as total from app.entries e
  where e.tenant_id = f.tenant_id and e.source_id = f.stripe_id and e.kind in ('grant', 'payment')
    and e.source_type in (f.kind, f.kind || '_bonus')) b
where f.granted_nusd <> b.total;

-- name: lot_paid
select format('lot %s: bought by %s %s, which was not fulfilled', l.lot_id, l.source_type, l.source_id)
from app.lots l
where l.kind = 'purchase' and l.source_type in ('checkout_session', 'payment_intent')
  and not exists (select from app.fulfilments f where f.stripe_id = l.source_id
    and f.tenant_id = l.tenant_id and f.kind = l.source_type);

-- name: payment_clawed_back
-- Refunds and disputes of a payment take at most what it bought.
select format('payment %s: granted %s, clawed back %s', payment_intent_id, granted, clawed_back)
from (
  select p.payment_intent_id, sum(l.granted_nusd) as granted, sum(c.clawed_back) as clawed_back
  from app.payments p
  join app.fulfilments f on f.tenant_id = p.tenant_id
    and (f.order_id = p.order_id or f.invoice_id = p.invoice_id)
  join app.lots l on l.tenant_id = f.tenant_id and l.source_id = f.stripe_id
    and l.source_type in (f.kind, f.kind || '_bonus')
  cross join lateral (select -coalesce(sum(e.amount_nusd), 0) as clawed_back from app.entries e
    where e.tenant_id = l.tenant_id and e.lot_id = l.lot_id and e.kind in ('revoke', 'reinstate')) c
  group by p.payment_intent_id) p
where clawed_back < 0 or clawed_back > granted;

-- name: event_waiting
select format('event %s (%s): due since %s, %s attempts', event_id, type, due_at, attempts)
from app.stripe_events
where state = 'waiting' and due_at < clock_timestamp() - interval '15 min';

-- name: meter_waiting
-- An hour that is late by a day, after a first attempt or a day of none.
select format('tenant %s hour %s revision %s: not sent, %s attempts', tenant_id, hour, revision, attempts)
from app.meter_exports
where state = 'waiting' and hour < clock_timestamp() - interval '25 h'
  and (attempts > 0 or due_at < clock_timestamp() - interval '24 h');

-- name: meter_counted nightly
-- What was put on the meter, and what was less than a unit, is all the use of the spans up to there.
select format('tenant %s: exported %s units and %s, used %s up to entry %s', x.tenant_id, x.units,
  l.rest_nusd, u.used, l.through_seq)
from (select tenant_id, sum(units) as units, max(through_seq) as through_seq from app.meter_exports
  group by tenant_id) x
join app.meter_exports l on l.tenant_id = x.tenant_id and l.through_seq = x.through_seq
cross join lateral (select coalesce(sum(d.amount_nusd), 0) as used from app.dues d
  join app.entries e on e.tenant_id = d.tenant_id and e.seq = d.seq
  where d.tenant_id = x.tenant_id and d.seq <= x.through_seq and e.kind in ('capture', 'adjust')
    and exists (select from app.meter_spans s where s.tenant_id = d.tenant_id
      and d.seq > s.after_seq and (s.last_seq is null or d.seq <= s.last_seq))) u
where u.used <> x.units * 1000 + l.rest_nusd;

-- name: meter_span
select format('tenant %s: floor %s, %s open spans', a.tenant_id, a.floor_nusd, s.spans)
from app.accounts a
cross join lateral (select count(*) as spans from app.meter_spans
  where tenant_id = a.tenant_id and last_seq is null) s
where s.spans <> case when a.floor_nusd < 0 then 1 else 0 end;
