"""What the server allows, with the defaults of Supabase Realtime; a test or a heavy demo may lift them."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    max_frame: int = 5_000_000
    """The largest frame that a client may send, in bytes."""
    max_payload: int = 3_000_500
    """The largest broadcast payload, in bytes."""
    max_record: int = 1_048_576
    """A row change with more bytes than this arrives without its long values, marked `Error 413`."""
    max_channels: int = 100
    """Channels on one socket."""
    presence_calls: int = 5
    presence_window: float = 30.0
    """At most so many presence calls in so many seconds on one channel."""
    idle: float = 60.0
    """Seconds of silence after which a socket is closed: clients send a heartbeat every 25 to 30."""
    max_buffer: int = 64 * 1024 * 1024
    """Bytes waiting for one client; a client that reads no faster than that is dropped."""
    error_delay: float = 0.0
    """Supabase waits 5 s before it refuses a join; on one's own machine nobody is served by that."""
