-- Roles and schemas; run by the owner's login before the migrations, again and again.
do $$
declare r text;
begin
  foreach r in array array['app_owner nologin', 'app_rw login', 'app_jobs login', 'purser_reporting nologin'] loop
    if not exists (select from pg_roles where rolname = split_part(r, ' ', 1)) then
      begin
        execute 'create role ' || r;
      exception when duplicate_object or unique_violation then null;  -- another database's migrator won
      end;
    end if;
  end loop;
  if not (select rolsuper from pg_roles where rolname = current_user) then
    foreach r in array array['app_owner', 'app_rw', 'app_jobs'] loop
      if not pg_has_role(current_user, r, 'usage') then
        execute format('grant %I to current_user', r);
      end if;
    end loop;
  end if;
  foreach r in array array['app', 'jobs', 'reporting', 'verbs'] loop
    if not exists (select from pg_namespace where nspname = r) then
      execute format('create schema %I authorization app_owner', r);
    end if;
  end loop;
end $$;
grant usage on schema app to app_rw, app_jobs;
grant usage on schema reporting to purser_reporting;
