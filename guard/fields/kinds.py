"""How a column stores sealed values, and which type a value has inside one. Pure.

SQLite keeps each value's own type. PostgreSQL and MariaDB hold texts while a column is sealed: a number or a date
becomes its text before it is sealed, is sealed as what it is, and comes back as exactly the same text, which the
database then takes for the column's own type again. A text that would come back as another one is sealed as a text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, Final

from guard.shop import ShopColumn
from guard.shop.alter import sort_of
from guard.shop.catalog import Sort


class Form(StrEnum):
    """How sealed values lie in a column."""

    TEXT = "text"
    BINARY = "binary"
    MIXED = "mixed"
    """Each by its own type, as SQLite stores anything anywhere: bytes as bytes, all others as texts."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """What the values of a column are, and how the database writes them as texts.

    `kind` is "text", "integer", "decimal", "date", "datetime", "boolean", or "any" where each value has its own type.
    """

    kind: str = "text"
    true: str = "true"
    false: str = "false"
    digits: int | None = None
    """Digits of fractions of a second that are always written; None: as many as are not zero."""

    def typed(self, values: Sequence[Any]) -> Sequence[Any]:
        """Return what is sealed for values as they lie in the column."""
        parse = _PARSERS.get(self.kind)
        if parse is None:
            return values
        return [self._typed(parse, value) if isinstance(value, str) else value for value in values]

    def plain(self, values: Sequence[Any]) -> Sequence[Any]:
        """Return what lies in the column for values that were sealed; the inverse of `typed`."""
        if {type(value) for value in values} <= (_AS_THEY_ARE if self.kind == "any" else _TEXTS):
            return values
        return [self._plain(value) for value in values]

    def _typed(self, parse: Callable[[Spelling, str], Any], text: str) -> Any:
        try:
            value = parse(self, text)
        except (ValueError, InvalidOperation):
            return text
        return value if self._plain(value) == text else text

    def _plain(self, value: Any) -> Any:
        kind = type(value)
        if self.kind == "any":
            return value if kind in _AS_THEY_ARE else int(value) if kind is bool else _text(self, value)
        return value if kind in _TEXTS else _text(self, value)


def form_of(dialect: str, column: ShopColumn) -> Form:
    """Return how sealed values will lie in a column."""
    if dialect == "sqlite":
        return Form.MIXED
    return Form.BINARY if column.sort is Sort.BINARY else Form.TEXT


def kind_of(dialect: str, column: ShopColumn) -> str:
    """Return what the values of a column are, by its own type. See `Spelling.kind`."""
    if dialect == "sqlite":
        return "any"
    declared = column.type.lower()
    if column.sort is Sort.INTEGER:
        return "boolean" if declared.startswith("tinyint(1)") else "integer"
    if column.sort is Sort.BOOLEAN:
        return "boolean"
    if column.sort is Sort.NUMBER:
        return "decimal" if declared.startswith(("numeric", "decimal")) else "text"
    if column.sort is Sort.TIME:
        return (
            "date" if declared == "date" else "datetime" if declared.startswith(("datetime", "timestamp")) else "text"
        )
    return "text"


def declared(dialect: str, column: ShopColumn, original: str) -> ShopColumn:
    """Return a column as the shop declared it before it was widened: `original` is its definition then."""
    kind = original.partition(" DEFAULT ")[0].partition(" COLLATE ")[0]
    sort, length = sort_of(dialect, original), re.search(r"\((\d+)\)", kind)
    is_cut = sort in {Sort.TEXT, Sort.BINARY} and length is not None
    return replace(column, type=kind, sort=sort, length=int(length[1]) if length and is_cut else None)


def spelling_of(dialect: str, kind: str, original: str | None) -> Spelling:
    """Return how a database writes values of `kind`; `original`: the column's definition before it was sealed."""
    if dialect != "mysql":
        return Spelling(kind)
    found = re.match(r"(?:datetime|timestamp)\((\d)\)", original or "", re.IGNORECASE)
    return Spelling(kind, "1", "0", int(found[1]) if found else 0)


def _text(how: Spelling, value: Any) -> str:
    match value:
        case bool():
            return how.true if value else how.false
        case int() | float():
            return str(value)
        case Decimal():
            return format(value, "f")
        case datetime():
            return _moment(how, value)
        case date():
            return value.isoformat()
        case _:
            raise TypeError(f"a {type(value).__name__} cannot be written as a text")


def _moment(how: Spelling, value: datetime) -> str:
    zone = "" if value.tzinfo is None else "+00"
    value = value if value.tzinfo is None else value.astimezone(UTC)
    fraction = f"{value.microsecond:06d}"
    fraction = fraction.rstrip("0") if how.digits is None else fraction[: how.digits]
    return value.strftime("%Y-%m-%d %H:%M:%S").rjust(19, "0") + (f".{fraction}" if fraction else "") + zone


def _boolean(how: Spelling, text: str) -> bool:
    if text not in {how.true, how.false}:
        raise ValueError("neither true nor false")
    return text == how.true


def _decimal(_: Spelling, text: str) -> Decimal:
    value = Decimal(text)
    if not value.is_finite():
        raise ValueError("not a number that can be sealed as one")
    return value


_TEXTS: Final = frozenset({str, bytes})
_AS_THEY_ARE: Final = frozenset({str, bytes, int, float})
_PARSERS: Final[Mapping[str, Callable[[Spelling, str], Any]]] = {
    "integer": lambda _, text: int(text),
    "decimal": _decimal,
    "date": lambda _, text: date.fromisoformat(text),
    "datetime": lambda _, text: datetime.fromisoformat(text),
    "boolean": _boolean,
}
