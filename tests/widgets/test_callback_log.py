"""What a callback prints or raises is found in the widget that called it."""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd
import pytest

import rtwidgets as rt
from rtwidgets.widgets.callback_log import LINES, CallbackLog

from ..waits import wait_until
from .page import Page


def test_prints_are_kept_by_callback(capsys: pytest.CaptureFixture[str]) -> None:
    log, calls = CallbackLog(), []

    def ring(amount: int) -> int:
        print("amount", amount)
        return amount + 1

    logged = log.wrap(ring, lambda: calls.append(1))
    assert logged(1) == 2
    assert log.df["text"].tolist() == ["amount 1\n"]
    assert "ring: amount 1" in repr(log)
    assert "amount 1" in log.note
    assert calls == [1]
    assert capsys.readouterr().out == "amount 1\n", "outside a kernel it is printed too"
    log.clear()
    assert len(log) == 0
    assert log.note == ""


def test_what_a_callback_raises_is_kept_and_passed_on() -> None:
    log = CallbackLog()

    def fail(_: Any) -> None:
        print("before")
        raise KeyError("amount")

    with pytest.raises(KeyError):
        log.wrap(fail, lambda: None)(1)
    assert log.df["text"][0].startswith("before\n")
    assert "KeyError: 'amount'" in log.df["text"][0]


def test_silence_is_no_entry_and_the_log_is_bounded() -> None:
    log = CallbackLog()
    log.wrap(lambda: None, lambda: None)()
    assert len(log) == 0
    for n in range(LINES + 5):
        log.add("f", str(n))
    assert len(log) == LINES
    assert log.df["text"].iloc[0] == "5"


@pytest.mark.pg
def test_a_tables_callbacks_print_into_its_log_and_its_status_line(orders: Any) -> None:
    table = rt.LiveTable("orders", order="id").wait_live()
    page = Page(table)
    table.on_change(lambda batch: print("changed", len(batch.updated)))
    table.when(lambda df: df["amount"].max() > 100, lambda df: print("over"))
    orders.sql("update orders set amount = 200 where id = 1")
    wait_until(lambda: {"changed 1\n", "over\n"} <= set(table.callback_log.df["text"]))
    wait_until(lambda: "printed" in page.state["note"])
    table.close()


@pytest.mark.pg
def test_a_callback_that_raises_is_in_the_log(orders: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "rtwidgets")
    table = rt.LiveTable("orders").wait_live()
    table.on_change(lambda batch: 1 / 0)
    orders.sql("update orders set amount = 200 where id = 1")
    wait_until(lambda: "ZeroDivisionError" in repr(table.callback_log))
    assert isinstance(table.callback_log.df, pd.DataFrame)
    table.close()
