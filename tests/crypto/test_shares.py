"""Any two of three shares give the secret; one says nothing of it."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.crypto import shares

ELEMENTS = st.integers(0, 255)


@given(st.binary(max_size=64))
def test_any_two_of_three_give_the_secret(secret: bytes) -> None:
    numbered = tuple(zip(shares.NUMBERS, shares.split(secret), strict=True))
    for first, second in permutations(numbered, 2):
        assert shares.join(first, second) == secret


def test_one_share_fits_every_secret() -> None:
    """For each share 1 of one byte and each secret there is exactly one share 2: a share alone tells nothing."""
    assert {shares.join((1, b"\x2a"), (2, bytes([second]))) for second in range(256)} == {
        bytes([s]) for s in range(256)
    }


def test_the_same_secret_gives_other_shares() -> None:
    assert shares.split(bytes(32)) != shares.split(bytes(32))


def test_the_same_share_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="two different shares"):
        shares.join((1, b"a"), (1, b"a"))
    with pytest.raises(ValueError, match="two different shares"):
        shares.join((1, b"a"), (2, b"ab"))


@given(ELEMENTS, ELEMENTS, ELEMENTS)
def test_the_field_is_a_field(a: int, b: int, c: int) -> None:
    assert shares.multiply(a, b) == shares.multiply(b, a)
    assert shares.multiply(a, shares.multiply(b, c)) == shares.multiply(shares.multiply(a, b), c)
    assert shares.multiply(a, b ^ c) == shares.multiply(a, b) ^ shares.multiply(a, c)
    assert shares.multiply(a, 1) == a


def test_every_element_but_zero_has_an_inverse() -> None:
    assert all(shares.multiply(each, shares.inverse(each)) == 1 for each in range(1, 256))


def test_it_is_the_field_of_aes() -> None:
    """FIPS 197, section 4.2: {57} x {83} = {c1}, {57} x {13} = {fe}."""
    assert shares.multiply(0x57, 0x83) == 0xC1
    assert shares.multiply(0x57, 0x13) == 0xFE
