-- What must always hold of turns and their answers. One row per offence.

-- name: turn_call nightly
select format('turn %s is %s, its call %s is %s', t.turn_id, t.status, t.call_id,
  coalesce(c.state, 'missing')) as detail
from app.turns t
left join app.calls c on c.tenant_id = t.tenant_id and c.call_id = t.call_id
where c.call_id is null or (t.status = 'running') <> (c.state = 'open');

-- name: call_turn
-- An open call of Chat has the turn it was opened for.
select format('call %s is open for no turn', c.call_id)
from app.calls c
where c.state = 'open' and c.purpose = 'chat' and c.source = 'chat' and not exists (
  select from app.turns t where t.tenant_id = c.tenant_id and t.call_id = c.call_id);

-- name: turn_answer nightly
-- Deleting a conversation takes its messages; where they are, the answer ended with its turn.
select format('turn %s is %s, its answer %s', t.turn_id, t.status, coalesce(m.status, 'missing'))
from app.turns t
join app.conversations c on c.tenant_id = t.tenant_id and c.conversation_id = t.conversation_id
left join app.messages m on m.tenant_id = t.tenant_id and m.conversation_id = t.conversation_id
  and m.message_id = t.answer_id
where m.status <> t.status or m.message_id is null and c.deleted_at is null;

-- name: turn_question nightly
select format('turn %s: its question is missing', t.turn_id)
from app.turns t
join app.conversations c on c.tenant_id = t.tenant_id and c.conversation_id = t.conversation_id
left join app.messages m on m.tenant_id = t.tenant_id and m.conversation_id = t.conversation_id
  and m.message_id = t.question_id
where c.deleted_at is null and m.message_id is null;

-- name: message_running
select format('message %s is running, its turn is %s', m.message_id, coalesce(t.status, 'missing'))
from app.messages m
left join app.turns t on t.tenant_id = m.tenant_id and t.turn_id = m.turn_id
where m.status = 'running' and t.status is distinct from 'running';
