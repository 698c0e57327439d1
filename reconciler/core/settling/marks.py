"""
Marks: the text in a check-out's note by which that check-out is known again as ours. Pure.

    rec-9f86d081884c-1a2b3c4d
    └─ of the document ┘ └─ of this one write

The first part is derived from our name and the document, so it is known even to a store that was lost and rebuilt. The
second part tells one check-out of ours from the next, and from a note that a later working copy has inherited.
"""

import hashlib

from reconciler.core.settling.cases import Case
from reconciler.model.value import canonical

_DOCUMENT_CHARACTERS = 12
_WRITE_CHARACTERS = 8


def of(case: Case) -> str:
    """Return the mark of a check-out that this attempt may make: a new one for each attempt."""
    key = case.document.key
    document = _digest(case.options.source, key, characters=_DOCUMENT_CHARACTERS)
    write = _digest(key, case.now_us, case.chance, characters=_WRITE_CHARACTERS)
    return f"rec-{document}-{write}"


def _digest(*parts: object, characters: int) -> str:
    return hashlib.sha256(canonical([*parts]).encode()).hexdigest()[:characters]
