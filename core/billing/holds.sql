-- What a call sets aside and takes: `reserve` and `hold` at admission, `capture` at its end. The gate's
-- verbs call these with the call's row locked; nobody else may.

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
