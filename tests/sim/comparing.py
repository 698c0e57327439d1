"""
When two values count as the same under a rule, and in which form one is sent: written once more, from the glossary.

It shares nothing with `core.normalise`, and knows only the values that occur in these worlds.
"""

import contextlib
import json
from collections.abc import Collection
from fractions import Fraction
from typing import Any

from reconciler.model.value import canonical


def read(text: str) -> Any:
    """The value of a canonical text."""
    return json.loads(text)


def alike(left: Any, right: Any, steps: Collection[str]) -> bool:
    """Whether two values count as the same."""
    return canonical(bare(left, steps)) == canonical(bare(right, steps))


def bare(value: Any, steps: Collection[str]) -> Any:
    """A value without all that does not count."""
    if isinstance(value, list):
        return [bare(one, steps) for one in value] or (None if "blank" in steps else [])
    value = sent(value, steps)
    if "number" in steps and value is not True and value is not False:
        with contextlib.suppress(ValueError):
            value = {"number": str(Fraction(str(value)))}
    return value.lower() if "case" in steps and isinstance(value, str) else value


def sent(value: Any, steps: Collection[str]) -> Any:
    """A value as it goes out."""
    if isinstance(value, list):
        return [sent(one, steps) for one in value] or (None if "blank" in steps else [])
    if isinstance(value, str) and "trim" in steps:
        value = value.strip()
    return None if value == "" and "blank" in steps else value


def blank(value: Any, steps: Collection[str]) -> bool:
    """Whether there is nothing in a field."""
    return bare(value, steps) in (None, "", [])
