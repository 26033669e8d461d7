"""Seal and open the objects of a repository. docs/FORMATS.md, section 5: header, key and AAD of each kind."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from guard.canon import parts
from guard.crypto.random import token
from guard.errors import TamperedError

ID_SIZE: Final = 32
TAG_SIZE: Final = 16
LEVEL: Final = 3  # zstd: 2.9 times smaller than SQL text at 190 MB/s; level 4 halves the speed for 2 %
_MAGIC: Final = b"grp1"
_HEADER: Final = struct.Struct(">4sBBI16s32s")
HEADER_SIZE: Final = _HEADER.size
_ONCE: Final = bytes(12)
_u32: Final = struct.Struct(">I")
_u64: Final = struct.Struct(">Q")


class Kind(IntEnum):
    """What an object of a repository is."""

    CONFIG = 1
    PACK = 2
    INDEX = 3
    SNAPSHOT = 4
    MARK = 5
    ERASURE = 6


@dataclass(frozen=True, slots=True)
class Header:
    """The clear start of an object: which key of which repository sealed it."""

    kind: Kind
    version: int
    """The master key's."""
    repository: bytes
    salt: bytes

    def to_bytes(self) -> bytes:
        """Return the header's 58 bytes."""
        return _HEADER.pack(_MAGIC, 1, self.kind, self.version, self.repository, self.salt)

    @classmethod
    def parse(cls, raw: bytes) -> Header:
        """Read the header of an object. Raises ValueError when it has none."""
        try:
            magic, form, kind, version, repository, salt = _HEADER.unpack(raw[:HEADER_SIZE])
        except struct.error as error:
            raise ValueError("cut short") from error
        if magic != _MAGIC or form != 1:
            raise ValueError("not an object of a guard repository (version 1)")
        return cls(Kind(kind), version, repository, salt)


@dataclass(frozen=True, slots=True)
class Box:
    """The opened key of one object."""

    header: bytes
    name: bytes
    cipher: AESGCM = field(repr=False)

    def seal(self, nonce: bytes, ordinal: int, plain: bytes | bytearray) -> bytes:
        """Return `plain` sealed as part `ordinal` of the object. A nonce is used once."""
        return self.cipher.encrypt(nonce, plain, self._bound(ordinal))

    def open(self, nonce: bytes, ordinal: int, sealed: bytes | memoryview) -> bytes:
        """Return the plaintext of part `ordinal`. Raises ValueError when it does not open."""
        try:
            return self.cipher.decrypt(nonce, sealed, self._bound(ordinal))
        except InvalidTag:
            raise ValueError("does not open") from None

    def _bound(self, ordinal: int) -> bytes:
        return parts(self.header, self.name, _u64.pack(ordinal))


class Sealing:
    """The keys of one repository: `masters` are the versions of the master key that are at hand.

    `newest`, the highest unless another is named, seals; the others only open.
    """

    def __init__(self, repository: bytes, masters: Mapping[int, bytes], newest: int | None = None) -> None:
        self.repository = repository
        self._masters = dict(masters)
        self.newest = newest or max(masters)

    def new(self, kind: Kind, name: str, salt: bytes | None = None) -> Box:
        """Return a box for a new object. `salt`: the bytes of its id, which was drawn at random for it."""
        return self._box(Header(kind, self.newest, self.repository, salt or token(ID_SIZE)), name)

    def old(self, kind: Kind, name: str, raw: bytes) -> Box:
        """Return the box of a stored object that begins with `raw`. Raises ValueError when it cannot be that object."""
        header = Header.parse(raw)
        last = name.rpartition("/")[2]
        if header.kind is not kind or header.repository != self.repository:
            raise ValueError("is another object than its name says")
        if kind in _NAMED_BY_SALT and header.salt.hex() != last:
            raise ValueError("is another object than its name says")
        if header.version not in self._masters:
            raise ValueError(f"is sealed with version {header.version} of the repository key, which is not at hand")
        return self._box(header, name)

    def seal(self, kind: Kind, name: str, body: bytes) -> bytes:
        """Return a whole object of `body`. `name` must not have been used before."""
        salt = bytes.fromhex(name.rpartition("/")[2]) if kind in _NAMED_BY_SALT else None
        box = self.new(kind, name, salt)
        return box.header + box.seal(_ONCE, 0, pressed(body))

    def open(self, kind: Kind, name: str, raw: bytes) -> bytes:
        """Return the body of an object. Raises TamperedError, naming it, when it is not what was written."""
        try:
            return unpressed(self.old(kind, name, raw).open(_ONCE, 0, memoryview(raw)[HEADER_SIZE:]))
        except ValueError as error:
            raise TamperedError(f"{name}: {error}") from None

    def derived(self, word: str, material: bytes | None = None) -> bytes:
        """Return HKDF of `material` (the newest master key), bound to this repository and `guard/repo1/<word>`."""
        return _hkdf(material or self._masters[self.newest], self.repository, b"guard/repo1/" + word.encode())

    def master(self, version: int) -> bytes | None:
        """Return a version of the master key; None when it is not at hand."""
        return self._masters.get(version)

    @property
    def masters(self) -> Mapping[int, bytes]:
        """The versions of the master key that are at hand."""
        return self._masters

    def _box(self, header: Header, name: str) -> Box:
        info = parts(b"guard/repo1/" + header.kind.name.lower().encode(), self.repository)
        key = _hkdf(self._masters[header.version], header.salt, info)
        return Box(header.to_bytes(), name.encode(), AESGCM(key))


_NAMED_BY_SALT: Final = frozenset({Kind.PACK, Kind.INDEX, Kind.SNAPSHOT, Kind.MARK})


def pressed(body: bytes) -> bytes:
    """Return the plaintext of a sealed object: u32 length, then a zstd frame."""
    return _u32.pack(len(body)) + zstandard.ZstdCompressor(level=LEVEL).compress(body)


def unpressed(plain: bytes) -> bytes:
    """Return the body of a sealed object's plaintext. Raises ValueError when the two lengths do not agree."""
    return expand(memoryview(plain)[4:], int.from_bytes(plain[:4], "big"))


def expand(frame: bytes | memoryview, length: int) -> bytes:
    """Return what a zstd frame holds, which must be `length` bytes. Raises ValueError otherwise."""
    try:
        if zstandard.get_frame_parameters(frame).content_size != length:
            raise ValueError("has another length than noted")
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=length) if length else b""
    except zstandard.ZstdError:
        raise ValueError("does not decompress") from None


def _hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key)
