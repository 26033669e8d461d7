"""Sealed values (g1): one value of one column, bound to its row, its subject or its column. FORMATS 2.

A sealed value opens only in the store, the column and the place it was sealed for, under the one key it names. Whatever
does not open raises TamperedError; it is never handed back as plaintext.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count, repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from guard.canon import parts
from guard.crypto import plaintext, random, xaes
from guard.crypto.plaintext import Kind
from guard.crypto.stored import from_binary, from_text, looks_sealed, to_binary, to_text
from guard.crypto.wrap import Key, id_bytes
from guard.errors import TamperedError

if TYPE_CHECKING:  # whoever only opens needs no state
    from guard.crypto.budget import Budget

__all__ = [
    "Binding", "Kind", "Opener", "Place", "Sealer",
    "from_binary", "from_text", "is_tight", "key_id_of", "looks_sealed", "to_binary", "to_text",
]  # fmt: skip

BATCH: Final = 1 << 20
"""The most values that share one random half nonce."""

_GCM, _XAES = 1, 2
_GCM_FIRST = b"\x01"
_HEAD = 7
_NONCE = 12
_TAG = 16
_PADDED = 1 << 6
_GCM_NONCE: Final = itemgetter(slice(7, 19))
_GCM_BODY: Final = itemgetter(slice(19, None))
_XAES_NONCE: Final = itemgetter(slice(19, 31))
_XAES_BODY: Final = itemgetter(slice(31, None))
_u32 = struct.Struct(">I").pack
_nonces = struct.Struct("12s").iter_unpack


def is_tight(key: Key) -> bool:
    """Say whether `key` seals by alg 1, AES-256-GCM; its purpose says so. One key seals and opens by one algorithm."""
    return key.purpose.endswith("/tight")


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
    """What seals some values: their half nonce (none in alg 1), and the cipher that takes the rest of the nonce."""

    half: bytes
    encrypt: Callable[[bytes, bytes, bytes], bytes]
    generation: int = 0
    tickets: Iterator[int] = field(default_factory=count)


class _Xaes:
    """alg 2: one random half nonce for at most `BATCH` values of one process."""

    alg: Final = _XAES
    few: Final = 64
    """Below this many values a batch of their own would cost a reader more derivations than it saves."""

    def __init__(self, key: Key) -> None:
        self._material = key.material
        self._current = self.many(1)

    def one(self) -> _Batch:
        """Return what seals the next value alone."""
        batch = self._current
        if batch.generation != xaes.PROCESS.generation or next(batch.tickets) >= BATCH:
            batch = self._current = self.many(1)
            next(batch.tickets)
        return batch

    def many(self, _: int) -> _Batch:
        """Return what seals at most `BATCH` values together."""
        half = random.token(_NONCE)
        return _Batch(half, xaes.subcipher(self._material, half).encrypt, xaes.PROCESS.generation)


class _Gcm:
    """alg 1: every value is counted against the key's budget before it is sealed."""

    alg: Final = _GCM
    few: Final = 1

    def __init__(self, key: Key, budget: Budget | None) -> None:
        if budget is None:
            raise ValueError(f"key {key.id:010x} ({key.purpose}) seals within a budget, and there is none")
        self._key_id = key.id
        self._budget = budget
        self._batch = _Batch(b"", AESGCM(key.material).encrypt)

    def one(self) -> _Batch:
        """Return what seals the next value."""
        return self.many(1)

    def many(self, values: int) -> _Batch:
        """Return what seals this many values."""
        self._budget.take(self._key_id, values)
        return self._batch


_Shape: TypeAlias = "tuple[Callable[[object], bytes], bytes, bytes]"
"""How values of one type are written, what their sealed form begins with, and what their AAD begins with."""


class Sealer:
    """Seals values of one column under one key. May be shared by threads, and goes on in a forked child.

    The key's purpose says how: a tight one by AES-256-GCM within `budget`, all others by XAES-256-GCM. `padded` hides
    lengths up to a multiple of 16 bytes.
    """

    def __init__(self, place: Place, key: Key, *, padded: bool = False, budget: Budget | None = None) -> None:
        self.place = place
        self.key_id = key.id
        self._cipher: _Xaes | _Gcm = _Gcm(key, budget) if is_tight(key) else _Xaes(key)
        self._padded = padded
        self._shapes: dict[type, _Shape] = {}

    def seal(self, value: object, bound: bytes) -> bytes:
        """Return `value` sealed for the place that `bound` names (canonical key; empty for a column binding).

        The result is the bare value: `to_text` or `to_binary` makes it what a column stores. Raises TypeError for None
        and for types without a kind, ValueError for what the type cannot write, InterlockError when a tight key has
        sealed all that it may.
        """
        encode, head, aad = self._shapes.get(type(value)) or self._shape(value)
        plain = encode(value)
        batch = self._cipher.one()
        nonce = random.token(_NONCE)
        return head + batch.half + nonce + batch.encrypt(nonce, plain, aad + _u32(len(bound)) + bound)

    def seal_all(self, values: Sequence[object], bounds: Sequence[bytes]) -> list[bytes]:
        """Return each value sealed for its bound bytes; the same as `seal` for each, and fast."""
        if len(values) != len(bounds):
            raise ValueError(f"{len(values)} values, but {len(bounds)} places")
        if len(values) < self._cipher.few:
            return [self.seal(value, bound) for value, bound in zip(values, bounds, strict=True)]
        out: list[bytes] = []
        for start in range(0, len(values), BATCH):
            self._seal_batch(values[start : start + BATCH], bounds[start : start + BATCH], out)
        return out

    def _seal_batch(self, values: Sequence[object], bounds: Sequence[bytes], out: list[bytes]) -> None:
        batch = self._cipher.many(len(values))
        kinds = set(map(type, values))
        if len(kinds) == 1:
            out += self._seal_alike(batch, values, bounds)
            return
        sealed = [b""] * len(values)
        for kind in kinds:
            at = [number for number, value in enumerate(values) if type(value) is kind]
            alike = self._seal_alike(batch, [values[number] for number in at], [bounds[number] for number in at])
            for number, each in zip(at, alike, strict=True):
                sealed[number] = each
        out += sealed

    def _seal_alike(self, batch: _Batch, values: Sequence[object], bounds: Sequence[bytes]) -> list[bytes]:
        """Seal values of one type. Whole lists go through the cipher: a loop of our own would cost as much as that."""
        encode, head, aad = self._shapes.get(type(values[0])) or self._shape(values[0])
        start = head + batch.half
        nonces = [nonce for (nonce,) in _nonces(random.token(_NONCE * len(values)))]
        bodies = map(batch.encrypt, nonces, map(encode, values), _aads(aad, bounds))
        return list(map(b"".join, zip(repeat(start), nonces, bodies)))

    def _shape(self, value: object) -> _Shape:
        kind, encode = plaintext.writer(value, padded=self._padded)
        flags = self.place.binding | kind << 2 | (_PADDED if self._padded else 0)
        head = bytes([self._cipher.alg, flags]) + id_bytes(self.key_id)
        shape = self._shapes[type(value)] = encode, head, self.place.aad(head)
        return shape


@dataclass(frozen=True, slots=True)
class _Head:
    """What the first 7 bytes of a value say, checked against the place it lies in."""

    material: bytes
    aad: bytes
    """Up to the bound bytes' length."""
    decode: Callable[[bytes], object]
    gcm: AESGCM | None
    """The cipher of alg 1; alg 2 has one for each half nonce."""

    def open_one(self, start: bytes, sealed: bytes, bound: bytes) -> object:
        """Return one value; the same as `open`, without what only pays for many."""
        aad = self.aad + _u32(len(bound)) + bound
        if self.gcm:
            return self.decode(self.gcm.decrypt(_GCM_NONCE(sealed), _GCM_BODY(sealed), aad))
        decrypt = xaes.subcipher(self.material, start[_HEAD:]).decrypt
        return self.decode(decrypt(_XAES_NONCE(sealed), _XAES_BODY(sealed), aad))

    def open(self, start: bytes, sealed: Sequence[bytes], bounds: Sequence[bytes]) -> list[object]:
        """Return the values of `sealed`, all of which begin with this head, and with `start`."""
        if self.gcm:
            decrypt, nonce, body = self.gcm.decrypt, _GCM_NONCE, _GCM_BODY
        else:
            decrypt, nonce, body = xaes.subcipher(self.material, start[_HEAD:]).decrypt, _XAES_NONCE, _XAES_BODY
        plain = map(decrypt, map(nonce, sealed), map(body, sealed), _aads(self.aad, bounds))
        return list(map(self.decode, plain))


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
        start = _start(sealed)
        try:
            head = self._heads.get(start[:_HEAD]) or self._head(start[:_HEAD])
            return head.open_one(start, sealed, bound)
        except (InvalidTag, ValueError, ArithmeticError, struct.error):
            raise self._broken("was changed, moved or cut") from None

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
        start = _start(sealed[0])
        first, last = (min(sealed), max(sealed)) if len(sealed) > 1 else (start, start)
        if first.startswith(start) and last.startswith(start):  # then all that lie between them do
            return self._open_alike(start, sealed, bounds)
        alike: dict[bytes, list[int]] = {}
        for number, raw in enumerate(sealed):
            alike.setdefault(_start(raw), []).append(number)
        out: list[object] = [None] * len(sealed)
        for start, at in alike.items():
            found = self._open_alike(start, [sealed[number] for number in at], [bounds[number] for number in at])
            for number, value in zip(at, found, strict=True):
                out[number] = value
        return out

    def _open_alike(self, start: bytes, sealed: Sequence[bytes], bounds: Sequence[bytes]) -> list[object]:
        head = self._heads.get(start[:_HEAD]) or self._head(start[:_HEAD])
        return head.open(start, sealed, bounds)

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
        tight = is_tight(key)
        if tight is not (head[0] == _GCM):
            raise self._broken(f"names key {key_id:010x}, which seals with another algorithm")
        decode = plaintext.reader(flags >> 2 & 15, padded=bool(flags & _PADDED))
        gcm = AESGCM(key.material) if tight else None
        known = self._heads[head] = _Head(key.material, self.place.aad(head), decode, gcm)
        return known

    def _broken(self, how: str) -> TamperedError:
        return TamperedError(f"a sealed value of column {self.place.column} {how}")


def _start(raw: bytes) -> bytes:
    """Return what values have in common that one cipher opens: the head, and in alg 2 the half nonce."""
    return raw[:_HEAD] if raw[:1] == _GCM_FIRST else raw[: _HEAD + _NONCE]


def _aads(aad: bytes, bounds: Sequence[bytes]) -> list[bytes]:
    """Return the whole AAD for each of `bounds`; `aad` is what comes before their lengths."""
    lengths = set(map(len, bounds))
    if len(lengths) == 1:
        aad += _u32(lengths.pop())
        return [aad + bound for bound in bounds]
    sizes = {length: aad + _u32(length) for length in lengths}
    return [sizes[len(bound)] + bound for bound in bounds]


def key_id_of(sealed: bytes) -> int:
    """Return the id of the key a bare value names; nothing is opened. Raises TamperedError when it is too short."""
    if len(sealed) < _HEAD + _NONCE + _TAG:
        raise TamperedError("bytes that should be a sealed value are too short for one")
    return int.from_bytes(sealed[2:_HEAD], "big")
