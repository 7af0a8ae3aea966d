"""Which transactions a Postgres snapshot saw: the text of `pg_current_snapshot()`, parsed."""

from __future__ import annotations

import msgspec

_XID_MASK = 0xFFFFFFFF


class PgSnapshot(msgspec.Struct, frozen=True):
    """`pg_current_snapshot()`: which transactions a read saw. `xmin`, `xmax` and `running` are 64-bit xids."""

    xmin: int
    xmax: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> PgSnapshot:
        """From Postgres' text, `xmin:xmax:xid,xid`. Raises `ValueError`."""
        xmin, xmax, running = text.strip().split(":")
        return cls(int(xmin), int(xmax), frozenset(int(xid) for xid in running.split(",") if xid))

    def visible(self, xid: int) -> bool:
        """Whether the snapshot saw the transaction, given that it has committed.

        A 32-bit `xid` (as replication sends) gets the epoch nearest to `xmax`.
        """
        if xid <= _XID_MASK:
            distance = (xid - self.xmax) & _XID_MASK
            xid = self.xmax + (distance - (_XID_MASK + 1) if distance >= 0x80000000 else distance)
        return xid < self.xmin or (xid < self.xmax and xid not in self.running)
