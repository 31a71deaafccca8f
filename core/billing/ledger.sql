-- The ground of the credit ledger: an entry, what lots pay, a grant. Every verb locks the account first
-- (then holds, then lots) and does nothing twice: a known key returns what was booked then.
-- Always: posted = sum(entries) = sum(lots left) - debt - receivable; held = sum(open holds);
-- receivable = sum(dues).

-- Appends one movement and moves the account by it. Callers hold the account's lock.
create function post_entry(p_tenant uuid, p_kind text, p_contra text, p_amount bigint, p_key text,
  p_call uuid, p_lot uuid, p_source_type text, p_source_id text, p_actor text, p_reason text)
returns bigint language plpgsql set search_path = app, verbs, pg_temp as $$
declare a accounts;
begin
  update accounts set posted_nusd = posted_nusd + p_amount, seq = seq + 1
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
declare l record; owed bigint := p_amount; take bigint; prepaid boolean;
begin
  for l in select lot_id, remaining_nusd from lots
      where tenant_id = p_tenant and remaining_nusd > 0 and effective_at <= clock_timestamp()
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
      where tenant_id = p_tenant returning floor_nusd is not distinct from 0 into prepaid;
    if not prepaid then
      insert into dues(tenant_id, seq, amount_nusd) values (p_tenant, p_seq, owed);
    end if;
  end if;
end $$;

create function set_next_expiry(p_tenant uuid) returns void
language sql set search_path = app, verbs, pg_temp as $$
  update accounts set next_expiry_at = (
      select min(expires_at) from lots where tenant_id = p_tenant and remaining_nusd > 0)
    where tenant_id = p_tenant;
$$;

-- Notes that what is used after entry `p_seq` is metered (a floor below zero), or is not any more.
create function meter_from(p_tenant uuid, p_floor bigint, p_seq bigint) returns void
language plpgsql set search_path = app, verbs, pg_temp as $$
begin
  if p_floor < 0 then
    insert into meter_spans(tenant_id, after_seq) select p_tenant, p_seq
      where not exists (select from meter_spans where tenant_id = p_tenant and last_seq is null)
      on conflict (tenant_id, after_seq) do update set last_seq = null;
  else
    update meter_spans set last_seq = p_seq where tenant_id = p_tenant and last_seq is null;
  end if;
end $$;

-- Opens a tenant's account. Its floor: 0 prepaid, minus the credit limit postpaid, null internal.
create function open_account(p_tenant uuid, p_floor bigint) returns void
language plpgsql security definer set search_path = app, verbs, pg_temp as $$
begin
  insert into accounts(tenant_id, floor_nusd) values (p_tenant, p_floor) on conflict do nothing;
  if found then perform meter_from(p_tenant, p_floor, 0); end if;
end $$;

-- Credits a new lot. Debt is paid from it first. Returns the entry's seq; for a known key, or a source
-- that was turned into a lot before, the seq of that first entry.
create function grant_lot(p_tenant uuid, p_lot uuid, p_kind text, p_amount bigint, p_priority int,
  p_expires timestamptz, p_source_type text, p_source_id text, p_key text, p_actor text, p_reason text)
returns bigint language plpgsql security definer set search_path = app, verbs, pg_temp as $$
declare a accounts; known bigint; paid bigint; entry bigint;
begin
  select * into strict a from accounts where tenant_id = p_tenant for update;
  select seq into known from entries where tenant_id = p_tenant and idempotency_key = p_key;
  if found then return known; end if;
  select e.seq into known from lots l
    join entries e on e.tenant_id = l.tenant_id and e.lot_id = l.lot_id and e.kind = 'grant'
    where l.tenant_id = p_tenant and l.source_type = p_source_type and l.source_id = p_source_id;
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

grant execute on function open_account, grant_lot to app_jobs;
