"""Whoever writes to the shop's database but holds no key: whatever they move, change or cut does not open.

The opener here is the weakest that could be: it knows every key id, and all keys have the same material. What tells two
places apart is then the AAD alone, and what tells two algorithms apart the key's purpose.
"""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from guard.canon import key_bytes
from guard.clock import SystemClock
from guard.crypto.budget import Budget
from guard.crypto.envelope import (
    Binding,
    Opener,
    Place,
    Sealer,
    from_binary,
    from_text,
    to_binary,
    to_text,
)
from guard.crypto.wrap import Key
from guard.errors import TamperedError
from guard.state import State

MATERIAL = bytes(range(32))
TIGHT = 1 << 20
"""Key ids from here on are those of tight keys."""

ALGS = st.sampled_from([1, 2])
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.text(max_size=40),
    st.binary(max_size=40),
    st.integers(),
    st.booleans(),
    st.decimals(allow_nan=False, allow_infinity=False, places=2),
)
BOUND = st.one_of(
    st.integers(1, 3).map(lambda row: key_bytes((row,))),
    st.sampled_from([key_bytes(("1",)), key_bytes((1, 2)), key_bytes((b"1",)), key_bytes(("s", "p-1")), b"", b"\x01i"]),
)
PLACES = st.tuples(
    st.sampled_from([UUID(int=1), UUID(int=2), UUID(int=1 << 120)]),
    st.sampled_from([0, 17, 18, 17 << 8, 2**32 - 1]),
    st.sampled_from(Binding),
)


def key_of(key_id: int) -> Key:
    return Key(key_id, "column/17/tight" if key_id >= TIGHT else "column/17", 1, MATERIAL)


@pytest.fixture(scope="module")
def budget(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Budget]:
    """A budget for all examples."""
    state = State.create(f"sqlite:///{tmp_path_factory.mktemp('swaps')}/state.db", SystemClock())
    yield Budget(state)
    state.close()


def sealed_at(budget: Budget, alg: int, place: Place, value: object, bound: bytes, *, padded: bool = False) -> bytes:
    key = key_of(TIGHT + 7 if alg == 1 else 7)
    sealed = Sealer(place, key, padded=padded, budget=budget).seal(value, bound)
    assert sealed[0] == alg
    assert Opener(place, key_of).open(sealed, bound) == value
    return sealed


def refuse(place: Place, sealed: bytes, bound: bytes) -> None:
    with pytest.raises(TamperedError):
        Opener(place, key_of).open(sealed, bound)


ROW = key_bytes((42,))
HERE = Place(UUID(int=1), 17, Binding.ROW)


@given(ALGS, VALUES, PLACES, BOUND, PLACES, BOUND, st.booleans())
def test_a_value_opens_in_its_own_place_only(
    budget: Budget,
    alg: int,
    value: Any,
    sealed_in: Any,
    sealed_for: bytes,
    opened_in: Any,
    opened_for: bytes,
    padded: bool,
) -> None:
    """Rows, columns, tables (which are other columns), stores, subjects and bindings, in every combination."""
    assume((sealed_in, sealed_for) != (opened_in, opened_for))
    sealed = sealed_at(budget, alg, Place(*sealed_in), value, sealed_for, padded=padded)
    refuse(Place(*opened_in), sealed, opened_for)


@given(ALGS, VALUES, VALUES, st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_pieces_of_two_values_of_one_cell_do_not_open_together(
    budget: Budget, alg: int, one: Any, other: Any, picks: list[int]
) -> None:
    whole = [sealed_at(budget, alg, HERE, value, ROW) for value in (one, other, one, other)]
    cut = 7 if alg == 1 else 19

    def pieces(sealed: bytes) -> tuple[bytes, ...]:
        return sealed[:cut], sealed[cut : cut + 12], sealed[cut + 12 : -16], sealed[-16:]

    mixed = b"".join(pieces(whole[pick])[at] for at, pick in enumerate(picks))
    assume(mixed not in whole)
    refuse(HERE, mixed, ROW)


@pytest.mark.parametrize("alg", [1, 2])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("value", ["jane@example.com", "", b"\x00\x80", 0, True])
def test_every_flipped_bit_is_detected(budget: Budget, alg: int, padded: bool, value: object) -> None:
    sealed = sealed_at(budget, alg, HERE, value, ROW, padded=padded)
    stored = to_binary(sealed)
    for at in range(len(stored)):
        for bit in range(8):
            changed = bytes([*stored[:at], stored[at] ^ 1 << bit, *stored[at + 1 :]])
            with pytest.raises(TamperedError):
                Opener(HERE, key_of).open(from_binary(changed), ROW)


@pytest.mark.parametrize("alg", [1, 2])
def test_every_changed_character_is_detected(budget: Budget, alg: int) -> None:
    stored = to_text(sealed_at(budget, alg, HERE, "jane@example.com", ROW))
    for at, character in enumerate(stored):
        for other in {"A", "B", "-", "_", "=", "+", "/", " ", "\n", "é", character.swapcase()} - {character}:
            with pytest.raises(TamperedError):
                Opener(HERE, key_of).open(from_text(stored[:at] + other + stored[at + 1 :]), ROW)


@pytest.mark.parametrize("alg", [1, 2])
@pytest.mark.parametrize("text", [False, True])
def test_every_cut_and_every_added_byte_is_detected(budget: Budget, alg: int, text: bool) -> None:
    sealed = sealed_at(budget, alg, HERE, "jane@example.com", ROW)
    stored = to_text(sealed).encode() if text else to_binary(sealed)

    def refused(changed: bytes) -> None:
        with pytest.raises(TamperedError):
            Opener(HERE, key_of).open(from_text(changed.decode()) if text else from_binary(changed), ROW)

    for at in range(len(stored)):
        refused(stored[:at])
        refused(stored[at + 1 :])
        if at == 0 or stored[at] != stored[at - 1]:
            refused(stored[:at] + stored[at + 1 :])
        for byte in b"A\x00" if not text else b"A":
            if stored[at : at + 1] != bytes([byte]):
                refused(stored[:at] + bytes([byte]) + stored[at:])
    refused(stored + b"A")
    refused(stored + stored)


@given(
    ALGS,
    VALUES,
    st.booleans(),
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 2**40 - 1),
    st.sets(st.integers(0, 2)),
)
def test_no_other_head_opens_a_value(
    budget: Budget, alg: int, value: Any, padded: bool, new_alg: int, flags: int, key_id: int, changed: set[int]
) -> None:
    """Algorithm, binding, type, padding, key id: any byte of the head but its own."""
    sealed = sealed_at(budget, alg, HERE, value, ROW, padded=padded)
    head = bytes([new_alg if 0 in changed else sealed[0], flags if 1 in changed else sealed[1]])
    head += key_id.to_bytes(5, "big") if 2 in changed else sealed[2:7]
    assume(head != sealed[:7])
    for binding in Binding:
        refuse(Place(HERE.store_id, HERE.column, binding), head + sealed[7:], ROW)


@given(VALUES, st.sampled_from([7, TIGHT + 7, 8, TIGHT + 8]), st.binary(min_size=12, max_size=12), st.booleans())
def test_neither_algorithm_passes_for_the_other(
    budget: Budget, value: Any, key_id: int, half: bytes, padded: bool
) -> None:
    """Rewritten with and without the half nonce, under the key's own id and others, of both kinds."""
    name = key_id.to_bytes(5, "big")
    long = sealed_at(budget, 2, HERE, value, ROW, padded=padded)
    short = sealed_at(budget, 1, HERE, value, ROW, padded=padded)
    for changed in (
        b"\x01" + long[1:2] + name + long[7:],
        b"\x01" + long[1:2] + name + long[19:],
        b"\x02" + short[1:2] + name + short[7:],
        b"\x02" + short[1:2] + name + half + short[7:],
        b"\x02" + short[1:2] + name + short[7:19] + short[7:],
    ):
        refuse(HERE, changed, ROW)


@given(VALUES, st.booleans())
def test_a_key_opens_nothing_that_was_sealed_by_the_other_algorithm(budget: Budget, value: Any, padded: bool) -> None:
    """Even what is authentic: someone sealed with this very key, by the algorithm that it is not for."""
    for alg, material_of in ((1, TIGHT + 7), (2, 7)):
        sealed = sealed_at(budget, alg, HERE, value, ROW, padded=padded)

        def other(key_id: int, tight: bool = alg == 2) -> Key:
            return Key(key_id, "column/17/tight" if tight else "column/17", 1, MATERIAL)

        with pytest.raises(TamperedError, match=f"names key {material_of:010x}, which seals with another algorithm"):
            Opener(HERE, other).open(sealed, ROW)


@given(st.text() | st.builds("g1.{}".format, st.text("ABab01-_")))
def test_no_text_passes_for_a_sealed_one(text: str) -> None:
    """Plaintext put in a sealed value's place is refused, never handed back."""
    with pytest.raises(TamperedError):
        Opener(HERE, key_of).open(from_text(text), ROW)


@given(st.binary() | st.builds(bytes.__add__, st.sampled_from([b"g1", b"g1\x01\x00", b"g1\x02\x00"]), st.binary()))
def test_no_bytes_pass_for_a_sealed_value(raw: bytes) -> None:
    with pytest.raises(TamperedError):
        Opener(HERE, key_of).open(from_binary(raw), ROW)


@given(ALGS, st.lists(VALUES, min_size=2, max_size=70), st.data())
def test_one_swapped_row_fails_its_whole_batch(
    budget: Budget, alg: int, values: list[Any], data: st.DataObject
) -> None:
    key = key_of(TIGHT + 7 if alg == 1 else 7)
    rows = [key_bytes((at,)) for at in range(len(values))]
    sealed = Sealer(HERE, key, budget=budget).seal_all(values, rows)
    assert Opener(HERE, key_of).open_all(sealed, rows) == values
    one, other = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=2, max_size=2, unique=True))
    sealed[one], sealed[other] = sealed[other], sealed[one]
    with pytest.raises(TamperedError):
        Opener(HERE, key_of).open_all(sealed, rows)


@given(st.lists(st.tuples(ALGS, VALUES), max_size=40))
def test_both_algorithms_open_in_one_batch(budget: Budget, values: list[tuple[int, Any]]) -> None:
    """As in a column that was made tight, or is no longer: its values name keys of both kinds."""
    sealed = [sealed_at(budget, alg, HERE, value, ROW) for alg, value in values]
    assert Opener(HERE, key_of).open_all(sealed, [ROW] * len(values)) == [value for _, value in values]
