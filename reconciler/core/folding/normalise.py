"""
Normalise: whether two values count as the same, and the form in which a value is written.

Comparing applies all normalisers of a rule; writing applies only `trim` and `blank`, because the others change what a
reader sees. A written value always compares equal to the desired one.
"""

import decimal
import re
from collections.abc import Collection
from typing import cast

from reconciler.model import codec, instant
from reconciler.model.policy import Normaliser
from reconciler.model.value import MISSING, Json, Missing, same

_DIGITS_MAX = 400  # beyond any float; longer ones are compared as text
# ASCII digits only: Decimal itself also takes `1_000`, which is a part number, not a thousand.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,15})?", re.ASCII | re.IGNORECASE)
# Exact: the usual context would round to 28 digits, and so hold different numbers to be equal.
_EXACT = decimal.Context(prec=_DIGITS_MAX, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)


def equal(left: Json | Missing, right: Json | Missing, steps: Collection[Normaliser]) -> bool:
    """Whether two values count as the same under a rule's normalisers. A missing value equals `null`."""
    if not steps:
        return same(None if left is MISSING else left, None if right is MISSING else right)
    return same(comparable(left, steps), comparable(right, steps))


def digest(value: Json | Missing, steps: Collection[Normaliser]) -> str:
    """Return a digest that only values that count as the same share."""
    return codec.digest(comparable(value, steps))


def blank(value: Json | Missing) -> bool:
    """Whether a field is blank: missing, `null`, an empty text or an empty list."""
    return value is MISSING or value is None or value in ("", [])


def comparable(value: object, steps: Collection[Normaliser]) -> Json:
    """Return the form in which a value is compared; lists are normalised element by element."""
    if value is MISSING:
        return None
    if Normaliser.ENUM in steps and isinstance(value, dict) and "Value" in value:
        value = value["Value"]
    if isinstance(value, list):
        elements: list[object] = [comparable(element, steps) for element in value]
        return None if Normaliser.BLANK in steps and not elements else elements
    return _scalar(cast(Json, value), steps)


def outgoing(value: object, steps: Collection[Normaliser]) -> Json:
    """Return the form in which a value is written."""
    kept = [step for step in steps if step in (Normaliser.TRIM, Normaliser.BLANK)]
    return comparable(value, kept) if kept else cast(Json, value)


def _scalar(value: Json, steps: Collection[Normaliser]) -> Json:
    if isinstance(value, str):
        if Normaliser.TRIM in steps:
            value = value.strip()
        if Normaliser.BLANK in steps and not value:
            return None
    if Normaliser.NUMBER in steps:
        value = _number(value)
    if Normaliser.INSTANT in steps and isinstance(value, str):
        value = _instant(value)
    if Normaliser.CASE in steps and isinstance(value, str):
        value = value.casefold()
    return value


def _number(value: Json) -> Json:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return value
    text = str(value).strip()
    if len(text) > _DIGITS_MAX or not _NUMBER.fullmatch(text):
        return value
    number = decimal.Decimal(text)
    return str(number.normalize(_EXACT)) if number else "0"


def _instant(text: str) -> str:
    try:
        return instant.canonical(text)
    except ValueError:
        return text
