"""A pack: many blocks in one object under one key, and a footer that repeats their index. Never continued."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from guard.backup.block import Block, unpack
from guard.backup.index import BlockAt, Segment
from guard.backup.sealed import HEADER_SIZE, ID_SIZE, Box, Kind, Sealing, pressed, unpressed
from guard.crypto.random import token

TARGET: Final = 32 << 20
_FOOTER_MAGIC: Final = b"grpf"
_FOOTER_NONCE: Final = b"\xff" * 12
_FOOTER_ORDINAL: Final = 2**64 - 1
TAIL_SIZE: Final = 8


def pack_name(pack: bytes) -> str:
    """Return the object's name of a pack's id."""
    return f"packs/{pack[:1].hex()}/{pack.hex()}"


def pack_of(name: str) -> bytes | None:
    """Return the pack's id in an object's name; None when it is no pack's name."""
    try:
        pack = bytes.fromhex(name.rpartition("/")[2])
    except ValueError:
        return None
    return pack if pack_name(pack) == name else None


class PackWriter:
    """Builds one pack in memory. Its id is drawn here and is the salt of its key; block nonces count up from 0."""

    def __init__(self, sealing: Sealing) -> None:
        self.id = token(ID_SIZE)
        self.name = pack_name(self.id)
        self.segment = Segment()
        self.is_whole = True
        """False while a block is added: a pack interrupted there is thrown away, lest a nonce be used twice."""
        self._box = sealing.new(Kind.PACK, self.name, self.id)
        self._data = bytearray(self._box.header)

    def add(self, block: Block) -> None:
        """Seal a block behind the others."""
        self.is_whole = False
        number = len(self.segment.blocks)
        codec, plain = block.pressed()
        sealed = self._box.seal(number.to_bytes(12, "big"), number, plain)
        at = BlockAt(self.id, number, len(self._data), len(sealed), len(block.data), codec)
        self.segment.add_block(at, block.chunks)
        self._data += sealed
        self.is_whole = True

    @property
    def is_full(self) -> bool:
        """Whether it should be closed."""
        return len(self._data) >= TARGET

    def close(self) -> bytearray:
        """Return the whole pack with its footer. To be called once."""
        footer = self._box.seal(_FOOTER_NONCE, _FOOTER_ORDINAL, pressed(self.segment.to_bytes()))
        self._data += footer
        self._data += len(footer).to_bytes(4, "big") + _FOOTER_MAGIC
        return self._data


def read_pack(sealing: Sealing, pack: bytes, raw: bytes) -> Iterator[tuple[Segment, int, bytes]]:
    """Yield (index of the pack, block number, the block's chunks) for every block of a whole pack.

    Raises ValueError when anything in it, to the last byte, is not what was written.
    """
    box = sealing.old(Kind.PACK, pack_name(pack), raw)
    segment = _footer(box, pack, raw)
    end = HEADER_SIZE
    view = memoryview(raw)
    for number, at in enumerate(segment.blocks):
        if at.offset != end or at.ordinal != number:
            raise ValueError("has blocks that its footer does not know")
        end = at.offset + at.stored
        yield segment, number, _open(box, at, view[at.offset : end])
    if end + int.from_bytes(raw[-TAIL_SIZE:-4], "big") + TAIL_SIZE != len(raw):
        raise ValueError("has blocks that its footer does not know")


def _footer(box: Box, pack: bytes, raw: bytes) -> Segment:
    length = int.from_bytes(raw[-TAIL_SIZE:-4], "big")
    if raw[-4:] != _FOOTER_MAGIC or HEADER_SIZE + length + TAIL_SIZE > len(raw):
        raise ValueError("has no footer")
    sealed = memoryview(raw)[-TAIL_SIZE - length : -TAIL_SIZE]
    segment = Segment.parse(unpressed(box.open(_FOOTER_NONCE, _FOOTER_ORDINAL, sealed)))
    if segment.packs != [pack]:
        raise ValueError("has the footer of another pack")
    return segment


def _open(box: Box, at: BlockAt, sealed: bytes | memoryview) -> bytes:
    return unpack(at.codec, box.open(at.ordinal.to_bytes(12, "big"), at.ordinal, sealed), at.length)
