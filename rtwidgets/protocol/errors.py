"""Errors by the protocol's own codes: whether a retry can help, and a hint for the user.

Sources: the operational codes and texts of Supabase Realtime v2.122.0, PostgREST's and Postgres' error codes.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, cast

from .sql_names import sql_name


class RealtimeError(Exception):
    """An error of Realtime, of the project's REST API, or of this library.

    `code`: the protocol's own, such as `Unauthorized`. `message`: what happened. `hint`: one sentence on what to do.
    `retryable`: whether the same call may succeed later although nobody changes anything.
    """

    def __init__(self, message: str, *, code: str, retryable: bool = False, hint: str = "") -> None:
        self.message = redact(message)
        self.code = code
        self.retryable = retryable
        self.hint = hint
        super().__init__(f"{code}: {self.message}" + (f" ({hint})" if hint else ""))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, code={self.code!r}, retryable={self.retryable})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (self.message, self.code, self.retryable, self.hint))


class RealtimeTimeoutError(RealtimeError, TimeoutError):
    """Something did not happen in time: a `RealtimeError` with code `Timeout` that is also a `TimeoutError`."""

    def __init__(self, message: str, *, code: str = "Timeout", retryable: bool = True, hint: str = "") -> None:
        super().__init__(message, code=code, retryable=retryable, hint=hint)


def _rebuild(message: str, code: str, retryable: bool, hint: str) -> RealtimeError:
    return _class_of(code)(message, code=code, retryable=retryable, hint=hint)


def _class_of(code: str) -> type[RealtimeError]:
    return RealtimeTimeoutError if code == "Timeout" else RealtimeError


# Each alternative reads a run of characters once, whatever the text: a message of a stranger must not take long.
_DOTTED = re.compile(r"(?<![\w.-])[\w-]*(?:\.[\w-]*){2,}")
_SECRETS = re.compile(
    r"sb_(?:secret|publishable)_[\w-]+|(?<=apikey=)[^&\s\"']+|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
    r"|(?<=\bpassword=)(?:'(?:[^'\\]|\\.)*'|[^\s&\"']+)"
)


def redact(text: str) -> str:
    """The text without anything that looks like a key, a token or a password in a URL. Takes linear time."""
    if "eyJ" in text:
        text = _DOTTED.sub(_redact_jwts, text)
    return _SECRETS.sub("<redacted>", text)


def _redact_jwts(match: re.Match[str]) -> str:
    parts, kept, at = match[0].split("."), list[str](), 0
    while at < len(parts):
        start = parts[at].find("eyJ")
        is_token = 0 <= start <= len(parts[at]) - 8 and at + 2 < len(parts) and parts[at + 1]
        kept.append(f"{parts[at][:start]}<redacted>" if is_token else parts[at])
        at += 3 if is_token else 1
    return ".".join(kept)


class _Rule(NamedTuple):
    retryable: bool
    hint: str
    wait: float = 0.0  # seconds at least before the next try


_TOKEN = "give a fresh token: connect(..., token=function_that_returns_one), which is called again when it expires"
_KEY = "check the project's URL and the key (Project Settings, API keys)"
_LATER = "nothing to do: it is tried again by itself"
_LIMIT = "slow down or share channels (the project's Realtime settings hold the limit): it is tried again after 30 s"
_POLICY = (
    "add a policy for this topic, such as `create policy p on realtime.messages for select to authenticated "
    "using (realtime.topic() = 'my-topic');`, and check the role of the token in use"
)
_LIMITED = _Rule(True, _LIMIT, 30.0)
_SERVICE = _Rule(True, _LATER)
_DATABASE = _Rule(True, "check that the project's database is up and has free connections; it is tried again by itself")

_RULES: dict[str, _Rule] = {
    "TopicNameRequired": _Rule(False, "give the channel a name"),
    "InvalidTopic": _Rule(False, "give the channel a name of at most 245 bytes"),
    "InvalidJoinPayload": _Rule(False, "check the channel's options"),
    "RealtimeDisabledForConfiguration": _Rule(
        False, "check the bindings' schema, table and filter, and that the table is published"
    ),
    "InvalidPresencePayload": _Rule(False, "track a dict"),
    "UnknownPresenceEvent": _Rule(False, "use track() and untrack()"),
    "UnprocessableEntity": _Rule(False, "check topic, event and payload"),
    "MalformedWebSocketMessage": _Rule(False, "send JSON values or bytes only"),
    "PayloadTooLarge": _Rule(
        False, "send less in one message: the limit is 256 KB on the free plan and 3 MB on paid ones"
    ),
    "MissingAPIKey": _Rule(False, _KEY),
    "InvalidJWTToken": _Rule(False, _TOKEN),
    "TokenExpired": _Rule(False, _TOKEN),
    "MalformedJWT": _Rule(False, _TOKEN),
    "JwtSignatureError": _Rule(
        False, "use a token that this project signed: key and URL must belong to the same project"
    ),
    "JwtSignerError": _Rule(False, "check the project's JWT secret or its JWKS"),
    "Unauthorized": _Rule(False, _POLICY),
    "PrivateOnly": _Rule(False, "use Channel(topic, private=True): this project allows private channels only"),
    "RlsPolicyError": _Rule(False, "mend the policies on realtime.messages: one of them raises an error"),
    "TenantNotFound": _Rule(False, "check the URL: no such project, or it is paused or deleted"),
    "RealtimeDisabledForTenant": _Rule(False, "switch Realtime on in the project's settings"),
    "HandshakeRefused": _Rule(False, "check the URL, and that serializer and key are right"),
    "UnableToReplayMessages": _Rule(False, "join without replay, or with a private channel and a limit of 1 to 25"),
    "InvalidFilter": _Rule(False, "write it as column=op.value, such as status=eq.open"),
    "InvalidSubscription": _Rule(False, "check schema, table, columns and filter of the binding"),
    "TableNotPublished": _Rule(False, "publish the table: `alter publication supabase_realtime add table public.x;`"),
    "ChannelOptionsDiffer": _Rule(
        False, "use the same options, another topic, or unsubscribe() the other channel first"
    ),
    "UnableToConnectToProject": _DATABASE,
    "DatabaseLackOfConnections": _DATABASE,
    "IncreaseConnectionPool": _Rule(
        True, "raise the Realtime connection pool in the project's settings; it is tried again by itself"
    ),
    "IncreaseSubscriptionConnectionPool": _Rule(True, "raise the Realtime subscription pool in the project's settings"),
    "InitializingProjectConnection": _SERVICE,
    "QueryCanceled": _DATABASE,
    "MissingPartition": _DATABASE,
    "UnableToSetPolicies": _DATABASE,
    "UnableToSubscribeToPostgres": _DATABASE,
    "ReconnectSubscribeToPostgres": _DATABASE,
    "ReplicationBlocked": _Rule(
        True, "commit or roll back in those sessions, or end them: `select pg_terminate_backend(pid);`"
    ),
    "ServerDisconnect": _SERVICE,
    "RealtimeRestarting": _SERVICE,
    "TimeoutOnRpcCall": _SERVICE,
    "ErrorOnRpcCall": _SERVICE,
    "MusterJoinError": _SERVICE,
    "UnknownErrorOnChannel": _SERVICE,
    "ChannelClosed": _SERVICE,
    "ChannelCrashed": _SERVICE,
    "ConnectionLost": _Rule(True, "check the network; the connection is tried again by itself"),
    "Timeout": _Rule(
        True, "check the network and the server; on a private channel, a missing insert policy gives no answer either"
    ),
    "SendBufferFull": _Rule(True, "wait until the channel is joined, or send less while it is not"),
    "NotSubscribed": _Rule(False, "call subscribe() first"),
    "Closed": _Rule(False, "connect again: this client or channel was closed"),
    "MessagePerSecondRateLimitReached": _LIMITED,
    "PresenceRateLimitReached": _LIMITED,
    "ClientPresenceRateLimitReached": _Rule(True, "call track() at most 5 times in 30 s", 30.0),
}
# A code that is not in the table: the protocol's own families.
_FAMILIES: tuple[tuple[str, _Rule], ...] = (
    ("RateLimitReached", _LIMITED),
    ("Replication", _DATABASE),
    ("Database", _DATABASE),
    ("Jwt", _RULES["MalformedJWT"]),
)

AUTH_CODES = frozenset(
    {
        "InvalidJWTToken",
        "TokenExpired",
        "MalformedJWT",
        "JwtSignatureError",
        "JwtSignerError",
        "Unauthorized",
        "MissingAPIKey",
    }
)
"""Where asking for a fresh token once may help."""


def _rule(code: str) -> _Rule:
    known = _RULES.get(code)
    if known:
        return known
    for part, rule in _FAMILIES:
        if part in code:
            return rule
    return _SERVICE


def make(code: str, message: str, *, hint: str | None = None) -> RealtimeError:
    """The error of a code in the table (or of one of its families; unknown codes are retryable)."""
    rule = _rule(code)
    return _class_of(code)(message, code=code, retryable=rule.retryable, hint=rule.hint if hint is None else hint)


def denied_presence(topic: str) -> RealtimeError:
    """A private channel refused a presence state, for which the server gives no reason."""
    name = topic.replace("'", "''")
    policy = (
        "create policy p on realtime.messages for insert to authenticated "
        f"with check (extension = 'presence' and realtime.topic() = '{name}');"
    )
    hint = f"add an insert policy for presence, such as `{policy}`, and check the role of the token in use"
    return make("Unauthorized", f"the server refused the presence state on the private channel {topic!r}", hint=hint)


def min_wait(error: RealtimeError) -> float:
    """Seconds to wait at least before the next try: 30 after a rate limit, else 0."""
    return _rule(error.code).wait


_CODE = re.compile(r"\s*([A-Z]\w+):\s*(.*)", re.S)

# Texts that come without a code (system messages, handshake bodies, channel replies), as the server writes them.
_TEXTS: tuple[tuple[str, str], ...] = (
    ("token has expired", "TokenExpired"),
    ("api key is missing", "MissingAPIKey"),
    ("not a valid jwt", "MalformedJWT"),
    ("failed to validate jwt signature", "JwtSignatureError"),
    ("`role` and `exp`", "InvalidJWTToken"),
    ("failed to generate jwt signer", "JwtSignerError"),
    ("permissions to read", "Unauthorized"),
    ("no longer have permission", "Unauthorized"),
    ("realtime was disabled", "RealtimeDisabledForTenant"),
    ("tenant not found", "TenantNotFound"),
    ("too many connected users", "ConnectionRateLimitReached"),
    ("too many joins", "ClientJoinRateLimitReached"),
    ("too many channels", "ChannelRateLimitReached"),
    ("too many messages", "MessagePerSecondRateLimitReached"),
    ("too many presence messages", "PresenceRateLimitReached"),
    ("client presence rate limit", "ClientPresenceRateLimitReached"),
    ("exceeded your rate limit", "MessagePerSecondRateLimitReached"),
    ("track message size", "PayloadTooLarge"),
    ("payload_size_exceeded", "PayloadTooLarge"),
    ("payload size exceeds", "PayloadTooLarge"),
    ("track payload must be a map", "InvalidPresencePayload"),
    ("unable to connect to the project database", "UnableToConnectToProject"),
    ("error connecting to realtime", "UnableToConnectToProject"),
    ("server requested disconnect", "ServerDisconnect"),
    ("node request timeout", "TimeoutOnRpcCall"),
    ("unmatched topic", "NotSubscribed"),
    ("error parsing `filter`", "InvalidFilter"),
    ("replication connection was not established", "UnableToSubscribeToPostgres"),
)


def from_reason(reason: str) -> RealtimeError:
    """The error in a reply's `reason`, as the server writes it: `"Code: text"`, or a text alone."""
    match = _CODE.fullmatch(reason)
    if match:
        code, text = match.group(1), match.group(2)
        if code == "InvalidJWTToken" and "expired" in text:
            code = "TokenExpired"
        if code in _RULES or any(part in code for part, _ in _FAMILIES) or " " not in code:
            return make(code, text or code)
    lowered = reason.lower()
    for part, code in _TEXTS:
        if part in lowered:
            return make(code, reason)
    return make("UnknownErrorOnChannel", reason or "the server gave no reason")


_STATUS = {
    400: "UnprocessableEntity",
    401: "InvalidJWTToken",
    403: "HandshakeRefused",
    404: "TenantNotFound",
    413: "PayloadTooLarge",
    422: "UnprocessableEntity",
    429: "ConnectionRateLimitReached",
}


def from_status(status: int, body: bytes | str = b"") -> RealtimeError:
    """The error of an HTTP answer of the realtime server: to a handshake, or to a POST to `/api/broadcast`."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    message = text.strip()
    try:
        parsed: Any = json.loads(text)
        if isinstance(parsed, dict):
            fields = cast("dict[str, Any]", parsed)
            message = str(
                fields.get("error") or fields.get("message") or fields.get("msg") or fields.get("errors") or message
            )
    except ValueError:
        pass
    message = message[:500] or f"HTTP {status}"
    lowered = message.lower()
    for part, code in _TEXTS:
        if part in lowered:
            return make(code, message)
    code = _STATUS.get(status)
    if code is None:
        return RealtimeError(
            f"HTTP {status}: {message}",
            code=f"Http{status}",
            retryable=status >= 500 or status == 408,
            hint=_LATER if status >= 500 else "",
        )
    return make(code, f"HTTP {status}: {message}" if message != f"HTTP {status}" else message)


_PARAMS = (
    re.compile(r"schema: (.*?), table: (.*?), filters: ", re.S),
    re.compile(r"schema: ([^,\]]+), table: ([^,\]]+)"),
)
"""The second for older servers."""


def from_system(text: str) -> RealtimeError:
    """The error in the `message` of a `system` event with status `error`."""
    lowered = text.lower()
    if "unable to subscribe to changes" in lowered:
        params = next(filter(None, (pattern.search(text) for pattern in _PARAMS)), None)
        schema, table = (params.group(1).strip(), params.group(2).strip()) if params else ("public", "x")
        if "check realtime is enabled" in lowered:
            name = sql_name(schema, table if table not in ("*", "nil") else "x")
            hint = (
                f"publish the table: `alter publication supabase_realtime add table {name};` "
                "(and check that schema and table exist and that the role may select from it)"
            )
            return make("TableNotPublished", text, hint=hint)
        return make("InvalidSubscription", text)
    if "error parsing `filter`" in lowered:
        return make("InvalidFilter", text)
    return from_reason(text)


_FILTER = "check the filter: its value must read as the column's type, and its operator must be one that the type has"
_SQL_HINTS = {
    **dict.fromkeys(("22P02", "22007", "22008", "22003", "22025", "2201B", "42883"), (_FILTER, "InvalidFilter")),
    "42P01": ("check the table's name and schema", "UndefinedTable"),
    "PGRST205": (
        "check its name, or create it first; on a project, expose its schema (Project Settings, API)",
        "UndefinedTable",
    ),
    "PGRST106": ("expose the schema in the project's API settings", "SchemaNotExposed"),
    "42703": ("check the column names", "UndefinedColumn"),
    "42501": (
        "grant it: `grant select on {table} to anon, authenticated;` (and add a select policy where RLS is on)",
        "Unauthorized",
    ),
    "PGRST301": (_TOKEN, "TokenExpired"),
    "PGRST303": (_TOKEN, "TokenExpired"),
}


_PASSING = ("08", "40", "53", "55", "57", "58", "PGRST00")
"""How the codes begin of what passes by itself: connections, conflicts, resources, locks, a server that restarts."""
_TIMEOUT_HINT = (
    "the role's statement_timeout is too short for this read: raise it (`alter role ... set statement_timeout = "
    "'60s'`), or read less with filter=, columns= or limit=; it is tried again by itself"
)


def _json_object(body: bytes | str) -> dict[str, Any] | None:
    try:
        parsed: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else None


def code_of(body: bytes | str) -> str | None:
    """The code in an answer of PostgREST: its own, or Postgres' SQLSTATE; None where the answer has none."""
    code = (_json_object(body) or {}).get("code")
    return code if isinstance(code, str) and code else None


def from_rest(status: int, body: bytes | str, table: str = "public.x") -> RealtimeError:
    """The error of an HTTP answer of PostgREST, whose body has Postgres' or its own code. An answer of anybody else (a
    proxy, a page of HTML) may pass by itself.
    """
    fields, code = _json_object(body), code_of(body)
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    if fields is None and status < 500:
        hint = _KEY if status in (401, 403) else "check the project's URL; it is tried again by itself"
        return RealtimeError(f"HTTP {status}: {text.strip()[:200]}", code=f"Http{status}", retryable=True, hint=hint)
    message = str((fields or {}).get("message") or text)
    known = _SQL_HINTS.get(code or "")
    if known:
        own = (fields or {}).get("hint") if code in ("42501", "PGRST205", "22P02") else None
        return RealtimeError(message, code=known[1], hint=str(own) if own else known[0].format(table=table))
    if code is not None and code.startswith(_PASSING):
        hint = _TIMEOUT_HINT if code == "57014" else _LATER
        return RealtimeError(message, code=code, retryable=True, hint=hint)
    if status == 404:
        return RealtimeError(message[:500], code="UndefinedTable", hint=_SQL_HINTS["42P01"][0])
    if status in (401, 403):
        return RealtimeError(message[:500], code="Unauthorized", hint=_KEY)
    return from_status(status, body)
