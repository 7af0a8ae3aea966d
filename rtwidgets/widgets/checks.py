"""Checks of arguments, each raising TypeError or ValueError that names the argument and what it accepts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from ..client.notebook import Channel, Client
from ..protocol.errors import RealtimeError


def check_text(value: object, what: str, *, empty: bool = False) -> str:
    """The value, if it is a str. `what` starts the error's text, such as `"key, the name of this person,"`."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, not {value!r:.200}")
    if not value and not empty:
        raise ValueError(f"{what} must not be empty")
    return value


def check_count(value: object, what: str) -> int:
    """The value, if it is an int of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {value!r:.200}")
    if value < 1:
        raise ValueError(f"{what} must be 1 or more, not {value}")
    return value


def check_positive(value: object, what: str) -> float:
    """The value, if it is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} must be a number, not {value!r:.200}")
    if not 0 < value < float("inf"):
        raise ValueError(f"{what} must be a finite number above 0, not {value}")
    return value


def check_bool(value: object, what: str) -> bool:
    """The value, if it is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{what} must be True or False, not {value!r:.200}")
    return value


def check_state(value: object) -> dict[str, Any]:
    """The presence state, if it is one."""
    state = dict(cast("Mapping[Any, Any]", value)) if isinstance(value, Mapping) else None
    if state is None or not all(isinstance(name, str) for name in state):
        raise TypeError(f'state must be a dict whose keys are str, such as {{"team": "support"}}, not {value!r:.200}')
    return state


def check_callback(value: Callable[..., object], what: str = "the callback") -> None:
    """Raises TypeError unless the value is callable."""
    if not callable(value):  # pyright: ignore[reportUnnecessaryComparison]
        raise TypeError(f"{what} must be a function, not {value!r:.200}")


def channel_of(channel: Channel | str, client: Client | None) -> Channel:
    """The channel, made from a topic on `client` (default: the default client) where a topic is given."""
    if isinstance(channel, Channel):
        if client is not None and client is not channel.client:
            raise ValueError(
                f"channel {channel.topic!r} belongs to another client: pass a topic with client=, or the channel alone"
            )
        return channel
    if not isinstance(channel, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f'channel must be an rt.Channel, or a topic such as "support-chat", not {channel!r:.200}')
    return Channel(channel, client=client)


def paragraph(error: RealtimeError | None) -> str:
    """The error's message and hint in one paragraph; empty for None."""
    if error is None:
        return ""
    hint = error.hint.strip()
    return error.message if not hint else f"{error.message.rstrip('.')}. {hint[:1].upper()}{hint[1:]}"
