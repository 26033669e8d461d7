"""Which chunk lies where: segments as they are stored, and the whole index in memory."""

from __future__ import annotations

import struct
from collections.abc import Container, Iterable
from typing import Final, NamedTuple

from guard.backup.sealed import ID_SIZE

_BLOCK: Final = struct.Struct(">IIQIIB")
_u32: Final = struct.Struct(">I")
_u64: Final = struct.Struct(">Q")


class BlockAt(NamedTuple):
    """A block in a pack: where it lies, its stored length with tag, its length as chunks, its codec."""

    pack: bytes
    ordinal: int
    offset: int
    stored: int
    length: int
    codec: int


class Where(NamedTuple):
    """A chunk in a block: the block's number, the offset in the block's chunks, the length."""

    block: int
    offset: int
    length: int


class Segment:
    """A part of the index: blocks of some packs, and the chunks in them."""

    def __init__(self) -> None:
        self.blocks: list[BlockAt] = []
        self.chunks: list[tuple[bytes, Where]] = []
        self.sizes: dict[bytes, int] = {}
        """Bytes of each whole pack, so that one cut short is seen by its size alone; a pack's own footer has none."""

    def add_block(self, at: BlockAt, chunks: Iterable[tuple[bytes, int, int]]) -> None:
        """Take in a block with its chunks as (id, offset, length)."""
        number = len(self.blocks)
        self.blocks.append(at)
        self.chunks += [(chunk, Where(number, offset, length)) for chunk, offset, length in chunks]

    def extend(self, other: Segment) -> None:
        """Take in all of another segment."""
        shift = len(self.blocks)
        self.blocks += other.blocks
        self.chunks += [(chunk, at._replace(block=at.block + shift)) for chunk, at in other.chunks]
        self.sizes |= other.sizes

    def without(self, packs: Container[bytes]) -> Segment:
        """Return the segment without the blocks of some packs."""
        out = Segment()
        numbers: dict[int, int] = {}
        for number, at in enumerate(self.blocks):
            if at.pack not in packs:
                numbers[number] = len(out.blocks)
                out.blocks.append(at)
        out.chunks = [(chunk, at._replace(block=numbers[at.block])) for chunk, at in self.chunks if at.block in numbers]
        out.sizes = {pack: size for pack, size in self.sizes.items() if pack not in packs}
        return out

    @property
    def packs(self) -> list[bytes]:
        """The packs it speaks of, each once."""
        return list(dict.fromkeys(at.pack for at in self.blocks))

    def to_bytes(self) -> bytes:
        """Return the segment's body, chunks in ascending order."""
        packs = self.packs
        numbers = {pack: number for number, pack in enumerate(packs)}
        chunks = sorted(self.chunks)
        columns = [[at.block for _, at in chunks], [at.offset for _, at in chunks], [at.length for _, at in chunks]]
        return b"".join(
            [
                _u32.pack(len(packs)),
                *(pack + _u64.pack(self.sizes.get(pack, 0)) for pack in packs),
                _u32.pack(len(self.blocks)),
                *(_BLOCK.pack(numbers[at.pack], *at[1:]) for at in self.blocks),
                _u32.pack(len(chunks)),
                *(chunk for chunk, _ in chunks),
                *(struct.pack(f">{len(chunks)}I", *column) for column in columns),
            ]
        )

    @classmethod
    def parse(cls, body: bytes) -> Segment:
        """Read a segment's body. Raises ValueError when it is not one."""
        try:
            return cls._parse(_Cursor(body))
        except (struct.error, IndexError) as error:
            raise ValueError("is not an index segment") from error

    @classmethod
    def _parse(cls, body: _Cursor) -> Segment:
        out = cls()
        out.sizes = {body.take(ID_SIZE): _u64.unpack(body.take(_u64.size))[0] for _ in range(body.count())}
        packs = list(out.sizes)
        for _ in range(body.count()):
            number, *rest = _BLOCK.unpack(body.take(_BLOCK.size))
            out.blocks.append(BlockAt(packs[number], *rest))
        count = body.count()
        ids = [body.take(ID_SIZE) for _ in range(count)]
        blocks, offsets, lengths = (struct.unpack(f">{count}I", body.take(4 * count)) for _ in range(3))
        found = [Where(*each) for each in zip(blocks, offsets, lengths, strict=True)]
        if any(at.offset + at.length > out.blocks[at.block].length for at in found) or not body.is_empty:
            raise ValueError("is not an index segment")
        out.chunks = list(zip(ids, found, strict=True))
        return out


class _Cursor:
    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def take(self, size: int) -> bytes:
        out = self._raw[self._at : self._at + size]
        if len(out) != size:
            raise IndexError("cut short")
        self._at += size
        return out

    def count(self) -> int:
        return int(_u32.unpack(self.take(4))[0])

    @property
    def is_empty(self) -> bool:
        return self._at == len(self._raw)


class Index:
    """All segments of a repository together. Of several copies of a chunk, one in no `avoided` pack is taken."""

    def __init__(self, avoided: Container[bytes] = frozenset()) -> None:
        self.blocks: list[BlockAt] = []
        self.avoided = avoided
        self._where: dict[bytes, Where] = {}

    def add(self, segment: Segment) -> None:
        """Take in a segment."""
        shift = len(self.blocks)
        self.blocks += segment.blocks
        for chunk, at in segment.chunks:
            known = self._where.get(chunk)
            if known is None or self.blocks[known.block].pack in self.avoided:
                self._where[chunk] = at._replace(block=at.block + shift)

    def find(self, chunk: bytes) -> Where | None:
        """Return where a chunk lies; None when it is not in the repository."""
        return self._where.get(chunk)

    def find_safe(self, chunk: bytes) -> Where | None:
        """Return where a chunk lies in a pack that is not avoided; None otherwise."""
        at = self._where.get(chunk)
        return None if at is None or self.blocks[at.block].pack in self.avoided else at

    def pack_of(self, at: Where) -> bytes:
        """Return the id of the pack a chunk lies in."""
        return self.blocks[at.block].pack

    @property
    def packs(self) -> set[bytes]:
        """The ids of all packs it speaks of."""
        return {at.pack for at in self.blocks}

    def __len__(self) -> int:
        return len(self._where)
