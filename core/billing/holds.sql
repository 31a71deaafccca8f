-- What a call sets aside and takes: `reserve` and `hold` at admission, `capture` at its end, and
-- `release_kept` when an uncertain cost became final. The gate's verbs call these with the call's row
-- locked; nobody else may.

-- Whether the account can set `p_amount` aside: 'ok' (and it is set aside), 'frozen', 'debt' or 'credit'.
create function reserve(p_tenant uuid, p_amount bigint) returns text
language plpgsql set search_path = app, verbs, pg_temp as $$
declare a accounts;
begin
  for attempt in 1..2 loop
    update accounts set held_nusd = held_nusd + p_amount
      where tenant_id = p_tenant and debt_nusd = 0 and not frozen
        and (p_amount = 0 or floor_nusd is null or posted_nusd - held_nusd - p_amount >= floor_nusd)
        and (attempt = 2 or next_expiry_at is null or next_expiry_at > now());
    if found then return 'ok'; end if;
    select * into strict a from accounts where tenant_id = p_tenant for update;
    exit when a.next_expiry_at is null or a.next_expiry_at > now();
    perform expire_lots(p_tenant);  -- then once more, with what is really left
  end loop;
  return case when a.frozen then 'frozen' when a.debt_nusd > 0 then 'debt' else 'credit' end;
end $$;

-- Names the call that what `reserve` set aside is for. Same transaction, once the call's row is there.
create function hold(p_tenant uuid, p_call uuid, p_amount bigint) returns void
language sql set search_path = app, verbs, pg_temp as $$
  insert into holds(tenant_id, call_id, amount_nusd) values (p_tenant, p_call, p_amount);
$$;

-- Gives back what was kept of a hold beyond the call's end, until its cost was final.
create function release_kept(p_tenant uuid, p_kept bigint) returns void
language sql set search_path = app, verbs, pg_temp as $$
  update accounts set held_nusd = held_nusd - p_kept where tenant_id = p_tenant and p_kept > 0;
$$;

-- Ends a call's hold with its cost (0 releases it). `p_freed`: the hold, less what is kept until the cost
-- is final. The caller settles a call once.
create function capture(p_tenant uuid, p_call uuid, p_freed bigint, p_amount bigint, p_actor text)
returns void language plpgsql set search_path = app, verbs, pg_temp as $$
declare a accounts;
begin
  update accounts set held_nusd = held_nusd - p_freed, posted_nusd = posted_nusd - p_amount,
      seq = seq + (p_amount > 0)::int
    where tenant_id = p_tenant returning * into a;
  update holds set state = case when p_amount > 0 then 'captured' else 'released' end,
      captured_nusd = p_amount, settled_at = clock_timestamp()
    where tenant_id = p_tenant and call_id = p_call and state = 'open';
  if not found then
    raise exception 'call % has no open hold', p_call using errcode = 'check_violation';
  end if;
  if p_amount = 0 then return; end if;
  with entry as (  -- as post_entry does; nearly always the next lot covers all: one statement for both
      insert into entries(tenant_id, seq, kind, contra, amount_nusd, posted_after_nusd, idempotency_key,
          call_id, source_type, source_id, actor)
        values (p_tenant, a.seq, 'capture', 'usage', -p_amount, a.posted_nusd, 'capture:' || p_call,
          p_call, 'call', p_call::text, p_actor)),
    next_lot as (
      select lot_id, remaining_nusd as available from lots
        where tenant_id = p_tenant and remaining_nusd > 0 and effective_at <= clock_timestamp()
        order by priority, expires_at nulls last, effective_at, lot_id limit 1),
    taken as (
      update lots set remaining_nusd = remaining_nusd - p_amount, consumed_nusd = consumed_nusd + p_amount
        from next_lot n where tenant_id = p_tenant and lots.lot_id = n.lot_id and available >= p_amount
        returning lots.lot_id)
    insert into lot_uses(tenant_id, seq, lot_id, amount_nusd)
      select p_tenant, a.seq, lot_id, p_amount from taken;
  if not found then
    perform spend_lots(p_tenant, a.seq, p_amount);
  end if;
end $$;
