"""Who receives a channel's row changes: which change goes to whom, and all of one read in one call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

from ..protocol.channel_states import CaughtUp, Ready, Routes, TableChanged
from ..protocol.errors import RealtimeError
from ..protocol.messages import Change
from ..protocol.subscription import ChangesBinding
from .callbacks import Callbacks, Unregister, check_callback
from .dispatch import guarded


class ChangesSink(Protocol):
    """What receives a binding's changes; its methods are called on the client's loop and must be quick."""

    def on_changes(self, changes: list[Change]) -> None:
        """Every change of one read, in order."""
        ...

    def on_ready(self) -> None:
        """The server listens to the database from now on.

        Again after each rejoin: what changed meanwhile was not sent.
        """
        ...

    def on_gap(self, reason: RealtimeError) -> None:
        """The channel or the socket was lost, is being joined anew, or its join was refused: changes may be missing
        until the next `on_ready`.
        """
        ...

    def on_error(self, error: RealtimeError) -> None:
        """The server refused the binding, or ended the channel for good."""
        ...


@runtime_checkable
class TableSink(ChangesSink, Protocol):
    """A `ChangesSink` that keeps what a table is."""

    def on_table_changed(self, rows_kept: bool) -> None:
        """The table is not what it was: its columns, key, publication, or the relation itself. `rows_kept`: the rows
        that were read before are still true, but for columns that came or went."""
        ...


@runtime_checkable
class ResumingSink(TableSink, Protocol):
    """A `ChangesSink` that can go on after a break where it was, if the server still has what came since."""

    resume_lsn: int | None
    """LSN of the last change that it took, or of its subscription; None where it must begin anew. The channel sets it
    before `on_ready`."""

    def on_resumed(self) -> None:
        """In place of `on_ready`: every change since `resume_lsn` follows, that one included; then `on_caught_up`."""
        ...

    def on_caught_up(self) -> None:
        """Every change that came during the break has been handed over."""
        ...


class CallbackSink:
    """A plain function as a sink, called for each change."""

    def __init__(self, fn: Callable[[Change], Any], call: Callable[..., None] = guarded) -> None:
        check_callback(fn)
        self._fn, self._call = fn, call

    def on_changes(self, changes: list[Change]) -> None:
        for change in changes:
            self._call(self._fn, change)

    def on_ready(self) -> None: ...

    def on_gap(self, reason: RealtimeError) -> None: ...

    def on_error(self, error: RealtimeError) -> None: ...


class _Bound:
    """One sink, what it asked for, and what it has not been given yet."""

    __slots__ = ("batch", "binding", "sink")

    def __init__(self, binding: ChangesBinding, sink: ChangesSink) -> None:
        self.binding, self.sink = binding, sink
        self.batch: list[Change] = []


class ChangeSinks:
    """The sinks of one channel."""

    def __init__(self) -> None:
        self._all = Callbacks()
        self._served: Routes = {}
        self._routes: dict[int, list[_Bound]] = {}
        self._dirty: dict[_Bound, None] = {}
        self._listening = False
        """Whether the server has said that it listens, and nothing was lost since."""

    def __bool__(self) -> bool:
        return bool(self._all)

    def _bound(self) -> list[_Bound]:
        return cast("list[_Bound]", list(self._all.values()))

    def put(self, binding: ChangesBinding, sink: ChangesSink) -> Unregister:
        """Adds a sink; what it returns takes it out again."""
        return self._all.put(_Bound(binding, sink), lambda: self.route(self._served))

    def join(self, sink: ChangesSink) -> None:
        """Has a sink that was put later receive what the server sends for others already: they go on undisturbed."""
        self.route(self._served)
        if self._listening:
            asyncio.get_running_loop().call_soon(self._start, sink)

    def _start(self, sink: ChangesSink) -> None:
        if not self._listening or all(bound.sink is not sink for bound in self._bound()):
            return
        self.flush()
        if isinstance(sink, ResumingSink):
            # It reads the table now, so it may go on from wherever the others may.
            points = [getattr(bound.sink, "resume_lsn", None) for bound in self._bound() if bound.sink is not sink]
            sink.resume_lsn = min([point for point in points if point is not None], default=None)
        guarded(sink.on_ready)

    @property
    def bindings(self) -> tuple[ChangesBinding, ...]:
        """What they ask for."""
        return tuple(bound.binding for bound in self._bound())

    @property
    def resume_lsn(self) -> int | None:
        """From where all of them can go on; None where one cannot."""
        points = [getattr(bound.sink, "resume_lsn", None) for bound in self._bound()]
        known = [point for point in points if point is not None]
        return min(known) if known and len(known) == len(points) else None

    def route(self, served: Routes) -> None:
        """From now on the server sends these bindings' changes, under these ids."""
        self._served, self._routes = served, {}
        self._listening = self._listening and bool(served)
        for number, bindings in served.items():
            to = [bound for bound in self._bound() if bound.binding in bindings]
            if to:
                self._routes[number] = to

    def deliver(self, change: Change) -> None:
        """Hands a change to its sinks when this turn of the loop ends."""
        routes, dirty = self._routes, self._dirty
        first = not dirty
        if len(change.ids) == 1:
            bindings = routes.get(change.ids[0], ())
        else:
            bindings = dict.fromkeys(bound for number in change.ids for bound in routes.get(number, ()))
        for bound in bindings:
            bound.batch.append(change)
            dirty[bound] = None
        if first and dirty:
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Hands each sink what has come since the last turn of the loop."""
        dirty, self._dirty = self._dirty, {}
        for bound in dirty:
            batch, bound.batch = bound.batch, []
            guarded(bound.sink.on_changes, batch)

    def ready(self, event: Ready, served: Iterable[ChangesBinding]) -> None:
        """The server listens to the database for these bindings."""
        self.flush()
        self._listening = True
        known = set(served)
        for bound in self._bound():
            sink = bound.sink
            if bound.binding not in known:
                continue
            if not isinstance(sink, ResumingSink):
                guarded(sink.on_ready)
            elif event.resumed and sink.resume_lsn is not None:
                guarded(sink.on_resumed)
            else:
                sink.resume_lsn = event.lsn
                guarded(sink.on_ready)

    def report(self, event: CaughtUp | TableChanged) -> None:
        """What the server reports of the database, in order with the changes."""
        self.flush()
        for bound in self._bound():
            sink, binding = bound.sink, bound.binding
            if isinstance(event, CaughtUp):
                if isinstance(sink, ResumingSink):
                    guarded(sink.on_caught_up)
            elif isinstance(sink, TableSink) and (binding.schema, binding.table) == (event.schema, event.table):
                guarded(partial(sink.on_table_changed, event.rows_kept))

    def gap(self, error: RealtimeError) -> None:
        """Changes may be missing from here on."""
        self.flush()
        self._listening = False
        for bound in self._bound():
            guarded(bound.sink.on_gap, error)

    def lost(self, error: RealtimeError) -> None:
        """Changes of this moment are missing; the server goes on sending, so whoever was ready is so again."""
        listening = self._listening
        self.gap(error)
        if listening:
            self.ready(Ready(), self.bindings)

    def fail(self, error: RealtimeError) -> None:
        """The server refused, or the channel has ended for good."""
        self._listening = False
        for bound in self._bound():
            guarded(bound.sink.on_error, error)
