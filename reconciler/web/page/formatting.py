"""
How values, texts and times are shown.

1. Nothing from outside becomes markup. Invisible characters and those that reverse text (control, bidi and zero-width
   characters) are shown as their number.
2. Long values are cut and show their full length; the whole value can be opened or read from the API.
"""

import itertools
import re
import unicodedata
from typing import Final

import attrs
import msgspec
from markupsafe import Markup, escape

from reconciler.model import instant

LIST_MAX: Final = 120  # characters of a value in a list
OPENED_MAX: Final = 200_000  # characters of a value that is compared with another
SIGNS_MAX: Final = 500  # invisible characters shown with their name; no readable text has more

# Control characters but tab and line feed, soft hyphen, bidi marks, embeddings and isolates, zero-width spaces, line
# and paragraph separators, the byte order mark, tag characters, and surrogates, which no page can carry at all. Joiners
# stay: scripts and emoji need them.
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


@attrs.frozen
class Shown:
    """A text, possibly cut; `length` is that of the whole."""

    text: str
    length: int

    @property
    def is_cut(self) -> bool:
        return len(self.text) < self.length


def visible(text: object) -> Markup:
    """Return a text as markup, with invisible characters made visible."""
    pieces: list[Markup] = []
    end = 0
    said = str(text)
    for found in itertools.islice(_UNSEEN.finditer(said), SIGNS_MAX):
        pieces += (escape(said[end : found.start()]), _sign(found[0]))
        end = found.end()
    return Markup("").join((*pieces, escape(_spelled(said[end:]))))


def _sign(character: str) -> Markup:
    name = unicodedata.name(character, "control character").lower()
    return Markup('<span class="sign" title="{}">U+{}</span>').format(name, f"{ord(character):04X}")


def plain(text: object, length_max: int = LIST_MAX) -> str:
    """Return a text for places without markup, such as a title: cut, with invisible characters made visible."""
    cut = clip(str(text), length_max)
    return _spelled(cut.text) + ("…" if cut.is_cut else "")


def _spelled(text: str) -> str:
    return _UNSEEN.sub(lambda found: f"<U+{ord(found[0]):04X}>", text)


def mendable(text: str) -> str:
    r"""Return JSON with invisible characters escaped as \uNNNN, which means the same; line ends stay."""
    return _UNSEEN.sub(lambda found: found[0] if found[0] == "\r" else _in_json(found[0]), text)


def _in_json(character: str) -> str:
    units = re.findall("....", character.encode("utf-16-be", "surrogatepass").hex())
    return "".join(f"\\u{unit}" for unit in units)


def clip(text: str, length_max: int = LIST_MAX) -> Shown:
    """Return the beginning of a text."""
    return Shown(text[:length_max], len(text))


def of_json(value: object) -> str:
    """Return a value as JSON."""
    return msgspec.json.encode(value).decode()


def value(value: object, length_max: int = LIST_MAX) -> Shown:
    """Return a value as JSON, or the beginning; a long text is not encoded as a whole."""
    if isinstance(value, str) and len(value) > length_max:
        return Shown(of_json(value[:length_max])[:length_max], len(value) + 2)
    return clip(of_json(value), length_max)


def is_known(value: object) -> bool:
    """Whether a member of a view has a value."""
    return value is not msgspec.UNSET


# ------------------------------------------------------------------------------------------------------ times and spans


_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_SECOND_US: Final = 1_000_000


def ago(at: str, now_us: int) -> str:
    """Return how long ago a time was, or how long it is until then."""
    seconds = (now_us - instant.to_us(at)) / _SECOND_US
    if abs(seconds) < 1:
        return "now"
    return f"{span(seconds)} ago" if seconds > 0 else f"in {span(-seconds)}"


def span(seconds: float) -> str:
    """Return a duration in its largest unit, and also the next one if the first is small."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for number, (size, name) in enumerate(_UNITS):
        if whole < size:
            continue
        first, rest = divmod(whole, size)
        if number + 1 < len(_UNITS) and first < 10 and rest:
            below, unit = _UNITS[number + 1]
            more = rest // below
            return f"{first} {name} {more} {unit}" if more else f"{first} {name}"
        return f"{first} {name}"
    return f"{whole} s"


def clock(at: str) -> str:
    """Return a time to the second."""
    return at[:19].replace("T", " ") + " UTC"
