"""
Bisection: find which of several attributes the server refuses, on the working copy, where no one else sees it.

A PATCH is all or nothing, and a refusal often names no attribute, so one bad attribute would hold all others. Halves of
the attributes are sent instead, again and again. What the server accepts is on the working copy and is checked in.

Rules
- Attributes that a refusal names are left out, and the rest is sent again.
- When one half is accepted, the other must be to blame: it is split without being sent as a whole.
- A few more PATCHes are allowed, enough to find any one attribute. Attributes that are not told apart by then count as
  refused together.
- When nothing is accepted, the document can't be changed at all, and the first answer stands.
"""

import re
from collections.abc import Iterable, Mapping

import attrs
from msgspec import structs

from reconciler.adapters import replies
from reconciler.adapters.replies import Reply
from reconciler.adapters.wrs import results
from reconciler.adapters.wrs.metadata import EntityType
from reconciler.adapters.wrs.reading import Entity, Reader
from reconciler.adapters.wrs.results import Unfulfilled
from reconciler.adapters.wrs.service import Service
from reconciler.model.answer import NotAvailable, Refused
from reconciler.model.snapshot import Token
from reconciler.model.value import Json

_PATCHES_MAX = 16
_FORBIDDEN = 403
_TOGETHER = "refused together with others; not found out which of them: "

Body = Mapping[str, Json]


def more_patches(attributes: int) -> int:
    """Return how many PATCHes may follow the first: two for each halving, and two to spare."""
    return min(2 * (attributes - 1).bit_length() + 2, _PATCHES_MAX)


@attrs.define
class Bisection:
    """The PATCH of one working copy. `refused` is what was left out, with the server's messages."""

    service: Service
    reader: Reader
    copy: str
    type: EntityType | None
    etag: Token | None = None
    refused: list[Refused] = attrs.field(factory=list)
    _passed: Reply | None = None
    _left: int = 0
    _stale: bool = False

    async def patch(self, body: Body) -> Reply | Unfulfilled:
        """Change what can be changed; return the reply to that, or why nothing was changed."""
        self._left = more_patches(len(body))
        first = await self._send(body)
        if isinstance(first, Reply) or _is_final(first) or (len(body) == 1 and not isinstance(first, Refused)):
            return first
        found = await self._look_into(body, first)
        if found is not None:
            return found
        if self._passed is None:
            self.refused.clear()
            return structs.replace(first, fields=tuple(body)) if isinstance(first, Refused) else first
        return self._passed

    async def _look_into(self, body: Body, answer: Unfulfilled) -> Unfulfilled | None:
        """Find the attributes to blame for a refusal; return an answer that ended the search early."""
        named = [name for name in body if isinstance(answer, Refused) and name in answer.fields]
        if named or len(body) == 1:
            self._refuse(named or body, answer)
            rest = {name: value for name, value in body.items() if name not in named} if named else {}
            return await self._try(rest, answer) if rest else None
        names = list(body)
        halves = [{name: body[name] for name in half} for half in (names[: len(names) // 2], names[len(names) // 2 :])]
        before = self._passed
        if (ended := await self._try(halves[0], answer)) is not None:
            return ended
        passed = self._passed is not before and not any(set(one.fields) & halves[0].keys() for one in self.refused)
        return await (self._look_into if passed else self._try)(halves[1], answer)

    async def _try(self, body: Body, answer: Unfulfilled) -> Unfulfilled | None:
        """Send some attributes, and look into a refusal of these; `answer` refused them together with others."""
        if not self._left:
            self._refuse(body, answer, _TOGETHER * (len(body) > 1))
            return None
        self._left -= 1
        got = await self._send(body)
        if isinstance(got, Reply):
            self._passed = got
            return None
        return got if _is_final(got) else await self._look_into(body, got)

    def _labels(self, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Return the names that messages may use for these attributes."""
        known = {} if self.type is None else self.type.properties
        said = {name: known[name].label if name in known else "" for name in names}
        return {name: tuple(filter(None, (label, _spaced(name), name))) for name, label in said.items()}

    def _refuse(self, names: Mapping[str, Json] | list[str], answer: Unfulfilled, how: str = "") -> None:
        assert isinstance(answer, Refused | NotAvailable)
        self.refused.append(Refused(answer.status, replies.cut(how + answer.message), tuple(names)))

    async def _send(self, body: Body) -> Reply | Unfulfilled:
        if self._stale:  # the last PATCH has changed its ETag
            entity = await self.reader.entity(self.copy)
            if not isinstance(entity, Entity):
                return entity
            self.etag = results.etag(entity)
        exchange = await self.service.patch(self.service.entity(self.copy), body, self.etag)
        answer = results.of(self.service, exchange, body, self._labels(body))
        self._stale = self.etag is not None and isinstance(answer, Reply)
        return answer


def _spaced(name: str) -> str:
    """Return a property's likely display name: `Cost Center` for `CostCenter`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[0-9])(?=[A-Z])|_", " ", name)


def _is_final(answer: Unfulfilled) -> bool:
    """Whether an answer is about more than single attributes."""
    forbidden = isinstance(answer, NotAvailable) and answer.status == _FORBIDDEN
    return not isinstance(answer, Refused) and not forbidden
