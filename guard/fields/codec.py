"""How values of a mapped column cross to the database: what is sealed, what lies there in plain, what comes back.

What is sealed has the type the driver itself would give for the column, as the sweep has it, so that both seal alike.
While guard seals a column, its type in PostgreSQL and MariaDB becomes text: what is written in plain fits both types,
and what is read is understood from both.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import types
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from guard.errors import ConfigError

Convert = Callable[[Any], Any]


class Codec:
    """The conversions of one SQLAlchemy type on one dialect. None never gets here."""

    __slots__ = ("dialect", "load", "plain", "sealable")

    sealable: Convert
    """A value of the shop's code -> what is sealed: text, bytes, int, float, bool, Decimal, date or datetime."""
    plain: Convert
    """A value of the shop's code -> what the driver is given where the column is not sealed yet."""
    load: Convert
    """What was sealed, or what the driver gave -> a value of the shop's code."""

    def __init__(self, type_: TypeEngine[Any], dialect: Dialect) -> None:
        self.dialect = dialect
        kind = _kind(type_)
        if kind is None:
            raise ConfigError(
                f"a column of SQLAlchemy's {type(type_).__name__} cannot be sealed by the shop's code",
                hint="texts, numbers, dates, times, booleans, UUIDs, enums, JSON and bytes can",
            )
        inner = type_.dialect_impl(dialect)
        if isinstance(_bare(type_), types.JSON):
            self.sealable = self.plain = json.dumps
            self.load = _json
            return
        to_driver, from_driver = inner.bind_processor(dialect), inner.result_processor(dialect, _OIDS.get(kind))
        postgres = dialect.name == "postgresql"
        sealed = _sealable if dialect.name == "sqlite" else _SEALED.get(kind, _sealable)
        self.sealable = _then(to_driver, sealed)
        self.plain = _then(to_driver, _spelled if postgres else _unwrapped)
        native = None if dialect.name == "sqlite" else _NATIVE.get((dialect.name, kind), _NATIVE.get(("", kind)))
        self.load = _then(native, from_driver) if native or from_driver else _same


def _bare(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type inside the shop's own decorators."""
    while isinstance(type_, types.TypeDecorator):
        type_ = type_.impl_instance
    return type_


def _kind(type_: TypeEngine[Any]) -> type[TypeEngine[Any]] | None:
    bare = type_ if isinstance(type_, types.Interval) else _bare(type_)  # what is inside an Interval is no date
    return next((kind for kind in _KINDS if isinstance(bare, kind)), None)


_KINDS: tuple[type[TypeEngine[Any]], ...] = (
    types.Boolean, types.Enum, types.String, types.Integer, types.Float, types.Numeric, types.DateTime, types.Date,
    types.Time, types.LargeBinary, types.BINARY, types.VARBINARY, types.Uuid, types.JSON,
)  # fmt: skip


def _then(first: Convert | None, second: Convert | None) -> Convert:
    if first is None or second is None:
        return first or second or _same
    return lambda value: None if (found := first(value)) is None else second(found)


def _same(value: Any) -> Any:
    return value


def _unwrapped(value: Any) -> Any:
    """Return what a driver wraps bytes in as bytes, all else as it is."""
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    return getattr(value, "obj", value)  # psycopg's Binary


def _sealable(value: Any) -> Any:
    """Return what the driver would be given, as one of the types that can be sealed; the others as their text."""
    if isinstance(value, str | bytes | int | float | Decimal | date):
        return value
    raw = _unwrapped(value)
    return raw if isinstance(raw, bytes) else str(raw)


def _spelled(value: Any) -> Any:
    """Return the text of a value: psycopg sends it without a type, so it fits the column before and after it widens."""
    raw = _unwrapped(value)
    if isinstance(raw, str | bytes):
        return raw
    if isinstance(raw, bool):
        return "true" if raw else "false"
    return format(raw, "f") if isinstance(raw, Decimal) else raw.isoformat() if hasattr(raw, "isoformat") else str(raw)


def _read(of: Convert) -> Convert:
    return lambda value: of(value) if isinstance(value, str) else value


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str | bytes) else value


def _span(text: str) -> timedelta:
    clock = time.fromisoformat(text)
    return timedelta(hours=clock.hour, minutes=clock.minute, seconds=clock.second, microseconds=clock.microsecond)


_OIDS: dict[type[TypeEngine[Any]], int] = {types.Numeric: 1700, types.Float: 701}
"""What psycopg calls the types of numbers: SQLAlchemy asks for them there. Source: PostgreSQL's pg_type.dat."""

_SEALED: dict[type[TypeEngine[Any]], Convert] = {
    types.Boolean: bool,
    types.Float: lambda value: repr(float(value)).removesuffix(".0"),
}
"""As the sweep seals them, which reads texts that PostgreSQL and MariaDB wrote (guard.fields.kinds)."""

_NATIVE: dict[tuple[str, type[TypeEngine[Any]]], Convert] = {
    ("", types.Boolean): _read(lambda text: text in {"true", "t", "1"}),
    ("mysql", types.Boolean): _read(int),
    ("mariadb", types.Boolean): _read(int),
    ("", types.Integer): _read(int),
    ("", types.Float): _read(float),
    ("", types.Numeric): _read(Decimal),
    ("", types.Date): _read(date.fromisoformat),
    ("", types.DateTime): _read(datetime.fromisoformat),
    ("", types.Time): _read(time.fromisoformat),
    ("mysql", types.Time): _read(_span),
    ("mariadb", types.Time): _read(_span),
    ("postgresql", types.Uuid): _read(UUID),
}
"""What the driver would have given, from the text that a widened column or an older seal holds."""
