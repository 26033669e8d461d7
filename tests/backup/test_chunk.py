"""Cutting: chunks join to the input, and what stays the same is cut the same."""

import io
import random
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.backup.chunk import Cutter

SMALL = Cutter(seed=99, file=1024, media=1024, stream=512, page=4096)


def cut(cutter: Cutter, data: bytes, size: int | None = None) -> list[bytes]:
    return [bytes(each) for each in cutter.cut(io.BytesIO(data), len(data) if size is None else size)]


def database(pages: int, size: int, seed: int = 1) -> bytes:
    head = bytearray(random.Random(seed).randbytes(pages * size))
    head[:18] = b"SQLite format 3\0" + (1 if size == 65536 else size).to_bytes(2, "big")
    return bytes(head)


@given(data=st.binary(max_size=20_000), size=st.integers(0, 30_000))
def test_chunks_join_to_the_input_whatever_size_was_announced(data: bytes, size: int) -> None:
    assert b"".join(cut(SMALL, data, size)) == data
    assert all(cut(SMALL, data, size))


@given(seed=st.integers(0, 2**32), length=st.integers(0, 60_000))
def test_random_bytes_join_to_the_input_as_a_stream(seed: int, length: int) -> None:
    data = random.Random(seed).randbytes(length)
    pieces = [bytes(each) for each in SMALL.cut_stream(io.BytesIO(data))]
    assert b"".join(pieces) == data
    assert all(len(each) <= SMALL.stream * 4 for each in pieces)


@pytest.mark.parametrize(("size", "step"), [(512, 4096), (1024, 4096), (4096, 4096), (8192, 8192), (65536, 65536)])
def test_a_database_is_cut_at_its_own_pages(size: int, step: int) -> None:
    data = database(64, size)
    chunks = cut(Cutter(seed=1), data)
    assert {len(each) for each in chunks[:-1]} == {step}
    assert b"".join(chunks) == data


def test_one_changed_page_leaves_all_other_chunks_as_they_were() -> None:
    before = database(200, 4096)
    after = bytearray(before)
    after[100 * 4096 + 5] ^= 1
    assert len(set(cut(Cutter(1), bytes(after))) - set(cut(Cutter(1), before))) == 1


@pytest.mark.parametrize("head", [b"SQLite format 3\0\0\7", b"SQLite format 3\0", b"SQLite"])
def test_a_broken_database_header_is_cut_like_any_file(head: bytes) -> None:
    assert cut(Cutter(1), head + bytes(300)) == [head + bytes(300)]


def test_files_up_to_the_limit_are_whole_and_larger_ones_are_not() -> None:
    cutter = Cutter(seed=5)
    data = random.Random(3).randbytes(512 << 10)
    assert cut(cutter, data) == [data]
    assert len(cut(cutter, data * 8)) > 1


def test_bytes_put_in_front_of_a_large_file_change_few_chunks() -> None:
    data = random.Random(4).randbytes(8 << 20)
    before, after = cut(Cutter(6), data), cut(Cutter(6), b"new" * 100 + data)
    assert len(set(after) - set(before)) <= 3
    assert max(map(len, after)) <= 1 << 20


def test_another_seed_cuts_elsewhere() -> None:
    data = random.Random(5).randbytes(4 << 20)
    ends = [set(accumulate(map(len, cut(Cutter(seed), data)))) - {len(data)} for seed in (1, 2)]
    assert not ends[0] & ends[1]


def test_a_file_that_grew_since_is_cut_in_bounded_pieces() -> None:
    assert [len(each) for each in cut(Cutter(1), bytes(1 << 20), size=10)] == [512 << 10, 512 << 10]
