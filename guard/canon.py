"""One way to write a thing as bytes: RFC 8785 JSON, length-prefixed parts, canonical keys.

Every digest, signature and AAD goes through here, so that two programs agree on the bytes. docs/FORMATS.md, section 1.
"""

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import TypeAlias, cast
from uuid import UUID

import msgspec
import rfc8785

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""What RFC 8785 can write. Integers stay within 2^53 - 1."""

KeyPart = int | str | bytes | UUID | Decimal
"""One column of a primary key."""

_u32 = struct.Struct(">I").pack


def json_bytes(value: Json) -> bytes:
    """Return `value` as RFC 8785 canonical JSON.

    Raises ValueError for what it cannot write: floats that are not finite, integers above 2^53 - 1.
    """
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise ValueError(str(error)) from error


def plain_json_bytes(value: Json) -> bytes:
    """Do as `json_bytes` for what holds only texts, integers, null, lists and objects; ten times as fast for ASCII.

    Where the general encoder could write something else (escapes, other scripts, long integers), it writes.
    """
    raw = _encode(value)
    return json_bytes(value) if _RARE.search(raw) else raw


_encode = msgspec.json.Encoder(order="sorted").encode
_RARE = re.compile(rb"[^ -\[\]-~]|(?:^|[:,\[])-?[0-9]{16}")


def parts(*items: bytes) -> bytes:
    """Join `items`, each behind its length as u32 big-endian, so that no two lists give the same bytes."""
    return b"".join([_u32(len(item)) + item for item in items])


def key_bytes(key: Sequence[KeyPart]) -> bytes:
    """Return a primary key as canonical bytes: u8 count, then per part tag | u32 length | bytes.

    `key` holds the parts in the catalog's frozen order. Tags: i minimal signed big-endian, s UTF-8, b bytes, u UUID, d
    canonical decimal. Raises TypeError for other types (floats are not exact keys), ValueError for more than 255 parts.
    """
    if len(key) == 1 and type(number := key[0]) is int:  # nearly every key, and asked for at every row that is read
        width = _signed_width(number)
        return _INTEGER_HEADS[width] + number.to_bytes(width, "big", signed=True)
    if not 0 < len(key) < 256:
        raise ValueError(f"a key has 1 to 255 parts, not {len(key)}")
    return bytes([len(key)]) + b"".join(_key_part(part) for part in key)


def all_key_bytes(keys: Sequence[Sequence[KeyPart]]) -> list[bytes]:
    """Return `key_bytes` of each key; fast where each is one whole number."""
    if set(map(len, keys)) == {1}:
        return column_key_bytes(([key[0] for key in keys],))
    return [key_bytes(key) for key in keys]


def column_key_bytes(columns: Sequence[Sequence[KeyPart]]) -> list[bytes]:
    """Return `key_bytes` of keys whose parts are given column by column; fast where each is one whole number."""
    if len(columns) != 1 or set(map(type, columns[0])) != {int}:
        return [key_bytes(key) for key in zip(*columns, strict=True)]
    numbers = cast("Sequence[int]", columns[0])
    least, width = min(numbers), _signed_width(max(numbers))
    if least >= 0 and _signed_width(least) == width:  # so are all between
        head = _INTEGER_HEADS[width]
        return [head + number.to_bytes(width, "big") for number in numbers]
    return [
        _INTEGER_HEADS[each] + number.to_bytes(each, "big", signed=True)
        for number in numbers
        for each in (_signed_width(number),)
    ]


def _key_part(part: KeyPart) -> bytes:
    match part:
        case bool():
            raise TypeError("a boolean is not a key")
        case int():
            tag, raw = b"i", part.to_bytes(_signed_width(part), "big", signed=True)
        case str():
            tag, raw = b"s", part.encode()
        case bytes():
            tag, raw = b"b", part
        case UUID():
            tag, raw = b"u", part.bytes
        case Decimal():
            tag, raw = b"d", decimal_text(part).encode()
        case _:
            raise TypeError(f"{type(part).__name__} cannot be part of a key")
    return tag + _u32(len(raw)) + raw


def _signed_width(value: int) -> int:
    return ((value if value >= 0 else ~value).bit_length() // 8) + 1


class _IntegerHeads(dict[int, bytes]):
    """What stands before a whole number of so many bytes that is a key alone."""

    def __missing__(self, width: int) -> bytes:
        return self.setdefault(width, b"\x01i" + _u32(width))


_INTEGER_HEADS = _IntegerHeads()


def decimal_text(value: Decimal) -> str:
    """Return the shortest plain notation: no exponent, no trailing zeros, no minus before zero.

    Raises ValueError for NaN and infinities.
    """
    if not value.is_finite():
        raise ValueError(f"{value} is not a number that can be stored")
    if value == 0:
        return "0"
    text = format(value, "f")  # not normalize(): it rounds to the context's 28 digits
    return text.rstrip("0").rstrip(".") if "." in text else text


def parse_key(raw: bytes) -> tuple[KeyPart, ...]:
    """Read what `key_bytes` wrote. Raises ValueError when it is anything else."""
    out: list[KeyPart] = []
    at = 1
    try:
        for _ in range(raw[0]):
            tag = raw[at : at + 1]
            length = int.from_bytes(raw[at + 1 : at + 5], "big")
            body = raw[at + 5 : at + 5 + length]
            if len(body) != length:
                raise ValueError("a part is cut short")
            out.append(_PARSERS[tag](body))
            at += 5 + length
    except (IndexError, KeyError, InvalidOperation) as error:
        raise ValueError("not a canonical key") from error
    if at != len(raw) or key_bytes(out) != raw:
        raise ValueError("not a canonical key")
    return tuple(out)


_PARSERS: dict[bytes, Callable[[bytes], KeyPart]] = {
    b"i": lambda raw: int.from_bytes(raw, "big", signed=True),
    b"s": lambda raw: raw.decode(),
    b"b": lambda raw: raw,
    b"u": lambda raw: UUID(bytes=raw),
    b"d": lambda raw: Decimal(raw.decode()),
}
