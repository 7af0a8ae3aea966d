"""What a channel needs of the client that carries it: a connection, the token, and the register of channels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from ..protocol.errors import RealtimeError
from ..protocol.messages import Message
from .callbacks import Unregister
from .tokens import TokenHolder


class Line(Protocol):
    """A client as its channels see it. `AsyncClient` is one."""

    @property
    def timeout(self) -> float:
        """Seconds for an answer of the server."""
        ...

    @property
    def connected(self) -> bool:
        """Whether there is an open socket now."""
        ...

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        ...

    @property
    def error(self) -> RealtimeError | None:
        """What is wrong with the connection now."""
        ...

    @property
    def tokens(self) -> TokenHolder:
        """The token of now, where it comes from, and the server's clock."""
        ...

    def next_ref(self) -> str:
        """A ref that this client has not used."""
        ...

    async def push(self, message: Message) -> None:
        """Sends a frame now. Raises `RealtimeError` without a connection, `FrameError` for what cannot be encoded."""
        ...

    async def get_token(self, *, fresh: bool = False) -> str | None:
        """The token for a join. Raises `RealtimeError` where its source fails."""
        ...

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that lives until it ends or the client closes; what it raises is logged."""
        ...

    def ensure_started(self) -> None:
        """Starts connecting where nobody has. Raises `RealtimeError` once the client is closed."""
        ...

    def attach(self, topic: str, channel: object) -> None:
        """Has the topic's messages handed to this channel. Raises `RealtimeError` where another one has them."""
        ...

    def detach(self, topic: str, channel: object) -> None:
        """Forgets the channel."""
        ...

    def on_frame(self, fn: Callable[[str, Message], Any]) -> Unregister:
        """Calls `fn("in" or "out", message)` for every frame."""
        ...
