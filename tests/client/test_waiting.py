"""Waiting in a cell: callbacks go on, and what does not happen is a time-out error with a code."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rtwidgets.client import dispatch, thread
from rtwidgets.client.waiting import wait_for
from rtwidgets.protocol import errors
from rtwidgets.protocol.errors import RealtimeError, RealtimeTimeoutError

from ..waits import PATIENCE


class BusyLoop:
    """The loop of a kernel whose cell runs: what is scheduled waits until `free()`."""

    def __init__(self) -> None:
        self.scheduled: list[Any] = []

    def call_soon_threadsafe(self, fn: Any, *args: Any) -> None:
        self.scheduled.append((fn, args))

    def free(self) -> None:
        for fn, args in self.scheduled:
            fn(*args)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[BusyLoop]:
    loop = BusyLoop()
    monkeypatch.setattr(dispatch, "main_loop", lambda: loop)
    yield loop
    loop.free()


def test_callbacks_run_while_a_cell_waits_in_order_and_once(kernel: BusyLoop) -> None:
    got: list[tuple[int, str]] = []

    def note(number: int) -> None:
        got.append((number, threading.current_thread().name))

    def work() -> None:
        for number in range(3):
            dispatch.dispatch(note, number)
            time.sleep(0.01)

    threading.Thread(target=work).start()
    wait_for(lambda: len(got) == 3, PATIENCE)
    main = threading.main_thread().name
    assert got == [(0, main), (1, main), (2, main)]
    kernel.free()
    assert len(got) == 3, "what ran during the wait does not run again after the cell"


def test_what_was_not_waited_for_runs_after_the_cell(kernel: BusyLoop) -> None:
    got: list[int] = []
    for number in range(3):
        dispatch.dispatch(got.append, number)
    assert got == []
    kernel.free()
    assert got == [0, 1, 2]


def test_a_callback_that_raises_ends_no_wait(kernel: BusyLoop) -> None:
    got: list[int] = []
    dispatch.dispatch(lambda: 1 / 0)
    dispatch.dispatch(got.append, 1)
    before = dispatch.callback_errors
    wait_for(lambda: got, PATIENCE)
    assert dispatch.callback_errors == before + 1


def test_a_callback_that_calls_for_another_ends_with_the_time() -> None:
    start = time.monotonic()
    with pytest.raises(RealtimeTimeoutError):
        wait_for(lambda: False, 0.05)
    assert time.monotonic() - start < PATIENCE


def test_a_time_out_is_both_errors() -> None:
    for kind in (RealtimeError, TimeoutError):
        with pytest.raises(kind, match=r"within 0\.05 s") as caught:
            wait_for(lambda: False, 0.05)
        assert isinstance(caught.value, RealtimeTimeoutError)
        assert (caught.value.code, caught.value.retryable) == ("Timeout", True)
        assert "timeout=" in caught.value.hint
    again = pickle.loads(pickle.dumps(errors.make("Timeout", "late", hint="wait longer")))
    assert isinstance(again, RealtimeTimeoutError)
    assert (again.message, again.hint) == ("late", "wait longer")


def test_what_the_condition_raises_is_passed_on() -> None:
    with pytest.raises(ZeroDivisionError):
        wait_for(lambda: 1 / 0)


@pytest.mark.parametrize("condition", [True, None, "x"])
def test_what_is_no_function_is_refused(condition: Any) -> None:
    with pytest.raises(TypeError, match=r"lambda: table\.count > 0"):
        wait_for(condition)


def test_waiting_on_the_io_thread_is_refused() -> None:
    async def callback() -> None:
        wait_for(lambda: True)

    with pytest.raises(RuntimeError, match="I/O thread"):
        thread.run(callback(), PATIENCE)


def test_an_async_callback_starts_and_goes_on_after_the_cell(kernel: BusyLoop) -> None:
    got: list[str] = []

    async def callback() -> None:
        await asyncio.sleep(0)
        got.append("done")

    async def cell() -> None:
        dispatch.dispatch(callback)
        with pytest.raises(RealtimeTimeoutError):
            wait_for(lambda: got, 0.05)
        await asyncio.sleep(0.01)
        assert got == ["done"]

    asyncio.run(cell())
