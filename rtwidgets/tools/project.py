"""Which project a command uses: one given by URL and key, the environment's, or a local server that runs."""

from __future__ import annotations

import os
from typing import NamedTuple

from rtwidgets.client.client import AsyncClient
from rtwidgets.protocol.errors import RealtimeError


class Project(NamedTuple):
    """`token`: a user's JWT, None for the key's own role. `dsn`: of its Postgres, where that is known. `is_local`:
    whether it is a local server."""

    url: str
    key: str
    token: str | None = None
    dsn: str | None = None
    is_local: bool = False

    def __repr__(self) -> str:
        return f"<Project {self.url}>"

    def client(self) -> AsyncClient:
        """A client of it. Raises RealtimeError where the URL is none of a project."""
        try:
            return AsyncClient(self.url, self.key, token=self.token)
        except ValueError as error:
            hint = f"Check SUPABASE_URL or --url, which is {self.url!r}."
            raise RealtimeError(str(error), code="NotConfigured", hint=hint) from None


def find(
    *,
    url: str | None = None,
    key: str | None = None,
    token: str | None = None,
    name: str | None = None,
    role: str | None = None,
) -> Project:
    """The project that is meant.

    Args:
        url, key, token: of a project; the environment's SUPABASE_URL, SUPABASE_KEY and SUPABASE_TOKEN stand in.
        name: of a local server that runs; wins over the environment.
        role: on a local server, as whom: `anon` (default), `service_role`, or a user's id.

    Raises:
        RealtimeError: where there is none.
    """
    if not name and not url:
        url = os.environ.get("SUPABASE_URL")
    if url:
        key, token = key or os.environ.get("SUPABASE_KEY"), token or os.environ.get("SUPABASE_TOKEN") or None
        if not key:
            raise RealtimeError(
                "There is no key for the project.",
                code="NotConfigured",
                hint="Set SUPABASE_KEY (Project Settings, API keys), or give --key.",
            )
        return Project(url, key, token, os.environ.get("SUPABASE_DB_URL") or None)
    # Imported here: a project needs nothing of the extra `local`.
    from rtwidgets.local.auth import mint
    from rtwidgets.local.home import Home, default_name
    from rtwidgets.local.leases import read_status

    home = Home(default_name(name))
    state = home.read_state()
    try:
        if state is None:
            raise FileNotFoundError
        read_status(state.control)
    except OSError:
        raise RealtimeError(
            f"No local server runs under the name {home.name!r}, and no project is given.",
            code="NotConfigured",
            hint="Start one (rt.local(), `rtwidgets serve`), name another with --name, or set SUPABASE_URL and "
            "SUPABASE_KEY.",
        ) from None
    if role == "service_role":
        token = state.service_key
    elif role not in (None, "anon"):
        token = mint(state.jwt_secret, "authenticated", sub=role)
    return Project(state.url, state.anon_key, token, state.dsn, is_local=True)
