"""The tree of a source as records: names, modes, times, and the chunks of each file. docs/FORMATS.md, section 5."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from guard.backup.sealed import ID_SIZE
from guard.errors import TamperedError

_META: Final = struct.Struct(">BBHIIqqQ")
_u32: Final = struct.Struct(">I")
_FILE: Final = struct.Struct(">QI")
_SETTLED: Final = 1
_CONTINUED: Final = 2
_MOST_CHUNKS: Final = 65_536


class What(IntEnum):
    """What a record stands for."""

    FOLDER = 1
    FILE = 2
    LINK = 3


@dataclass(frozen=True, slots=True)
class Meta:
    """What the file system says of a name. Times are ns since 1970; `mode` is the permission bits."""

    mode: int = 0o600
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    ctime: int = 0
    inode: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """One name in a tree. `path` is relative to the source, raw bytes; the source's own folder has the empty path."""

    path: bytes
    what: What
    meta: Meta = Meta()
    size: int = 0
    chunks: tuple[bytes, ...] = ()
    target: bytes = b""
    settled: bool = False
    """The file had not changed for a while when it was read, so equal size, times and inode mean equal content."""

    def to_bytes(self) -> bytes:
        """Return the record with its length in front; a file of many chunks as several records."""
        if self.what is not What.FILE:
            return self._part((), last=True)
        starts = range(0, max(len(self.chunks), 1), _MOST_CHUNKS)
        return b"".join(
            self._part(self.chunks[at : at + _MOST_CHUNKS], last=at + _MOST_CHUNKS >= len(self.chunks)) for at in starts
        )

    def _part(self, chunks: tuple[bytes, ...], *, last: bool) -> bytes:
        meta = self.meta
        flags = _SETTLED * self.settled | _CONTINUED * (not last)
        head = _META.pack(self.what, flags, meta.mode, meta.uid, meta.gid, meta.mtime, meta.ctime, meta.inode)
        out = [head, _u32.pack(len(self.path)), self.path]
        if self.what is What.FILE:
            out += [_FILE.pack(self.size, len(chunks)), *chunks]
        elif self.what is What.LINK:
            out += [_u32.pack(len(self.target)), self.target]
        raw = b"".join(out)
        return _u32.pack(len(raw)) + raw

    @property
    def order(self) -> tuple[bytes, ...]:
        """What records are sorted by: depth first, names in byte order."""
        return order_of(self.path)


def order_of(path: bytes) -> tuple[bytes, ...]:
    """Return what trees are sorted by."""
    return tuple(path.split(b"/")) if path else ()


def records(stream: Iterable[bytes | memoryview], name: str) -> Iterator[Record]:
    """Yield the records of a tree stream. Raises TamperedError naming the source when it is not one."""
    begun: Record | None = None
    for raw in _split(stream, name):
        try:
            record, continued = _parsed(raw)
            if begun is not None:
                record = _joined(begun, record)
        except (ValueError, struct.error) as error:
            raise TamperedError(f"the tree of {name} holds a record that cannot be read: {error}") from None
        begun = record if continued else None
        if not continued:
            yield record
    if begun is not None:
        raise TamperedError(f"the tree of {name} ends within a file")


def _split(stream: Iterable[bytes | memoryview], name: str) -> Iterator[bytes]:
    pending = bytearray()
    for piece in stream:
        pending += piece
        at = 0
        while len(pending) - at >= 4 and len(pending) - at - 4 >= (length := _u32.unpack_from(pending, at)[0]):
            yield bytes(pending[at + 4 : at + 4 + length])
            at += 4 + length
        del pending[:at]
    if pending:
        raise TamperedError(f"the tree of {name} ends within a record")


def _joined(begun: Record, more: Record) -> Record:
    if replace(begun, chunks=()) != replace(more, chunks=()):
        raise ValueError("goes on with another file")
    return replace(begun, chunks=begun.chunks + more.chunks)


def _parsed(raw: bytes) -> tuple[Record, bool]:
    kind, flags, mode, uid, gid, mtime, ctime, inode = _META.unpack_from(raw)
    path, at = _text(raw, _META.size)
    what = What(kind)
    record = Record(path, what, Meta(mode, uid, gid, mtime, ctime, inode), settled=bool(flags & _SETTLED))
    if what is What.FILE:
        record, at = _with_chunks(record, raw, at)
    elif what is What.LINK:
        target, at = _text(raw, at)
        record = replace(record, target=target)
    _check(path, what)
    if at != len(raw) or flags > (_SETTLED | _CONTINUED) or (flags & _CONTINUED and what is not What.FILE):
        raise ValueError("is not written so by guard")
    return record, bool(flags & _CONTINUED)


def _with_chunks(record: Record, raw: bytes, at: int) -> tuple[Record, int]:
    size, count = _FILE.unpack_from(raw, at)
    at += _FILE.size
    end = at + count * ID_SIZE
    if end > len(raw):
        raise ValueError("is cut short")
    chunks = tuple(raw[here : here + ID_SIZE] for here in range(at, end, ID_SIZE))
    return replace(record, size=size, chunks=chunks), end


def _text(raw: bytes, at: int) -> tuple[bytes, int]:
    length = _u32.unpack_from(raw, at)[0]
    text = raw[at + 4 : at + 4 + length]
    if len(text) != length:
        raise ValueError("is cut short")
    return text, at + 4 + length


def _check(path: bytes, what: What) -> None:
    """Refuse paths that could lead out of the folder they are restored to."""
    names = order_of(path)
    if (not names and what is not What.FOLDER) or b"\0" in path or any(name in {b"", b".", b".."} for name in names):
        raise ValueError("has a path that is none")
