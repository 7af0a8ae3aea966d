"""The last transactions, for clients that come back after a break."""

from __future__ import annotations

from collections import deque

from .pgoutput import Transaction

MOST_CHANGES = 20_000
MOST_BYTES = 32 * 1024 * 1024
"""Of what Postgres sent for them."""


class RecentTransactions:
    """Transactions in the order of their commits, as many as fit."""

    def __init__(self, changes: int = MOST_CHANGES, size: int = MOST_BYTES) -> None:
        self._most = changes, size
        self._kept: deque[Transaction] = deque()
        self._changes = self._size = 0
        self._from: int | None = None
        """Every transaction with this LSN or a later one is here."""
        self.last: int | None = None
        """LSN of the last transaction, or where the stream began; None after a loss."""

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, transaction: Transaction) -> None:
        if transaction.truncates:
            self.clear()  # whoever was away must read again to see the empty table
            self._from = transaction.lsn + 1
        self.last = transaction.lsn
        if self._from is None:
            self._from = transaction.lsn
        self._kept.append(transaction)
        self._changes += len(transaction.changes)
        self._size += transaction.size
        most_changes, most_size = self._most
        while self._kept and (self._changes > most_changes or self._size > most_size):
            gone = self._kept.popleft()
            self._changes -= len(gone.changes)
            self._size -= gone.size
            self._from = gone.lsn + 1

    def restart(self, lsn: int) -> None:
        """A stream has begun: it has every transaction with this LSN or a later one, and none before."""
        self.clear()
        self._from = self.last = lsn

    def clear(self) -> None:
        """Some may have been missed: from here on it begins anew."""
        self._kept.clear()
        self._changes = self._size = 0
        self._from = self.last = None

    def since(self, lsn: int) -> list[Transaction] | None:
        """The transactions from this LSN on, its own included (a break may have come in its middle); None where not
        all of them are here."""
        if self._from is None or lsn < self._from:
            return None
        found: list[Transaction] = []
        for transaction in reversed(self._kept):
            if transaction.lsn < lsn:
                break
            found.append(transaction)
        return found[::-1]
