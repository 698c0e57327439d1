"""Values: strict conversion of what TOML or the environment gives into a key's type, and words for what is allowed."""

import difflib
import enum
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

import attrs

T = TypeVar("T")

_TRUTHS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_HUGE = 1e18
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@attrs.frozen
class Limits:
    """What a key's value must keep to, beyond its type."""

    secret: bool = False  # never shown; also known as `<key>_file`
    least: float | None = None
    above: float | None = None  # like `least`, but itself excluded
    most: float | None = None
    filled: bool = False  # neither "" nor []
    pattern: str | None = None  # a regular expression for the whole text, or for each text of a list
    says: str = ""  # the pattern in words
    unavailable: Mapping[str, str] = attrs.field(factory=dict)  # known values, or beginnings of them → what to do
    choices: tuple[str, ...] = ()  # fewer than the type's own


NO_LIMITS = Limits()


def key(default: T, **limits: Any) -> T:
    """Return an attrs field of a group that carries its limits (the arguments of `Limits`) for loader and schema."""
    kept = Limits(**limits)
    return attrs.field(default=default, repr=not kept.secret, metadata={"limits": kept})


def limits_of(field: "attrs.Attribute[Any]") -> Limits:
    """Return the limits that `key` put on a field."""
    kept: Limits = field.metadata.get("limits", NO_LIMITS)
    return kept


def is_list(wanted: Any) -> bool:
    """Whether a key's type is a list."""
    return get_origin(wanted) is tuple


def choices(wanted: Any, limits: Limits) -> tuple[str, ...]:
    """Return the texts that an enumerated type allows; empty for any other type."""
    every: tuple[str, ...] = ()
    if get_origin(wanted) is Literal:
        every = get_args(wanted)
    elif isinstance(wanted, type) and issubclass(wanted, enum.StrEnum):
        every = tuple(wanted)
    return tuple(str(choice) for choice in limits.choices or every if choice not in limits.unavailable)


def from_text(text: str, wanted: Any, limits: Limits) -> Any:
    """Convert the text of an environment variable. Raises ValueError with what is allowed."""
    if is_list(wanted):
        return convert(_listed(text, wanted, limits), wanted, limits)
    stripped = text.strip()
    if wanted is bool and stripped.lower() in _TRUTHS:
        return _TRUTHS[stripped.lower()]
    if wanted in (int, float) and re.fullmatch(r"[+-]?[0-9]{1,18}", stripped):
        return convert(int(stripped), wanted, limits)
    if wanted is float and re.fullmatch(r"[+-]?[0-9.eE+-]{1,32}", stripped):
        return convert(_number(stripped), wanted, limits)
    return convert(text, wanted, limits)


def convert(given: object, wanted: Any, limits: Limits) -> Any:
    """
    Convert a TOML or JSON value, strictly: `"1"` is no number and `1` is no truth value.

    Raises ValueError whose message continues "section.key: …" and never shows a secret.
    """
    if is_list(wanted):
        if not isinstance(given, list) or (limits.filled and not given):
            raise _refused(given, wanted, limits)
        return tuple(convert(item, get_args(wanted)[0], limits) for item in given)
    if attrs.has(wanted):
        return _row(given, wanted)
    if isinstance(given, str):
        _refuse_unavailable(given, limits)
    if not _fits(given, wanted, limits):
        raise _refused(given, wanted, limits)
    return given if get_origin(wanted) is Literal else wanted(given)


def _row(given: object, wanted: Any) -> Any:
    """Convert one table of a list of tables, all of whose keys are needed."""
    fields = attrs.fields_dict(wanted)
    if not isinstance(given, dict) or given.keys() != fields.keys():
        raise ValueError(f"must be {allowed(wanted, NO_LIMITS)}, not {_shown(given)}")
    values = {}
    for name, field in fields.items():
        try:
            values[name] = convert(given[name], field.type, limits_of(field))
        except ValueError as error:
            raise ValueError(f"{name} {error}") from error
    return wanted(**values)


def allowed(wanted: Any, limits: Limits) -> str:
    """Return what a key accepts, in words."""
    if is_list(wanted):
        return f"a list{' with at least one entry' * limits.filled}, each {allowed(get_args(wanted)[0], limits)}"
    if attrs.has(wanted):
        return f"a table with {' and '.join(attrs.fields_dict(wanted))}"
    if some := choices(wanted, limits):
        return f"one of {', '.join(map(json.dumps, some))}"
    if wanted is bool:
        return "true or false"
    if wanted is str:
        return limits.says or ("a text that is not empty" if limits.filled else "a text of one line")
    parts = ["a whole number" if wanted is int else "a number"]
    parts += [f"of at least {limits.least:g}"] if limits.least is not None else []
    parts += [f"above {limits.above:g}"] if limits.above is not None else []
    parts += [f"{'and' if len(parts) > 1 else 'of'} at most {limits.most:g}"] if limits.most is not None else []
    return " ".join(parts)


def _fits(given: object, wanted: Any, limits: Limits) -> bool:
    if some := choices(wanted, limits):
        return isinstance(given, str) and given in some
    if wanted is str:
        return isinstance(given, str) and _text_fits(given, limits)
    if wanted is bool:
        return isinstance(given, bool)
    if isinstance(given, bool) or not isinstance(given, int if wanted is int else (int, float)):
        return False
    return _in_range(given, limits)


def _text_fits(text: str, limits: Limits) -> bool:
    if _CONTROL.search(text) or (limits.filled and not text):
        return False
    return limits.pattern is None or re.fullmatch(limits.pattern, text) is not None


def _in_range(number: float, limits: Limits) -> bool:
    return (
        -_HUGE < number < _HUGE  # which TOML's nan and inf are not, nor integers that no float holds
        and (limits.least is None or number >= limits.least)
        and (limits.above is None or number > limits.above)
        and (limits.most is None or number <= limits.most)
    )


def _refuse_unavailable(text: str, limits: Limits) -> None:
    for known, advice in limits.unavailable.items():
        if text.startswith(known):
            raise ValueError(f"{json.dumps(known)} is known but not available in this version; {advice}")


def _refused(given: object, wanted: Any, limits: Limits) -> ValueError:
    shown = "" if limits.secret else f", not {_shown(given)}"
    return ValueError(f"must be {allowed(wanted, limits)}{shown}")


def _shown(given: object) -> str:
    text = json.dumps(given, default=str, ensure_ascii=False)
    if "@" in text:
        return "this"  # an address with a password in it, most likely
    return text if len(text) <= 80 else f"{text[:77]}…"


def _listed(text: str, wanted: Any, limits: Limits) -> object:
    if not text.lstrip().startswith("["):
        return [part for part in (part.strip() for part in text.split(",")) if part]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _refused(text, wanted, limits) from None  # the JSON error would quote what may be a secret


def _number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


# ------------------------------------------------------------------------------------------------------------- nearest
# Nearest: which known name somebody probably meant.


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like `name`, `None` when none is."""
    meant = name.lower()
    alike = difflib.get_close_matches(meant, list(known), n=3)
    # By common letters alone, `ce_file` is more like `cert_file` than like `ca_file`.
    return min(alike, key=lambda one: _slips(meant, one), default=None)


def _slips(left: str, right: str) -> int:
    """Return how many letters are too many, too few, wrong or swapped (optimal string alignment)."""
    above: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        before, above, row = above, row, [i]
        for j, b in enumerate(right, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and b == left[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
    return row[-1]


def among(name: str, known: Iterable[str]) -> str:
    """Return advice for an unknown name: the closest known one, or else all of them."""
    names = list(known)
    found = closest(name, names)
    return f"did you mean {found}?" if found else f"known are {', '.join(names)}"


# ---------------------------------------------------------------------------------------------------------------- rows
# Rows: tables of a list within a section; every key of theirs is needed.

TOPIC = r"[A-Za-z0-9._-]{1,249}"  # Kafka's own rule
TOPIC_SAYS = "a topic's name: 1 to 249 letters, digits, '.', '_' or '-'"


@attrs.frozen(kw_only=True)
class ChangeTopic:
    """One of several change topics."""

    name: str = key("", pattern=TOPIC, says=TOPIC_SAYS)
    """The topic."""
    sources: tuple[str, ...] = key((), filled=True)
    """Globs over the sources that may speak in it, case-sensitive."""
