"""The error for a missing package that an extra installs."""

from __future__ import annotations

from .protocol.errors import RealtimeError

CORE = "httpx", "ipywidgets", "anywidget", "msgspec", "numpy", "pandas", "traitlets", "websockets"
"""Required packages. If one of them is missing, the installation is broken, and no extra fixes it."""


def not_installed(error: ModuleNotFoundError, what: str, extra: str) -> RealtimeError | ModuleNotFoundError:
    """Returns the error to raise in place of `error`: `what`, such as `"rt.local()"`, needs a package that `extra`
    installs. Returns `error` itself if the missing module is a required package or part of rtwidgets."""
    package = (error.name or "").partition(".")[0]
    if not package or package == "rtwidgets" or package in CORE:
        return error
    return RealtimeError(
        f"{what} needs the package {package}, which is not installed.",
        code="MissingPackage",
        hint=f'pip install "rtwidgets[{extra}]"',
    )
