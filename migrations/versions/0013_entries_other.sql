-- Entries that are no usage are few. With their sum, what was spent is known without adding up the calls.
create index entries_other_idx on app.entries (tenant_id) include (amount_nusd)
  where kind not in ('capture', 'adjust');
