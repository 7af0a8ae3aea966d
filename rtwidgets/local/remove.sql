-- Removes what schema.sql added to a database, and only that: each object has our comment. Safe to run again. Tables
-- stay; policies on them that call auth.uid() are removed with that function.

do $$
declare
  name text;
begin
  for name in select pubname from pg_catalog.pg_publication
    where pg_catalog.obj_description(oid, 'pg_publication') = 'made by rtwidgets' loop
    execute format('drop publication %I', name);
  end loop;
  for name in select nspname from pg_catalog.pg_namespace
    where pg_catalog.obj_description(oid, 'pg_namespace') = 'made by rtwidgets' loop
    execute format('drop schema %I cascade', name);
  end loop;
  for name in select rolname from pg_catalog.pg_roles
    where pg_catalog.shobj_description(oid, 'pg_authid') = 'made by rtwidgets' loop
    execute format('drop owned by %I', name);  -- what was granted to it, here
    begin
      execute format('drop role %I', name);
    exception when dependent_objects_still_exist then
      raise notice 'the role % is in use in another database, and stays', name;
    end;
  end loop;
end
$$;
