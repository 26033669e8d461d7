"""What lies inside a sealed value: one type, one way to write it, so that it comes back as it was. FORMATS 2."""

import struct
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import IntEnum
from typing import Any, TypeVar

_BLOCK = 16
_f64 = struct.Struct(">d")

T = TypeVar("T")
Writer = Callable[[Any], bytes]
Reader = Callable[[bytes], object]


class Kind(IntEnum):
    """The type of a sealed value."""

    TEXT = 0
    BYTES = 1
    INTEGER = 2
    DECIMAL = 3
    DATE = 4
    DATETIME = 5
    BOOLEAN = 6
    FLOAT = 7


def writer(value: object, *, padded: bool) -> tuple[Kind, Writer]:
    """Return the kind of `value`'s type and how to write such values. Raises TypeError for None and unknown types."""
    kind = next((kind for type_, kind in _KINDS.items() if isinstance(value, type_)), None)
    if kind is None:
        raise TypeError(f"a {type(value).__name__} cannot be sealed")
    write = _WRITERS[kind]
    return kind, (lambda each: pad(write(each))) if padded else write


def reader(kind: int, *, padded: bool) -> Reader:
    """Return how to read the values of `kind`. Raises ValueError for a kind that does not exist.

    The reader raises ValueError, ArithmeticError or struct.error for bytes that no writer wrote.
    """
    read = _READERS[Kind(kind)]
    return (lambda raw: read(unpad(raw))) if padded else read


def pad(raw: bytes) -> bytes:
    """Return `raw`, then 80, then 00 up to a multiple of 16 bytes."""
    return raw + b"\x80" + bytes(-(len(raw) + 1) % _BLOCK)


def unpad(raw: bytes) -> bytes:
    """Return what `pad` was given. Raises ValueError when the padding is not its own."""
    body = raw.rstrip(b"\x00")
    if pad(body[:-1]) != raw:
        raise ValueError("wrong padding")
    return body[:-1]


def integer_bytes(value: int) -> bytes:
    """Return minimal two's complement, big-endian."""
    width = (value if value >= 0 else ~value).bit_length() // 8 + 1
    return value.to_bytes(width, "big", signed=True)


def _read_integer(raw: bytes) -> int:
    value = int.from_bytes(raw, "big", signed=True)
    return _same(value, integer_bytes(value), raw)


def _write_datetime(value: datetime) -> bytes:
    if value.tzinfo is None:
        return value.isoformat(timespec="microseconds").encode()
    try:
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds").encode() + b"Z"
    except OverflowError:
        raise ValueError("a time before year 1 or after year 9999 in UTC cannot be sealed") from None


def _read_datetime(raw: bytes) -> datetime:
    value = datetime.fromisoformat(raw.decode())
    return _same(value, _write_datetime(value), raw)


def _read_date(raw: bytes) -> date:
    value = date.fromisoformat(raw.decode())
    return _same(value, value.isoformat().encode(), raw)


def _write_decimal(value: Decimal) -> bytes:
    if not value.is_finite():
        raise ValueError("a decimal that is infinite or no number cannot be sealed")
    return format(value, "f").encode()  # keeps the scale: a price of 12.50 comes back as 12.50


def _read_decimal(raw: bytes) -> Decimal:
    value = Decimal(raw.decode())
    return _same(value, _write_decimal(value), raw)


def _read_boolean(raw: bytes) -> bool:
    return bool([b"\x00", b"\x01"].index(raw))


def _read_float(raw: bytes) -> float:
    value: float = _f64.unpack(raw)[0]
    return value


def _same(value: T, again: bytes, raw: bytes) -> T:
    if again != raw:
        raise ValueError("not written in the one way")
    return value


_KINDS: dict[type, Kind] = {
    str: Kind.TEXT,
    bytes: Kind.BYTES,
    bytearray: Kind.BYTES,
    memoryview: Kind.BYTES,
    bool: Kind.BOOLEAN,
    int: Kind.INTEGER,
    Decimal: Kind.DECIMAL,
    datetime: Kind.DATETIME,
    date: Kind.DATE,
    float: Kind.FLOAT,
}
"""In the order they are asked: a boolean is also an integer, a date and time also a date."""

_WRITERS: dict[Kind, Writer] = {
    Kind.TEXT: str.encode,
    Kind.BYTES: bytes,
    Kind.INTEGER: integer_bytes,
    Kind.DECIMAL: _write_decimal,
    Kind.DATE: lambda value: value.isoformat().encode(),
    Kind.DATETIME: _write_datetime,
    Kind.BOOLEAN: lambda value: b"\x01" if value else b"\x00",
    Kind.FLOAT: _f64.pack,
}

_READERS: dict[Kind, Reader] = {
    Kind.TEXT: bytes.decode,
    Kind.BYTES: bytes,
    Kind.INTEGER: _read_integer,
    Kind.DECIMAL: _read_decimal,
    Kind.DATE: _read_date,
    Kind.DATETIME: _read_datetime,
    Kind.BOOLEAN: _read_boolean,
    Kind.FLOAT: _read_float,
}
