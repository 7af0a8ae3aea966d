"""`live`: runs again, keeps the last good value, says what went wrong. With a plain traitlets source."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd
import pytest
import traitlets
from jupyter_client.manager import start_new_kernel

import rtwidgets as rt

from ..waits import wait_until


class Source(traitlets.HasTraits):
    revision = traitlets.Int(0)
    ready = True

    def __init__(self) -> None:
        super().__init__()
        self.rows = [1.0]

    @property
    def df(self) -> pd.DataFrame:
        return pd.DataFrame({"amount": self.rows})

    def add(self, amount: float) -> None:
        self.rows.append(amount)
        self.revision += 1


def test_it_runs_at_once_and_again() -> None:
    source = Source()

    @rt.live(source, max_fps=50)
    def total(rows: Any) -> float:
        """The sum."""
        return float(rows.amount.sum())

    assert total.value == 1.0
    assert total.__doc__ == "The sum."
    source.add(2.0)
    wait_until(lambda: total.value == 3.0)
    assert total._outputs.outputs[0]["data"]["text/plain"] == "3.0"
    total.close()
    source.add(4.0)
    time.sleep(0.1)
    assert total.value == 3.0


def test_changes_that_come_closer_are_one_run() -> None:
    source, runs = Source(), []

    @rt.live(source, max_fps=5)
    def count(rows: Any) -> int:
        runs.append(len(rows))
        return len(rows)

    for n in range(200):
        source.add(n)
    wait_until(lambda: count.value == 201)
    assert len(runs) <= 4


def test_what_raises_shows_and_the_last_good_value_stays() -> None:
    source = Source()

    @rt.live(source, max_fps=50)
    def risky(rows: Any) -> int:
        if len(rows) == 2:
            raise KeyError("<b>missing</b>")
        return len(rows)

    source.add(1)
    wait_until(lambda: risky.error)
    assert risky.value == 1
    assert "KeyError" in risky.error
    assert "line" in risky.error
    assert "&lt;b&gt;" in risky._line.value
    assert "<b>" not in risky._line.value
    source.add(1)
    wait_until(lambda: risky.value == 3)
    assert risky.error == ""
    assert risky._line.value == ""


def test_a_view_is_a_source_itself() -> None:
    source = Source()

    @rt.live(source, max_fps=50)
    def doubled(rows: Any) -> pd.DataFrame:
        return rows * 2

    @rt.live(doubled, max_fps=50)
    def total(rows: Any) -> float:
        return float(rows.amount.sum())

    source.add(4)
    wait_until(lambda: total.value == 10.0)


def test_it_waits_for_a_source_that_has_not_been_read() -> None:
    source = Source()
    source.ready = False

    @rt.live(source, max_fps=50)
    def total(rows: Any) -> float:
        return float(rows.amount.sum())

    assert total.revision == 0
    source.ready = True
    source.add(1)
    wait_until(lambda: total.value == 2.0)


def test_prints_and_frames_show() -> None:
    @rt.live(Source())
    def both(rows: Any) -> pd.DataFrame:
        print("hello")
        return rows

    first, second = both._outputs.outputs
    assert first == {"output_type": "stream", "name": "stdout", "text": "hello\n"}
    assert "<table" in second["data"]["text/html"]


def test_a_figure_is_closed_after_it_was_shown() -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")

    @rt.live(Source())
    def plot(rows: Any) -> Any:
        return rows.plot().figure

    assert plot.value is not None
    assert pyplot.get_fignums() == []


KERNEL = """
%matplotlib inline
import matplotlib.pyplot as plt, pandas as pd, traitlets
import rtwidgets as rt

class Source(traitlets.HasTraits):
    revision = traitlets.Int(0)
    rows = [1.0]
    df = property(lambda self: pd.DataFrame({"amount": self.rows}))

source = Source()

@rt.live(source, max_fps=50)
def plot(rows):
    plt.plot(rows.amount, "o")
    plt.show()

first = plot._outputs.outputs
source.rows = [1.0, 5.0, 2.0]
source.revision += 1
rt.wait_for(lambda: plot.revision == 2, 10)
second = plot._outputs.outputs
plain = [[sorted(output["data"]) for output in outputs] for outputs in (first, second)]
differ = first[0]["data"]["image/png"] != second[0]["data"]["image/png"]
print(plain, differ, plt.get_fignums())
"""


@pytest.mark.slow
def test_a_figure_that_is_shown_follows() -> None:
    """`plt.show()` in the function of a live view showed the first figure under the cell, and never another."""
    pytest.importorskip("matplotlib_inline")
    kernels, client = start_new_kernel(kernel_name="python3")
    outputs: list[dict[str, Any]] = []
    try:
        client.execute_interactive(KERNEL, timeout=60, output_hook=lambda message: outputs.append(message["content"]))
    finally:
        client.stop_channels()
        kernels.shutdown_kernel(now=True)
    printed = "".join(output.get("text", "") for output in outputs)
    each = ["image/png", "text/plain"]
    assert printed.strip() == f"{[[each], [each]]} True []", outputs
    assert not any("image/png" in output.get("data", {}) for output in outputs), "none stands under the cell"


def test_what_has_no_df_is_no_source() -> None:
    with pytest.raises(TypeError, match="LiveTable"):
        rt.live(5)
    with pytest.raises(ValueError, match="max_fps"):
        rt.live(Source(), max_fps=0)
