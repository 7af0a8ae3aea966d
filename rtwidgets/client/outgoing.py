"""What a channel sends: broadcasts in order (also those that wait for the join), presence, and the token."""

from __future__ import annotations

from typing import Any, cast

from ..protocol import errors
from ..protocol.channel import ChannelMachine
from ..protocol.channel_states import Failed
from ..protocol.codec import FrameError
from ..protocol.errors import RealtimeError
from ..protocol.messages import Message
from ..protocol.payloads import to_json
from .line import Line
from .log import logger
from .pending_replies import Answer, PendingReplies, settle
from .send_buffer import SendBuffer
from .tracking import Tracking


class Outgoing:
    """The sending side of one channel."""

    def __init__(self, client: Line, topic: str, machine: ChannelMachine) -> None:
        self._client, self._topic, self._machine = client, topic, machine
        self.replies = PendingReplies()
        self.buffer = SendBuffer(topic, self._write_broadcast)
        self.tracking = Tracking(self._push_presence, self.track_soon)
        self._token: str | None = None
        """The token that the server was sent last."""

    @property
    def is_open(self) -> bool:
        """Whether messages go out now."""
        return self._machine.joined is not None and self._client.connected

    async def send(self, event: str, payload: Any) -> None:
        """Broadcasts now, or waits in the buffer for the join. Raises `RealtimeError`."""
        body = {"type": "broadcast", "event": event, "payload": _checked(payload)}
        if self.is_open and not self.buffer:
            await settle(await self._write_broadcast(body))
            return
        error = self._machine.error
        # After a rate limit, waiting messages would make it worse.
        if error is not None and (isinstance(self._machine.state, Failed) or errors.min_wait(error)):
            raise error
        await self.buffer.put(body)

    async def push(self, event: str, payload: Any, *, answer: bool = False) -> None:
        """Sends a message on the joined channel; with `answer`, waits for the server's. Raises `RealtimeError`."""
        await settle(await self._write(event, payload, answer=answer))

    async def push_token(self) -> None:
        """Sends the client's token of now, where the channel is joined with another. Raises `RealtimeError`."""
        token = self._client.tokens.current
        if token and token != self._token and self.is_open:
            self._token = token
            await self.push("access_token", {"access_token": token})

    # --- for the channel ---

    def joining(self, token: str | None) -> None:
        """A join with this token is about to be sent: the server forgets what it knew."""
        self._token = token
        self.tracking.joined()

    def joined(self) -> None:
        """The channel is joined: what waited goes out."""
        if self._client.tokens.current != self._token:
            self._client.spawn(self._push_token_quietly())  # it was renewed while the join was under way
        if self.buffer:
            self._client.spawn(self.buffer.flush(lambda: self.is_open))
        if self.tracking.state is not None:
            self.track_soon()

    def down(self, error: RealtimeError, *, for_good: bool) -> None:
        """The channel is not joined any more; what waits for an answer gets the error."""
        self.tracking.cancel()
        self.replies.drop(error)
        if for_good:
            self.buffer.fail(error)

    def ended(self) -> None:
        """The channel was left."""
        self.tracking.clear()
        self.tracking.joined()
        self.down(errors.make("Closed", "the channel was left"), for_good=True)

    def track_soon(self) -> None:
        """Sends the tracked state without anybody waiting."""
        if self._machine.status == "joined":
            self._client.spawn(self._track_quietly())

    # --- writing ---

    async def _write(self, event: str, payload: Any, *, answer: bool) -> Answer | None:
        """Sends a message on the joined channel; with `answer`, what is returned is to be settled."""
        ref = self._client.next_ref()
        expected = self.replies.expect(ref, event, self._client.timeout) if answer else None
        try:
            await self._client.push(Message(self._machine.topic, event, payload, ref, self._machine.join_ref))
        except BaseException as error:
            self.replies.resolve(ref, None)
            if isinstance(error, FrameError):
                raise errors.make("MalformedWebSocketMessage", str(error)) from None
            raise
        return expected

    async def _write_broadcast(self, body: dict[str, Any]) -> Answer | None:
        return await self._write("broadcast", body, answer=self._machine.options.ack)

    async def _push_presence(self, body: dict[str, Any]) -> None:
        try:
            await self.push("presence", body, answer=True)
        except RealtimeError as error:
            if error.code == "UnknownErrorOnChannel" and self._machine.options.private:
                raise errors.denied_presence(self._topic) from None  # the server gives no reason
            raise

    async def _push_token_quietly(self) -> None:
        try:
            await self.push_token()
        except RealtimeError:
            pass  # the connection is gone: the next join has it

    async def _track_quietly(self) -> None:
        try:
            await self.tracking.send()
        except RealtimeError as error:
            logger.warning("channel %s: the state could not be tracked: %s", self._topic, error)


def _checked(payload: Any) -> Any:
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(cast("bytes", payload))
    try:
        return to_json(payload, "payload")
    except FrameError as error:
        raise errors.make("MalformedWebSocketMessage", str(error)) from None
