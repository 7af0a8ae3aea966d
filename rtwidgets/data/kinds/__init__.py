"""How values of Postgres types are stored, compared, ordered and shown: the kinds that `column_kinds` registers."""
