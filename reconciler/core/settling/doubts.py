"""
Doubts: writes that were sent and whose results are not known (`Agreement.intent` and its `earlier` ones).

A request may be applied long after we gave it up. Whoever reads the document then must know that value for ours, or it
passes for a person's edit and we yield to ourselves.

Rules
1. A write in doubt leaves the row only when a read or an answer shows another token than the one it was sent under.
   Until then its guard would let it through. That nothing is managed any more, or that a document is parked, ends no
   doubt.
2. Nothing may guard an action (`Snapshot.later_portions`), so a new token does not rule it out. It stays in doubt for
   `LATE_S` besides, and until a read after that has looked for it: an answer to a write shows nothing that came since.
3. So a write that a read has found applied is in doubt no longer: the token has moved. An action still is, since an
   equal one may have been sent before it.
"""

from msgspec import structs

from reconciler.model import instant
from reconciler.model.document import Intent
from reconciler.model.snapshot import Token

LATE_S = 600.0  # longer than proxies and servers keep a request; shorter than a person takes to choose our old value
KEPT_MAX = 8  # writes in doubt that we remember; each costs as much as its patch


def each(intent: Intent | None) -> tuple[Intent, ...]:
    """Return all writes in doubt one by one, the latest last."""
    return () if intent is None else (*intent.earlier, structs.replace(intent, earlier=()))


def joined(sent: tuple[Intent, ...]) -> Intent | None:
    """Return writes in doubt as one intent, the latest with the earlier ones; the oldest of too many are dropped."""
    return structs.replace(sent[-1], earlier=sent[-KEPT_MAX - 1 : -1]) if sent else None


def standing(intent: Intent | None, token: Token | None, read_us: int | None) -> Intent | None:
    """
    Return what is still in doubt once the document has shown `token`; the same object if all of it is.

    `read_us` is when a read showed it; `None` if it was an answer to a write.
    """
    sent = each(intent)
    left = tuple(one for one in sent if one.token == token or (one.action and not _is_over(one, read_us)))
    return intent if len(left) == len(sent) else joined(left)


def looked_for_us(intent: Intent | None) -> int | None:
    """Return when to look once more for writes that no token rules out; `None` if there are none."""
    return max((_late_us(one) for one in each(intent) if one.action), default=None)


def _is_over(sent: Intent, read_us: int | None) -> bool:
    return read_us is not None and read_us >= _late_us(sent)


def _late_us(sent: Intent) -> int:
    return instant.after_us(sent.sent_at_us, LATE_S)
