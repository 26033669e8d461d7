"""Index segments keep what they hold; the index prefers chunks in packs that stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.backup.index import BlockAt, Index, Segment, Where

PACKS = [bytes([n]) * 32 for n in range(4)]


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    out = Segment()
    for number in range(draw(st.integers(0, 5))):
        pack = draw(st.sampled_from(PACKS))
        ids = draw(st.lists(st.binary(min_size=32, max_size=32), max_size=6, unique=True))
        out.add_block(
            BlockAt(pack, number, 58 + number, 500, 400, 1), [(each, 10 * at, 9) for at, each in enumerate(ids)]
        )
        out.sizes[pack] = draw(st.integers(0, 2**64 - 1))
    return out


@given(segment=segments())
def test_a_segment_reads_back(segment: Segment) -> None:
    back = Segment.parse(segment.to_bytes())
    assert back.blocks == segment.blocks
    assert back.sizes == segment.sizes
    assert sorted(back.chunks) == sorted(segment.chunks)
    assert back.to_bytes() == segment.to_bytes()


@given(segment=segments(), gone=st.sets(st.sampled_from(PACKS)))
def test_a_segment_without_some_packs_keeps_all_others(segment: Segment, gone: set[bytes]) -> None:
    rest = segment.without(gone)
    assert set(rest.packs) == set(rest.sizes) == set(segment.packs) - gone
    where = [(chunk, segment.blocks[at.block], at.offset) for chunk, at in segment.chunks]
    kept = [(chunk, rest.blocks[at.block], at.offset) for chunk, at in rest.chunks]
    assert kept == [each for each in where if each[1].pack not in gone]


@given(segment=segments(), data=st.data())
def test_what_is_cut_short_or_goes_on_is_no_segment(segment: Segment, data: st.DataObject) -> None:
    raw = segment.to_bytes()
    with pytest.raises(ValueError, match="not an index segment"):
        Segment.parse(raw[: data.draw(st.integers(0, len(raw) - 1))])
    with pytest.raises(ValueError, match="not an index segment"):
        Segment.parse(raw + b"x")


def test_a_chunk_that_reaches_over_its_block_is_refused() -> None:
    segment = Segment()
    segment.add_block(BlockAt(PACKS[0], 0, 58, 50, 10, 0), [(b"c" * 32, 5, 6)])
    with pytest.raises(ValueError, match="not an index segment"):
        Segment.parse(segment.to_bytes())


def one_chunk(pack: bytes) -> Segment:
    segment = Segment()
    segment.add_block(BlockAt(pack, 0, 58, 50, 10, 0), [(b"c" * 32, 0, 10)])
    return segment


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_copy_in_a_pack_that_stays_is_preferred(order: tuple[int, int]) -> None:
    index = Index(avoided={PACKS[0]})
    for number in order:
        index.add(one_chunk(PACKS[number]))
    found = index.find(b"c" * 32)
    assert found is not None
    assert index.pack_of(found) == PACKS[1]
    assert index.find_safe(b"c" * 32) == found


def test_a_chunk_in_avoided_packs_alone_is_found_but_not_safe() -> None:
    index = Index(avoided={PACKS[0]})
    index.add(one_chunk(PACKS[0]))
    assert index.find(b"c" * 32) == Where(0, 0, 10)
    assert index.find_safe(b"c" * 32) is None
    assert index.find(b"d" * 32) is None
    assert len(index) == 1
