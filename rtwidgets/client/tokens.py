"""Where the user's token comes from: a string, or a function that is asked again before it expires."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

TokenSource = str | Callable[[], str | Awaitable[str | None] | None] | None

MARGIN = 60.0  # seconds before `exp` at which a new token is asked for


def claims(token: str) -> dict[str, Any]:
    """The claims of a JWT, not verified; empty for what is not one."""
    try:
        body = token.split(".")[1]
        found: Any = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


class TokenHolder:
    """The token of now. One holder serves every join, renewal and REST call of a client."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._token: str | None = source if isinstance(source, str) else None
        self._lock = asyncio.Lock()
        self._asked = 0.0

    def __repr__(self) -> str:
        return "TokenHolder(<redacted>)" if self._source else "TokenHolder(None)"

    @property
    def renewable(self) -> bool:
        """Whether there is a function to ask."""
        return callable(self._source)

    @property
    def current(self) -> str | None:
        """The last token, without asking."""
        return self._token

    def replace(self, token: str) -> None:
        """Another token by hand, from now on."""
        self._token = token
        if not callable(self._source):
            self._source = token

    def renew_in(self) -> float | None:
        """Seconds until a new token should be asked for; None where there is nothing to ask, or no end."""
        if not self.renewable or not self._token:
            return None
        exp = claims(self._token).get("exp")
        if not isinstance(exp, int | float):
            return None
        left = exp - time.time()
        return max(0.0, left - MARGIN if left > 3 * MARGIN else left * 0.8)

    async def get(self, *, fresh: bool = False) -> str | None:
        """The token; asks for a new one where there is none, `fresh` is wanted, or it is about to expire.

        Raises what the function raises.
        """
        source = self._source
        if not callable(source):
            return self._token
        started = time.monotonic()
        async with self._lock:
            due = self.renew_in()
            # Ten channels that find the token expired together ask once.
            if self._token is None or (fresh and self._asked < started) or (due is not None and due <= 0):
                if inspect.iscoroutinefunction(source):
                    found = await source()
                else:
                    # A plain function may block (a database, a login page): never on the I/O thread.
                    found = await asyncio.to_thread(source)
                    if inspect.isawaitable(found):
                        found = await found
                self._asked = time.monotonic()
                self._token = cast("str | None", found)
        return self._token
