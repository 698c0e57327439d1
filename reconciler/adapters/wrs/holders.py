"""
Holders: who has a document checked out, as far as an entity or a refusal says so. Pure.

What proves that it is us: the server tells whoever asks "by you", or it names our account as the configuration does.
Nothing less: an administrator sees other people's working copies too, and may undo them.
"""

import re

from reconciler.adapters.wrs import values
from reconciler.adapters.wrs.service import Row

_HOLDER = re.compile(r"checked[ -]?out\s+(?:by|to)\s+(?P<who>\S.*?)\s*\.?\s*", re.IGNORECASE)
_US = "you"


def holder(entity: Row) -> str | None:
    """Return who has it checked out, as the server names them: perhaps `you`. None when it does not say."""
    for name in values.CHECK_OUT:
        said = entity.get(name)
        for text in said.values() if isinstance(said, dict) else (said,):
            found = _HOLDER.fullmatch(text) if isinstance(text, str) else None
            if found is not None:
                return found["who"]
    return None


def is_us(who: str | None, account: str) -> bool:
    """Whether that is our own account; `account` is its name as Windchill shows it, empty when we weren't told."""
    return who is not None and (who.casefold() == _US or (account != "" and who == account))
