-- Events whose sums are still to be made. Rows live for a second: vacuum comes early, or its scans grow.
-- No foreign key: every settlement of a tenant would lock its one row, and the event has one through its call.
create table app.usage_pending (
  tenant_id uuid not null,
  event_id bigint not null,
  occurred_at timestamp with time zone not null,
  constraint usage_pending_pkey primary key (tenant_id, event_id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
select app.isolate('app.usage_pending');
grant select on app.usage_pending to app_rw, app_jobs;
