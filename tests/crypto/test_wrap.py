"""A wrapped key opens under its parent, as what it is, and as nothing else."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.crypto import recovery, wrap
from guard.crypto.wrap import Key
from guard.errors import TamperedError

STORE = UUID(int=7)
PARENT = Key(1, "kek", 1, bytes(range(32)))
KEY = Key(2, "column/17", 1, bytes(range(1, 33)))
SHEET = replace(KEY, material=b"")
WRAPPED = wrap.wrap(STORE, KEY, PARENT)


def test_it_comes_back() -> None:
    assert wrap.unwrap(STORE, WRAPPED, SHEET, PARENT) == KEY


@given(st.integers(0, len(WRAPPED) * 8 - 1))
def test_any_changed_bit_is_found(bit: int) -> None:
    changed = bytearray(WRAPPED)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(TamperedError, match=r"key 0000000002 \(column/17\)"):
        wrap.unwrap(STORE, bytes(changed), SHEET, PARENT)


@pytest.mark.parametrize("cut", [0, 4, 16, 63])
def test_a_cut_one_is_no_wrapped_key(cut: int) -> None:
    with pytest.raises(TamperedError, match="is not a wrapped key"):
        wrap.unwrap(STORE, WRAPPED[:cut], SHEET, PARENT)


@pytest.mark.parametrize(
    "sheet",
    [replace(SHEET, id=3), replace(SHEET, purpose="column/18"), replace(SHEET, version=2)],
    ids=["id", "purpose", "version"],
)
def test_it_is_bound_to_what_it_is_for(sheet: Key) -> None:
    with pytest.raises(TamperedError, match="does not open under its parent"):
        wrap.unwrap(STORE, WRAPPED, sheet, PARENT)


def test_it_is_bound_to_its_store_and_its_parent() -> None:
    for store, parent in (
        (UUID(int=8), PARENT),
        (STORE, replace(PARENT, id=3)),
        (STORE, replace(PARENT, material=bytes(32))),
    ):
        with pytest.raises(TamperedError, match="does not open under its parent"):
            wrap.unwrap(store, WRAPPED, SHEET, parent)


def test_a_mark_tells_roots_and_stores_apart() -> None:
    root = bytes(32)
    assert len(wrap.mark(STORE, root)) == 16
    assert wrap.mark(STORE, root) == wrap.mark(STORE, root)
    assert len({wrap.mark(STORE, root), wrap.mark(UUID(int=8), root), wrap.mark(STORE, bytes(range(32)))}) == 3


def test_a_commitment_names_one_key() -> None:
    committed = wrap.commitment(STORE, KEY)
    assert wrap.check(STORE, KEY, committed) is KEY
    for store, key in (
        (STORE, replace(KEY, material=bytes(32))),
        (STORE, replace(KEY, id=3)),
        (STORE, replace(KEY, purpose="totp")),
        (STORE, replace(KEY, version=2)),
        (UUID(int=8), KEY),
    ):
        with pytest.raises(TamperedError, match="is not the key that was committed to"):
            wrap.check(store, key, committed)


def test_no_repr_shows_material() -> None:
    assert repr(KEY) == "Key(id=2, purpose='column/17', version=1)"


def test_our_vectors_open(vectors: Callable[[str], Any]) -> None:
    read = vectors("wrapped_keys.json")
    store, opened = UUID(read["store_id"]), {0: Key(0, "root", 0, bytes.fromhex(read["root"]))}
    assert wrap.mark(store, opened[0].material).hex() == read["root_mark"]
    private = recovery.combine(read["kit"]["shares"][1:])
    for case in read["keys"]:
        sheet = Key(case["id"], case["purpose"], case["version"], b"")
        key = wrap.unwrap(store, bytes.fromhex(case["wrapped"]), sheet, opened[case["parent"]])
        opened[key.id] = wrap.check(store, key, bytes.fromhex(case["commitment"]))
        assert key.material.hex() == case["material"]
        info = wrap.binding(store, sheet, 0)
        assert recovery.open_with(private, bytes.fromhex(case["recovery"]), info) == key.material
