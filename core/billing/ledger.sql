-- The verbs of the credit ledger. Each locks the account first (then holds, then lots), writes at most
-- one entry, and does nothing twice: an idempotency key seen before returns what was booked then.
-- Always: posted = sum(entries) = sum(lots left) - debt - receivable; held = sum(open holds).

-- Appends one movement and moves the account by it, ending a hold of `p_unhold` with it. Callers
-- hold the account's lock.
create function post_entry(p_tenant uuid, p_kind text, p_contra text, p_amount bigint, p_key text,
  p_call uuid, p_lot uuid, p_source_type text, p_source_id text, p_actor text, p_reason text,
  p_unhold bigint default 0)
returns bigint language plpgsql set search_path = app, verbs, pg_temp as $$
declare a accounts;
begin
  update accounts set posted_nusd = posted_nusd + p_amount, seq = seq + 1,
      held_nusd = held_nusd - p_unhold
    where tenant_id = p_tenant returning * into a;
  insert into entries(tenant_id, seq, kind, contra, amount_nusd, posted_after_nusd, idempotency_key,
      call_id, lot_id, source_type, source_id, actor, reason)
    values (p_tenant, a.seq, p_kind, p_contra, p_amount, a.posted_nusd, p_key,
      p_call, p_lot, p_source_type, p_source_id, p_actor, p_reason);
  return a.seq;
end $$;

-- Pays `p_amount` out of the lots, in spending order, on behalf of entry `p_seq`; what they cannot
-- cover is debt (prepaid) or receivable (postpaid; internal: show-back).
create function spend_lots(p_tenant uuid, p_seq bigint, p_amount bigint) returns void
language plpgsql set search_path = app, verbs, pg_temp as $$
declare l record; owed bigint := p_amount; take bigint;
begin
  for l in select lot_id, remaining_nusd from lots
      where tenant_id = p_tenant and remaining_nusd > 0 and effective_at <= now()
      order by priority, expires_at nulls last, effective_at, lot_id loop
    exit when owed = 0;
    take := least(l.remaining_nusd, owed);
    update lots set remaining_nusd = remaining_nusd - take, consumed_nusd = consumed_nusd + take
      where tenant_id = p_tenant and lot_id = l.lot_id;
    insert into lot_uses(tenant_id, seq, lot_id, amount_nusd) values (p_tenant, p_seq, l.lot_id, take);
    owed := owed - take;
  end loop;
  if owed > 0 then
    update accounts set debt_nusd = debt_nusd + case when floor_nusd = 0 then owed else 0 end,
        receivable_nusd = receivable_nusd + case when floor_nusd = 0 then 0 else owed end
      where tenant_id = p_tenant;
  end if;
end $$;

-- Gives `p_amount` back on behalf of entry `p_seq`: first what is owed, then the lots that call used.
create function refill_lots(p_tenant uuid, p_seq bigint, p_call uuid, p_amount bigint) returns void
language plpgsql set search_path = app, verbs, pg_temp as $$
declare
  a accounts; l record; due bigint := p_amount; paid bigint; give bigint;
  lots_given uuid[] := '{}'; gives bigint[] := '{}';
begin
  select * into a from accounts where tenant_id = p_tenant;
  paid := least(due, a.debt_nusd);
  due := due - paid;
  give := least(due, a.receivable_nusd);
  due := due - give;
  update accounts set debt_nusd = debt_nusd - paid, receivable_nusd = receivable_nusd - give
    where tenant_id = p_tenant;
  for l in
      (select 1 as turn, u.lot_id, sum(u.amount_nusd)::bigint as used, max(u.seq) as newest
        from lot_uses u join entries e on e.tenant_id = u.tenant_id and e.seq = u.seq
        where u.tenant_id = p_tenant and e.call_id = p_call
        group by u.lot_id having sum(u.amount_nusd) > 0)
      union all  -- a grant may have paid this call's debt since: then its lot is the one to refill
      (select 2, lot_id, consumed_nusd, 0 from lots where tenant_id = p_tenant and consumed_nusd > 0)
      order by turn, newest desc, lot_id desc loop
    exit when due = 0;
    select least(l.used, due, consumed_nusd) into give from lots
      where tenant_id = p_tenant and lot_id = l.lot_id;
    continue when give = 0;
    update lots set remaining_nusd = remaining_nusd + give, consumed_nusd = consumed_nusd - give
      where tenant_id = p_tenant and lot_id = l.lot_id;
    lots_given := lots_given || l.lot_id;
    gives := gives || give;
    due := due - give;
  end loop;
  insert into lot_uses(tenant_id, seq, lot_id, amount_nusd)
    select p_tenant, p_seq, g.lot_id, -sum(g.amount) from unnest(lots_given, gives) as g(lot_id, amount)
    group by g.lot_id;
  if due > 0 then
    raise exception 'call % is given back more than it took', p_call using errcode = 'check_violation';
  end if;
  perform set_next_expiry(p_tenant);
end $$;

create function set_next_expiry(p_tenant uuid) returns void
language sql set search_path = app, verbs, pg_temp as $$
  update accounts set next_expiry_at = (
      select min(expires_at) from lots where tenant_id = p_tenant and remaining_nusd > 0)
    where tenant_id = p_tenant;
$$;

-- Opens a tenant's account. Its floor: 0 prepaid, minus the credit limit postpaid, null internal.
create function open_account(p_tenant uuid, p_floor bigint) returns void
language sql security definer set search_path = app, verbs, pg_temp as $$
  insert into accounts(tenant_id, floor_nusd) values (p_tenant, p_floor) on conflict do nothing;
$$;

-- Credits a new lot. Debt is paid from it first. Returns the entry's seq; a known key, that entry's.
create function grant_lot(p_tenant uuid, p_lot uuid, p_kind text, p_amount bigint, p_priority int,
  p_expires timestamptz, p_source_type text, p_source_id text, p_key text, p_actor text, p_reason text)
returns bigint language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare a accounts; known bigint; paid bigint; entry bigint;
begin
  select * into strict a from accounts where tenant_id = p_tenant for update;
  select seq into known from entries where tenant_id = p_tenant and idempotency_key = p_key;
  if found then return known; end if;
  paid := least(a.debt_nusd, p_amount);
  insert into lots(tenant_id, lot_id, kind, priority, granted_nusd, remaining_nusd, consumed_nusd,
      expires_at, source_type, source_id)
    values (p_tenant, p_lot, p_kind, p_priority, p_amount, p_amount - paid, paid, p_expires,
      p_source_type, p_source_id);
  entry := post_entry(p_tenant, 'grant', p_kind, p_amount, p_key, null, p_lot, p_source_type,
    p_source_id, p_actor, p_reason);
  if paid > 0 then
    update accounts set debt_nusd = debt_nusd - paid where tenant_id = p_tenant;
    insert into lot_uses(tenant_id, seq, lot_id, amount_nusd) values (p_tenant, entry, p_lot, paid);
  end if;
  perform set_next_expiry(p_tenant);
  return entry;
end $$;

-- Whether the account can set `p_amount` aside: 'ok' (and it is set aside), 'debt' or 'credit'.
create function reserve(p_tenant uuid, p_amount bigint) returns text
language plpgsql set search_path = app, verbs, pg_temp as $$
declare a accounts;
begin
  for attempt in 1..2 loop
    update accounts set held_nusd = held_nusd + p_amount
      where tenant_id = p_tenant and debt_nusd = 0
        and (p_amount = 0 or floor_nusd is null or posted_nusd - held_nusd - p_amount >= floor_nusd)
        and (attempt = 2 or next_expiry_at is null or next_expiry_at > now());
    if found then return 'ok'; end if;
    select * into strict a from accounts where tenant_id = p_tenant for update;
    exit when a.next_expiry_at is null or a.next_expiry_at > now();
    perform expire_lots(p_tenant);  -- then once more, with what is really left
  end loop;
  return case when a.debt_nusd > 0 then 'debt' else 'credit' end;
end $$;

-- Names the call that what `reserve` set aside is for. Same transaction, once the call's row is there.
create function hold(p_tenant uuid, p_call uuid, p_amount bigint) returns void
language sql set search_path = app, verbs, pg_temp as $$
  insert into holds(tenant_id, call_id, amount_nusd) values (p_tenant, p_call, p_amount);
$$;

-- Ends a call's hold of `p_held` with its true cost (0 releases it). The caller settles a call once.
create function capture(p_tenant uuid, p_call uuid, p_held bigint, p_amount bigint, p_actor text)
returns void language plpgsql set search_path = app, verbs, pg_temp as $$
declare entry bigint;
begin
  if p_amount = 0 then
    update accounts set held_nusd = held_nusd - p_held where tenant_id = p_tenant;
  else
    entry := post_entry(p_tenant, 'capture', 'usage', -p_amount, 'capture:' || p_call, p_call, null,
      'call', p_call::text, p_actor, null, p_held);
  end if;
  update holds set state = case when p_amount > 0 then 'captured' else 'released' end,
      captured_nusd = p_amount, settled_at = clock_timestamp()
    where tenant_id = p_tenant and call_id = p_call and state = 'open';
  if not found then
    raise exception 'call % has no open hold', p_call using errcode = 'check_violation';
  end if;
  if p_amount > 0 then
    perform spend_lots(p_tenant, entry, p_amount);
  end if;
end $$;

-- Books the difference between what a call was charged and its true cost (positive: costs more).
create function adjust(p_tenant uuid, p_call uuid, p_amount bigint, p_key text, p_actor text,
  p_reason text) returns void
language plpgsql set search_path = app, verbs, pg_temp as $$
declare entry bigint;
begin
  perform from accounts where tenant_id = p_tenant for update;
  perform from entries where tenant_id = p_tenant and idempotency_key = p_key;
  if found or p_amount = 0 then return; end if;
  entry := post_entry(p_tenant, 'adjust', 'usage', -p_amount, p_key, p_call, null, 'call',
    p_call::text, p_actor, p_reason);
  if p_amount > 0 then
    perform spend_lots(p_tenant, entry, p_amount);
  else
    perform refill_lots(p_tenant, entry, p_call, -p_amount);
  end if;
end $$;

-- Writes off what expired lots have left, except what open holds still need. Returns nano-USD.
create function expire_lots(p_tenant uuid) returns bigint
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare a accounts; l lots; take bigint; total bigint := 0;
begin
  select * into a from accounts where tenant_id = p_tenant for update;
  for l in select * from lots where tenant_id = p_tenant and remaining_nusd > 0 and expires_at <= now()
      order by expires_at, lot_id loop
    take := least(l.remaining_nusd, greatest(0, a.posted_nusd - total - a.held_nusd));
    continue when take = 0;
    update lots set remaining_nusd = remaining_nusd - take, expired_nusd = expired_nusd + take
      where tenant_id = p_tenant and lot_id = l.lot_id;
    perform post_entry(p_tenant, 'expire', 'breakage', -take,
      'expire:' || l.lot_id || ':' || l.expired_nusd, null, l.lot_id, l.source_type, l.source_id,
      'system', null);
    total := total + take;
  end loop;
  perform set_next_expiry(p_tenant);
  return total;
end $$;

-- Claws a grant back: from what its lot has left, the part already spent becomes debt.
create function revoke_lot(p_tenant uuid, p_lot uuid, p_amount bigint, p_key text, p_actor text,
  p_reason text) returns bigint
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare l lots; known bigint; take bigint; entry bigint;
begin
  perform from accounts where tenant_id = p_tenant for update;
  select seq into known from entries where tenant_id = p_tenant and idempotency_key = p_key;
  if found then return known; end if;
  select * into strict l from lots where tenant_id = p_tenant and lot_id = p_lot;
  if p_amount > l.granted_nusd + (select coalesce(sum(amount_nusd), 0) from entries
      where tenant_id = p_tenant and lot_id = p_lot and kind = 'revoke') then
    raise exception 'lot % is revoked by more than it granted', p_lot using errcode = 'check_violation';
  end if;
  take := least(l.remaining_nusd, p_amount);
  entry := post_entry(p_tenant, 'revoke', l.kind, -p_amount, p_key, null, p_lot, l.source_type,
    l.source_id, p_actor, p_reason);
  update lots set remaining_nusd = remaining_nusd - take, revoked_nusd = revoked_nusd + take
    where tenant_id = p_tenant and lot_id = p_lot;
  update accounts set debt_nusd = debt_nusd + p_amount - take where tenant_id = p_tenant;
  perform set_next_expiry(p_tenant);
  return entry;
end $$;

grant execute on function open_account, grant_lot, expire_lots, revoke_lot to app_jobs;
