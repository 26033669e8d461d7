"""Sealed values (g1): one value of one column, bound to its row, its subject or its column. FORMATS 2.

A sealed value opens only in the store, the column and the place it was sealed for, under the one key it names. Whatever
does not open raises TamperedError; it is never handed back as plaintext.
"""

from __future__ import annotations

import struct
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count
from typing import Final, TypeAlias
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from guard.canon import parts
from guard.crypto import plaintext, random, xaes
from guard.crypto.plaintext import Kind
from guard.crypto.wrap import Key, id_bytes
from guard.errors import TamperedError

__all__ = [
    "Binding", "Kind", "Opener", "Place", "Sealer",
    "from_binary", "from_text", "key_id_of", "looks_sealed", "to_binary", "to_text",
]  # fmt: skip

BATCH: Final = 1 << 20
"""The most values that share one random half nonce."""

_FEW = 64
"""Below this many values a batch of their own would cost a reader more derivations than it saves."""

_GCM, _XAES = 1, 2
_HEAD = 7
_NONCE = 12
_TAG = 16
_PADDED = 1 << 6
_TEXT_PREFIX = "g1."
_BINARY_PREFIX = b"g1"
_NOT_SEALED = "a text that should be a sealed value is not one"
_u32 = struct.Struct(">I").pack


class Binding(IntEnum):
    """What a value is tied to, beyond its store and column."""

    ROW = 0
    SUBJECT = 1
    COLUMN = 2


@dataclass(frozen=True, slots=True)
class Place:
    """A column of a store (its number in the catalog), and the only binding it accepts."""

    store_id: UUID
    column: int
    binding: Binding

    def aad(self, head: bytes) -> bytes:
        """Return the AAD of a value whose first 7 bytes are `head`, up to the bound bytes' length."""
        return parts(b"guard/g1", self.store_id.bytes, _u32(self.column), head)


@dataclass(frozen=True, slots=True)
class _Batch:
    """One random half nonce, for at most `BATCH` values of one process."""

    half: bytes
    encrypt: Callable[[bytes, bytes, bytes], bytes]
    generation: int
    tickets: Iterator[int] = field(default_factory=count)


_Shape: TypeAlias = "tuple[Callable[[object], bytes], bytes, bytes]"
"""How values of one type are written, what their sealed form begins with, and what their AAD begins with."""


class Sealer:
    """Seals values of one column under one key, with XAES-256-GCM. May be shared by threads.

    `padded` hides lengths up to a multiple of 16 bytes.
    """

    def __init__(self, place: Place, key: Key, *, padded: bool = False) -> None:
        self.place = place
        self.key_id = key.id
        self._material = key.material
        self._padded = padded
        self._shapes: dict[type, _Shape] = {}
        self._batch = self._new_batch()

    def seal(self, value: object, bound: bytes) -> bytes:
        """Return `value` sealed for the place that `bound` names (canonical key; empty for a column binding).

        The result is the bare value: `to_text` or `to_binary` makes it what a column stores. Raises TypeError for None
        and for types without a kind, ValueError for what the type cannot write.
        """
        encode, head, aad = self._shapes.get(type(value)) or self._shape(value)
        batch = self._batch
        if batch.generation != xaes.PROCESS.generation or next(batch.tickets) >= BATCH:
            batch = self._batch = self._new_batch()
            next(batch.tickets)
        nonce = random.token(_NONCE)
        return head + batch.half + nonce + batch.encrypt(nonce, encode(value), aad + _u32(len(bound)) + bound)

    def seal_all(self, values: Sequence[object], bounds: Sequence[bytes]) -> list[bytes]:
        """Return each value sealed for its bound bytes; the same as `seal` for each, and fast."""
        if len(values) != len(bounds):
            raise ValueError(f"{len(values)} values, but {len(bounds)} places")
        if len(values) < _FEW:
            return [self.seal(value, bound) for value, bound in zip(values, bounds, strict=True)]
        out: list[bytes] = []
        for start in range(0, len(values), BATCH):
            self._seal_batch(values[start : start + BATCH], bounds[start : start + BATCH], out)
        return out

    def _seal_batch(self, values: Sequence[object], bounds: Sequence[bytes], out: list[bytes]) -> None:
        batch = self._new_batch()
        encrypt, append = batch.encrypt, out.append
        nonces = random.token(_NONCE * len(values))
        at, kind, size = 0, type(values[0]), len(bounds[0])
        encode, head, aad = self._start(values[0], batch, size)
        for value, bound in zip(values, bounds, strict=True):
            if type(value) is not kind or len(bound) != size:  # rare in a column: what goes before stays the same
                kind, size = type(value), len(bound)
                encode, head, aad = self._start(value, batch, size)
            nonce = nonces[at : at + 12]
            at += 12
            append(head + nonce + encrypt(nonce, encode(value), aad + bound))

    def _start(self, value: object, batch: _Batch, size: int) -> _Shape:
        encode, head, aad = self._shapes.get(type(value)) or self._shape(value)
        return encode, head + batch.half, aad + _u32(size)

    def _new_batch(self) -> _Batch:
        half = random.token(_NONCE)
        return _Batch(half, xaes.subcipher(self._material, half).encrypt, xaes.PROCESS.generation)

    def _shape(self, value: object) -> _Shape:
        kind, encode = plaintext.writer(value, padded=self._padded)
        flags = self.place.binding | kind << 2 | (_PADDED if self._padded else 0)
        head = bytes([_XAES, flags]) + id_bytes(self.key_id)
        shape = self._shapes[type(value)] = encode, head, self.place.aad(head)
        return shape


@dataclass(frozen=True, slots=True)
class _Head:
    """What the first 7 bytes of a value say, checked against the place it lies in."""

    alg: int
    material: bytes
    aad: bytes
    decode: Callable[[bytes], object]

    def way(self, half: bytes, size: int) -> _Way:
        """Return how to open the values of this head and this half nonce, with `size` bound bytes."""
        aad = self.aad + _u32(size)
        if self.alg == _XAES:
            return xaes.subcipher(self.material, half).decrypt, aad, self.decode, slice(19, 31), slice(31, None)
        return AESGCM(self.material).decrypt, aad, self.decode, slice(7, 19), slice(19, None)


_Way: TypeAlias = "tuple[Callable[[bytes, bytes, bytes], bytes], bytes, Callable[[bytes], object], slice, slice]"
"""Decrypt, AAD up to the bound bytes, decode, where the nonce lies, where ciphertext and tag lie."""


class Opener:
    """Opens values of one column; `keys` gives the key a value names, by its id. May be shared by threads."""

    def __init__(self, place: Place, keys: Callable[[int], Key]) -> None:
        self.place = place
        self._keys = keys
        self._heads: dict[bytes, _Head] = {}

    def open(self, sealed: bytes, bound: bytes) -> object:
        """Return the value that was sealed for the place `bound` names.

        `sealed` is the bare value, as `from_text` or `from_binary` gives it. Raises TamperedError, naming the column,
        when it is not exactly what was sealed for this place.
        """
        return self.open_all((sealed,), (bound,))[0]

    def open_all(self, sealed: Sequence[bytes], bounds: Sequence[bytes]) -> list[object]:
        """Return each value; the same as `open` for each, and fast. One that does not open fails them all."""
        if len(sealed) != len(bounds):
            raise ValueError(f"{len(sealed)} values, but {len(bounds)} places")
        if not sealed:
            return []
        try:
            return self._open_all(sealed, bounds)
        except (InvalidTag, ValueError, ArithmeticError, struct.error):
            raise self._broken("was changed, moved or cut") from None

    def _open_all(self, sealed: Sequence[bytes], bounds: Sequence[bytes]) -> list[object]:
        out: list[object] = []
        append = out.append
        current, size = sealed[0][:19], len(bounds[0])
        decrypt, aad, decode, nonce, body = self._way(current, size)
        for raw, bound in zip(sealed, bounds, strict=True):
            if raw[:19] != current or len(bound) != size:
                current, size = raw[:19], len(bound)
                decrypt, aad, decode, nonce, body = self._way(current, size)
            append(decode(decrypt(raw[nonce], raw[body], aad + bound)))
        return out

    def _way(self, prefix: bytes, size: int) -> _Way:
        head = self._heads.get(prefix[:_HEAD]) or self._head(prefix[:_HEAD])
        return head.way(prefix[_HEAD:], size)

    def _head(self, head: bytes) -> _Head:
        if len(head) != _HEAD or head[0] not in {_GCM, _XAES} or head[1] >> 7:
            raise self._broken("is not in a format this version knows")
        flags = head[1]
        if flags & 3 != self.place.binding:
            raise self._broken(f"is not bound to its {self.place.binding.name.lower()}")
        key_id = int.from_bytes(head[2:], "big")
        try:
            key = self._keys(key_id)
        except LookupError:
            raise self._broken(f"names key {key_id:010x}, which this column does not have") from None
        decode = plaintext.reader(flags >> 2 & 15, padded=bool(flags & _PADDED))
        known = self._heads[head] = _Head(head[0], key.material, self.place.aad(head), decode)
        return known

    def _broken(self, how: str) -> TamperedError:
        return TamperedError(f"a sealed value of column {self.place.column} {how}")


def to_text(sealed: bytes) -> str:
    """Return what a text column stores: "g1." and base64url without padding."""
    return _TEXT_PREFIX + b2a_base64(sealed, newline=False).translate(_TO_URL).rstrip(b"=").decode()


def from_text(stored: str) -> bytes:
    """Return the bare value of a text column. Raises TamperedError when it is not exactly what `to_text` writes."""
    left = (len(stored) - len(_TEXT_PREFIX)) % 4
    if not stored.startswith(_TEXT_PREFIX) or (left and stored[-1] not in _LAST[left]):
        raise TamperedError(_NOT_SEALED)
    try:
        return a2b_base64(stored[3:].encode("ascii").translate(_FROM_URL) + _FILL[left], strict_mode=True)
    except ValueError:
        raise TamperedError(_NOT_SEALED) from None


def to_binary(sealed: bytes) -> bytes:
    """Return what a binary column stores: bytes 67 31 and the value."""
    return _BINARY_PREFIX + sealed


def from_binary(stored: bytes) -> bytes:
    """Return the bare value of a binary column. Raises TamperedError when it does not begin as one."""
    raw = bytes(stored)
    if not raw.startswith(_BINARY_PREFIX):
        raise TamperedError("bytes that should be a sealed value are not one")
    return raw[2:]


def looks_sealed(value: object) -> bool:
    """Say whether a stored value begins as a sealed one. What does is ciphertext, and never plaintext."""
    if isinstance(value, str):
        return value.startswith(_TEXT_PREFIX)
    return isinstance(value, bytes | bytearray | memoryview) and bytes(value[:2]) == _BINARY_PREFIX


def key_id_of(sealed: bytes) -> int:
    """Return the id of the key a bare value names; nothing is opened. Raises TamperedError when it is too short."""
    if len(sealed) < _HEAD + _NONCE + _TAG:
        raise TamperedError("bytes that should be a sealed value are too short for one")
    return int.from_bytes(sealed[2:_HEAD], "big")


_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/!!!")
_FILL = (b"", b"", b"==", b"=")
_LAST = ("", "", "AQgw", "AEIMQUYcgkosw048")
"""The last characters whose unused bits are zero: any other would be a second text for the same bytes."""
