"""
Group commit: changes that arrive while a transaction runs share the next one.

Rules. Every caller gets its own result. A caller that is cancelled only stops waiting; its change is still committed.
Changes of one document keep their order and never share a transaction.

Theory. A durable commit waits for the disk, which costs the same for one change as for hundreds. The first change
starts a transaction at once, and all that arrive meanwhile form the next group. One shielded coroutine commits the
groups and ends when no change is left; `close` waits for it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence

from reconciler.adapters.changes import Decided
from reconciler.errors import StoreError

GROUP_MAX = 256  # bounds the memory and the time of one transaction


class GroupCommit:
    """
    Collects changes and commits them in groups through `commit`, which is all or nothing.

    `commit` returns the keys of documents that must not be written to; it raises only if nothing was committed.
    """

    def __init__(self, commit: Callable[[Sequence[Decided]], Awaitable[Collection[str]]]) -> None:
        self._commit = commit
        self._waiting: deque[tuple[Decided, asyncio.Future[bool]]] = deque()
        self._under_way: asyncio.Future[None] | None = None

    async def add(self, change: Decided) -> bool:
        """Commit a change durably; return whether its document may be written to."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((change, future))
        if self._under_way is None:
            # `shield` makes the coroutine a task of its own, which no caller's cancellation ends.
            self._under_way = asyncio.shield(self._drain())
        return await future

    async def close(self) -> None:
        """Wait until all changes are committed."""
        while self._under_way is not None:
            await asyncio.wait([self._under_way])

    async def _drain(self) -> None:
        group: list[tuple[Decided, asyncio.Future[bool]]] = []
        try:
            while self._waiting:
                group = self._next_group()
                await self._run(group)
        except BaseException as error:  # a bug, or the event loop's end: no caller may wait forever
            for _, future in (*group, *self._waiting):
                _fail(future, error)
            self._waiting.clear()
            raise
        finally:
            self._under_way = None  # not in a callback, before which a change could be queued that no one commits

    def _next_group(self) -> list[tuple[Decided, asyncio.Future[bool]]]:
        """Take the oldest changes, up to the first of a document that is already among them."""
        group: list[tuple[Decided, asyncio.Future[bool]]] = []
        keys: set[str] = set()
        while self._waiting and len(group) < GROUP_MAX and self._waiting[0][0].key not in keys:
            keys.add(self._waiting[0][0].key)
            group.append(self._waiting.popleft())
        return group

    async def _run(self, group: list[tuple[Decided, asyncio.Future[bool]]]) -> None:
        try:
            left_alone = await self._commit([change for change, _ in group])
        except StoreError as error:
            if len(group) > 1:  # one change that fails must not fail the others
                for one in group:
                    await self._run([one])
            else:
                _fail(group[0][1], error)
        else:
            for change, future in group:
                if not future.done():
                    future.set_result(change.key not in left_alone)


def _fail(future: "asyncio.Future[bool]", error: BaseException) -> None:
    if future.done():
        return
    if isinstance(error, asyncio.CancelledError):
        future.cancel()
    else:
        future.set_exception(error)
