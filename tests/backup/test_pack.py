"""A pack gives back its blocks, and nothing in it can be changed unseen."""

import random

import pytest

from guard.backup.block import RAW, ZSTD, Block, unpack
from guard.backup.pack import PackWriter, pack_name, pack_of, read_pack
from guard.backup.sealed import Sealing

SEALING = Sealing(bytes(16), {1: b"k" * 32})


def block(*chunks: bytes) -> Block:
    out = Block()
    for chunk in chunks:
        out.add((chunk * 32)[:32], chunk)
    return out


def packed() -> tuple[bytes, bytes]:
    writer = PackWriter(SEALING)
    writer.add(block(b"one", b"two" * 50))
    writer.add(block(b"three" * 100))
    return writer.id, bytes(writer.close())


PACK, RAW_PACK = packed()


def test_a_pack_reads_back_block_by_block() -> None:
    found = [(number, data) for _, number, data in read_pack(SEALING, PACK, RAW_PACK)]
    assert found == [(0, b"one" + b"two" * 50), (1, b"three" * 100)]


@pytest.mark.parametrize("at", range(len(RAW_PACK)))
def test_every_byte_counts(at: int) -> None:
    changed = bytearray(RAW_PACK)
    changed[at] ^= 0x80
    with pytest.raises(ValueError, match=r"."):
        list(read_pack(SEALING, PACK, bytes(changed)))


@pytest.mark.parametrize("length", [0, 7, 58, 100, len(RAW_PACK) - 1])
def test_a_truncated_pack_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        list(read_pack(SEALING, PACK, RAW_PACK[:length]))


def test_blocks_cannot_change_places() -> None:
    (first, second) = next(read_pack(SEALING, PACK, RAW_PACK))[0].blocks
    start, end = first.offset, second.offset + second.stored
    moved = RAW_PACK[second.offset : end] + RAW_PACK[start : second.offset]
    with pytest.raises(ValueError, match=r"."):
        list(read_pack(SEALING, PACK, RAW_PACK[:start] + moved + RAW_PACK[end:]))


def test_what_does_not_get_smaller_is_kept_as_it_is() -> None:
    noise = random.Random(1).randbytes(300_000)
    codec, plain = block(noise).pressed()
    assert (codec, bytes(plain)) == (RAW, noise)
    codec, plain = block(b"text" * 100_000).pressed()
    assert codec == ZSTD
    assert unpack(codec, bytes(plain), 400_000) == b"text" * 100_000
    with pytest.raises(ValueError, match="length"):
        unpack(RAW, noise, 5)


def test_a_name_stands_for_one_pack() -> None:
    assert pack_of(pack_name(PACK)) == PACK
    assert pack_of("packs/00/readme") is None
    assert pack_of(f"packs/xx/{PACK.hex()}") is None
