"""The replies that a channel waits for, by ref, each until its timeout."""

from __future__ import annotations

import asyncio

from ..protocol import errors
from ..protocol.errors import RealtimeError

Answer = asyncio.Future[RealtimeError | None]
"""Its result is what the server answered: None for `ok`."""


class PendingReplies:
    """Nothing of it outlives the answer, the timeout or the channel, whoever has stopped waiting."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Answer, asyncio.TimerHandle]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def expect(self, ref: str, what: str, timeout: float) -> Answer:
        """A future of the answer to `ref`; `what` was sent is for the text, `timeout` in seconds."""
        loop = asyncio.get_running_loop()
        late = errors.make("Timeout", f"no answer to {what} within {timeout} s")
        answer: Answer = loop.create_future()
        self._open[ref] = (answer, loop.call_later(timeout, self.resolve, ref, late))
        return answer

    def resolve(self, ref: str, error: RealtimeError | None) -> None:
        """The answer came; nothing happens where nobody waits for it."""
        known = self._open.pop(ref, None)
        if known is not None:
            answer, timer = known
            timer.cancel()
            if not answer.done():
                answer.set_result(error)

    def drop(self, error: RealtimeError | None) -> None:
        """No answer will come any more: all get this one."""
        for ref in list(self._open):
            self.resolve(ref, error)


async def settle(answer: Answer | None) -> None:
    """Waits for the answer, where one is to come. Raises the `RealtimeError` in it."""
    if answer is not None:
        error = await answer
        if error is not None:
            raise error
