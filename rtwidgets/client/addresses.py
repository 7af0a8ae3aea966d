"""Topics and URLs in the forms that people write, and which hosts are this machine itself."""

from __future__ import annotations

import ipaddress
from urllib.parse import quote, urlsplit

from ..protocol import errors
from ..protocol.errors import redact
from ..protocol.messages import Vsn
from ..protocol.subscription import check_text


def topic_name(topic: object) -> str:
    """A topic without the prefix that it has on the wire. Raises `TypeError` for what is not text, `RealtimeError` for
    an empty one.
    """
    if not isinstance(topic, str):
        raise TypeError(f"a topic is text, such as 'support-chat', not {type(topic).__name__}")
    name = topic.removeprefix("realtime:")
    if not name:
        raise errors.make("TopicNameRequired", "a channel needs a name")
    return name


def base_url(url: str) -> str:
    """The project's base as `http(s)://host[/path]`, from any of the forms people paste. Raises `ValueError`,
    `TypeError` for what is not text.
    """
    check_text("url", url)
    parts = urlsplit(url.strip())
    schemes = {"ws": "http", "wss": "https", "http": "http", "https": "https"}
    if parts.scheme not in schemes or not parts.netloc:
        raise ValueError(f"{redact(url)!r} is no URL of a project: one looks like https://PROJECT.supabase.co")
    path = parts.path.rstrip("/")
    for tail in ("/websocket", "/realtime/v1"):
        path = path.removesuffix(tail)
    return f"{schemes[parts.scheme]}://{parts.netloc}{path}"


def websocket_url(base: str, key: str, vsn: Vsn) -> str:
    """The WebSocket's URL of a project, from its base URL. It holds the key."""
    scheme = "wss" if base.startswith("https") else "ws"
    return f"{scheme}:{base.partition(':')[2]}/realtime/v1/websocket?apikey={quote(key, safe='')}&vsn={vsn}"


def is_loopback(url: str) -> bool:
    """Whether the URL's host is `localhost` or a loopback address: never reached through a proxy."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
