"""A solid block: chunks end to end, compressed together, which costs a third less than one by one."""

from __future__ import annotations

from typing import Final

import zstandard

from guard.backup.sealed import LEVEL, expand

TARGET: Final = 1 << 20
"""A block is closed when it holds this much; a page read at random then costs one such block."""
RAW: Final = 0
ZSTD: Final = 1
_PROBE: Final = 32 << 10


class Block:
    """Chunks gathered for one block."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.chunks: list[tuple[bytes, int, int]] = []
        """(chunk id, offset, length) in the order they lie."""

    def add(self, chunk: bytes, data: bytes | memoryview) -> None:
        """Put a chunk behind the others."""
        offset = len(self.data)
        self.data += (
            data  # first: an interrupt between the two leaves bytes that nobody names, never a name without bytes
        )
        self.chunks.append((chunk, offset, len(data)))

    @property
    def is_full(self) -> bool:
        """Whether it should be closed."""
        return len(self.data) >= TARGET

    def pressed(self) -> tuple[int, bytes | bytearray]:
        """Return (codec, bytes): compressed, or as they are where a probe says that it would not help."""
        if _looks_random(self.data):
            return RAW, self.data
        frame = zstandard.ZstdCompressor(level=LEVEL).compress(self.data)
        return (ZSTD, frame) if len(frame) < len(self.data) else (RAW, self.data)


def unpack(codec: int, plain: bytes, length: int) -> bytes:
    """Return the chunks of a block, `length` bytes. Raises ValueError when it holds anything else."""
    if codec == ZSTD:
        return expand(plain, length)
    if codec != RAW or len(plain) != length:
        raise ValueError("has another length than noted")
    return plain


def _looks_random(data: bytearray) -> bool:
    """Say whether neither its middle nor its start gets smaller by zstd 1. Only for blocks that are worth a probe."""
    if len(data) < 4 * _PROBE:
        return False
    press = zstandard.ZstdCompressor(level=1).compress
    return all(len(press(memoryview(data)[at : at + _PROBE])) > _PROBE * 31 // 32 for at in (0, len(data) // 2))
