"""Write chunks into a repository: dedupe, gather into blocks, blocks into packs, packs into index segments."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from guard.backup.block import Block
from guard.backup.index import Segment
from guard.backup.pack import PackWriter
from guard.backup.repository import Repository
from guard.backup.sealed import Kind
from guard.errors import GuardError

_SEGMENT_BYTES: Final = 256 << 20
"""A segment is published for so many bytes of packs, so that a killed run loses no more."""


class ChunkWriter:
    """Adds chunks to a repository whose index is loaded. `used` are the older packs that the run relies on."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._lanes = [Block(), Block()]
        self._pending: set[bytes] = set()
        self._pack: PackWriter | None = None
        self._segment = Segment()
        self._unindexed = 0
        self.used: set[bytes] = set()
        self.new_chunks = 0
        self.new_bytes = 0
        self.stored = 0

    def add(self, data: bytes | memoryview, lane: int = 0) -> bytes:
        """Store a chunk unless it is there, and return its id. Lane 1 keeps trees together, apart from content."""
        chunk = self._repository.chunk_id(data)
        if not self.knows(chunk):
            self._put(chunk, data, lane)
        return chunk

    def knows(self, chunk: bytes) -> bool:
        """Say whether a chunk is stored safely; if so, the run relies on the pack it lies in."""
        if chunk in self._pending:
            return True
        at = self._repository.index.find_safe(chunk)
        if at is None:
            return False
        self.used.add(self._repository.index.pack_of(at))
        return True

    def finish(self) -> None:
        """Write what is still open: blocks, the pack, the index segment."""
        for lane in range(len(self._lanes)):
            self._close_block(lane)
        self._close_pack()
        self._publish()

    def save(self) -> None:
        """Keep what an interrupted run has written, if the store takes it: the next run finds it."""
        if self._pack is not None and not self._pack.is_whole:
            self._pack = None
        with suppress(GuardError):
            self.finish()

    def _put(self, chunk: bytes, data: bytes | memoryview, lane: int) -> None:
        block = self._lanes[lane]
        block.add(chunk, data)
        self._pending.add(chunk)
        self.new_chunks += 1
        self.new_bytes += len(data)
        if block.is_full:
            self._close_block(lane)

    def _close_block(self, lane: int) -> None:
        block = self._lanes[lane]
        if not block.chunks:
            return
        if self._pack is None:
            self._pack = PackWriter(self._repository.sealing)
        self._pack.add(block)
        self._lanes[lane] = Block()
        if self._pack.is_full:
            self._close_pack()

    def _close_pack(self) -> None:
        pack, self._pack = self._pack, None
        if pack is None:
            return
        data = pack.close()
        self._repository.put_new(pack.name, data)
        self.stored += len(data)
        self._unindexed += len(data)
        pack.segment.sizes[pack.id] = len(data)
        self._segment.extend(pack.segment)
        if self._unindexed >= _SEGMENT_BYTES:
            self._publish()

    def _publish(self) -> None:
        if not self._segment.blocks:
            return
        segment, self._segment = self._segment, Segment()
        self._unindexed = 0
        self._repository.write(Kind.INDEX, "index", segment.to_bytes())
        self._repository.index.add(segment)
        self._pending.difference_update(chunk for chunk, _ in segment.chunks)
