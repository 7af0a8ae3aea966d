"""`Twin`: what clients and channels of notebooks share: traits, waits for the I/O thread, and closing at a fork."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from traitlets import Float, HasTraits, Instance

from ..protocol import errors
from ..protocol.errors import RealtimeError
from .dispatch import dispatch
from .log import logger
from .thread import on_io_thread, run, submit

T = TypeVar("T")


class Twin(HasTraits):
    """A notebook object over an asyncio one: traits are set on the kernel's main thread, calls wait for the I/O thread.

    A process that was forked has no connection of its parent's: its inherited objects are closed.
    """

    last_error = Instance(RealtimeError, allow_none=True, help="what went wrong last; stays when all is well again")
    last_frame_at = Float(None, allow_none=True, help="when the last frame came, in seconds of Unix time")
    round_trip_ms = Float(None, allow_none=True, help="milliseconds that the last heartbeat took there and back")
    error = Instance(RealtimeError, allow_none=True, help="what is wrong now: a RealtimeError, or None")

    status: Any

    def __init__(self) -> None:
        super().__init__()
        self._pid = os.getpid()

    def _apply_status(self, status: str, error: RealtimeError | None) -> None:
        with self.hold_trait_notifications():
            self.status, self.error, self.last_error = status, error, error or self.last_error
            self.refresh()

    def refresh(self) -> None:
        """Copies the figures that change with every frame into the traits (`last_frame_at`, `round_trip_ms`,
        `reconnects`). Happens by itself at each heartbeat and each change of status.
        """
        raise NotImplementedError

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise made_before_fork()

    def _run(self, coro: Coroutine[Any, Any, T], timeout: float) -> T | None:
        """Waits for the coroutine; on the I/O thread, where waiting would never end, it goes on by itself."""
        if self._pid != os.getpid():
            coro.close()
            raise made_before_fork()
        if on_io_thread():
            submit(coro).add_done_callback(_log_failure)
            return None
        return run(coro, timeout)

    def _on_fork(self) -> None:
        """In a forked child: this object is closed, and nobody observes it."""
        self.unobserve_all()
        self.set_trait("status", "closed")
        self.set_trait("error", made_before_fork())


def later(method: weakref.WeakMethod[Callable[..., None]]) -> Callable[..., None]:
    """Dispatches a call of the method, as long as its object lives."""

    def call_later(*args: Any) -> None:
        found = method()
        if found is not None:
            dispatch(found, *args)

    return call_later


def made_before_fork() -> RealtimeError:
    """An object of the parent process is used in a forked child."""
    return errors.make(
        "Closed",
        "this was made before os.fork(), and connections are not inherited by the child",
        hint="call connect() or local() in the child, and make it anew there",
    )


def _log_failure(future: Future[Any]) -> None:
    if not future.cancelled() and future.exception() is not None:
        logger.error("a call from a callback failed: %s", future.exception())
