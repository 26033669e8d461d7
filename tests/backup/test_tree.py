"""Tree records read back, whatever the names; paths that lead out are refused."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.backup.tree import Meta, Record, What, records
from guard.errors import TamperedError

names = st.binary(min_size=1, max_size=30).filter(lambda name: not set(name) & {0, 47} and name not in {b".", b".."})
paths = st.lists(names, min_size=1, max_size=5).map(b"/".join)
metas = st.builds(
    Meta,
    st.integers(0, 0o7777),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**64 - 1),
)
ids = st.binary(min_size=32, max_size=32)
every = st.one_of(
    st.builds(Record, paths, st.just(What.FOLDER), metas),
    st.builds(
        Record,
        paths,
        st.just(What.FILE),
        metas,
        st.integers(0, 2**64 - 1),
        st.lists(ids, max_size=5).map(tuple),
        settled=st.booleans(),
    ),
    st.builds(Record, paths, st.just(What.LINK), metas, target=st.binary(max_size=50)),
)


@given(found=st.lists(every, max_size=10), step=st.integers(1, 40))
def test_records_read_back_however_the_stream_is_cut(found: list[Record], step: int) -> None:
    raw = b"".join(record.to_bytes() for record in found)
    assert list(records([raw[at : at + step] for at in range(0, len(raw), step)], "x")) == found


@given(found=every, data=st.data())
def test_a_stream_that_ends_early_is_refused(found: Record, data: st.DataObject) -> None:
    raw = found.to_bytes()
    with pytest.raises(TamperedError, match="tree of shop"):
        list(records([raw[: data.draw(st.integers(1, len(raw) - 1))]], "shop"))


@pytest.mark.parametrize("path", [b"/etc", b"a//b", b"..", b"a/../b", b".", b"a/.", b"a/", b"a\0b", b""])
def test_a_path_that_could_lead_out_is_refused(path: bytes) -> None:
    with pytest.raises(TamperedError, match="path"):
        list(records([Record(path, What.FILE).to_bytes()], "x"))


def test_the_source_itself_is_a_folder_with_the_empty_path() -> None:
    assert list(records([Record(b"", What.FOLDER).to_bytes()], "x")) == [Record(b"", What.FOLDER)]


def test_a_file_of_many_chunks_goes_over_several_records() -> None:
    record = Record(b"big", What.FILE, Meta(), 7, tuple(n.to_bytes(32, "big") for n in range(65_536 * 2 + 1)))
    raw = record.to_bytes()
    assert list(records([raw], "x")) == [record]
    first = 4 + struct.unpack(">I", raw[:4])[0]
    with pytest.raises(TamperedError, match="ends within a file"):
        list(records([raw[:first]], "x"))
    with pytest.raises(TamperedError, match="another file"):
        list(records([raw[:first], Record(b"other", What.FILE).to_bytes()], "x"))


def test_records_are_ordered_depth_first_and_by_bytes() -> None:
    wanted = [b"", b"a", b"a/b", b"a/b/c", b"a.txt", b"b"]
    assert sorted(wanted, key=lambda path: Record(path, What.FOLDER).order) == wanted
