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
    """The token of now. One holder serves every join, renewal and REST call of a client.

    `ahead`: seconds that the server's clock, by which a token expires, is ahead of ours.
    """

    def __init__(self, source: TokenSource, ahead: Callable[[], float] = lambda: 0.0) -> None:
        self._source = source
        self._token: str | None = source.strip() if isinstance(source, str) else None
        self._ahead = ahead
        self._asking: asyncio.Task[str | None] | None = None
        self.changed = asyncio.Event()
        """Set whenever there is another token; whoever waits for it clears it."""

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
        if not callable(self._source):
            self._source = token
        self._take(token)

    def _take(self, token: str | None) -> None:
        if token != self._token:
            self._token = token
            self.changed.set()

    def left(self) -> float | None:
        """Seconds until the token expires, below 0 where it has; None where it says nothing of it."""
        exp = claims(self._token).get("exp") if self._token else None
        return exp - time.time() - self._ahead() if isinstance(exp, int | float) else None

    def renew_in(self) -> float | None:
        """Seconds until a new token should be asked for; None where there is nothing to ask, or no end."""
        left = self.left() if self.renewable else None
        if left is None:
            return None
        return max(0.0, left - MARGIN if left > 3 * MARGIN else left * 0.8)

    async def get(self, *, fresh: bool = False) -> str | None:
        """The token; asks for a new one where there is none, `fresh` is wanted, or it is about to expire.

        Raises what the function raises, `TypeError` where it returns something else. Ten channels that find the token
        expired together ask once, and a wait that is cancelled does not end the asking.
        """
        source = self._source
        if not callable(source):
            return self._token
        if self._asking is None:
            due = self.renew_in()
            if self._token is not None and not fresh and (due is None or due > 0):
                return self._token
            self._asking = asyncio.ensure_future(_ask(source))
            self._asking.add_done_callback(self._asked)
        return await asyncio.shield(self._asking)

    def _asked(self, asking: asyncio.Task[str | None]) -> None:
        self._asking = None
        if not asking.cancelled() and asking.exception() is None:
            self._take(asking.result())

    def close(self) -> None:
        """Whatever is asked for is not waited for any more."""
        if self._asking is not None:
            self._asking.cancel()


async def _ask(source: Callable[[], Any]) -> str | None:
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
