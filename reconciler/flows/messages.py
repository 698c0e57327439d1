"""Messages to people: what a notification says to them, filled into a template and given to a channel."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import attrs

from reconciler.core.explain import messages
from reconciler.core.explain.messages import Links, Message
from reconciler.core.explain.notices import Fault, Kind, Notification, Undelivered
from reconciler.ports import Clock, Store


class Channel(Protocol):
    """Who carries messages to the same people each time."""

    async def send(self, message: Message) -> Undelivered | None:
        """Send once; return why it was not accepted, None if it was."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


@attrs.frozen
class Messages:
    """
    A receiver of notifications that writes to people.

    Documents are read when a message is sent, and again with each try: it says who changed them last by then.
    """

    _store: Store | None  # None: only samples are sent
    _clock: Clock
    _channel: Channel
    _render: Callable[[Mapping[str, Any]], tuple[str, str]]  # to title and text; raises ValueError
    _links: Links

    async def post(self, notification: Notification) -> Undelivered | None:
        """Send a notification once; return why it was not accepted, None if it was."""
        if notification.kind is Kind.TEST:
            notice, document = messages.sample(self._clock.now_us())
            told = [messages.about(notice, document, self._links)]
        else:
            keys = {notice.document for notice in notification.notices if notice.document}
            known = await self._store.documents(keys) if self._store is not None and keys else {}
            told = [messages.about(one, known.get(one.document), self._links) for one in notification.notices]
        try:
            title, text = self._render(messages.whole(told, notification.counts))
        except ValueError as error:
            return Undelivered(str(error), Fault.CONTENT)
        return await self._channel.send(Message(notification.id, title, text))

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()
