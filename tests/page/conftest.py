"""Pages on a real socket, over the world that the API's tests have."""

from __future__ import annotations

from tests.web.conftest import client, daemon, world

__all__ = ["client", "daemon", "world"]
