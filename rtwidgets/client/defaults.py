"""The clients of this process: which one is the default, and which are open."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """A client, as far as this register knows it."""

    def close(self) -> None:
        """Ends it."""
        ...


C = TypeVar("C", bound=Closable)


class Register(Generic[C]):
    """A process's clients. Those that are open stay although nobody refers to them: their callbacks go on.

    `make` makes the default client where there is none.
    """

    def __init__(self, make: Callable[[], C]) -> None:
        self._make = make
        self.lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Forgets all of them."""
        self.lock = threading.RLock()
        self.default: C | None = None
        self._open: set[C] = set()
        self._replaced: weakref.WeakSet[C] = weakref.WeakSet()

    def add(self, client: C) -> None:
        """A client is open."""
        with self.lock:
            self._open.add(client)

    def remove(self, client: C) -> None:
        """A client was closed."""
        with self.lock:
            self._open.discard(client)
            self._replaced.discard(client)
            if self.default is client:
                self.default = None

    def replace(self, client: C) -> bool:
        """The cell that made it was run again: from now on it lives as long as something refers to it. Returns whether
        it was open until now.
        """
        with self.lock:
            if client not in self._open:
                return False
            self._open.discard(client)
            self._replaced.add(client)
            return True

    def get_default(self) -> C:
        """The default client; makes one where there is none."""
        with self.lock:
            if self.default is not None:
                return self.default
        return self._make()

    def all(self) -> list[C]:
        """Every client that is not closed."""
        with self.lock:
            return [*self._open, *self._replaced]

    def close_all(self) -> None:
        """Closes every client."""
        for client in self.all():
            client.close()


def close_at_exit(register: Register[C]) -> None:
    """Closes every client when the interpreter ends."""
    atexit.register(register.close_all)
