"""`ChannelWidget`: what widgets of a channel share: the channel, its status line, registrations and their end."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any

import traitlets

from ..client.callbacks import Unregister
from ..client.channel import AsyncChannel
from ..client.notebook import Channel, Client
from ..client.thread import io_loop
from ..protocol.errors import RealtimeError
from .base import RtWidget
from .checks import channel_of, paragraph
from .threads import call_on_io
from .tick import tick
from .views import View


class ChannelWidget(RtWidget):
    """A widget of one channel. A subclass registers what it needs of the channel in `_bind`."""

    _joins = True
    """Whether the widget keeps the channel joined while it is open."""

    status = traitlets.Unicode(
        "closed",
        read_only=True,
        help='The channel\'s: `"closed"`, `"joining"`, `"joined"`, `"leaving"` or `"errored"`.',
    ).tag(sync=True)

    def __init__(self, channel: Channel | str, client: Client | None = None) -> None:
        self.channel = channel_of(channel, client)
        self._problem: RealtimeError | None = None
        """What a call of this widget raised last."""
        self._tasks: set[Any] = set()
        super().__init__()
        call_on_io(self._open)

    @property
    def name(self) -> str:
        """The channel's topic."""
        return self.channel.topic

    @property
    def _aio(self) -> AsyncChannel:
        return self.channel.aio

    # --- for subclasses

    def _bind(self, aio: AsyncChannel) -> Iterable[Unregister]:
        """Registers callbacks on the channel and returns their unregister functions. On the I/O thread."""
        return ()

    def _on_status(self, status: str, error: RealtimeError | None) -> None:
        """The channel's status changed. On the I/O thread."""

    def _state(self) -> dict[str, Any]:
        """The widget's own fields of the status line."""
        return {}

    # --- on the I/O thread

    def _open(self) -> None:
        self._registered += self._bind(self._aio)
        self._registered.append(self._aio.on_status(self._note_status))
        if self._joins:
            self._registered.append(self._aio.retain())
        tick.mark(self)

    def _note_status(self, status: str, error: RealtimeError | None) -> None:
        tick.mark(self)
        self._on_status(status, error)

    def _start(self, call: Coroutine[Any, Any, None]) -> None:
        """Runs a call of the channel in the background; its RealtimeError becomes the widget's `error`."""

        async def go() -> None:
            try:
                await call
                self._problem = None
            except RealtimeError as error:
                self._problem = error
            tick.mark(self)

        task = io_loop().create_task(go())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _close_on_io(self) -> None:
        for task in self._tasks:
            task.cancel()
        super()._close_on_io()

    def _traits_now(self) -> dict[str, Any]:
        return {"status": self._aio.status, "error": paragraph(self._aio.error or self._problem)}

    def _frame(self, view: View) -> dict[str, Any] | None:
        frame: dict[str, Any] = {}
        status = "closed" if self._closed else self._aio.status
        error = paragraph(self._aio.error or self._problem)
        state = {"status": status, "error": error, "topic": self.channel.topic, **self._state()}
        if view.differs("state", state):
            frame["state"] = state
        self._fill(view, frame)
        return frame or None

    def _fill(self, view: View, frame: dict[str, Any]) -> None:
        """Puts into the frame what the view lacks beyond the status line."""
