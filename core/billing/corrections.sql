-- What changes the wallet after the fact: corrections of a call, claw-backs and what undoes them, expiry,
-- what was paid or written off, and the account's terms.

create function clawed_back(p_tenant uuid, p_lot uuid) returns bigint
language sql stable set search_path = app, verbs, pg_temp as $$
  select coalesce(-sum(amount_nusd), 0)::bigint from entries
    where tenant_id = p_tenant and lot_id = p_lot and kind in ('revoke', 'reinstate');
$$;

-- How much debt was written off and not given back since. Unlike what was receivable it left no dues.
create function forgiven(p_tenant uuid) returns bigint
language sql stable set search_path = app, verbs, pg_temp as $$
  select coalesce(sum(e.amount_nusd), 0)::bigint from entries e
    where e.tenant_id = p_tenant and e.kind = 'write_off'
      and not exists (select from dues d where d.tenant_id = e.tenant_id and d.seq = e.seq);
$$;

-- Shrinks the write-off of debts by at most `p_amount`, for entry `p_seq` found that it was never owed;
-- by how much.
create function unforgive(p_tenant uuid, p_seq bigint, p_amount bigint) returns bigint
language plpgsql set search_path = app, verbs, pg_temp as $$
declare take bigint := least(p_amount, forgiven(p_tenant));
begin
  if take > 0 then
    perform post_entry(p_tenant, 'write_off', 'bad_debt', -take, 'write_off:debt:given_back:' || p_seq,
      null, null, 'given_back', p_seq::text, 'system', 'given back by entry ' || p_seq);
  end if;
  return take;
end $$;

-- Takes `p_amount` of dues back from what settled them, newest first, for entry `p_seq` found that they
-- were never due: a write-off shrinks, and what was paid too much becomes credit.
create function unsettle(p_tenant uuid, p_seq bigint, p_amount bigint) returns void
language plpgsql set search_path = app, verbs, pg_temp as $$
declare
  s record; rest bigint := p_amount; take bigint; entry bigint;
  mark text := 'given_back:' || p_seq; why text := 'given back by entry ' || p_seq;
begin
  for s in select e.kind, e.contra, sum(e.amount_nusd)::bigint as total from entries e
      join dues d on d.tenant_id = e.tenant_id and d.seq = e.seq
      where e.tenant_id = p_tenant and e.kind in ('payment', 'write_off')
      group by e.kind, e.contra having sum(e.amount_nusd) > 0
      order by max(e.seq) filter (where e.amount_nusd > 0) desc loop
    exit when rest = 0;
    take := least(rest, s.total);
    entry := post_entry(p_tenant, s.kind, s.contra, -take, s.kind || ':' || s.contra || ':' || mark,
      null, null, 'given_back', p_seq::text, 'system', why);
    insert into dues(tenant_id, seq, amount_nusd) values (p_tenant, entry, take);
    if s.kind = 'payment' then
      perform grant_lot(p_tenant, gen_random_uuid(), 'purchase', take, 50, null, 'given_back',
        p_seq::text, 'grant:' || mark, 'system', why);
    end if;
    rest := rest - take;
  end loop;
  if rest > 0 then
    raise exception 'entry % gives back more than was taken', p_seq using errcode = 'check_violation';
  end if;
end $$;

-- Gives `p_amount` back on behalf of entry `p_seq`: what is owed first. For a call: what is receivable,
-- then the lots it used. Otherwise debt that was written off, then the lots that paid debts and claw-backs,
-- newest first. Then what is left of these, then what was paid. `p_used`: what the same entry used of lot
-- `p_lot` before.
create function refill_lots(p_tenant uuid, p_seq bigint, p_amount bigint, p_call uuid,
  p_lot uuid default null, p_used bigint default 0)
returns void language plpgsql set search_path = app, verbs, pg_temp as $$
declare
  a accounts; l record; rest bigint := p_amount; paid bigint; undue bigint := 0; give bigint;
  given uuid[] := array[p_lot]; uses bigint[] := array[p_used];
begin
  select * into strict a from accounts where tenant_id = p_tenant;
  paid := least(rest, a.debt_nusd);
  rest := rest - paid;
  if p_call is not null then
    undue := least(rest, a.receivable_nusd);
    rest := rest - undue;
  else
    rest := rest - unforgive(p_tenant, p_seq, rest);
  end if;
  for l in
      (select 1 as turn, u.lot_id, sum(u.amount_nusd)::bigint as used, max(u.seq) as newest
        from lot_uses u join entries e on e.tenant_id = u.tenant_id and e.seq = u.seq
        where u.tenant_id = p_tenant and e.call_id = p_call
        group by u.lot_id having sum(u.amount_nusd) > 0)
      union all
      (select 1, u.lot_id, sum(u.amount_nusd)::bigint, max(u.seq)
        from lot_uses u join entries e on e.tenant_id = u.tenant_id and e.seq = u.seq
        where p_call is null and u.tenant_id = p_tenant and e.kind in ('grant', 'reinstate', 'revoke')
        group by u.lot_id having sum(u.amount_nusd) > 0)
      union all  -- a grant may have paid this call's debt since: then its lot is the one to refill
      (select 2, lot_id, consumed_nusd, 0 from lots where tenant_id = p_tenant and consumed_nusd > 0)
      order by turn, newest desc, lot_id desc loop
    exit when rest = 0;
    select least(l.used, rest, consumed_nusd) into give from lots
      where tenant_id = p_tenant and lot_id = l.lot_id;
    continue when give = 0;
    update lots set remaining_nusd = remaining_nusd + give, consumed_nusd = consumed_nusd - give
      where tenant_id = p_tenant and lot_id = l.lot_id;
    given := given || l.lot_id;
    uses := uses || -give;
    rest := rest - give;
  end loop;
  insert into lot_uses(tenant_id, seq, lot_id, amount_nusd)
    select p_tenant, p_seq, g.lot_id, sum(g.amount) from unnest(given, uses) as g(lot_id, amount)
    where g.lot_id is not null group by g.lot_id having sum(g.amount) <> 0;
  if p_call is not null then
    rest := rest - unforgive(p_tenant, p_seq, rest);
  end if;
  give := least(rest, a.receivable_nusd - undue);
  undue := undue + give;
  rest := rest - give;
  update accounts set debt_nusd = debt_nusd - paid, receivable_nusd = receivable_nusd - undue
    where tenant_id = p_tenant;
  if rest > 0 then
    perform unsettle(p_tenant, p_seq, rest);
    undue := undue + rest;
  end if;
  if undue > 0 then
    insert into dues(tenant_id, seq, amount_nusd) values (p_tenant, p_seq, -undue);
  end if;
  perform set_next_expiry(p_tenant);
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
    perform refill_lots(p_tenant, entry, -p_amount, p_call);
  end if;
end $$;

-- Writes off what expired lots have left, except what open holds still need. Returns nano-USD.
create function expire_lots(p_tenant uuid) returns bigint
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare a accounts; l lots; take bigint; spare bigint; total bigint := 0;
begin
  select * into strict a from accounts where tenant_id = p_tenant for update;
  -- What is owed is no use of the lots that are left: nothing of it is taken from one that has expired.
  spare := greatest(0, a.posted_nusd + a.debt_nusd + a.receivable_nusd - a.held_nusd);
  for l in select * from lots where tenant_id = p_tenant and remaining_nusd > 0 and expires_at <= now()
      order by expires_at, lot_id loop
    take := least(l.remaining_nusd, spare - total);
    exit when take = 0;
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

-- Pays what entry `p_seq` clawed back beyond its own lot, from what other unexpired lots have left, those
-- that were paid for first. What nothing is left for is debt.
create function net_claw_back(p_tenant uuid, p_seq bigint, p_amount bigint) returns void
language plpgsql set search_path = app, verbs, pg_temp as $$
declare l record; rest bigint := p_amount; take bigint;
begin
  for l in select lot_id, remaining_nusd from lots
      where tenant_id = p_tenant and remaining_nusd > 0 and effective_at <= clock_timestamp()
        and (expires_at is null or expires_at > clock_timestamp())
      order by kind in ('promo', 'manual'), priority, expires_at nulls last, effective_at, lot_id loop
    exit when rest = 0;
    take := least(l.remaining_nusd, rest);
    update lots set remaining_nusd = remaining_nusd - take, consumed_nusd = consumed_nusd + take
      where tenant_id = p_tenant and lot_id = l.lot_id;
    insert into lot_uses(tenant_id, seq, lot_id, amount_nusd) values (p_tenant, p_seq, l.lot_id, take);
    rest := rest - take;
  end loop;
  update accounts set debt_nusd = debt_nusd + rest where tenant_id = p_tenant;
end $$;

-- Claws a grant back: from what its lot has left, the part already spent from the other lots, else as debt.
create function revoke_lot(p_tenant uuid, p_lot uuid, p_amount bigint, p_key text, p_actor text,
  p_reason text) returns bigint
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare l lots; known bigint; take bigint; entry bigint;
begin
  perform from accounts where tenant_id = p_tenant for update;
  select seq into known from entries where tenant_id = p_tenant and idempotency_key = p_key;
  if found then return known; end if;
  select * into strict l from lots where tenant_id = p_tenant and lot_id = p_lot;
  if p_amount > l.granted_nusd - clawed_back(p_tenant, p_lot) then
    raise exception 'lot % is revoked by more than it granted', p_lot using errcode = 'check_violation';
  end if;
  take := least(l.remaining_nusd, p_amount);
  entry := post_entry(p_tenant, 'revoke', l.kind, -p_amount, p_key, null, p_lot, l.source_type,
    l.source_id, p_actor, p_reason);
  update lots set remaining_nusd = remaining_nusd - take, revoked_nusd = revoked_nusd + take
    where tenant_id = p_tenant and lot_id = p_lot;
  perform net_claw_back(p_tenant, entry, p_amount - take);
  perform set_next_expiry(p_tenant);
  return entry;
end $$;

-- Gives a lot back what was revoked of it. What its lot gave returns there, and pays debt first; what
-- was debt then ends the debt there is, or returns to the lots that have paid it since.
create function reinstate_lot(p_tenant uuid, p_lot uuid, p_amount bigint, p_key text, p_actor text,
  p_reason text) returns bigint
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare a accounts; l lots; known bigint; returned bigint; paid bigint; entry bigint;
begin
  select * into strict a from accounts where tenant_id = p_tenant for update;
  select seq into known from entries where tenant_id = p_tenant and idempotency_key = p_key;
  if found then return known; end if;
  select * into strict l from lots where tenant_id = p_tenant and lot_id = p_lot;
  if p_amount > clawed_back(p_tenant, p_lot) then
    raise exception 'lot % is given back more than was revoked', p_lot using errcode = 'check_violation';
  end if;
  returned := least(p_amount, l.revoked_nusd);
  paid := least(a.debt_nusd, returned);
  entry := post_entry(p_tenant, 'reinstate', l.kind, p_amount, p_key, null, p_lot, l.source_type,
    l.source_id, p_actor, p_reason);
  update lots set revoked_nusd = revoked_nusd - returned, consumed_nusd = consumed_nusd + paid,
      remaining_nusd = remaining_nusd + returned - paid
    where tenant_id = p_tenant and lot_id = p_lot;
  update accounts set debt_nusd = debt_nusd - paid where tenant_id = p_tenant;
  perform refill_lots(p_tenant, entry, p_amount - returned, null, p_lot, paid);
  return entry;
end $$;

-- Books what a customer paid for use that was receivable. What was given up as bad debt and is paid
-- after all is not written off any more; anything above becomes a new lot. Returns the first entry's seq.
create function receive_payment(p_tenant uuid, p_lot uuid, p_amount bigint, p_priority int,
  p_source_type text, p_source_id text, p_key text, p_actor text, p_reason text) returns bigint
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare a accounts; known bigint; due bigint; late bigint; entry bigint; above bigint;
begin
  select * into strict a from accounts where tenant_id = p_tenant for update;
  select min(seq) into known from entries
    where tenant_id = p_tenant and idempotency_key in (p_key, p_key || ':above');
  if known is not null then return known; end if;
  due := least(a.receivable_nusd, p_amount);
  select least(coalesce(sum(e.amount_nusd), 0)::bigint, p_amount - due) into late from entries e
    join dues d on d.tenant_id = e.tenant_id and d.seq = e.seq
    where e.tenant_id = p_tenant and e.kind = 'write_off' and e.contra = 'bad_debt';
  if due + late > 0 then
    entry := post_entry(p_tenant, 'payment', 'stripe', due + late, p_key, null, null, p_source_type,
      p_source_id, p_actor, p_reason);
    insert into dues(tenant_id, seq, amount_nusd) values (p_tenant, entry, -due - late);
    update accounts set receivable_nusd = receivable_nusd - due where tenant_id = p_tenant;
  end if;
  if late > 0 then
    insert into dues(tenant_id, seq, amount_nusd) values (p_tenant, post_entry(p_tenant, 'write_off',
      'bad_debt', -late, p_key || ':late', null, null, p_source_type, p_source_id, p_actor,
      'paid after all'), late);
  end if;
  due := due + late;
  if p_amount > due then  -- its own source: the grant of a known one would book nothing
    above := grant_lot(p_tenant, p_lot, 'purchase', p_amount - due, p_priority, null,
      p_source_type || '_above', p_key, p_key || ':above', p_actor, p_reason);
  end if;
  return coalesce(entry, above);
end $$;

-- Writes all that is receivable off. Returns the entry's seq; null where there was nothing.
create function write_off(p_tenant uuid, p_contra text, p_key text, p_actor text, p_reason text)
returns bigint language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare a accounts; known bigint; entry bigint;
begin
  select * into strict a from accounts where tenant_id = p_tenant for update;
  select seq into known from entries where tenant_id = p_tenant and idempotency_key = p_key;
  if found or a.receivable_nusd = 0 then return known; end if;
  entry := post_entry(p_tenant, 'write_off', p_contra, a.receivable_nusd, p_key, null, null, p_contra,
    p_key, p_actor, p_reason);
  insert into dues(tenant_id, seq, amount_nusd) values (p_tenant, entry, -a.receivable_nusd);
  update accounts set receivable_nusd = 0 where tenant_id = p_tenant;
  return entry;
end $$;

-- Writes all debt off. Returns the entry's seq; null where there was none.
create function write_off_debt(p_tenant uuid, p_key text, p_actor text, p_reason text) returns bigint
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare a accounts; known bigint;
begin
  select * into strict a from accounts where tenant_id = p_tenant for update;
  select seq into known from entries where tenant_id = p_tenant and idempotency_key = p_key;
  if found or a.debt_nusd = 0 then return known; end if;
  update accounts set debt_nusd = 0 where tenant_id = p_tenant;
  return post_entry(p_tenant, 'write_off', 'bad_debt', a.debt_nusd, p_key, null, null, 'debt', p_key,
    p_actor, p_reason);
end $$;

-- How far an account may go below zero from now on; null: budgets gate. An account without a floor
-- below zero cannot have anything receivable. What is used while there is such a floor is metered.
create function set_floor(p_tenant uuid, p_floor bigint) returns void
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare a accounts;
begin
  select * into strict a from accounts where tenant_id = p_tenant for update;
  if p_floor = 0 and a.receivable_nusd > 0 then
    raise exception 'account % still has something receivable', p_tenant using errcode = 'check_violation';
  end if;
  update accounts set floor_nusd = p_floor where tenant_id = p_tenant;
  perform meter_from(p_tenant, p_floor, a.seq);
end $$;

create function set_frozen(p_tenant uuid, p_frozen boolean) returns void
language sql security definer set search_path = app, verbs, pg_temp as $$
  update accounts set frozen = p_frozen where tenant_id = p_tenant and frozen <> p_frozen;
$$;

grant execute on function expire_lots, clawed_back, revoke_lot, reinstate_lot, receive_payment, write_off,
  write_off_debt, set_floor, set_frozen to app_jobs;
