"""Rate limits: a token bucket, and a window."""

from __future__ import annotations

from rtwidgets.protocol.rate_limits import Rate, Window


def test_a_rate_allows_so_many_and_fills_up_again() -> None:
    rate = Rate(10)
    assert [rate.allow(100.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert not rate.allow(100.5, 6)
    assert rate.allow(100.5, 5)
    assert not rate.allow(100.5)
    assert rate.allow(160.0, 10)
    assert not rate.allow(160.0)
    assert all(Rate(0).allow(0.0, 10**9) for _ in range(3))


def test_a_clock_that_is_set_back_locks_nobody_out() -> None:
    rate, window = Rate(1), Window(1, 30)
    assert rate.allow(10_000.0)
    assert window.allow(10_000.0)
    assert not rate.allow(100.0)
    assert rate.allow(101.0)
    assert window.allow(100.0)


def test_a_window_counts_what_is_refused_too() -> None:
    window = Window(2, 30)
    assert [window.allow(at) for at in (0.0, 10.0, 20.0, 39.9)] == [True, True, False, False]
    assert window.allow(75.0)
