"""Where the user's token comes from: a string, or a function that is asked again before it expires."""

from __future__ import annotations

import asyncio
import base64
import contextvars
import inspect
import json
import threading
import time
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from typing import Any, cast

from ..protocol.connection import renewal_due
from ..protocol.errors import RealtimeError

TokenSource = str | Callable[[], str | Awaitable[str | None] | None] | None


def claims(token: str) -> dict[str, Any]:
    """The claims of a JWT, not verified; empty for what is not one."""
    try:
        body = token.split(".")[1]
        found: Any = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


class TokenHolder:
    """The token of now. One holder serves every join, renewal and REST call of a client.

    `on_change` is called whenever there is another token.
    """

    def __init__(self, source: TokenSource, on_change: Callable[[], None] = lambda: None) -> None:
        given: object = source
        if not (given is None or isinstance(given, str) or callable(given)):
            raise TypeError(f"token= takes a JWT as text, or a function that returns one, not {type(given).__name__}")
        self._source = source
        self._token: str | None = source.strip() if isinstance(source, str) else None
        self._on_change = on_change
        self._fetching: asyncio.Task[str | None] | None = None
        self.clock_ahead = 0.0
        """Seconds that the server's clock, by which a token expires, is ahead of ours."""

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

    def set_clock(self, date: str) -> None:
        """Sets the server's clock by the `Date` header of an answer that came just now; an unreadable one says that it
        is ours.
        """
        try:
            self.clock_ahead = parsedate_to_datetime(date).timestamp() - time.time()
        except (LookupError, ValueError, OverflowError):
            self.clock_ahead = 0.0

    def replace(self, token: str) -> None:
        """Another token by hand, from now on."""
        if not callable(self._source):
            self._source = token
        self._set(token.strip())

    def _set(self, token: str | None) -> None:
        if token != self._token:
            self._token = token
            self._on_change()

    def left(self) -> float | None:
        """Seconds until the token expires, below 0 where it has; None where it says nothing of it."""
        exp = claims(self._token).get("exp") if self._token else None
        return exp - time.time() - self.clock_ahead if isinstance(exp, int | float) else None

    def renew_in(self) -> float | None:
        """Seconds until a new token should be asked for; None where there is nothing to ask, or no end."""
        left = self.left() if self.renewable else None
        return None if left is None else renewal_due(left)

    async def get(self, *, fresh: bool = False) -> str | None:
        """The token; asks for a new one where there is none, `fresh` is wanted, or it is about to expire.

        Raises what the function raises, `TypeError` where it returns something else. Ten channels that find the token
        expired together ask once, and a wait that is cancelled does not end the asking.
        """
        source = self._source
        if not callable(source):
            return self._token
        if self._fetching is None:
            due = self.renew_in()
            if self._token is not None and not fresh and (due is None or due > 0):
                return self._token
            self._fetching = asyncio.ensure_future(_call(source))
            self._fetching.add_done_callback(self._on_fetched)
        return await asyncio.shield(self._fetching)

    async def fetch(self, patience: float, *, fresh: bool = False) -> str | None:
        """As `get`. Raises `RealtimeError` (`TokenSourceFailed`) for whatever the function does wrong, and where it has
        not returned within `patience` seconds: it is not stopped, and the next call waits for it.
        """
        try:
            async with asyncio.timeout(patience):
                return await self.get(fresh=fresh)
        except TimeoutError:
            text = f"the token function has not returned within {patience:g} s"
        except Exception as error:
            text = f"the token function raised {type(error).__name__}: {error}"
        hint = "correct the function given as token="
        raise RealtimeError(text, code="TokenSourceFailed", retryable=True, hint=hint)

    def _on_fetched(self, fetching: asyncio.Task[str | None]) -> None:
        self._fetching = None
        if not fetching.cancelled() and fetching.exception() is None:
            self._set(fetching.result())

    def close(self) -> None:
        """A call of the function is not waited for any more."""
        if self._fetching is not None:
            self._fetching.cancel()


async def _call(source: Callable[[], Any]) -> str | None:
    # A plain function may block (a database, a login page): never on the I/O thread.
    found = await (source() if inspect.iscoroutinefunction(source) else _on_a_thread(source))
    if inspect.isawaitable(found):
        found = await found
    if found is not None and not isinstance(found, str):
        raise TypeError(f"it returned {type(found).__name__}, not a token as text")
    return found.strip() if found else None


def _on_a_thread(source: Callable[[], Any]) -> asyncio.Future[Any]:
    """On a thread of its own, which ends with the call: one of a pool would stay, and one that hangs would keep the
    interpreter from ending.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(found: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_exception(error) if error is not None else future.set_result(found)

    def work() -> None:
        found, error = None, None
        try:
            found = context.run(source)
        except BaseException as raised:
            # A coroutine's future cannot hold it.
            error = RuntimeError("StopIteration") if isinstance(raised, StopIteration) else raised
        try:
            loop.call_soon_threadsafe(settle, found, error)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    threading.Thread(target=work, name="rtwidgets-token", daemon=True).start()
    return future
