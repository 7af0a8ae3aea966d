"""Live data in notebooks: Supabase Realtime's broadcast, presence and Postgres changes as widgets and DataFrames.

import rtwidgets as rt

rt.local()                                # or rt.connect(url, key)
orders = rt.LiveTable("orders")           # a live grid; orders.df is an ordinary DataFrame
room = rt.Channel("support-chat")
chat = rt.BroadcastFeed(room, "message")  # chat.messages holds what was said
online = rt.Presence(room, key="ana", state={"team": "support"})
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client.channel import AsyncChannel
    from .client.client import AsyncClient
    from .client.connect import close_all, connect, default_client, set_default_client
    from .client.notebook import Channel, Client
    from .local.handle import Local, local
    from .protocol.errors import RealtimeError
    from .protocol.filters import where
    from .sessions.recorder import Recorder, record
    from .sessions.replay import Replay, replay
    from .tools.doctor import doctor
    from .widgets.chart import LiveChart
    from .widgets.connection import ConnectionStatus
    from .widgets.cursors import Cursors
    from .widgets.feed import BroadcastFeed
    from .widgets.inspector import Inspector
    from .widgets.live import LiveView, live
    from .widgets.panel import ChannelPanel
    from .widgets.presence import Presence
    from .widgets.table import ChangeBatch, LiveTable
    from .widgets.timeslider import TimeSlider

__version__ = "0.1.0"

_HOMES = {
    "client.channel": ("AsyncChannel",),
    "client.client": ("AsyncClient",),
    "client.connect": ("close_all", "connect", "default_client", "set_default_client"),
    "client.notebook": ("Channel", "Client"),
    "tools.doctor": ("doctor",),
    "local.handle": ("Local",),
    "protocol.errors": ("RealtimeError",),
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
    "widgets.table": ("ChangeBatch", "LiveTable"),
    "widgets.timeslider": ("TimeSlider",),
}
_home_of = {name: home for home, names in _HOMES.items() for name in names}

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
    "where",
]


def __getattr__(name: str) -> Any:
    # On first use: a script that only needs the asyncio client does not pay for pandas and ipywidgets.
    if name not in _home_of:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(_room(_home_of[name], name), name)
    return value


def _room(home: str, name: str) -> ModuleType:
    try:
        return import_module(f".{home}", __name__)
    except ModuleNotFoundError as error:
        from .extras import not_installed

        raise not_installed(error, f"rt.{name}", "local") from None


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Package(ModuleType):
    """`rt.local` is the function, whatever has imported the room `rtwidgets/local/`, which Python binds to the same
    name."""

    @property
    def local(self) -> Any:
        return _room("local.handle", "local()").local

    @local.setter
    def local(self, room: ModuleType) -> None: ...


sys.modules[__name__].__class__ = _Package
