"""Checks and copies a payload as JSON values; an error names the path of a value that cannot be sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, time
from typing import Any, cast

from .codec import FrameError, dumps
from .errors import make

MAX_BYTES = 5_000_000
"""Size of a message at which Supabase's server ends the whole connection."""


def check_size(data: str | bytes) -> None:
    """Raises `RealtimeError` for a frame at which the server would end the connection, which all channels share."""
    size = len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())
    if size > MAX_BYTES:
        raise make("PayloadTooLarge", f"a message of {size:,} bytes is not sent: the most is {MAX_BYTES:,}")


def to_json(value: object, name: str) -> Any:
    """A copy of the value in JSON's types; what JSON has no type for and `codec.dumps` writes (dates, UUIDs, Decimals)
    stays. numpy's scalars and arrays become Python's numbers and lists, exactly.

    `name`: what the value is called, for the text. Raises `FrameError` that names the place of NaN, ±Infinity, bytes
    and whatever else cannot be sent.
    """
    try:
        return _copy(value, name)
    except RecursionError:
        raise FrameError(f"{name} cannot be sent as JSON: it is nested too deep, or contains itself") from None


def _copy(value: Any, path: str) -> Any:
    kind = cast("type[Any]", type(value))
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return _finite(value, path)
    if isinstance(value, Mapping):
        found = cast("Mapping[Any, Any]", value)
        return {_key(key, path): _copy(item, f"{path}[{key!r}]") for key, item in found.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_copy(item, f"{path}[{at}]") for at, item in enumerate(cast("list[Any]", value))]
    if isinstance(value, bytes | bytearray | memoryview):
        raise FrameError(f"{path} is bytes, which cannot be sent as JSON: send bytes alone, or as text such as base64")
    if isinstance(value, float):  # numpy.float64 too
        return _finite(float(value), path)
    if kind.__module__ == "numpy":
        return _from_numpy(value, path)
    return _other(value, path)


def _key(key: Any, path: str) -> Any:
    if isinstance(key, str):
        return key
    if type(key).__module__ == "numpy" and hasattr(key, "item"):
        key = key.item()
    if isinstance(key, bool | float) or key is None:
        raise FrameError(f"{path} has the key {key!r}: keys are text")
    return key


def _finite(value: float, path: str) -> float:
    if not math.isfinite(value):
        raise FrameError(f"{path} is {value}, which cannot be sent as JSON: send None, or text")
    return value


def _from_numpy(value: Any, path: str) -> Any:
    if value.dtype.kind in "mM":  # as numbers they would lose their unit
        return _copy(value.astype(str).tolist(), path)
    plain = value.tolist()
    if type(plain).__module__ == "numpy":  # longdouble: more digits than a JSON reader keeps
        raise FrameError(
            f"{path} is a {type(value).__name__}, which cannot be sent as JSON exactly: send float(x) or str(x)"
        )
    return _copy(plain, path)


def _other(value: Any, path: str) -> Any:
    if value is not None and _differs_from_itself(value):  # pandas.NaT
        raise FrameError(f"{path} is {value}, which cannot be sent as JSON: send None")
    if isinstance(value, date | time):
        return value.isoformat()  # of subclasses too, such as pandas.Timestamp with its nanoseconds
    try:
        dumps(value)
    except FrameError:
        raise FrameError(f"{path} is a {type(value).__name__}, which cannot be sent as JSON") from None
    return value


def _differs_from_itself(value: Any) -> bool:
    try:
        return bool(value != value)
    except Exception:  # pandas.NA has no truth; arrays of other libraries have several
        return True
