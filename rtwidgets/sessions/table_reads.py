"""The tables of a session as PostgREST serves them, as far as a live table reads."""

from __future__ import annotations

import http
from collections.abc import Mapping
from typing import Any

from websockets.datastructures import Headers
from websockets.http11 import Response

from ..protocol.codec import dumps
from ..protocol.errors import RealtimeError
from ..protocol.rest_headers import LSN, SNAPSHOT
from .session_state import SessionState


def read_rows(state: SessionState, path: str, query: list[tuple[str, str]], schema: str) -> Response:
    """Answers a request: rows of a table, or what it is. `schema`: where the request does not name one."""
    try:
        return _read(state, path, query, schema)
    except RealtimeError as error:
        return json_response(http.HTTPStatus.BAD_REQUEST, {"code": error.code, "message": error.message})


def _read(state: SessionState, path: str, query: list[tuple[str, str]], schema: str) -> Response:
    if path == "/rest/v1/":
        return json_response(http.HTTPStatus.OK, {})
    name = path.removeprefix("/rest/v1/")
    describes = name == "rpc/rtwidgets_describe"
    if describes:
        asked = dict(query)
        schema, name = asked.get("schema") or "public", asked.get("table", "")
    table = state.tables.get((schema, name)) if path.startswith("/rest/v1/") else None
    if table is None:
        known = ", ".join(".".join(one) for one in state.tables) or "no table"
        text = f"{schema}.{name} is not in this recording, which has {known}"
        return json_response(http.HTTPStatus.NOT_FOUND, {"code": "PGRST205", "message": text})
    if describes:
        columns = [{"name": column, "type": kind} for column, kind in table.columns]
        return json_response(http.HTTPStatus.OK, {"columns": columns, "key": list(table.key), "published": True})
    rows, total = table.select(query)
    position = state.index + 1  # what was played up to here is in the rows
    more = {"Content-Range": f"*/{total}", LSN: str(position), SNAPSHOT: "1:1:"}
    return json_response(http.HTTPStatus.OK, rows, more)


def json_response(status: http.HTTPStatus, body: Any, more: Mapping[str, str] | None = None) -> Response:
    """A response with a JSON body, after which the connection ends."""
    data = dumps(body)
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(data)), **(more or {})})
    headers["Connection"] = "close"
    return Response(status.value, status.phrase, headers, data)
