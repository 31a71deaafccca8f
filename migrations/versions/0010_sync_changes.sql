-- Which models each pass over a provider's list changed, and how. Passes before this one have counts only.
create table app.catalog_changes (
  sync_id bigint not null,
  model_id text not null,
  kind text not null,
  before_price_id bigint,
  price_id bigint,
  constraint catalog_changes_pkey primary key (sync_id, model_id, kind),
  constraint catalog_changes_kind_check check (kind in ('would_retire', 'retired', 'held', 'repriced', 'priced', 'returned', 'added')),
  constraint catalog_changes_price_check check (kind = 'added' or (price_id is not null) = (kind in ('held', 'repriced', 'priced'))),
  constraint catalog_changes_before_check check (kind = 'held' or (before_price_id is not null) = (kind = 'repriced')),
  constraint catalog_changes_sync_id_fkey foreign key(sync_id) references app.catalog_syncs (sync_id) on delete cascade,
  constraint catalog_changes_model_id_fkey foreign key(model_id) references app.models (model_id),
  constraint catalog_changes_before_price_id_fkey foreign key(before_price_id) references app.prices (price_id),
  constraint catalog_changes_price_id_fkey foreign key(price_id) references app.prices (price_id)
);

-- What a pass did stays as it was written. The web role does not see it.
grant select, insert on app.catalog_changes to app_jobs;
