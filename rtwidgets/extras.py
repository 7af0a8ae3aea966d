"""What to say where a package that only an extra brings is missing."""

from __future__ import annotations

from .protocol.errors import RealtimeError

CORE = "httpx", "ipywidgets", "anywidget", "msgspec", "numpy", "pandas", "traitlets", "websockets"
"""What every installation has: one of these missing is a broken installation, which no extra mends."""


def not_installed(error: ModuleNotFoundError, what: str, extra: str) -> RealtimeError | ModuleNotFoundError:
    """The error to raise instead of `error`: `what` (`"rt.local()"`) needs a package that `extra` brings. The same
    error where it is about something else."""
    package = (error.name or "").partition(".")[0]
    if not package or package == "rtwidgets" or package in CORE:
        return error
    return RealtimeError(
        f"{what} needs the package {package}, which is not installed here.",
        code="MissingPackage",
        hint=f'pip install "rtwidgets[{extra}]"',
    )
