"""What the server allows: by default what the protocol itself bounds; with `SUPABASE`, what a plan does too."""

from __future__ import annotations

from ..protocol.server_session import SessionLimits, SharedRates


class Limits(SessionLimits, frozen=True, kw_only=True):
    """The limits of one client, and those of the server."""

    max_frame: int = 5_000_000
    """The largest frame that a client may send, in bytes."""
    max_record: int = 1_048_576
    """A row change with more bytes than this arrives without its long values, marked `Error 413`."""
    idle: float = 60.0
    """Seconds of silence after which a connection is closed: clients send a heartbeat every 25 to 30."""
    max_buffer: int = 64 * 1024 * 1024
    """Bytes waiting for one client; a client that reads no faster than that is dropped."""
    max_buffers: int = 256 * 1024 * 1024
    """Bytes waiting for all clients together; beyond it those with the most are dropped."""
    error_delay: float = 0.0
    """Supabase waits 5 s before it refuses a join; on one's own machine nobody is served by that."""
    handshake_delay: float = 0.0
    """And 2 s before it refuses a connection."""
    max_users: int = 0
    """Connections at a time; 0 for any number, as for the rates below."""
    joins: int = 0
    """Joins in a second, of all clients together."""
    messages: int = 0
    """Broadcasts in a second that clients send, all together, over sockets and HTTP."""
    presence: int = 0
    """Presence calls in a second, all together."""
    max_rows: int = 0
    """Rows in one answer over HTTP, whatever is asked for; 0 for any number."""

    def rates(self) -> SharedRates:
        """New counters for the rates that all clients share."""
        return SharedRates(self.joins, self.messages, self.presence)


SUPABASE = Limits(
    error_delay=5.0,
    handshake_delay=2.0,
    max_users=200,
    joins=100,
    messages=100,
    presence=20,
    max_payload=256_000,
    max_rows=1000,
)
"""A project on Supabase's free plan: what runs within these limits here runs there."""

PRESETS = {"supabase": SUPABASE}
