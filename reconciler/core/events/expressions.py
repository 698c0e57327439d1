"""
Expressions of `[[source]]`: JMESPath (https://jmespath.org/specification.html), and a few functions for text.

They read a payload and change nothing. Each is parsed once, when the configuration is loaded; a function that does not
exist is found then too, and not at the first record.
"""

import math
from typing import Any, Final

import attrs
import jmespath
from jmespath import exceptions, functions, parser

from reconciler.core.events import profile
from reconciler.model.value import Json

# What the library raises for a payload that does not fit an expression. Most are its own errors; odd values also get
# through to Python's operators.
_MISFITS = (
    exceptions.JMESPathError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


class _Functions(functions.Functions):
    """JMESPath's own functions, and ours: it has none that cuts a text."""

    @functions.signature({"types": ["string"]})
    def _func_lower(self, text: str) -> str:
        return text.lower()

    @functions.signature({"types": ["string"]})
    def _func_upper(self, text: str) -> str:
        return text.upper()

    @functions.signature({"types": ["string"]}, {"types": ["string"]})
    def _func_trim_left(self, text: str, characters: str) -> str:
        return text.lstrip(characters)

    @functions.signature({"types": ["string"]}, {"types": ["string"]})
    def _func_split(self, text: str, separator: str) -> list[str]:
        return text.split(separator)


_OPTIONS: Final = jmespath.Options(custom_functions=_Functions())


@attrs.frozen
class Expression:
    """A parsed expression, and its text."""

    text: str
    _parsed: parser.ParsedResult = attrs.field(eq=False, repr=False)

    def of(self, payload: Any) -> Json:
        """Return its value for a payload; None also if there is none. Raises `profile.Invalid`."""
        try:
            found = self._parsed.search(payload, options=_OPTIONS)
        except _MISFITS as error:
            raise profile.Invalid(f"`{self.text}` does not fit this payload: {_one_line(error)}") from error
        if isinstance(found, float) and not math.isfinite(found):
            raise profile.Invalid(f"`{self.text}` gives {found}, which is no number in JSON")
        return found  # type: ignore[no-any-return]  # JSON in, JSON out

    def holds(self, payload: Any) -> bool:
        """Whether its value for a payload is neither false nor null nor empty; 0 counts as true, as in JMESPath."""
        found = self.of(payload)
        return found is not None and found is not False and found not in ("", [], {})


def parsed(text: str) -> Expression:
    """Return the expression of a text. Raises ValueError that says what is wrong, and where."""
    try:
        found = parser.Parser().parse(text)
    except exceptions.LexerError as error:
        raise ValueError(f"is no JMESPath expression: {error.message} (character {error.lexer_position + 1})") from None
    except exceptions.IncompleteExpressionError:
        raise ValueError("is no JMESPath expression: it ends too early") from None
    except exceptions.ParseError as error:
        where = f"unexpected {error.token_value!r} (character {error.lex_position + 1})"
        raise ValueError(f"is no JMESPath expression: {where}") from None
    except (exceptions.JMESPathError, RecursionError) as error:
        raise ValueError(f"is no JMESPath expression: {_one_line(error)}") from None
    _check_functions(found.parsed, text)
    return Expression(text, found)


def _check_functions(node: Any, text: str) -> None:
    """Raise ValueError for a function that does not exist, or gets another number of arguments."""
    if node["type"] == "function_expression":
        name, given = node["value"], len(node["children"])
        known = _Functions.FUNCTION_TABLE.get(name)
        where = f"(character {text.find(name) + 1})"
        if known is None:
            names = ", ".join(sorted(_Functions.FUNCTION_TABLE))
            raise ValueError(f"calls {name}(), which does not exist {where}; known are {names}")
        wanted = known["signature"]
        variadic = bool(wanted) and wanted[-1].get("variadic", False)
        if given < len(wanted) or (given > len(wanted) and not variadic):
            raise ValueError(f"calls {name}() with {given} arguments, it takes {len(wanted)} {where}")
    for child in node["children"]:
        if isinstance(child, dict):
            _check_functions(child, text)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
