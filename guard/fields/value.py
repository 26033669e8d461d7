"""One column as its sealed values see it: what binds them, which key, the digest of a value in its row, its tokens.

A `CellSpec` says all of it and can be sent to another process; a `Cell` made from it works on whole batches.
"""

from __future__ import annotations

import struct
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import repeat
from typing import Any, Final, Protocol
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from guard.canon import parts
from guard.config import Catalog
from guard.crypto import plaintext
from guard.crypto.blind import Tokenizer
from guard.crypto.budget import Budget
from guard.crypto.envelope import Binding, Opener, Place, Sealer, is_tight
from guard.crypto.plaintext import Kind
from guard.crypto.stored import from_binary, from_text, to_binary, to_text, to_texts
from guard.crypto.subjects import SubjectKeys, SubjectOpener, SubjectSealer
from guard.crypto.wrap import Key, id_bytes
from guard.errors import TamperedError
from guard.fields.kinds import Form, Spelling
from guard.fields.store import Bind
from guard.shop.due import Beginning

MARK: Final = Beginning(frozenset({"g1."}), frozenset({b"g1"}))
"""How every sealed value begins."""
MODULUS: Final = 1 << 256

_DOMAIN: Final = b"fields/value"
_HINT = "compare the row with a backup: guard backup restore --help"
_u32 = struct.Struct(">I").pack


def purpose(column_id: int, *, tight: bool = False) -> str:
    """Return the keyring's purpose for a column's key."""
    return f"column/{column_id}/tight" if tight else f"column/{column_id}"


def purposes(catalog: Catalog) -> tuple[str, ...]:
    """Return the purposes of all keys the columns to be sealed need; those of persons come with the persons."""
    columns = [column for column in catalog.encrypted() if column.id]
    return (
        *(purpose(column.id, tight=column.tight) for column in columns if column.bind != "subject"),
        *(f"index/{column.id}/{column.index}" for column in columns if column.index),
        *(("vault",) if any(column.bind == "subject" for column in columns) else ()),
    )


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """How the tokens of one token column are made."""

    name: str
    normaliser: str
    size: int
    key: Key


@dataclass(frozen=True, slots=True)
class CellSpec:
    """Everything a cell is made of. Holds keys: it goes to nobody but guard's own processes."""

    store_id: UUID
    column_id: int
    at: str
    binding: Bind
    form: Form
    spelling: Spelling
    digest: bytes = field(repr=False)
    """The digest key's material."""
    key: Key | None = None
    """The key that seals; None where each person has one."""
    subject: tuple[str, str] | None = None
    """The kind of person and the class of keys, with `bind = "subject"`."""
    tokens: tuple[TokenSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Means:
    """What a cell asks while it works: keys of older values, and what lets it seal."""

    key: Callable[[int], Key]
    """Gives a key by its id; LookupError or TamperedError when there is none that opens."""
    budget: Budget | None = None
    subjects: SubjectKeys | None = None


class _Seals(Protocol):
    def seal_all(self, values: Sequence[object], bounds: Sequence[bytes]) -> list[bytes]: ...


class _Opens(Protocol):
    def open(self, sealed: bytes, bound: bytes) -> object: ...
    def open_all(self, sealed: Sequence[bytes], bounds: Sequence[bytes]) -> list[object]: ...


class Cell:
    """Seals and opens the values of one column, each for its place; batches in, batches out. May be shared by threads.

    A place is the canonical key of the row, or of its person, or nothing: `bounds` gives it.
    """

    def __init__(self, spec: CellSpec, means: Means) -> None:
        self.spec = spec
        self._sealer, self._opener = _pair(spec, means)
        self._opens_texts = spec.form is not Form.BINARY and not isinstance(self._opener, SubjectOpener)
        self._digest = blake2b(key=_digest_key(spec.digest), digest_size=32)
        self._digest.update(_u32(spec.column_id))  # so the key is hashed once, and not for each value
        self._tokenizers = [
            Tokenizer(spec.store_id, spec.column_id, each.normaliser, each.key, each.size) for each in spec.tokens
        ]

    @property
    def at(self) -> str:
        """The column, "Table.Column"."""
        return self.spec.at

    @property
    def token_names(self) -> tuple[str, ...]:
        """The token columns, in the order of `tokens`."""
        return tuple(each.name for each in self.spec.tokens)

    def bounds(self, rows: Sequence[bytes], persons: Sequence[bytes] = ()) -> Sequence[bytes]:
        """Return what binds the values of `rows`, given by their canonical keys and those of their persons."""
        if self.spec.binding == "column":
            return [b""] * len(rows)
        return persons if self.spec.binding == "subject" else rows

    def typed(self, values: Sequence[Any]) -> Sequence[Any]:
        """Return what is sealed for values as they lie in the column."""
        return self.spec.spelling.typed(values)

    def plain(self, values: Sequence[Any]) -> Sequence[Any]:
        """Return what lies in the column for opened values."""
        return self.spec.spelling.plain(values)

    def seal_all(self, bounds: Sequence[bytes], values: Sequence[Any]) -> Sequence[object]:
        """Return each value as the column stores it, sealed for its place. Raises TypeError for None."""
        sealed = self._sealer.seal_all(values, bounds)
        if self.spec.form is Form.MIXED and bytes in set(map(type, values)):
            return [
                to_binary(raw) if isinstance(value, bytes) else to_text(raw)
                for raw, value in zip(sealed, values, strict=True)
            ]
        return list(map(to_binary, sealed)) if self.spec.form is Form.BINARY else to_texts(sealed)

    def open_one(self, bound: bytes, stored: object) -> Any:
        """Return one value; the same as `open_each` for it, without what only pays for many."""
        if not (isinstance(stored, str) and self._opens_texts):
            return self.open_each((bound,), (stored,))[0]
        try:
            return self._opener.open(from_text(stored), bound)
        except TamperedError as error:
            raise TamperedError(f"{self.at}: {error}", hint=error.hint or _HINT) from None

    def open_all(self, bounds: Sequence[bytes], stored: Sequence[Any]) -> list[Any]:
        """Return each value with its type.

        Raises TamperedError, naming the column, when one was changed, moved from another place, or cut; ShreddedError
        where a person's key is gone.
        """
        try:
            return self._opener.open_all([self._bare(each) for each in stored], bounds)
        except TamperedError as error:
            raise TamperedError(f"{self.at}: {error}", hint=error.hint or _HINT) from None

    def open_each(self, bounds: Sequence[bytes], stored: Sequence[Any]) -> list[Any]:
        """Return each value; `guard.crypto.subjects.SHREDDED` in place of those whose person's key was shredded."""
        if not isinstance(self._opener, SubjectOpener):
            return self.open_all(bounds, stored)
        try:
            return self._opener.open_each([self._bare(each) for each in stored], bounds)
        except TamperedError as error:
            raise TamperedError(f"{self.at}: {error}", hint=error.hint or _HINT) from None

    def tokens(self, values: Sequence[Any]) -> list[tuple[bytes | None, ...]]:
        """Return for each value its tokens, in the order of `token_names`; None where it has nothing to search by."""
        if not self._tokenizers:
            return [()] * len(values)
        return list(zip(*(tokenizer.tokens(values) for tokenizer in self._tokenizers), strict=True))

    def digest(self, row: bytes, value: object) -> int:
        """Return the keyed digest of a value in a row, a number below 2^256 that adds up over rows. FORMATS 7."""
        return self.digests((row,), (value,))[0]

    def digests(self, rows: Sequence[bytes], values: Sequence[Any]) -> list[int]:
        """Return the digest of each value in its row."""
        started, made = self._digest.copy, []
        for written in self._written(rows, values):
            digest = started()
            digest.update(written)
            made.append(digest.digest())
        return list(map(int.from_bytes, made))

    def _written(self, rows: Sequence[bytes], values: Sequence[Any]) -> Iterable[bytes]:
        """Return what is hashed of each value: its row, its kind, itself."""
        if len(set(map(type, values))) == 1:
            kind, write = _shape(values[0])
            return map(b"".join, zip(rows, repeat(kind, len(rows)), map(write, values), strict=True))
        shapes = {type_: _shape(value) for type_, value in dict(zip(map(type, values), values, strict=True)).items()}
        return [
            row + kind + write(value)
            for row, value in zip(rows, values, strict=True)
            for kind, write in (shapes[type(value)],)
        ]

    def _bare(self, stored: object) -> bytes:
        if isinstance(stored, str) and self.spec.form is not Form.BINARY:
            return from_text(stored)
        if isinstance(stored, bytes) and self.spec.form is not Form.TEXT:
            return from_binary(stored)
        raise TamperedError(f"a sealed value lies there as {type(stored).__name__}")


def _shape(value: object) -> tuple[bytes, Callable[[Any], bytes]]:
    kind, write = plaintext.writer(value, padded=False)
    return bytes([kind]), write


def heads(spec: CellSpec) -> Beginning:
    """Return how the values begin that are sealed as they are to be: under the key that seals, for this binding."""
    key = spec.key
    if key is None:
        return MARK
    binding = Binding[spec.binding.upper()]
    alg = 1 if is_tight(key) else 2
    flags = [binding | kind << 2 | padded << 6 for kind in Kind for padded in (0, 1)]
    found = [bytes([alg, each]) + id_bytes(key.id) for each in flags]
    return Beginning(
        frozenset(text for head in found for text in _texts(head)), frozenset(b"g1" + head for head in found)
    )


def _digest_key(digest: bytes) -> bytes:
    mac = HMAC(digest, SHA256())
    mac.update(parts(b"guard/digest1", _DOMAIN, b""))
    return mac.finalize()


def _pair(spec: CellSpec, means: Means) -> tuple[_Seals, _Opens]:
    place = Place(spec.store_id, spec.column_id, Binding[spec.binding.upper()])
    if spec.subject is not None:
        if means.subjects is None:
            raise LookupError(f"{spec.at} is sealed under keys of persons, which are not at hand")
        return (
            SubjectSealer(place, means.subjects, *spec.subject),
            SubjectOpener(place, means.subjects, *spec.subject),
        )
    if spec.key is None:
        raise LookupError(f"{spec.at} has no key")
    names = {purpose(spec.column_id), purpose(spec.column_id, tight=True)}

    def key_of(key_id: int) -> Key:
        key = means.key(key_id)
        if key.purpose not in names:
            raise LookupError(key_id)
        return key

    return Sealer(place, spec.key, budget=means.budget if is_tight(spec.key) else None), Opener(place, key_of)


def key_id_in(beginning: str | bytes) -> int:
    """Return the key id in the first 13 characters of a sealed text, or the first 9 bytes of a binary one."""
    raw = from_text(f"{beginning}AA") if isinstance(beginning, str) else from_binary(beginning)
    return int.from_bytes(raw[2:7], "big")


def _texts(head: bytes) -> list[str]:
    """Return the ways a sealed text with this head may begin: the last of 13 characters holds 4 bits of the nonce."""
    return ["g1." + urlsafe_b64encode(head + bytes([nonce << 4])).decode()[:10] for nonce in range(16)]
