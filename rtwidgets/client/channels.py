"""The channels of a client: one a topic, as the server has it on one socket."""

from __future__ import annotations

from ..protocol import errors
from ..protocol.errors import RealtimeError
from ..protocol.subscription import ChannelOptions
from .channel import AsyncChannel
from .line import Line


class Channels(dict[str, AsyncChannel]):
    """By topic."""

    def open(self, client: Line, topic: str, requested: ChannelOptions) -> AsyncChannel:
        """The channel of the topic with these options: the one in use, or a new one.

        Raises `RealtimeError` where the one in use has other options.
        """
        known = self.get(topic)
        if known is not None:
            if requested in (known.options, known.requested):
                return known
            if not known.idle:
                shown = f"{known.options}, requested {requested}"
                raise errors.make("ChannelOptionsDiffer", f"{topic!r} is in use with other options: {shown}")
            known.drop()
        made = self[topic] = AsyncChannel(client, topic, requested)
        if client.connected:
            made.connected()
        return made

    async def push_token(self) -> None:
        """Sends the token of now to the joined channels."""
        for channel in list(self.values()):
            try:
                await channel.push_token()
            except RealtimeError:
                return  # the connection is gone: the next joins have the new token
