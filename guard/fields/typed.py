"""Values of columns in JSON, each with its type, as the agent's socket carries them. docs/FORMATS.md, section 12.

Errors say what is wrong with a value and never quote it.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

from guard.canon import Json
from guard.crypto.subjects import SHREDDED

_SAFE: Final = (1 << 53) - 1
"""The largest whole number that every language reads exactly from JSON. RFC 7493 2.2"""

_DIGITS: Final = 1000
"""Of a number: more than any database holds."""


class WrongValueError(ValueError):
    """A value that JSON tells is none of a column's. The message does not quote it."""


def write(value: object) -> Json:
    """Return a value as JSON tells it. Raises TypeError for a type that cannot be sealed."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int) and -_SAFE <= value <= _SAFE:
        return value
    if value is SHREDDED:
        return {"shredded": True}
    kind = next((kind for kind in _WRITERS if isinstance(value, kind)), None)
    if kind is None:
        raise TypeError(f"a {type(value).__name__} cannot be told")
    name, written = _WRITERS[kind]
    return {name: written(value)}


def read(told: object) -> Any:
    """Return the value that JSON tells. Raises WrongValueError for what is none."""
    if told is None or isinstance(told, str | bool | int):
        return told
    if isinstance(told, float):
        raise WrongValueError('a number with a fraction is told as {"decimal": "12.50"} or {"float": "12.5"}')
    if not isinstance(told, dict) or len(told) != 1:
        raise WrongValueError("it is a text, a whole number, true, false, null, or an object with one member")
    [(name, text)] = told.items()
    if name == "shredded" and text is True:
        return SHREDDED
    reader = _READERS.get(name)
    if reader is None or not isinstance(text, str):
        raise WrongValueError(f"the one member is a text, called {', '.join(_READERS)}")
    try:
        return reader(text)
    except (ValueError, ArithmeticError):
        raise WrongValueError(f"that is no {name}; docs/FORMATS.md 12 says how one is written") from None


def _moment(value: datetime) -> str:
    zoned = value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
    return zoned.isoformat(timespec="microseconds") + ("" if value.tzinfo is None else "Z")


_WRITERS: Final[Mapping[type, tuple[str, Callable[[Any], str]]]] = {
    int: ("int", str),
    float: ("float", repr),
    Decimal: ("decimal", lambda value: format(value, "f")),
    datetime: ("datetime", _moment),
    date: ("date", lambda value: value.isoformat()),
    bytes: ("bytes", lambda value: b64encode(value).decode()),
    bytearray: ("bytes", lambda value: b64encode(value).decode()),
    memoryview: ("bytes", lambda value: b64encode(value).decode()),
}
"""In the order they are asked: a date and time is also a date."""


def _matching(pattern: str, of: Callable[[str], Any]) -> Callable[[str], Any]:
    form = re.compile(pattern, re.ASCII)

    def read_(text: str) -> Any:
        if len(text) > _DIGITS or not form.fullmatch(text):
            raise ValueError("another form")
        return of(text)

    return read_


def _datetime(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is None else found.astimezone(UTC)  # raises where UTC has no such year


_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "int": _matching(r"-?[0-9]+", int),
    "decimal": _matching(r"-?[0-9]+(\.[0-9]+)?", Decimal),
    "float": _matching(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?|-?inf|nan", float),
    "date": _matching(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", date.fromisoformat),
    "datetime": _matching(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})?", _datetime
    ),
    "bytes": lambda text: b64decode(text, validate=True),
}
