-- The parts of a Supabase project's database that this server needs. Safe to run again at every start. Each object gets
-- a comment, 'made by rtwidgets', by which remove.sql finds it.

-- A token's role must be granted to authenticator, as for PostgREST: `grant my_role to authenticator`.
do $$
declare
  role_name text;
begin
  foreach role_name in array array['authenticator', 'anon', 'authenticated', 'service_role'] loop
    if not exists (select from pg_catalog.pg_roles where rolname = role_name) then
      execute format('create role %I nologin noinherit', role_name);
      execute format('comment on role %I is %L', role_name, 'made by rtwidgets');
    end if;
  end loop;
end
$$;
alter role service_role bypassrls;
grant anon, authenticated, service_role to authenticator;

grant usage on schema public to anon, authenticated, service_role;
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on sequences to anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to anon, authenticated, service_role;

do $$
declare
  name text;
begin
  foreach name in array array['auth', 'realtime'] loop
    if not exists (select from pg_catalog.pg_namespace where nspname = name) then
      execute format('create schema %I', name);
      execute format('comment on schema %I is %L', name, 'made by rtwidgets');
    end if;
  end loop;
end
$$;

grant usage on schema auth to anon, authenticated, service_role;

create or replace function auth.jwt() returns jsonb language sql stable as $$
  select coalesce(nullif(current_setting('request.jwt.claims', true), ''), '{}')::jsonb
$$;
create or replace function auth.uid() returns uuid language sql stable as $$
  select nullif(auth.jwt() ->> 'sub', '')::uuid
$$;
create or replace function auth.role() returns text language sql stable as $$
  select auth.jwt() ->> 'role'
$$;
create or replace function auth.email() returns text language sql stable as $$
  select auth.jwt() ->> 'email'
$$;

grant usage on schema realtime to anon, authenticated, service_role;

create table if not exists realtime.messages (
  id uuid not null default gen_random_uuid() primary key,
  topic text not null,
  extension text not null,
  payload jsonb,
  event text,
  private boolean default false,
  updated_at timestamp not null default now(),
  inserted_at timestamp not null default now(),
  binary_payload bytea
);
-- In UTC, whatever the session's time zone; and the time of the statement, so that a replay keeps the order within one
-- transaction.
alter table realtime.messages alter column inserted_at set default clock_timestamp() at time zone 'utc',
  alter column updated_at set default now() at time zone 'utc';
create index if not exists messages_replay on realtime.messages (topic, inserted_at desc) where extension = 'broadcast' and private;
alter table realtime.messages enable row level security;
grant select, insert, update on realtime.messages to anon, authenticated, service_role;

create or replace function realtime.topic() returns text language sql stable as $$
  select nullif(current_setting('realtime.topic', true), '')
$$;

-- Broadcasts travel by the WAL: an INSERT into realtime.messages reaches the channel when its transaction commits.
create or replace function realtime.send(payload jsonb, event text, topic text, private boolean default true)
returns void language plpgsql as $$
declare
  message_id uuid := gen_random_uuid();
begin
  -- What is no object raises, and so is not sent; as on Supabase, NULL is stored and reaches nobody.
  if not payload ? 'id' then
    payload := jsonb_set(payload, '{id}', to_jsonb(message_id));
  end if;
  -- The caller's own policies on realtime.messages apply, and read the topic.
  perform set_config('realtime.topic', topic, true);
  insert into realtime.messages (id, payload, event, topic, private, extension)
  values (message_id, payload, event, topic, private, 'broadcast');
exception when others then
  raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
end
$$;

create or replace function realtime.send_binary(payload bytea, event text, topic text, private boolean default true)
returns void language plpgsql as $$
begin
  perform set_config('realtime.topic', topic, true);
  insert into realtime.messages (binary_payload, event, topic, private, extension)
  values (payload, event, topic, private, 'broadcast');
exception when others then
  raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
end
$$;

create or replace function realtime.broadcast_changes(
  topic_name text, event_name text, operation text, table_name text, table_schema text,
  new record, old record, level text default 'ROW'
) returns void language plpgsql as $$
begin
  if level = 'STATEMENT' then
    raise exception 'function can only be triggered for each row, not for each statement';
  end if;
  if operation not in ('INSERT', 'UPDATE', 'DELETE') then
    raise exception 'Unexpected operation type: %', operation;
  end if;
  perform realtime.send(
    jsonb_build_object(
      'old_record', case when operation = 'INSERT' then null else to_jsonb(old) end,
      'record', case when operation = 'DELETE' then null else to_jsonb(new) end,
      'operation', operation, 'table', table_name, 'schema', table_schema
    ),
    event_name, topic_name
  );
end
$$;

do $$
begin
  if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
    comment on publication supabase_realtime is 'made by rtwidgets';
  end if;
  if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime_messages_publication') then
    create publication supabase_realtime_messages_publication for table realtime.messages with (publish = 'insert');
    comment on publication supabase_realtime_messages_publication is 'made by rtwidgets';
  end if;
  -- Stored generated columns belong to a row like any other; older versions cannot publish them.
  if current_setting('server_version_num')::int >= 180000 and exists (select from pg_catalog.pg_publication
    where pubname = 'supabase_realtime' and pg_catalog.obj_description(oid, 'pg_publication') = 'made by rtwidgets') then
    alter publication supabase_realtime set (publish_generated_columns = stored);
  end if;
end
$$;
