"""The local server's fixtures, for the tools that examine it."""

from tests.local.conftest import home, pg, postgres, server

__all__ = ["home", "pg", "postgres", "server"]
