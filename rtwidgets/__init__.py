"""Live data in notebooks: Supabase Realtime's broadcast, presence and Postgres changes as widgets and DataFrames.

import rtwidgets as rt

rt.local()                                # or rt.connect(url, key)
orders = rt.LiveTable("orders")           # a live grid; orders.df is an ordinary DataFrame
room = rt.Channel("support-chat")
chat = rt.BroadcastFeed(room, "message")  # chat.messages are the payloads received
online = rt.Presence(room, key="ana", state={"team": "support"})
"""

from __future__ import annotations

import sys as _sys
from importlib import import_module as _import_module
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from .client.channel import AsyncChannel
    from .client.client import AsyncClient
    from .client.connect import close_all, connect, default_client, set_default_client
    from .client.notebook import Channel, Client
    from .client.waiting import wait_for
    from .local.handle import Local, local
    from .protocol.errors import RealtimeError, RealtimeTimeoutError
    from .protocol.filters import where
    from .sessions.recorder import Recorder, record
    from .sessions.replay import Replay, replay
    from .tools.doctor import doctor
    from .widgets.change_batch import ChangeBatch
    from .widgets.chart import LiveChart
    from .widgets.connection import ConnectionStatus
    from .widgets.cursors import Cursors
    from .widgets.feed import BroadcastFeed
    from .widgets.inspector import Inspector
    from .widgets.live import LiveView, live
    from .widgets.panel import ChannelPanel
    from .widgets.presence import Presence
    from .widgets.table import LiveTable
    from .widgets.timeslider import TimeSlider

__version__ = "0.1.0"

_HOMES = {
    "client.channel": ("AsyncChannel",),
    "client.client": ("AsyncClient",),
    "client.connect": ("close_all", "connect", "default_client", "set_default_client"),
    "client.notebook": ("Channel", "Client"),
    "client.waiting": ("wait_for",),
    "tools.doctor": ("doctor",),
    "local.handle": ("Local",),
    "protocol.errors": ("RealtimeError", "RealtimeTimeoutError"),
    "protocol.filters": ("where",),
    "sessions.recorder": ("Recorder", "record"),
    "sessions.replay": ("Replay", "replay"),
    "widgets.chart": ("LiveChart",),
    "widgets.connection": ("ConnectionStatus",),
    "widgets.cursors": ("Cursors",),
    "widgets.feed": ("BroadcastFeed",),
    "widgets.inspector": ("Inspector",),
    "widgets.live": ("LiveView", "live"),
    "widgets.panel": ("ChannelPanel",),
    "widgets.presence": ("Presence",),
    "widgets.change_batch": ("ChangeBatch",),
    "widgets.table": ("LiveTable",),
    "widgets.timeslider": ("TimeSlider",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AsyncChannel",
    "AsyncClient",
    "BroadcastFeed",
    "ChangeBatch",
    "Channel",
    "ChannelPanel",
    "Client",
    "ConnectionStatus",
    "Cursors",
    "Inspector",
    "LiveChart",
    "LiveTable",
    "LiveView",
    "Local",
    "Presence",
    "RealtimeError",
    "RealtimeTimeoutError",
    "Recorder",
    "Replay",
    "TimeSlider",
    "close_all",
    "connect",
    "default_client",
    "doctor",
    "live",
    "local",
    "record",
    "replay",
    "set_default_client",
    "wait_for",
    "where",
]


def __getattr__(name: str) -> object:
    # On first use: a script that only needs the asyncio client does not import pandas and ipywidgets.
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(_room(_HOME_OF[name], name), name)
    return value


def _room(home: str, name: str) -> _ModuleType:
    try:
        return _import_module(f".{home}", __name__)
    except ModuleNotFoundError as error:
        from .extras import not_installed

        raise not_installed(error, f"rt.{name}", "local") from None


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


class _Package(_ModuleType):
    """`rt.local` is the function, although Python binds the room `rtwidgets/local/` to the same name when it is
    imported."""

    @property
    def local(self) -> object:
        return _room("local.handle", "local()").local

    @local.setter
    def local(self, room: _ModuleType) -> None: ...


_sys.modules[__name__].__class__ = _Package
