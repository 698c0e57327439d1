"""Recording: acts are recorded with what they change, in one transaction; again where others act too."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from reconciler.errors import StoreError
from reconciler.model.act import Act, Change, Deed, Done
from reconciler.model.document import Document
from reconciler.model.value import Json
from reconciler.ports import Clock, Store

CHUNK = 500  # acts of one transaction, keys of one look
_TRIES = 20  # each time that somebody else's act came in between

Why = Callable[[Document | None], str | None]


@attrs.frozen(kw_only=True)
class About:
    """What a record says besides who and when."""

    kind: str
    target: str
    document: str = ""
    details: Mapping[str, Json] = attrs.field(factory=dict)  # what is empty is left out
    result: str = "done"


@attrs.frozen
class Recorder:
    """Records acts of whoever has this role, and of whose name this issuer vouches."""

    store: Store
    clock: Clock
    role: str
    issuer: str = ""

    async def record(self, who: str, abouts: Iterable[About], change: Change = Change.NOTHING) -> None:
        """Record acts, and change what they are on. Raises StoreError."""
        acts = [self.act(who, about) for about in abouts]
        for start in range(0, len(acts), CHUNK):
            for _ in range(_TRIES):
                if await self._enact(change, acts[start : start + CHUNK], ""):
                    break
                await self.clock.sleep(0)
            else:
                raise _crowded()

    async def steer(
        self, who: str, deed: Deed, change: Change, keys: Sequence[str], *, why: Why, reason: str = "", shown: str = ""
    ) -> Done:
        """Change documents, those excepted of which `why` says why not; `shown` is the reason that they then show."""
        done: list[str] = []
        left: dict[str, str] = {}
        wanted = list(dict.fromkeys(keys))
        for start in range(0, len(wanted), CHUNK):
            some = wanted[start : start + CHUNK]
            for _ in range(_TRIES):
                documents = await self.documents(some)
                refused = {key: said for key in some if (said := why(documents.get(key))) is not None}
                abouts = [
                    About(kind=deed, target=key, document=key, details={"reason": reason})
                    for key in some
                    if key not in refused
                ]
                acts = [self.act(who, about) for about in abouts]
                if not acts or await self._enact(change, acts, shown):
                    done += [act.target for act in acts]
                    left |= refused
                    break
                await self.clock.sleep(0)
            else:
                raise _crowded()
        return Done(tuple(done), left)

    async def documents(self, keys: Iterable[str]) -> dict[str, Document]:
        """Return the documents that some event has named."""
        found = await self.store.documents(keys)
        return {key: document for key, document in found.items() if document.revision}

    async def _enact(self, change: Change, acts: Sequence[Act], reason: str) -> bool:
        return await self.store.enact(change, acts, at_us=self.clock.now_us(), reason=reason)

    def act(self, who: str, about: About) -> Act:
        """Return what is to be recorded."""
        said = {name: value for name, value in about.details.items() if value not in ("", [])}
        return Act(
            at_us=self.clock.now_us(),
            who=who,
            role=self.role,
            kind=str(about.kind),
            target=about.target,
            document=about.document,
            details=said,
            result=about.result,
            issuer=self.issuer,
        )


def _crowded() -> StoreError:
    return StoreError("can't record what was done: too many others act at the same time; try again")
