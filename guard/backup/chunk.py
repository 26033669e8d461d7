"""Cut a stream into chunks, so that what stays the same from day to day is stored once. Memory stays bounded."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from pyfastcdc import FastCDC

_SQLITE: Final = b"SQLite format 3\0"
_HEAD: Final = 100


@dataclass(frozen=True, slots=True)
class Cutter:
    """Where streams are cut; sizes in bytes. `seed` makes the cuts of one repository differ from any other's."""

    seed: int
    file: int = 512 << 10
    media: int = 256 << 10
    stream: int = 8 << 10
    page: int = 4 << 10

    def cut(self, source: BinaryIO, size: int) -> Iterator[bytes | memoryview]:
        """Yield the chunks of a file of about `size` bytes; joined they are what was read. Views live until the next.

        SQLite is known by its header and cut into its own pages; other files are whole up to `file` bytes.
        """
        head = source.read(_HEAD)
        rest = _Joined(head, source)
        if step := _page_size(head):
            return _even(rest, max(step, self.page // step * step))
        if size <= self.file:
            return _whole(rest, self.file)
        return self._by_content(rest, self.media)

    def cut_stream(self, source: io.RawIOBase) -> Iterator[bytes | memoryview]:
        """Yield the chunks of a stream of small records, such as a tree. Views live until the next."""
        return self._by_content(source, self.stream)

    def _by_content(self, source: io.RawIOBase, mean: int) -> Iterator[memoryview]:
        for piece in FastCDC(mean, seed=self.seed).cut_stream(source):
            yield piece.data


class _Joined(io.RawIOBase):
    """Reads `head`, then the rest of `tail`."""

    def __init__(self, head: bytes, tail: BinaryIO) -> None:
        self._head = head
        self._tail = tail

    def readable(self) -> bool:
        return True

    def readinto(self, into: memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer hides len()
        found = self._head[: len(into)] or self._tail.read(len(into))
        self._head = self._head[len(into) :]
        into[: len(found)] = found
        return len(found)


def _page_size(head: bytes) -> int:
    """Return the page size in a SQLite header (sqlite.org/fileformat2.html: 1 stands for 65536); 0 for other files."""
    if len(head) < _HEAD or not head.startswith(_SQLITE):
        return 0
    size = int.from_bytes(head[16:18], "big")
    size = 65536 if size == 1 else size
    return size if 512 <= size <= 65536 and size & (size - 1) == 0 else 0


def _even(source: io.RawIOBase, step: int) -> Iterator[bytes]:
    buffered = io.BufferedReader(source, 1 << 20)
    while piece := buffered.read(step):
        yield piece


def _whole(source: io.RawIOBase, most: int) -> Iterator[bytes]:
    """Yield a small file as one chunk, or as several of `most` when it has grown since its size was read."""
    return _even(source, most)
