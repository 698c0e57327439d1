"""The simulated Windchill of the adapters' tests."""

from tests.adapters.conftest import running, server

__all__ = ["running", "server"]
