"""
What a row says about its check-out: whether there is one, who made it, and which of our marks it shows. Pure.

That the server names our account, or says "by you", proves nothing: a person may use the account. Our mark in any text
of the row does, because no other note holds it.
"""

import re
from collections.abc import Iterable

from reconciler.adapters.wrs import values
from reconciler.adapters.wrs.service import Row

OURSELVES = "our own account"
_HOLDER = re.compile(r"checked[ -]?out\s+(?:by|to)\s+(?P<who>\S.*?)\s*\.?\s*", re.IGNORECASE)
_US = "you"
_CHECKED_IN = ("c/i", "checked in")  # Windchill's own value, and the display in English


def holder(entity: Row) -> str | None:
    """Return who has it checked out, as the server names them, perhaps `you`; None if it does not say."""
    for text in _of_check_out(entity):
        if (found := _HOLDER.fullmatch(text)) is not None:
            return found["who"]
    return None


def says_checked_in(entity: Row) -> bool:
    """Whether an entity says that it is not checked out. One that hides its state says nothing."""
    return any(text.lower().startswith(_CHECKED_IN) for text in _of_check_out(entity))


def is_us(who: str | None, account: str) -> bool:
    """Whether that is our own account; `account` is its name in Windchill, empty if it is not configured."""
    return who is not None and (who.casefold() == _US or (account != "" and who.casefold() == account.casefold()))


def is_another(who: str | None, account: str) -> bool:
    """Whether that is surely another account: both names are known and differ."""
    return who is not None and account != "" and not is_us(who, account)


def is_working_copy(entity: Row) -> bool:
    """Whether an entity says that it is a working copy, which others don't see."""
    return _standing(entity, "wrk", "working copy")


def is_checked_out(entity: Row) -> bool:
    """Whether an entity says that it is checked out: the iteration that a working copy was made from."""
    return _standing(entity, "c/o", "checked out")


def _standing(entity: Row, value: str, display: str) -> bool:
    """Whether a check-out state begins like that: the value everywhere, the display in English."""
    for name in values.CHECK_OUT:
        said = entity.get(name)
        texts = said.values() if isinstance(said, dict) else (said,)
        if any(isinstance(text, str) and text.lower().startswith((value, display)) for text in texts):
            return True
    return False


def marks(entity: Row, mark: str) -> frozenset[str]:
    """Return the marks with the same prefix as `mark` that an entity shows in any property."""
    pattern = re.compile(re.escape(mark.rpartition("-")[0]) + r"-[0-9a-z]+")
    return frozenset(found for text in _texts(entity.values()) for found in pattern.findall(text))


def _of_check_out(entity: Row) -> list[str]:
    return _texts(entity.get(name) for name in values.CHECK_OUT)


def _texts(said: Iterable[object]) -> list[str]:
    inner = (part for one in said for part in (one.values() if isinstance(one, dict) else (one,)))
    return [text for text in inner if isinstance(text, str)]
