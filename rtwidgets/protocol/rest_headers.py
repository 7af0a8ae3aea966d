"""Headers of our own in answers of the local server's REST API, and the media type of rows as columns."""

from __future__ import annotations

LSN = "x-rtwidgets-lsn"
"""Where in Postgres' log the rows stand: every transaction that they hold was written before it."""
SNAPSHOT = "x-rtwidgets-snapshot"
"""Which transactions the rows hold, as `pg_current_snapshot()` writes it."""
FORMATS = "x-rtwidgets-formats"
"""In a table's description: the media types in which its rows can be had besides those of PostgREST."""
ARROW_STREAM = "application/vnd.apache.arrow.stream"
