-- A chat turn's edges: `open_turn` stores the question and passes the gate in one statement,
-- `beat_turn` saves what is new of the text with the heartbeat, `close_turn` saves the answer and settles.

create type opening as (
  turn_id uuid, conversation_id uuid, is_new boolean, title text, question_id uuid, question text,
  parent_id uuid, answer_id uuid, left_out int);

-- As `admit`; also 'missing' (no such conversation or parent of this person), 'busy' (a turn runs),
-- and for a question seen before 'ok' with `first_turn_id`, the turn it opened.
create function open_turn(o opening, a admission) returns verdict
language plpgsql set search_path = app, verbs, pg_temp as $$
declare v verdict;
begin
  perform set_config('app.tenant_id', a.tenant_id::text, true);
  if o.is_new then
    insert into conversations(tenant_id, conversation_id, user_id, title, model_id)
      values (a.tenant_id, o.conversation_id, a.user_id, o.title, a.model_id) on conflict do nothing;
  end if;
  perform from conversations where tenant_id = a.tenant_id and conversation_id = o.conversation_id
    and user_id = a.user_id and deleted_at is null for update;
  if not found then v.code := 'missing'; return v; end if;
  if o.question is not null then
    select turn_id into v.first_turn_id from turns where tenant_id = a.tenant_id
      and conversation_id = o.conversation_id and question_id = o.question_id limit 1;
    if found then v.code := 'ok'; return v; end if;
  end if;
  select turn_id into v.first_turn_id from turns where tenant_id = a.tenant_id
    and conversation_id = o.conversation_id and status = 'running';
  if found then v.code := 'busy'; return v; end if;
  perform from messages where tenant_id = a.tenant_id and conversation_id = o.conversation_id
    and message_id = case when o.question is null then o.question_id else o.parent_id end;
  if not found and (o.question is null or o.parent_id is not null) then
    v.code := 'missing'; return v;
  end if;
  v := admit(a);
  if v.code <> 'ok' then
    if o.is_new then
      delete from conversations where tenant_id = a.tenant_id and conversation_id = o.conversation_id
        and not exists (select from messages m where m.tenant_id = a.tenant_id
          and m.conversation_id = o.conversation_id);
    end if;
    return v;
  end if;
  if o.question is not null then
    insert into messages(tenant_id, conversation_id, message_id, parent_id, turn_id, role, content)
      values (a.tenant_id, o.conversation_id, o.question_id, o.parent_id, o.turn_id, 'user', o.question);
  end if;
  insert into messages(tenant_id, conversation_id, message_id, parent_id, turn_id, role, status,
      model_id, left_out)
    values (a.tenant_id, o.conversation_id, o.answer_id, o.question_id, o.turn_id, 'assistant',
      'running', a.model_id, o.left_out);
  insert into turns(tenant_id, turn_id, conversation_id, call_id, question_id, answer_id)
    values (a.tenant_id, o.turn_id, o.conversation_id, a.call_id, o.question_id, o.answer_id);
  update conversations set updated_at = clock_timestamp(), model_id = a.model_id, leaf_id = o.answer_id
    where tenant_id = a.tenant_id and conversation_id = o.conversation_id;
  return v;
end $$;

-- `p_content` and `p_reasoning` are what comes behind the first `p_content_from` and
-- `p_reasoning_from` characters, so that a heartbeat which is sent twice saves its piece once.
create function beat_turn(p_tenant uuid, p_call uuid, p_lease_token uuid, p_lease_s int,
  p_delivered_tokens int, p_generation text, p_conversation uuid, p_answer uuid,
  p_content_from int, p_content text, p_reasoning_from int, p_reasoning text,
  out alive boolean, out stop boolean)
language plpgsql set search_path = app, verbs, pg_temp as $$
begin
  select b.alive, b.stop into alive, stop from beat(p_tenant, p_call, p_lease_token, p_lease_s,
    p_delivered_tokens, p_generation) as b;
  if alive then
    update messages set content = left(content, p_content_from) || p_content,
        reasoning = case when p_reasoning = '' then reasoning
          else left(reasoning, p_reasoning_from) || p_reasoning end
      where tenant_id = p_tenant and conversation_id = p_conversation and message_id = p_answer
        and status = 'running';
  end if;
end $$;

create type ending as (
  turn_id uuid, status text, content text, reasoning text, failure_code text, extras jsonb);

create function close_turn(e ending, s settlement) returns receipt
language plpgsql set search_path = app, verbs, pg_temp as $$
declare r receipt; t turns;
begin
  r := settle(s);
  if r.code <> 'ok' then return r; end if;
  update turns set status = e.status, ended_at = clock_timestamp()
    where tenant_id = s.tenant_id and turn_id = e.turn_id and status = 'running' returning * into t;
  update messages set status = e.status, content = coalesce(e.content, content),
      reasoning = coalesce(e.reasoning, reasoning), failure_code = e.failure_code, extras = e.extras
    where tenant_id = s.tenant_id and conversation_id = t.conversation_id and message_id = t.answer_id;
  return r;
end $$;

grant execute on function open_turn, beat_turn, close_turn to app_rw, app_jobs;
