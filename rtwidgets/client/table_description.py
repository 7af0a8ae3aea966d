"""The query that says what a table is, from Postgres' catalogue: columns and types, key, identity, publication.

No part of it waits for a lock on another table: `pg_publication_tables` would, and so the catalogues under it are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# One publication `p`, and of the table `c`: `member`, whether it or a table that it is a partition of is listed, and
# `published`, whether changes come under its own name. `filter` and `columns` are those of its own entry; all tables
# of a schema, or all tables, are published without either.
PUBLICATION = """
  select p.oid, p.pubviaroot, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate,
    coalesce(pg_catalog.to_jsonb(p) ->> 'pubgencols', 'n') <> 'n' as generated,
    m.own or m.inherited as member,
    c.relpersistence = 'p' and c.oid >= 16384 and case when p.pubviaroot
      then c.relkind in ('r', 'p') and m.own and not m.inherited
      else c.relkind = 'r' and (m.own or m.inherited) end as published,
    case when not m.whole then r.prqual end as filter, case when not m.whole then r.prattrs::int2[] end as columns
  from pg_catalog.pg_publication p
  left join pg_catalog.pg_publication_rel r on r.prpubid = p.oid and r.prrelid = c.oid
  cross join lateral (
    select coalesce(bool_or(listed) filter (where k.oid = c.oid), false) as own,
      coalesce(bool_or(listed) filter (where k.oid <> c.oid), false) as inherited,
      coalesce(bool_or(whole) filter (where k.oid = c.oid), false) as whole
    from (select c.oid union select relid::oid from pg_catalog.pg_partition_ancestors(c.oid)) a(oid)
    join pg_catalog.pg_class k on k.oid = a.oid
    cross join lateral (select p.puballtables or exists (select from pg_catalog.pg_publication_namespace s
      where s.pnpubid = p.oid and s.pnnspid = k.relnamespace) as whole) w
    cross join lateral (select w.whole or exists (select from pg_catalog.pg_publication_rel e
      where e.prpubid = p.oid and e.prrelid = k.oid) as listed) l
  ) m
  where p.pubname = 'supabase_realtime'
"""

# The catalogue is open to every role. Only columns that the caller may SELECT are named, and of a published table only
# those that changes carry (not virtual generated ones, nor those outside its list): the others would grow stale.
_DESCRIBE = f"""
with recursive c as (
  select c.*, n.nspname from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname = %(schema)s::text and c.relname = %(table)s::text and c.relkind in ('r', 'p', 'v', 'm', 'f')
), p as (
  select p.* from c cross join lateral ({PUBLICATION}) p
), a as (
  select a.* from c join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join p on p.published
  where pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')
    and (p.oid is null or coalesce(a.attnum = any(p.columns), a.attgenerated = '' or p.generated)
      and (a.attgenerated = '' or a.attgenerated = 's' and current_setting('server_version_num')::int >= 180000))
), chain as (
  select atttypid as root, atttypid as oid from a
  union select chain.root, t.typbasetype from chain join pg_catalog.pg_type t on t.oid = chain.oid
  where t.typbasetype <> 0
), b as (
  select chain.root, t.oid, t.typname, s.nspname, case when t.typelem <> 0 and t.typlen = -1
    and t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc then t.typelem end as element
  from chain join pg_catalog.pg_type t on t.oid = chain.oid and t.typbasetype = 0
  join pg_catalog.pg_namespace s on s.oid = t.typnamespace
)
select c.oid::int8, c.relkind::text, c.relpersistence::text, c.relrowsecurity, c.relreplident::text,
  (select pg_catalog.json_agg(pg_catalog.json_strip_nulls(pg_catalog.json_build_object(
     'name', a.attname, 'type', y.typname, 'type_oid', y.oid::int8, 'type_schema', ys.nspname,
     'base', case when b.oid <> y.oid then b.typname end, 'base_oid', case when b.oid <> y.oid then b.oid::int8 end,
     'base_schema', case when b.oid <> y.oid then b.nspname end,
     'element', e.typname, 'element_oid', e.oid::int8, 'element_schema', es.nspname,
     'exact', case when y.oid = 'pg_catalog.numeric'::regtype and a.atttypmod >= 0
       then pg_catalog.format_type(a.atttypid, a.atttypmod) end,
     'labels', (select pg_catalog.json_agg(l.enumlabel order by l.enumsortorder) from pg_catalog.pg_enum l
       where l.enumtypid = b.oid),
     -- Whether its text is sorted otherwise than by code point. 100: the database's own collation.
     'collated', case when a.attcollation = 100 then nullif('a' < 'B', false)
       when a.attcollation <> 0 then (select true from pg_catalog.pg_collation l where l.oid = a.attcollation
         and l.collname not in ('C', 'POSIX', 'C.UTF-8', 'C.utf8', 'ucs_basic', 'pg_c_utf8', 'pg_unicode_fast')) end
     )) order by a.attnum)
   from a join pg_catalog.pg_type y on y.oid = a.atttypid join pg_catalog.pg_namespace ys on ys.oid = y.typnamespace
   join b on b.root = a.atttypid
   left join pg_catalog.pg_type e on e.oid = b.element left join pg_catalog.pg_namespace es on es.oid = e.typnamespace),
  {{key}}, {{identity}},
  p.published, p.member, p.pubviaroot, pg_catalog.pg_get_expr(p.filter, c.oid),
  array_remove(array[case when p.pubinsert then 'insert' end, case when p.pubupdate then 'update' end,
    case when p.pubdelete then 'delete' end, case when p.pubtruncate then 'truncate' end], null),
  c.relkind = 'r' and exists (select from pg_catalog.pg_inherits i where i.inhparent = c.oid)
from c left join p on true
"""
_INDEXED = """coalesce((select array_agg(k.attname::text order by n.n) from pg_catalog.pg_index i
    cross join unnest(i.indkey::int2[]) with ordinality as n(attnum, n)
    join pg_catalog.pg_attribute k on k.attrelid = i.indrelid and k.attnum = n.attnum
    where i.indrelid = c.oid and {which} and n.n <= i.indnkeyatts), '{{}}')"""
TABLE = _DESCRIBE.format(
    key=_INDEXED.format(which="i.indisprimary"),
    identity=_INDEXED.format(
        which="case c.relreplident when 'i' then i.indisreplident when 'd' then i.indisprimary and i.indimmediate end"
    ),
)
"""Takes `schema` and `table`; its one row goes through `description_of`. No row: there is no such table."""


def description_of(row: Sequence[Any]) -> dict[str, Any]:
    """The answer of `rtwidgets_describe`, from the row of `TABLE`.

    Keys: `oid`; `kind` (`pg_class.relkind`); `persistence` (`pg_class.relpersistence`); `columns`, each with `name`,
    the type's `type`, `type_oid` and `type_schema`, `exact` (a numeric's type with its digits), those of the type under
    a domain (`base...`) and of an array's elements (`element...`), an enum's `labels`, and `collated` where Postgres
    does not sort it by code point; `key`, the primary key's columns; `identity` (`pg_class.relreplident`) and
    `identity_columns`; `published`, whether changes come under this name; of the publication `member` (whether it lists
    the table, or one that it is a partition of), `via_root`, `filter` (the table's row filter as SQL, or None) and
    `verbs`; `rls`; `inherited`, whether other tables inherit from it.
    """
    (
        oid, kind, persistence, rls, identity, columns, key, identity_columns, published, member, via_root, filter,
        verbs, inherited,
    ) = row  # fmt: skip
    return {
        "oid": oid,
        "kind": kind,
        "persistence": persistence,
        "columns": columns or [],
        "key": key,
        "identity": identity,
        "identity_columns": identity_columns,
        "published": bool(published),
        "member": bool(member),
        "via_root": bool(via_root),
        "filter": filter,
        "verbs": verbs,
        "rls": rls,
        "inherited": inherited,
    }
