"""Sealed objects open as what they were written as, and as nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.backup.sealed import HEADER_SIZE, Kind, Sealing, expand, pressed
from guard.errors import TamperedError

NAME = f"snapshots/{'ab' * 32}"
SEALING = Sealing(bytes(16), {1: b"k" * 32})
SEALED = SEALING.seal(Kind.SNAPSHOT, NAME, b"body" * 20)


@given(body=st.binary(max_size=5000))
def test_an_object_opens_as_what_was_sealed(body: bytes) -> None:
    assert SEALING.open(Kind.SNAPSHOT, NAME, SEALING.seal(Kind.SNAPSHOT, NAME, body)) == body


@pytest.mark.parametrize("at", range(len(SEALED)))
def test_every_byte_counts(at: int) -> None:
    changed = bytearray(SEALED)
    changed[at] ^= 1
    with pytest.raises(TamperedError, match="snapshots/abab"):
        SEALING.open(Kind.SNAPSHOT, NAME, bytes(changed))


@given(cut=st.integers(0, len(SEALED) - 1))
def test_a_truncated_object_does_not_open(cut: int) -> None:
    with pytest.raises(TamperedError):
        SEALING.open(Kind.SNAPSHOT, NAME, SEALED[:cut])


def test_an_object_does_not_open_under_another_name_or_as_another_kind() -> None:
    with pytest.raises(TamperedError, match="another object"):
        SEALING.open(Kind.SNAPSHOT, f"snapshots/{'cd' * 32}", SEALED)
    with pytest.raises(TamperedError, match="another object"):
        SEALING.open(Kind.MARK, NAME, SEALED)
    one = SEALING.seal(Kind.ERASURE, "erasures/1", b"x")
    with pytest.raises(TamperedError, match="does not open"):
        SEALING.open(Kind.ERASURE, "erasures/2", one)


def test_an_object_of_another_repository_or_key_does_not_open() -> None:
    with pytest.raises(TamperedError, match="another object"):
        Sealing(bytes([1]) * 16, {1: b"k" * 32}).open(Kind.SNAPSHOT, NAME, SEALED)
    with pytest.raises(TamperedError, match="does not open"):
        Sealing(bytes(16), {1: b"j" * 32}).open(Kind.SNAPSHOT, NAME, SEALED)
    with pytest.raises(TamperedError, match="version 1"):
        Sealing(bytes(16), {2: b"k" * 32}).open(Kind.SNAPSHOT, NAME, SEALED)


def test_objects_of_an_older_master_key_still_open() -> None:
    both = Sealing(bytes(16), {1: b"k" * 32, 2: b"n" * 32})
    assert both.open(Kind.SNAPSHOT, NAME, SEALED) == b"body" * 20
    newer = both.seal(Kind.CONFIG, "config", b"new")
    with pytest.raises(TamperedError, match="version 2"):
        SEALING.open(Kind.CONFIG, "config", newer)


def test_a_version_that_is_not_to_be_used_yet_only_opens() -> None:
    masters = {1: b"k" * 32, 2: b"n" * 32}
    waiting = Sealing(bytes(16), masters, 1)
    made = waiting.seal(Kind.CONFIG, "config", b"old key")
    assert SEALING.open(Kind.CONFIG, "config", made) == b"old key"
    assert waiting.open(Kind.CONFIG, "config", Sealing(bytes(16), masters).seal(Kind.CONFIG, "config", b"x")) == b"x"


def test_equal_bodies_give_different_bytes() -> None:
    sealed = {SEALING.seal(Kind.CONFIG, "config", b"same") for _ in range(20)}
    assert len({each[HEADER_SIZE:] for each in sealed}) == 20


def test_a_frame_that_holds_more_than_noted_is_refused() -> None:
    with pytest.raises(ValueError, match="length"):
        expand(pressed(bytes(1000))[4:], 999)
    with pytest.raises(ValueError, match="decompress"):
        expand(b"no frame at all", 3)
