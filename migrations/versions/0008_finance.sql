-- Calendars of tenants, cost centres and projects, sums by model and by conversation, closed months,
-- exports and their files, the provider's bill, the inbox. Then row security and rights, as in 0002.

alter table app.tenants rename column time_zone to first_time_zone;
alter table app.tenants add column cost_center text, add column project text;
alter table app.memberships add column project text;
alter table app.api_keys add column cost_center text, add column project text;
alter table app.tickets add column of_tenant uuid;
alter table app.calls add column project text;
alter table app.usage_events add column project text;
create index usage_events_adjustments_idx on app.usage_events (occurred_at) where kind = 'adjustment';
create index usage_events_estimates_idx on app.usage_events (tenant_id, occurred_at) where cost_source = 'estimate';
create index usage_daily_day_idx on app.usage_daily (day);

create table app.zone_changes (
  tenant_id uuid not null,
  starts_on date not null,
  starts_at timestamptz not null,
  time_zone text not null,
  set_at timestamptz default now() not null,
  constraint zone_changes_pkey primary key (tenant_id, starts_on),
  constraint zone_changes_starts_on_check check (extract(day from starts_on) = 1),
  constraint zone_changes_tenant_id_fkey foreign key(tenant_id) references app.tenants (tenant_id)
);

create table app.invites (
  invite_hash bytea not null,
  invite_id uuid not null,
  of_tenant uuid not null,
  email text not null,
  role text not null,
  invited_by text not null,
  created_at timestamptz default now() not null,
  expires_at timestamptz not null,
  accepted_at timestamptz,
  revoked_at timestamptz,
  constraint invites_pkey primary key (invite_hash),
  constraint invites_email_check check (email = lower(email)),
  constraint invites_role_check check (role in ('member', 'finance', 'admin')),
  constraint invites_invite_id_key unique (invite_id),
  constraint invites_of_tenant_fkey foreign key(of_tenant) references app.tenants (tenant_id)
);
create index invites_of_tenant_idx on app.invites (of_tenant);

create table app.model_blocks (
  tenant_id uuid not null,
  model_id text not null,
  set_at timestamptz default now() not null,
  constraint model_blocks_pkey primary key (tenant_id, model_id),
  constraint model_blocks_tenant_id_fkey foreign key(tenant_id) references app.tenants (tenant_id),
  constraint model_blocks_model_id_fkey foreign key(model_id) references app.models (model_id)
);

create table app.usage_daily_models (
  tenant_id uuid not null,
  day date not null,
  model text not null,
  source text not null,
  requests bigint not null,
  errors bigint not null,
  prompt_tokens bigint not null,
  cached_tokens bigint not null,
  cache_write_tokens bigint not null,
  completion_tokens bigint not null,
  reasoning_tokens bigint not null,
  list_nusd bigint not null,
  billed_nusd bigint not null,
  constraint usage_daily_models_pkey primary key (tenant_id, day, model, source),
  constraint usage_daily_models_tenant_id_fkey foreign key(tenant_id) references app.tenants (tenant_id)
  )
with (fillfactor = 70);
create index usage_daily_models_day_idx on app.usage_daily_models (day);

create table app.usage_conversations (
  tenant_id uuid not null,
  conversation_id uuid not null,
  user_id uuid not null,
  model text not null,
  requests bigint not null,
  tokens bigint not null,
  list_nusd bigint not null,
  billed_nusd bigint not null,
  first_at timestamptz not null,
  last_at timestamptz not null,
  constraint usage_conversations_pkey primary key (tenant_id, conversation_id),
  constraint usage_conversations_tenant_id_user_id_fkey foreign key(tenant_id, user_id) references app.memberships (tenant_id, user_id)
  )
with (fillfactor = 70);
create index usage_conversations_dear_idx on app.usage_conversations (billed_nusd) where billed_nusd > 10000000000;
create index usage_conversations_recent_idx on app.usage_conversations (tenant_id, user_id, last_at desc);

create table app.closings (
  tenant_id uuid not null,
  closing_id uuid not null,
  month date not null,
  begins_at timestamptz not null,
  ends_at timestamptz not null,
  events bigint not null,
  requests bigint not null,
  tokens bigint not null,
  list_nusd bigint not null,
  billed_nusd bigint not null,
  warnings jsonb not null,
  closed_by text not null,
  closed_at timestamptz default now() not null,
  reopened_by text,
  reopened_at timestamptz,
  reason text,
  constraint closings_pkey primary key (tenant_id, closing_id),
  constraint closings_month_check check (extract(day from month) = 1 and begins_at < ends_at),
  constraint closings_reopened_check check (num_nonnulls(reopened_by, reopened_at, reason) in (0, 3)),
  constraint closings_tenant_id_fkey foreign key(tenant_id) references app.tenants (tenant_id)
);
create unique index closings_month_key on app.closings (tenant_id, month) where reopened_at is null;

create table app.export_files (
  tenant_id uuid not null,
  file_id uuid not null,
  closing_id uuid,
  kind text not null,
  format text not null,
  first_day date not null,
  last_day date not null,
  detail jsonb not null,
  state text default 'building' not null,
  rows_total bigint,
  rows_done bigint default '0' not null,
  size_bytes bigint,
  sha256 text,
  created_at timestamptz default now() not null,
  built_at timestamptz,
  expires_at timestamptz,
  constraint export_files_pkey primary key (tenant_id, file_id),
  constraint export_files_tenant_id_closing_id_fkey foreign key(tenant_id, closing_id) references app.closings (tenant_id, closing_id),
  constraint export_files_kind_check check (kind in ('usage', 'daily', 'statement', 'chargeback', 'focus', 'audit')),
  constraint export_files_format_check check (format in ('csv', 'xlsx', 'parquet', 'jsonl')),
  constraint export_files_state_check check (state in ('building', 'ready', 'failed')),
  constraint export_files_ready_check check ((state = 'ready') = (sha256 is not null and size_bytes is not null)),
  constraint export_files_tenant_id_fkey foreign key(tenant_id) references app.tenants (tenant_id)
);
create unique index export_files_closed_key on app.export_files (tenant_id, closing_id, kind, format, detail) where closing_id is not null and state <> 'failed';

create table app.export_parts (
  tenant_id uuid not null,
  file_id uuid not null,
  part integer not null,
  content bytea not null,
  constraint export_parts_pkey primary key (tenant_id, file_id, part),
  constraint export_parts_tenant_id_file_id_fkey foreign key(tenant_id, file_id) references app.export_files (tenant_id, file_id) on delete cascade
);

create table app.exports (
  tenant_id uuid not null,
  export_id uuid not null,
  file_id uuid,
  kind text not null,
  format text not null,
  first_day date not null,
  last_day date not null,
  detail jsonb not null,
  asked_by uuid not null,
  as_operator boolean not null,
  asked_at timestamptz default now() not null,
  expires_at timestamptz not null,
  constraint exports_pkey primary key (tenant_id, export_id),
  constraint exports_tenant_id_file_id_fkey foreign key(tenant_id, file_id) references app.export_files (tenant_id, file_id),
  constraint exports_kind_check check (kind in ('usage', 'daily', 'statement', 'chargeback', 'focus', 'audit')),
  constraint exports_format_check check (format in ('csv', 'xlsx', 'parquet', 'jsonl')),
  constraint exports_tenant_id_fkey foreign key(tenant_id) references app.tenants (tenant_id)
);
create index exports_export_idx on app.exports (export_id);
create index exports_recent_idx on app.exports (tenant_id, asked_at desc);

create table app.platform_exports (
  export_id uuid not null,
  kind text not null,
  format text not null,
  first_day date not null,
  last_day date not null,
  detail jsonb not null,
  asked_by uuid not null,
  asked_at timestamptz default now() not null,
  expires_at timestamptz not null,
  constraint platform_exports_pkey primary key (export_id),
  constraint platform_exports_kind_check check (kind in ('usage', 'daily', 'statement', 'chargeback', 'focus', 'audit')),
  constraint platform_exports_format_check check (format in ('csv', 'xlsx', 'parquet', 'jsonl'))
);

create table app.provider_bills (
  provider text not null,
  day date not null,
  model text not null,
  requests bigint not null,
  tokens bigint not null,
  cost_usd numeric not null,
  came_by text not null,
  read_at timestamptz default now() not null,
  constraint provider_bills_pkey primary key (provider, day, model),
  constraint provider_bills_came_by_check check (came_by in ('activity', 'upload'))
);

create table app.bill_lines (
  generation_id text not null,
  provider text not null,
  occurred_at timestamptz not null,
  model text not null,
  prompt_tokens bigint not null,
  completion_tokens bigint not null,
  cost_usd numeric not null,
  ours_usd numeric,
  state text not null,
  of_tenant uuid,
  call_id uuid,
  uploaded_at timestamptz default now() not null,
  imported_at timestamptz,
  constraint bill_lines_pkey primary key (generation_id),
  constraint bill_lines_state_check check (state in ('matched', 'different', 'unrecorded', 'imported'))
);
create index bill_lines_provider_occurred_at_idx on app.bill_lines (provider, occurred_at);

create table app.bill_checks (
  provider text not null,
  day date not null,
  model text not null,
  ours_usd numeric not null,
  ours_requests bigint not null,
  theirs_usd numeric not null,
  theirs_requests bigint not null,
  cause text not null,
  checked_at timestamptz default now() not null,
  constraint bill_checks_pkey primary key (provider, day, model)
);

create table app.notices (
  tenant_id uuid not null,
  notice_id uuid not null,
  kind text not null,
  key text not null,
  audience text not null,
  user_id uuid,
  facts jsonb not null,
  created_at timestamptz default now() not null,
  constraint notices_pkey primary key (tenant_id, notice_id),
  constraint notices_tenant_id_kind_key_key unique (tenant_id, kind, key),
  constraint notices_audience_check check (audience in ('user', 'admins', 'finance')),
  constraint notices_user_check check ((audience = 'user') = (user_id is not null)),
  constraint notices_tenant_id_fkey foreign key(tenant_id) references app.tenants (tenant_id)
);
create index notices_recent_idx on app.notices (tenant_id, created_at desc);

create table app.notice_reads (
  tenant_id uuid not null,
  notice_id uuid not null,
  user_id uuid not null,
  read_at timestamptz default now() not null,
  constraint notice_reads_pkey primary key (tenant_id, notice_id, user_id),
  constraint notice_reads_tenant_id_notice_id_fkey foreign key(tenant_id, notice_id) references app.notices (tenant_id, notice_id)
);

create table app.operator_notices (
  notice_id uuid not null,
  kind text not null,
  key text not null,
  facts jsonb not null,
  created_at timestamptz default now() not null,
  constraint operator_notices_pkey primary key (notice_id),
  constraint operator_notices_kind_key_key unique (kind, key)
);

create table app.operator_notice_reads (
  notice_id uuid not null,
  user_id uuid not null,
  read_at timestamptz default now() not null,
  constraint operator_notice_reads_pkey primary key (notice_id, user_id)
);


-- What was used so far. No tenant has changed its zone yet.
insert into app.usage_daily_models(tenant_id, day, model, source, requests, errors, prompt_tokens,
  cached_tokens, cache_write_tokens, completion_tokens, reasoning_tokens, list_nusd, billed_nusd)
select tenant_id, day, model, source, sum(requests), sum(errors), sum(prompt_tokens), sum(cached_tokens),
  sum(cache_write_tokens), sum(completion_tokens), sum(reasoning_tokens), sum(list_nusd), sum(billed_nusd)
from app.usage_daily group by 1, 2, 3, 4;
insert into app.usage_conversations(tenant_id, conversation_id, user_id, model, requests, tokens, list_nusd,
  billed_nusd, first_at, last_at)
select tenant_id, conversation_id, min(user_id::text)::uuid,
  (array_agg(model_served order by occurred_at desc, event_id desc))[1],
  count(*) filter (where kind = 'call'), sum(prompt_tokens + completion_tokens), sum(list_nusd),
  sum(billed_nusd), min(occurred_at), max(occurred_at)
from app.usage_events where conversation_id is not null group by 1, 2;

do $$
declare t record;
begin
  for t in select a.attrelid::regclass as of_table from pg_attribute a
      join pg_class c on c.oid = a.attrelid
      where c.relnamespace = 'app'::regnamespace and c.relkind = 'r' and not c.relispartition
        and a.attname = 'tenant_id' and not a.attisdropped and not c.relrowsecurity loop
    perform app.isolate(t.of_table);
  end loop;
end $$;

-- The web role reads its tenant's own, asks for exports and puts notices away; all else goes by verbs.
grant select on app.zone_changes, app.model_blocks, app.usage_daily_models, app.usage_conversations,
  app.closings, app.export_files, app.export_parts, app.exports, app.notices, app.notice_reads to app_rw;
grant insert on app.exports, app.export_files, app.notice_reads to app_rw;
grant select, insert, update, delete on all tables in schema app to app_jobs;
revoke update, delete, truncate on app.entries, app.lot_uses, app.dues, app.usage_events, app.audit_log
  from app_jobs;
revoke update on app.export_parts from app_jobs;
revoke delete on app.closings from app_jobs;
revoke insert, update, delete on app.alembic_version from app_jobs;
do $$
declare p regclass;
begin
  for p in select inhrelid::regclass from pg_inherits where inhparent = 'app.usage_events'::regclass loop
    perform app.guard_partition(p);
  end loop;
end $$;

-- Reporting views: new columns come last, so that what reads by place goes on.
create or replace view reporting.usage_events as
select e.event_id, e.kind, e.adjusts_call_id, e.call_id, e.occurred_at, e.recorded_at, e.tenant_id,
  t.name as tenant_name, e.user_id, u.name as user_email, e.api_key_id, e.cost_center, e.source,
  e.purpose, e.conversation_id, e.provider, e.model_requested, e.model_served, e.prompt_tokens,
  e.cached_tokens, e.cache_write_tokens, e.completion_tokens, e.reasoning_tokens,
  reporting.usd(e.list_nusd) as list_cost_usd, reporting.usd(e.billed_nusd) as billed_cost_usd,
  e.provider_cost_usd, e.cost_source,
  not exists (select from app.lookups l where l.tenant_id = e.tenant_id and l.call_id = e.call_id) as final,
  e.outcome, e.latency_ms, e.first_token_ms, e.cached, e.generation_id, e.project
from app.usage_events e
join app.labels t on t.tenant_id = e.tenant_id and t.label_id = e.tenant_label_id
join app.labels u on u.tenant_id = e.tenant_id and u.label_id = e.user_label_id;

create view reporting.usage_daily_models as
select d.tenant_id, d.model, d.source, d.day, d.requests, d.prompt_tokens, d.cached_tokens,
  d.cache_write_tokens, d.completion_tokens, d.reasoning_tokens,
  reporting.usd(d.list_nusd) as list_cost_usd, reporting.usd(d.billed_nusd) as billed_cost_usd, d.errors
from app.usage_daily_models d;

create view reporting.conversations as
select c.tenant_id, c.conversation_id, c.user_id, c.model, c.requests, c.tokens,
  reporting.usd(c.list_nusd) as list_cost_usd, reporting.usd(c.billed_nusd) as billed_cost_usd,
  c.first_at, c.last_at
from app.usage_conversations c;

create view reporting.closings as
select c.tenant_id, c.closing_id, c.month, c.begins_at, c.ends_at, c.events, c.requests, c.tokens,
  reporting.usd(c.list_nusd) as list_cost_usd, reporting.usd(c.billed_nusd) as billed_cost_usd,
  c.closed_by, c.closed_at, c.reopened_by, c.reopened_at, c.reason
from app.closings c;

create view reporting.provider_bills as
select b.provider, b.day, b.model, b.ours_usd, b.theirs_usd, b.theirs_usd - b.ours_usd as difference_usd,
  b.ours_requests, b.theirs_requests, b.cause, b.checked_at
from app.bill_checks b;

grant select on reporting.usage_events, reporting.usage_daily_models, reporting.conversations,
  reporting.closings, reporting.provider_bills to purser_reporting;
