"""One client's conversation: carries out what its `ServerSession` decides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import psycopg

from ..client.log import child
from ..protocol import codec
from ..protocol.server_channel import Identity, Permissions, ServerChannel
from ..protocol.server_effects import (
    Authorize,
    AwaitReplication,
    Effects,
    Enter,
    Leave,
    Publish,
    ReadStored,
    Refuse,
    Send,
    SendPresence,
    SendStored,
    Subscribe,
    Track,
    Untrack,
    WakeAt,
)
from ..protocol.server_session import ServerSession
from . import stored_broadcasts, wire_frames
from .hub import ClientConnection, Hub, Member
from .pool import Pool
from .subscriptions import Subscriptions

log = child(__name__)

_LONGEST = 10**6
"""Seconds that a timer may be set for; what is due later is looked at again then."""
_REPLICATION = 10.0
"""Seconds that a join with `replication_ready` waits."""


class Services:
    """What all conversations of a server share."""

    def __init__(
        self,
        hub: Hub,
        pool: Pool,
        subscriptions: Subscriptions,
        authorize: Callable[[Identity, str], Awaitable[Permissions | None]],
        streaming: asyncio.Event,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        error_delay: float,
    ) -> None:
        self.hub = hub
        self.pool = pool
        self.subscriptions = subscriptions
        self.authorize = authorize
        """What the policies grant; None while Postgres is away."""
        self.streaming = streaming
        self.spawn = spawn
        self.error_delay = error_delay
        """Seconds before a join is refused."""


class Conversation:
    """Args:
    connection: to the client.
    session: decides; nobody else may feed it.
    """

    def __init__(self, connection: ClientConnection, session: ServerSession, services: Services) -> None:
        self.connection = connection
        self._session = session
        self._services = services
        self._members: dict[ServerChannel, Member] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def receive(self, data: str | bytes) -> None:
        """Handles one frame of the client, to its end: the next one comes after."""
        try:
            message = codec.decode(data, self.connection.vsn, sender="client")
        except codec.FrameError as error:
            log.info("MalformedWebSocketMessage: %s", error)
            return
        effects = self._session.receive(message, time.time(), binary=isinstance(data, bytes))
        if len(effects) == 1 and type(effects[0]) is Publish:  # the hot path
            self._publish(effects[0])
        else:
            await self._run(effects)

    def end(self) -> None:
        """The connection has ended."""
        for effect in self._session.disconnected():
            if isinstance(effect, Leave):
                self._leave(effect)
        if self._timer is not None:
            self._timer.cancel()

    async def _run(self, effects: Effects) -> None:
        for effect in effects:
            match effect:
                case Publish():
                    self._publish(effect)
                case Send():
                    self.connection.send(effect.message)
                case Track() | Untrack() | SendPresence():
                    self._presence(effect)
                case Enter():
                    member = self._members[effect.channel] = Member(self.connection, effect.channel)
                    self._services.hub.enter(member)
                case Leave():
                    self._leave(effect)
                case SendStored():
                    self._send_stored(effect)
                case Subscribe():
                    self._subscribe(effect.channel)
                case WakeAt():
                    self._wake_at(effect.at)
                case Refuse():
                    await self._refuse(effect)
                case Authorize():
                    await self._authorize(effect)
                case ReadStored():
                    await self._read_stored(effect)
                case AwaitReplication():
                    self._services.spawn(self._await_replication(effect.channel))

    # --- topics

    def _presence(self, effect: Track | Untrack | SendPresence) -> None:
        member = self._members.get(effect.channel)
        if member is None or member.topic is None:
            return
        match effect:
            case Track():
                member.topic.track(member, effect.state)
            case Untrack():
                member.topic.untrack(member)
            case SendPresence():
                member.topic.send_state(member)

    def _publish(self, effect: Publish) -> None:
        member = self._members.get(effect.channel)
        if member is None or member.topic is None:
            return
        message = wire_frames.Broadcast(
            effect.channel.topic, effect.event, effect.body, raw=effect.raw, binary=effect.binary, meta=effect.meta
        )
        member.topic.broadcast(message, member)

    def _send_stored(self, effect: SendStored) -> None:
        for message in effect.messages:
            frame = message.frame(self.connection.vsn)
            if frame is not None:
                self.connection.write(frame)

    def _leave(self, effect: Leave) -> None:
        member = self._members.pop(effect.channel, None)
        if member is None:
            return
        if member.subscribing is not None:
            member.subscribing.cancel()
        self._services.subscriptions.unsubscribe(member)
        self._services.hub.leave(member, informed=effect.informed)

    def _subscribe(self, channel: ServerChannel) -> None:
        member = self._members.get(channel)
        if member is None:
            return
        if member.subscribing is not None:
            member.subscribing.cancel()
        # After a new token not one more row under the old claims.
        self._services.subscriptions.unsubscribe(member)
        member.subscribing = self._services.spawn(self._services.subscriptions.subscribe(member))

    # --- what takes time

    async def _refuse(self, effect: Refuse) -> None:
        if self._services.error_delay:
            await asyncio.sleep(self._services.error_delay)
        self.connection.send(effect.message)
        if effect.drops:
            self.connection.drop(effect.reason)

    async def _authorize(self, effect: Authorize) -> None:
        channel = effect.channel
        permissions = await self._services.authorize(effect.identity, channel.name)
        if permissions is None:
            await self._run(self._session.unable(channel))
        else:
            effects = self._session.authorized(channel, effect.identity, permissions)
            if (member := self._members.get(channel)) is not None:
                member.renew()
            await self._run(effects)

    async def _read_stored(self, effect: ReadStored) -> None:
        channel = effect.channel
        try:
            messages = await stored_broadcasts.read(self._services.pool, channel.topic, effect.since, effect.limit)
        except (psycopg.Error, OSError) as error:  # such as a moment that no timestamp can represent
            log.warning("messages of %r could not be replayed: %s", channel.name, error)
            reason = "UnableToReplayMessages: Realtime was unable to replay messages"
            await self._run(self._session.unable(channel, reason))
        else:
            await self._run(self._session.stored(channel, messages))

    async def _await_replication(self, channel: ServerChannel) -> None:
        try:
            await asyncio.wait_for(self._services.streaming.wait(), _REPLICATION)
        except TimeoutError:
            await self._run(self._session.replication(channel, ready=False))
        else:
            await self._run(self._session.replication(channel, ready=True))

    def _wake_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wait = min(max(at - time.time(), 0.0), _LONGEST)
        self._timer = asyncio.get_running_loop().call_later(wait, self._wake)

    def _wake(self) -> None:
        self._services.spawn(self._run(self._session.wake(time.time())))
