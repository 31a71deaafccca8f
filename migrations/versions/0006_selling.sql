-- What is sold and how it was paid, the inbox of Stripe's events, usage on its way to a meter; and in the
-- ledger: what is due, reinstated, paid and written off. Then row security and rights, as in 0002.

create table app.billing_terms (
  one_row boolean default 'true' not null,
  low_balance_nusd bigint not null,
  approval_above_nusd bigint not null,
  constraint billing_terms_pkey primary key (one_row),
  constraint billing_terms_one_row_check check (one_row)
);

create table app.packages (
  package_code text not null,
  title text not null,
  price_minor bigint not null,
  currency text default 'usd' not null,
  credits_nusd bigint not null,
  bonus_nusd bigint default '0' not null,
  expires_after_days integer,
  bonus_expires_after_days integer,
  badge text,
  features text[] default '{}' not null,
  rank smallint not null,
  active boolean default 'true' not null,
  constraint packages_pkey primary key (package_code),
  constraint packages_amounts_check check (price_minor > 0 and credits_nusd > 0 and bonus_nusd >= 0),
  constraint packages_currency_check check (currency = 'usd')
);

create table app.plan_offers (
  plan text not null,
  price_minor bigint not null,
  currency text default 'usd' not null,
  allowance_nusd bigint not null,
  grace_days integer default '3' not null,
  badge text,
  features text[] default '{}' not null,
  active boolean default 'true' not null,
  constraint plan_offers_pkey primary key (plan),
  constraint plan_offers_amounts_check check (price_minor >= 0 and allowance_nusd >= 0),
  constraint plan_offers_currency_check check (currency = 'usd'),
  constraint plan_offers_plan_fkey foreign key(plan) references app.plans (plan)
);

create table app.offer_prices (
  price_id text not null,
  kind text not null,
  code text not null,
  product_id text not null,
  price_minor bigint not null,
  credits_nusd bigint not null,
  current boolean default 'true' not null,
  created_at timestamptz default now() not null,
  constraint offer_prices_pkey primary key (price_id),
  constraint offer_prices_kind_check check (kind in ('package', 'plan', 'usage'))
);
create unique index offer_prices_current_key on app.offer_prices (kind, code) where current;

create table app.stripe_customers (
  customer_id text not null,
  tenant_id uuid not null,
  payment_method_id text,
  card text,
  created_at timestamptz default now() not null,
  deleted_at timestamptz,
  constraint stripe_customers_pkey primary key (customer_id),
  constraint stripe_customers_tenant_id_fkey foreign key(tenant_id) references app.tenants (tenant_id)
);
create unique index stripe_customers_live_key on app.stripe_customers (tenant_id) where deleted_at is null;
comment on table app.stripe_customers is 'once-only fact: keyed by Stripe''s id alone';

create table app.orders (
  tenant_id uuid not null,
  order_id uuid not null,
  click_key text not null,
  kind text not null,
  code text not null,
  title text not null,
  price_id text,
  price_minor bigint not null,
  currency text default 'usd' not null,
  credits_nusd bigint not null,
  bonus_nusd bigint default '0' not null,
  expires_after_days integer,
  bonus_expires_after_days integer,
  state text default 'open' not null,
  reason text,
  attempt integer default '1' not null,
  session_id text,
  session_url text,
  payment_intent_id text,
  invoice_id text,
  total_minor bigint,
  ordered_by uuid,
  created_at timestamptz default now() not null,
  ended_at timestamptz,
  reviewed_at timestamptz,
  constraint orders_pkey primary key (tenant_id, order_id),
  constraint orders_tenant_id_click_key_key unique (tenant_id, click_key),
  constraint orders_kind_check check (kind in ('package', 'plan', 'topup')),
  constraint orders_state_check check (state in ('open', 'awaiting', 'needs_action', 'fulfilled', 'failed', 'expired', 'canceled', 'review')),
  constraint orders_amounts_check check (price_minor >= 0 and credits_nusd >= 0 and bonus_nusd >= 0),
  constraint orders_tenant_id_fkey foreign key(tenant_id) references app.accounts (tenant_id)
);
create unique index orders_one_topup_key on app.orders (tenant_id) where kind = 'topup' and state in ('open', 'awaiting', 'needs_action');
create index orders_order_idx on app.orders (order_id);
create index orders_payment_intent_idx on app.orders (payment_intent_id);
create index orders_session_idx on app.orders (session_id);

create table app.payments (
  payment_intent_id text not null,
  tenant_id uuid not null,
  order_id uuid,
  invoice_id text,
  total_minor bigint not null,
  currency text not null,
  paid_at timestamptz default now() not null,
  constraint payments_pkey primary key (payment_intent_id),
  constraint payments_tenant_id_order_id_fkey foreign key(tenant_id, order_id) references app.orders (tenant_id, order_id),
  constraint payments_purpose_check check (num_nonnulls(order_id, invoice_id) = 1),
  constraint payments_total_check check (total_minor > 0),
  constraint payments_tenant_id_fkey foreign key(tenant_id) references app.accounts (tenant_id)
);
create index payments_tenant_id_invoice_id_idx on app.payments (tenant_id, invoice_id);
create index payments_tenant_id_order_id_idx on app.payments (tenant_id, order_id);
comment on table app.payments is 'once-only fact: keyed by Stripe''s id alone';

create table app.fulfilments (
  stripe_id text not null,
  tenant_id uuid not null,
  kind text not null,
  order_id uuid,
  invoice_id text,
  subscription_item_id text,
  period_start timestamptz,
  granted_nusd bigint not null,
  fulfilled_at timestamptz default now() not null,
  constraint fulfilments_pkey primary key (stripe_id),
  constraint fulfilments_tenant_id_order_id_fkey foreign key(tenant_id, order_id) references app.orders (tenant_id, order_id),
  constraint fulfilments_kind_check check (kind in ('checkout_session', 'payment_intent', 'invoice_line', 'invoice')),
  constraint fulfilments_tenant_id_fkey foreign key(tenant_id) references app.accounts (tenant_id)
);
create unique index fulfilments_order_key on app.fulfilments (tenant_id, order_id) where order_id is not null;
create unique index fulfilments_period_key on app.fulfilments (tenant_id, subscription_item_id, period_start) where subscription_item_id is not null;
create index fulfilments_tenant_id_invoice_id_idx on app.fulfilments (tenant_id, invoice_id);
comment on table app.fulfilments is 'once-only fact: keyed by Stripe''s id alone';

create table app.claw_backs (
  stripe_id text not null,
  tenant_id uuid not null,
  kind text not null,
  payment_intent_id text not null,
  amount_minor bigint not null,
  status text not null,
  counts boolean not null,
  reason text,
  opened_at timestamptz default now() not null,
  changed_at timestamptz default now() not null,
  constraint claw_backs_pkey primary key (stripe_id),
  constraint claw_backs_kind_check check (kind in ('refund', 'dispute')),
  constraint claw_backs_amount_check check (amount_minor > 0),
  constraint claw_backs_tenant_id_fkey foreign key(tenant_id) references app.accounts (tenant_id)
);
create index claw_backs_tenant_id_payment_intent_id_idx on app.claw_backs (tenant_id, payment_intent_id);
comment on table app.claw_backs is 'once-only fact: keyed by Stripe''s id alone';

create table app.refund_requests (
  tenant_id uuid not null,
  request_id uuid not null,
  payment_intent_id text not null,
  amount_minor bigint not null,
  reason text not null,
  forced boolean not null,
  asked_by text not null,
  asked_at timestamptz default now() not null,
  state text default 'asked' not null,
  refund_id text,
  error text,
  constraint refund_requests_pkey primary key (tenant_id, request_id),
  constraint refund_requests_state_check check (state in ('asked', 'sent', 'refused')),
  constraint refund_requests_amount_check check (amount_minor > 0),
  constraint refund_requests_tenant_id_fkey foreign key(tenant_id) references app.accounts (tenant_id)
);

create table app.subscriptions (
  subscription_id text not null,
  tenant_id uuid not null,
  purpose text not null,
  status text not null,
  item_id text not null,
  price_id text not null,
  plan text,
  next_plan text,
  held_price_id text,
  period_start timestamptz not null,
  period_end timestamptz not null,
  cancel_at timestamptz,
  ended_at timestamptz,
  started_at timestamptz not null,
  version integer default '1' not null,
  changed_at timestamptz default now() not null,
  constraint subscriptions_pkey primary key (subscription_id),
  constraint subscriptions_purpose_check check (purpose in ('plan', 'usage')),
  constraint subscriptions_tenant_id_fkey foreign key(tenant_id) references app.accounts (tenant_id)
);
create index subscriptions_tenant_id_idx on app.subscriptions (tenant_id);
comment on table app.subscriptions is 'once-only fact: keyed by Stripe''s id alone';

create table app.invoices (
  invoice_id text not null,
  tenant_id uuid not null,
  subscription_id text,
  number text,
  status text not null,
  total_minor bigint not null,
  currency text not null,
  page_url text,
  attempts integer default '0' not null,
  next_attempt_at timestamptz,
  needs_action boolean default 'false' not null,
  created_at timestamptz not null,
  changed_at timestamptz default now() not null,
  constraint invoices_pkey primary key (invoice_id),
  constraint invoices_tenant_id_fkey foreign key(tenant_id) references app.accounts (tenant_id)
);
create index invoices_tenant_id_created_at_idx on app.invoices (tenant_id, created_at);
comment on table app.invoices is 'once-only fact: keyed by Stripe''s id alone';

create table app.auto_topups (
  tenant_id uuid not null,
  enabled boolean not null,
  threshold_nusd bigint not null,
  amount_minor bigint not null,
  daily_cap_minor bigint not null,
  consent text not null,
  consent_by uuid not null,
  consent_at timestamptz not null,
  declines integer default '0' not null,
  stopped_reason text,
  changed_at timestamptz default now() not null,
  constraint auto_topups_pkey primary key (tenant_id),
  constraint auto_topups_amounts_check check (threshold_nusd >= 0 and amount_minor > 0),
  constraint auto_topups_cap_check check (daily_cap_minor >= amount_minor),
  constraint auto_topups_tenant_id_fkey foreign key(tenant_id) references app.accounts (tenant_id)
);

create table app.credit_requests (
  tenant_id uuid not null,
  request_id uuid not null,
  amount_nusd bigint not null,
  reason text not null,
  key text not null,
  expires_at timestamptz,
  state text default 'waiting' not null,
  asked_by text not null,
  asked_at timestamptz default now() not null,
  decided_by text,
  decided_at timestamptz,
  constraint credit_requests_pkey primary key (tenant_id, request_id),
  constraint credit_requests_tenant_id_key_key unique (tenant_id, key),
  constraint credit_requests_state_check check (state in ('waiting', 'granted', 'refused')),
  constraint credit_requests_decided_check check ((state = 'waiting') = (decided_by is null)),
  constraint credit_requests_two_people_check check (decided_by <> asked_by),
  constraint credit_requests_amount_check check (amount_nusd > 0),
  constraint credit_requests_tenant_id_fkey foreign key(tenant_id) references app.accounts (tenant_id)
);

create table app.meters (
  event_name text not null,
  title text not null,
  tiers jsonb not null,
  meter_id text,
  price_id text,
  constraint meters_pkey primary key (event_name)
);

create table app.meter_exports (
  tenant_id uuid not null,
  hour timestamptz not null,
  revision smallint not null,
  units bigint not null,
  through_seq bigint not null,
  rest_nusd bigint not null,
  state text default 'waiting' not null,
  attempts integer default '0' not null,
  due_at timestamptz default now() not null,
  sent_at timestamptz,
  error text,
  constraint meter_exports_pkey primary key (tenant_id, hour, revision),
  constraint meter_exports_tenant_id_through_seq_key unique (tenant_id, through_seq),
  constraint meter_exports_units_check check (units > 0),
  constraint meter_exports_rest_check check (rest_nusd between 0 and 999),
  constraint meter_exports_state_check check (state in ('waiting', 'sent', 'dead')),
  constraint meter_exports_tenant_id_fkey foreign key(tenant_id) references app.accounts (tenant_id)
);
create index meter_exports_waiting_idx on app.meter_exports (due_at) where state = 'waiting';

create table app.meter_spans (
  tenant_id uuid not null,
  after_seq bigint not null,
  last_seq bigint,
  constraint meter_spans_pkey primary key (tenant_id, after_seq),
  constraint meter_spans_order_check check (last_seq >= after_seq),
  constraint meter_spans_tenant_id_fkey foreign key(tenant_id) references app.accounts (tenant_id)
);

create table app.stripe_events (
  event_id text not null,
  type text not null,
  api_version text,
  object_id text,
  created_at timestamptz not null,
  payload jsonb not null,
  came_by text not null,
  received_at timestamptz default now() not null,
  deliveries integer default '1' not null,
  state text default 'waiting' not null,
  attempts integer default '0' not null,
  due_at timestamptz default now(),
  reason text,
  ended_at timestamptz,
  constraint stripe_events_pkey primary key (event_id),
  constraint stripe_events_came_by_check check (came_by in ('webhook', 'reconciler')),
  constraint stripe_events_state_check check (state in ('waiting', 'handled', 'ignored', 'dead')),
  constraint stripe_events_due_check check ((state = 'waiting') = (due_at is not null))
);
create index stripe_events_due_idx on app.stripe_events (due_at) where state = 'waiting';
create index stripe_events_recent_idx on app.stripe_events (received_at desc);

create table app.stripe_differences (
  difference_id bigint generated always as identity,
  kind text not null,
  stripe_id text not null,
  of_tenant uuid,
  ours text not null,
  theirs text not null,
  cause text not null,
  found_at timestamptz default now() not null,
  seen_at timestamptz default now() not null,
  resolved_at timestamptz,
  constraint stripe_differences_pkey primary key (difference_id),
  constraint stripe_differences_kind_stripe_id_key unique (kind, stripe_id)
);

create table app.stripe_payouts (
  payout_id text not null,
  currency text not null,
  paid_minor bigint not null,
  charges_minor bigint not null,
  refunds_minor bigint not null,
  disputes_minor bigint not null,
  fees_minor bigint not null,
  other_minor bigint not null,
  arrived_at timestamptz not null,
  checked_at timestamptz default now() not null,
  constraint stripe_payouts_pkey primary key (payout_id)
);

create table app.dues (
  tenant_id uuid not null,
  seq bigint not null,
  amount_nusd bigint not null,
  constraint dues_pkey primary key (tenant_id, seq),
  constraint dues_tenant_id_seq_fkey foreign key(tenant_id, seq) references app.entries (tenant_id, seq),
  constraint dues_amount_check check (amount_nusd <> 0)
);

alter table app.accounts add column frozen boolean default 'false' not null;
create index entries_time_idx on app.entries (tenant_id, occurred_at);
create index entries_lot_idx on app.entries (tenant_id, lot_id) where lot_id is not null;
alter table app.entries drop constraint entries_kind_check;
alter table app.entries add constraint entries_kind_check check (kind in ('grant', 'capture', 'expire',
  'revoke', 'adjust', 'reinstate', 'payment', 'write_off'));

-- What postpaid and internal tenants owed so far, entry by entry.
insert into app.dues(tenant_id, seq, amount_nusd)
select e.tenant_id, e.seq, -e.amount_nusd - coalesce(u.covered, 0)
from app.entries e
join app.accounts a on a.tenant_id = e.tenant_id and a.floor_nusd is distinct from 0
left join (select tenant_id, seq, sum(amount_nusd) as covered from app.lot_uses group by tenant_id, seq) u
  on u.tenant_id = e.tenant_id and u.seq = e.seq
where e.kind in ('capture', 'adjust') and -e.amount_nusd - coalesce(u.covered, 0) <> 0;

-- Metered is what postpaid tenants use from now on: nothing was sold by meter before.
insert into app.meter_spans(tenant_id, after_seq)
select tenant_id, seq from app.accounts where floor_nusd < 0;

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
create trigger append_only before update or delete or truncate on app.dues
  for each statement execute function app.refuse_change();

-- The web role reads what is for sale and its tenant's own purchases; it writes none of them.
grant select on app.billing_terms, app.packages, app.plan_offers, app.offer_prices, app.stripe_customers,
  app.orders, app.payments, app.fulfilments, app.claw_backs, app.subscriptions, app.invoices,
  app.auto_topups, app.dues to app_rw;
grant select, insert, update, delete on all tables in schema app to app_jobs;
revoke update, delete, truncate on app.entries, app.lot_uses, app.dues, app.usage_events, app.audit_log
  from app_jobs;
revoke insert, update, delete on app.alembic_version from app_jobs;
do $$
declare p regclass;
begin
  for p in select inhrelid::regclass from pg_inherits where inhparent = 'app.usage_events'::regclass loop
    perform app.guard_partition(p);
  end loop;
end $$;

-- Reporting views of the same, for finance tools.
create view reporting.orders as
select o.tenant_id, o.order_id, o.kind, o.code, o.title, o.price_minor / 100.0 as price, o.currency,
  reporting.usd(o.credits_nusd) as credits_usd, reporting.usd(o.bonus_nusd) as bonus_usd,
  o.total_minor / 100.0 as total, o.state, o.reason, o.session_id, o.payment_intent_id, o.invoice_id,
  o.ordered_by, o.created_at, o.ended_at
from app.orders o;

create view reporting.payments as
select p.tenant_id, p.payment_intent_id, p.order_id, p.invoice_id, p.total_minor / 100.0 as total,
  p.currency, p.paid_at
from app.payments p;

create view reporting.claw_backs as
select c.tenant_id, c.stripe_id, c.kind, c.payment_intent_id, c.amount_minor / 100.0 as amount, c.status,
  c.counts, c.reason, c.opened_at, c.changed_at
from app.claw_backs c;

create view reporting.subscriptions as
select s.tenant_id, s.subscription_id, s.purpose, s.status, s.plan, s.next_plan, s.period_start,
  s.period_end, s.cancel_at, s.ended_at
from app.subscriptions s;

grant select on reporting.orders, reporting.payments, reporting.claw_backs, reporting.subscriptions
  to purser_reporting;
