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
_ORDINARY = ("c/i", "c/o", "checked in")  # Windchill's own values, and the display in English


def holder(entity: Row) -> str | None:
    """Return who has it checked out, as the server names them: perhaps `you`. None when it does not say."""
    for name in values.CHECK_OUT:
        for text in _texts(entity.get(name)):
            if (found := _HOLDER.fullmatch(text)) is not None:
                return found["who"]
    return None


def says_ordinary(entity: Row, account: str) -> bool:
    """Whether an entity says that it is an iteration as others see it, checked out by somebody else or by nobody."""
    said = [part for name in values.CHECK_OUT for part in _texts(entity.get(name))]
    who = holder(entity)
    return any(text.lower().startswith(_ORDINARY) for text in said) or (who is not None and not is_us(who, account))


def is_us(who: str | None, account: str) -> bool:
    """Whether that is our own account; `account` is its name as Windchill shows it, empty when we weren't told."""
    return who is not None and (who.casefold() == _US or (account != "" and who.casefold() == account.casefold()))


def _texts(said: object) -> list[str]:
    return [text for text in (said.values() if isinstance(said, dict) else (said,)) if isinstance(text, str)]
