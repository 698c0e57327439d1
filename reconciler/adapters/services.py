"""
Services that people chat in: Slack, Teams and whatever else apprise knows, each by one address of its own form.

An address contains the credentials, so neither a message nor the log may have it: apprise's own log is switched off.
apprise waits for its requests, so each service has a thread.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

import apprise

from reconciler.core.explain.messages import Message
from reconciler.core.explain.notices import Undelivered
from reconciler.errors import ConfigError

_WHOLE_S = 30.0

_logger = logging.getLogger("apprise")
_logger.addHandler(logging.NullHandler())
_logger.propagate = False


class Service:
    """One address, by the name that the configuration gives it. Raises ConfigError for one of an unknown form."""

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        self._service = apprise.Apprise()
        if not self._service.add(url):
            form = url.partition(":")[0] if "://" in url else "no scheme"
            raise ConfigError(f"notify.targets: {name}: apprise can't use this address ({form}); see its documentation")
        self._thread = ThreadPoolExecutor(1, f"notify {name}")

    async def send(self, message: Message) -> Undelivered | None:
        """Send a message once; return why it was not accepted, None if it was."""
        try:
            async with asyncio.timeout(_WHOLE_S):
                sent = await asyncio.get_running_loop().run_in_executor(self._thread, self._send, message)
        except TimeoutError:
            return Undelivered("no answer in time")
        return None if sent else Undelivered("the service did not accept it, or can't be reached")

    async def close(self) -> None:
        """Let go of the thread; a request under way ends by its own time limit."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _send(self, message: Message) -> bool:
        form = apprise.NotifyFormat.TEXT
        return bool(self._service.notify(title=message.title, body=message.text, body_format=form))
