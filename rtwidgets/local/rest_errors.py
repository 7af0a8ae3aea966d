"""The errors of the REST API, as PostgREST words them."""

from __future__ import annotations

from typing import Any

import psycopg

_STATUS: tuple[tuple[str, int], ...] = (
    ("08", 503),
    ("09", 500),
    ("0L", 403),
    ("0P", 403),
    ("23503", 409),
    ("23505", 409),
    ("25006", 405),
    ("25", 500),
    ("28", 403),
    ("2D", 500),
    ("38", 500),
    ("39", 500),
    ("3B", 500),
    ("40", 500),
    ("42883", 404),
    ("42P01", 404),
    ("42P17", 500),
    ("53400", 500),
    ("53", 503),
    ("54", 500),
    ("55", 500),
    ("57P01", 503),
    ("57P02", 503),
    ("57P03", 503),
    ("57", 500),
    ("58", 500),
    ("F0", 500),
    ("HV", 500),
    ("P0001", 400),
    ("P0", 500),
    ("XX", 500),
)
"""HTTP statuses by the beginning of the SQLSTATE, the more specific first; any other SQLSTATE is 400."""


class RestError(Exception):
    """An answer other than rows: `status` is the HTTP status, `body` PostgREST's JSON object."""

    def __init__(
        self, status: int, code: str, message: str, details: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"code": code, "details": details, "hint": hint, "message": message}


def from_database(error: psycopg.Error, *, anonymous: bool, hint: str | None = None) -> RestError:
    """What Postgres refused. `anonymous`: the role is `anon`, so that a missing privilege asks for a login (401).

    `hint` stands in where Postgres gives none.
    """
    state, diag = error.sqlstate, error.diag
    message = diag.message_primary or "Could not query the database"
    if state is None and isinstance(error, psycopg.DataError):  # such as the character NUL: it was not sent
        return RestError(400, "22021", str(error))
    if state is None:
        return RestError(503, "PGRST000", "Database connection error. Retrying the connection.", str(error).strip())
    if state == "42501":
        status = 401 if anonymous else 403
    elif state == "22023" and message.startswith("role "):  # the role of the token
        status = 401
    else:
        status = next((status for prefix, status in _STATUS if state.startswith(prefix)), 400)
    return RestError(status, state, message, diag.message_detail, diag.message_hint or hint)
