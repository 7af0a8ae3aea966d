"""What every widget shares, with a widget that shows a number."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd
import pytest

import rtwidgets as rt
from rtwidgets.widgets import base, views
from rtwidgets.widgets.base import STATIC, RtWidget
from rtwidgets.widgets.tick import TICK, tick
from rtwidgets.widgets.views import View

from ..waits import wait_until
from .page import Page


class Number(RtWidget):
    """Shows `n`."""

    _esm = STATIC / "presence.js"
    n = 0

    def put(self, n: int) -> None:
        self.n = n
        tick.mark(self)

    def _frame(self, view: View) -> dict[str, Any] | None:
        if view.shown.get("n") == self.n:
            return None
        view.shown["n"] = self.n
        return {"n": self.n}


def test_a_view_gets_everything_at_hello_and_then_what_is_new() -> None:
    widget = Number()
    page = Page(widget)
    wait_until(lambda: page.frames)
    widget.put(5)
    wait_until(lambda: len(page.frames) == 2)
    assert [(f["seq"], f["n"], f["whole"]) for f in page.frames] == [(1, 0, True), (2, 5, False)]
    widget.put(5)
    time.sleep(3 * TICK)
    assert len(page.frames) == 2


def test_many_marks_are_one_frame_a_tick() -> None:
    widget = Number()
    page = Page(widget)
    wait_until(lambda: page.frames)
    began = time.monotonic()
    for n in range(1, 2000):
        widget.put(n)
    wait_until(lambda: page.frames[-1]["n"] == 1999)
    assert len(page.frames) <= 3 + (time.monotonic() - began) / TICK


def test_a_second_view_and_a_second_hello_get_everything_too() -> None:
    widget = Number()
    widget.put(7)
    first, second = Page(widget), Page(widget)
    wait_until(lambda: first.frames and second.frames)
    first.say("hello")
    wait_until(lambda: len(first.frames) == 2)
    assert [(f["seq"], f["n"]) for f in first.frames] == [(1, 7), (1, 7)]


@pytest.mark.slow
def test_without_acknowledgements_it_goes_on_slowly_and_says_everything_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "SLOW_PACE", 0.15)
    monkeypatch.setattr(views, "WHOLE_EVERY", 0.3)
    widget = Number()
    page = Page(widget, acks=False)
    began = time.monotonic()
    for n in range(1, 60):
        widget.put(n)
        time.sleep(0.02)
    wait_until(lambda: page.frames[-1]["n"] == 59)
    # At the full pace it would have been three times as many.
    assert views.CREDIT + 3 <= len(page.frames) <= views.CREDIT + 2 + (time.monotonic() - began) / views.SLOW_PACE
    assert any(f["whole"] for f in page.frames[1:])


def test_a_displayed_widget_that_no_page_could_greet_is_sent_to_anyone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "ANYONE_PACE", 0.1)
    widget = Number()
    widget.put(3)
    sent: list[dict[str, Any]] = []
    widget._post = sent.append  # type: ignore[method-assign]
    widget._repr_mimebundle_()
    wait_until(lambda: len(sent) >= 3)
    assert {(f["view"], f["n"], f["whole"]) for f in sent} == {("*", 3, True)}
    page = Page(widget)
    wait_until(lambda: page.frames)
    before = sum(f["view"] == "*" for f in sent)
    time.sleep(0.3)
    assert sum(f["view"] == "*" for f in sent) == before, "the page was heard: it has frames of its own"


def test_any_number_of_views_follows() -> None:
    widget = Number()
    pages = [Page(widget) for _ in range(40)]
    wait_until(lambda: all(page.frames for page in pages))
    for n in range(1, 4):
        widget.put(n)
        wait_until(lambda n=n: all(page.frames[-1]["n"] == n for page in pages))


def test_a_view_whose_frame_fails_does_not_stop_the_others() -> None:
    class Fragile(Number):
        def _frame(self, view: View) -> dict[str, Any] | None:
            if view.wants.get("fails"):
                raise ValueError("as asked for")
            return super()._frame(view)

    widget = Fragile()
    failing, page = Page(widget, fails=True), Page(widget)
    wait_until(lambda: page.frames)
    widget.put(5)
    wait_until(lambda: page.frames[-1]["n"] == 5)
    assert failing.frames == []
    widget.close()


@pytest.mark.parametrize("other", ["live", "connecting"])
def test_who_waits_for_an_error_finds_why(other: str) -> None:
    class Failing(Number):
        now = other, ""

        def _traits_now(self) -> dict[str, Any]:
            return dict(zip(("status", "error"), self.now, strict=True))

        def set_trait(self, name: str, value: Any) -> None:
            super().set_trait(name, value)
            seen.append((self.status, self.error))

    seen: list[tuple[str, str]] = []
    widget = Failing()
    for now in (("error", "Refused: no"), (other, "")):
        widget.now = now
        tick.mark(widget)
        wait_until(lambda now=now: (widget.status, widget.error) == now)
    assert ("error", "Refused: no") in seen
    assert ("error", "") not in seen
    widget.close()


def test_a_closed_widget_hears_and_sends_nothing() -> None:
    widget = Number()
    page = Page(widget)
    wait_until(lambda: page.frames)
    widget.close()
    widget.close()
    widget.put(9)
    page.say("hello")
    time.sleep(3 * TICK)
    assert page.frames[-1]["n"] == 0


def test_a_message_that_makes_no_sense_does_no_harm() -> None:
    widget = Number()
    for content in (
        None,
        "hello",
        5,
        [{"view": "x"}],
        {},
        {"view": 3},
        {"view": "x", "kind": None},
        {"view": "x", "kind": "ack", "seq": "no"},
        {"view": "y", "kind": "wants", "wants": [1]},
    ):
        widget._receive(widget, content, [])
    page = Page(widget)
    wait_until(lambda: page.frames)


def test_what_is_saved_in_a_notebook_is_escaped_and_dated() -> None:
    widget = Number()
    bundle = widget._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "&lt;" in data["text/html"]
    assert "as of 20" in data["text/html"]


def test_text_for_who_has_neither_kernel_nor_html() -> None:
    class Rows(Number):
        @property
        def df(self) -> pd.DataFrame:
            return pd.DataFrame({"n": range(1_000), "text": "<b>"})

        def __repr__(self) -> str:
            return "<Rows>"

    bundle = Rows()._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    lines = data["text/plain"].splitlines()
    assert lines[0] == "<Rows>"
    assert [line.split() for line in lines[2:4]] == [["0", "<b>"], ["1", "<b>"]]
    assert lines[-2] == f"… {1_000 - base.PLAIN_ROWS} more rows"
    assert lines[-1].startswith("as of 20")


def test_an_argument_that_a_widget_does_not_take_is_refused_in_words() -> None:
    with pytest.raises(TypeError, match=r"rt.LiveTable has no argument 'ordr': did you mean 'order'\?"):
        rt.LiveTable("orders", ordr="id")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="it is a trait, set it once the widget is made"):
        rt.BroadcastFeed("room", layout={})  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="its arguments are channel, key, state"):
        rt.Presence("room", colour="red")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("make", "kind", "says"),
    [
        (
            lambda: rt.BroadcastFeed("room", maxlen=0),
            ValueError,
            "maxlen, the most messages to keep, must be 1 or more, not 0",
        ),
        (lambda: rt.BroadcastFeed("room", None), TypeError, 'event, such as "message"'),  # type: ignore[arg-type]
        (lambda: rt.BroadcastFeed("room", ""), ValueError, "must not be empty"),
        (lambda: rt.BroadcastFeed("room", sender=5), TypeError, "sender"),  # type: ignore[arg-type]
        (lambda: rt.Presence("room", key=5), TypeError, "key, the name under which this client is counted"),  # type: ignore[arg-type]
        (lambda: rt.Presence("room", state="x"), TypeError, "state must be a dict"),  # type: ignore[arg-type]
        (lambda: rt.Cursors("room", key=""), ValueError, "must not be empty"),
    ],
)
def test_what_no_widget_can_use_is_refused_before_it_joins(make: Any, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        make()
