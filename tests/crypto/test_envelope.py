"""A sealed value opens in its place, whole and unchanged, and nowhere else."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.canon import key_bytes
from guard.clock import SystemClock
from guard.crypto import random, xaes
from guard.crypto.budget import Budget
from guard.crypto.envelope import (
    BATCH,
    Binding,
    Opener,
    Place,
    Sealer,
    from_binary,
    from_text,
    key_id_of,
    looks_sealed,
    to_binary,
    to_text,
)
from guard.crypto.plaintext import Kind
from guard.crypto.wrap import Key
from guard.errors import TamperedError
from guard.state import State

STORE = UUID("0d8f2b34-6f0e-4c55-8a11-7a5d9e2c3b41")
KEY = Key(7, "column/17", 1, bytes(range(32)))
OTHER = Key(8, "column/17", 2, bytes(range(1, 33)))
PLACE = Place(STORE, 17, Binding.ROW)
TIGHT = Key(9, "column/17/tight", 1, bytes(range(2, 34)))
KEYS = {7: KEY, 8: OTHER, 9: TIGHT}
ROW, NEXT_ROW = key_bytes((42,)), key_bytes((43,))

VALUES: st.SearchStrategy[Any] = st.one_of(
    st.text(),
    st.binary(),
    st.integers(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.dates(),
    st.datetimes() | st.datetimes(timezones=st.just(UTC)),
    st.booleans(),
    st.floats(allow_nan=False),
)


@pytest.fixture(scope="module")
def budget(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Budget]:
    """A budget for all examples."""
    state = State.create(f"sqlite:///{tmp_path_factory.mktemp('budget')}/state.db", SystemClock())
    yield Budget(state)
    state.close()


def opener(place: Place = PLACE, keys: dict[int, Key] = KEYS) -> Opener:
    return Opener(place, keys.__getitem__)


@given(st.sampled_from([KEY, TIGHT]), VALUES, st.binary(max_size=80), st.sampled_from(Binding), st.booleans())
def test_every_kind_comes_back_in_every_binding(
    budget: Budget, key: Key, value: Any, bound: bytes, binding: Binding, padded: bool
) -> None:
    place = Place(STORE, 17, binding)
    sealed = Sealer(place, key, padded=padded, budget=budget).seal(value, bound)
    for stored in (from_text(to_text(sealed)), from_binary(to_binary(sealed))):
        found = opener(place).open(stored, bound)
        assert found == value
        assert type(found) is type(value)


@given(st.sampled_from([KEY, TIGHT]), st.lists(VALUES, max_size=100), st.booleans())
def test_many_at_once_are_the_same_as_one_by_one(budget: Budget, key: Key, values: list[Any], padded: bool) -> None:
    bounds = [key_bytes((at,)) for at in range(len(values))]
    sealer = Sealer(PLACE, key, padded=padded, budget=budget)
    together, apart = sealer.seal_all(values, bounds), [sealer.seal(*each) for each in zip(values, bounds, strict=True)]
    assert opener().open_all(together, bounds) == opener().open_all(apart, bounds) == values
    assert [opener().open(*each) for each in zip(together, bounds, strict=True)] == values


def test_values_under_several_keys_open_in_one_batch(budget: Budget) -> None:
    sealed = [Sealer(PLACE, key, budget=budget).seal("x", ROW) for key in (KEY, OTHER, TIGHT, TIGHT, KEY)]
    assert [key_id_of(each) for each in sealed] == [7, 8, 9, 9, 7]
    assert opener().open_all(sealed, [ROW] * 5) == ["x"] * 5


def test_a_tight_value_is_twelve_bytes_shorter(budget: Budget) -> None:
    long, short = (Sealer(PLACE, key, budget=budget).seal("jane@example.com", ROW) for key in (KEY, TIGHT))
    assert (long[0], short[0]) == (2, 1)
    assert (len(long), len(short)) == (7 + 24 + 16 + 16, 7 + 12 + 16 + 16)


def test_no_two_tight_values_share_a_nonce(budget: Budget) -> None:
    sealer = Sealer(PLACE, TIGHT, budget=budget)
    sealed = [*sealer.seal_all(["x"] * 500, [ROW] * 500), *(sealer.seal("x", ROW) for _ in range(500))]
    assert len({each[7:19] for each in sealed}) == len(set(sealed)) == 1000


@given(st.integers(0, 3), st.sampled_from(["row", "column", "store", "binding", "key"]), st.text(max_size=5))
def test_any_swap_of_place_or_key_is_detected(which: int, swapped: str, value: str) -> None:
    sealed = Sealer(PLACE, KEY).seal(value, ROW)
    place, keys, bound = PLACE, KEYS, ROW
    match swapped:
        case "row":
            bound = (NEXT_ROW, key_bytes(("42",)), key_bytes((42, 0)), b"")[which]
        case "column":
            place = Place(STORE, (0, 16, 18, 17 << 8)[which], Binding.ROW)
        case "store":
            place = Place(UUID(int=STORE.int ^ 1 << 40 * which), 17, Binding.ROW)
        case "binding":
            place = Place(STORE, 17, Binding.SUBJECT if which % 2 else Binding.COLUMN)
        case _:
            keys = {7: OTHER}
    with pytest.raises(TamperedError, match=f"of column {place.column} "):
        opener(place, keys).open(sealed, bound)


@given(st.data(), st.sampled_from(["x", "jane@example.com", b"\x00" * 20, 5, True]), st.booleans())
def test_any_changed_bit_is_detected(data: st.DataObject, value: object, text: bool) -> None:
    sealed = Sealer(PLACE, KEY).seal(value, ROW)
    stored = bytearray(to_text(sealed).encode() if text else to_binary(sealed))
    at = data.draw(st.integers(0, len(stored) - 1))
    stored[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(TamperedError):
        opener().open(from_text(stored.decode("latin-1")) if text else from_binary(bytes(stored)), ROW)


@given(st.data())
def test_any_cut_or_added_byte_is_detected(data: st.DataObject) -> None:
    sealed = Sealer(PLACE, KEY).seal("jane@example.com", ROW)
    cut = data.draw(st.integers(0, len(sealed) - 1))
    for changed in (sealed[:cut], sealed[:cut] + sealed[cut + 1 :], sealed[:cut] + b"\x00" + sealed[cut:]):
        with pytest.raises(TamperedError):
            opener().open(changed, ROW)


@pytest.mark.parametrize("accepted", list(Binding))
def test_a_column_accepts_one_binding_and_no_weaker_one(accepted: Binding) -> None:
    for binding in Binding:
        bound = b"" if binding is Binding.COLUMN else ROW
        sealed = Sealer(Place(STORE, 17, binding), KEY).seal("x", bound)
        reads = opener(Place(STORE, 17, accepted))
        if binding is accepted:
            assert reads.open(sealed, bound) == "x"
            continue
        with pytest.raises(TamperedError, match="is not bound to its"):
            reads.open(sealed, bound)
        relabeled = sealed[:1] + bytes([sealed[1] & ~3 | accepted]) + sealed[2:]
        with pytest.raises(TamperedError):
            reads.open(relabeled, bound)


def test_an_error_names_the_column_and_never_the_value() -> None:
    sealed = Sealer(PLACE, KEY).seal("jane@example.com", ROW)
    with pytest.raises(TamperedError) as caught:
        opener().open(sealed[:-1] + bytes([sealed[-1] ^ 1]), ROW)
    assert str(caught.value) == "a sealed value of column 17 was changed, moved or cut"
    assert caught.value.__suppress_context__


def test_an_error_of_the_keyring_passes_through() -> None:
    def refuse(key_id: int) -> Key:
        raise TamperedError(f"no key {key_id}")

    with pytest.raises(TamperedError, match="no key 7"):
        Opener(PLACE, refuse).open(Sealer(PLACE, KEY).seal("x", ROW), ROW)


def keys_of(read: Any) -> dict[int, Key]:
    return {
        int(key_id): Key(int(key_id), key["purpose"], 1, bytes.fromhex(key["material"]))
        for key_id, key in read["keys"].items()
    }


def test_our_vectors_open(vectors: Callable[[str], Any]) -> None:
    read = vectors("sealed_values.json")
    for case in read["values"]:
        place = Place(UUID(read["store_id"]), case["column"], Binding[case["binding"].upper()])
        keys = keys_of(read)
        stored = from_binary(bytes.fromhex(case["binary"]))
        assert from_text(case["text"]) == stored
        assert to_text(stored) == case["text"]
        assert to_binary(stored).hex() == case["binary"]
        assert stored[0] == case["alg"]
        assert key_id_of(stored) == case["key_id"]
        assert Kind(stored[1] >> 2 & 15).name.lower() == case["type"]
        assert bool(stored[1] >> 6) == case["padded"]
        found = Opener(place, keys.__getitem__).open(stored, bytes.fromhex(case["bound"]))
        assert _shown(found) == case["value"], case["name"]


def _shown(value: Any) -> Any:
    if isinstance(value, bool | str):
        return value
    if isinstance(value, bytes | float):
        return value.hex()
    if hasattr(value, "hour"):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def test_our_flawed_vectors_are_refused(vectors: Callable[[str], Any]) -> None:
    read = vectors("sealed_values.json")
    keys = keys_of(read)
    for case in read["refused"]:
        place = Place(UUID(case["store_id"]), case["column"], Binding[case["binding"].upper()])
        with pytest.raises(TamperedError):
            Opener(place, keys.__getitem__).open(
                from_binary(bytes.fromhex(case["binary"])), bytes.fromhex(case["bound"])
            )
    for case in read["refused_text"]:
        with pytest.raises(TamperedError):
            from_text(case["text"])


def test_bytes_without_the_prefix_are_not_sealed() -> None:
    with pytest.raises(TamperedError):
        from_binary(b"g2" + bytes(60))


def test_a_binary_column_may_give_a_buffer() -> None:
    sealed = Sealer(PLACE, KEY).seal("x", ROW)
    assert from_binary(memoryview(to_binary(sealed))) == sealed


def test_a_value_too_short_names_no_key() -> None:
    with pytest.raises(TamperedError):
        key_id_of(bytes(34))


@pytest.mark.parametrize(
    "value", ["g1.", "g1. is our best seller", "g1.AgAA", b"g1", b"g1.x", bytearray(b"g1"), memoryview(b"g1")]
)
def test_what_begins_as_a_sealed_value_looks_sealed(value: object) -> None:
    assert looks_sealed(value)


@pytest.mark.parametrize("value", ["", "g1", "G1.", " g1.", "g2.", b"", b"g", b"G1", None, 71, 0.5], ids=repr)
def test_other_values_do_not_look_sealed(value: object) -> None:
    assert not looks_sealed(value)


@given(st.text() | st.binary())
def test_every_sealed_value_looks_sealed(value: object) -> None:
    sealed = Sealer(PLACE, KEY).seal(value, ROW)
    assert looks_sealed(to_text(sealed))
    assert looks_sealed(to_binary(sealed))


def test_null_is_not_sealed() -> None:
    for few in (1, 100):
        with pytest.raises(TypeError, match="NoneType cannot be sealed"):
            Sealer(PLACE, KEY).seal_all([None] * few, [ROW] * few)


def test_values_and_places_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="1 values, but 2 places"):
        Sealer(PLACE, KEY).seal_all(["x"], [ROW, ROW])
    with pytest.raises(ValueError, match="1 values, but 2 places"):
        opener().open_all([b""], [ROW, ROW])
    assert Sealer(PLACE, KEY).seal_all([], []) == opener().open_all([], []) == []


def half(sealed: bytes) -> bytes:
    return sealed[7:19]


def nonce(sealed: bytes) -> bytes:
    return sealed[19:31]


def test_a_batch_shares_one_half_nonce_and_no_nonce() -> None:
    sealed = Sealer(PLACE, KEY).seal_all(["x"] * 500, [ROW] * 500)
    assert len({half(each) for each in sealed}) == 1
    assert len({nonce(each) for each in sealed}) == 500
    assert len(set(sealed)) == 500


def test_two_batches_and_two_sealers_share_no_half_nonce() -> None:
    one, other = Sealer(PLACE, KEY), Sealer(PLACE, KEY)
    batches = [each.seal_all(["x"] * 70, [ROW] * 70) for each in (one, one, other, other)]
    assert len({half(batch[0]) for batch in batches}) == 4


@pytest.mark.slow
def test_a_half_nonce_serves_no_more_than_two_to_the_twentieth_values() -> None:
    sealer, count = Sealer(PLACE, KEY), BATCH + 3
    for sealed in (sealer.seal_all([""] * count, [b""] * count), [sealer.seal("", b"") for _ in range(count)]):
        assert list(Counter(map(half, sealed)).values()) == [BATCH, 3]
        assert len(set(map(nonce, sealed))) == count


def test_a_new_generation_takes_a_half_nonce_of_its_own() -> None:
    sealer = Sealer(PLACE, KEY)
    first = half(sealer.seal("x", ROW))
    assert half(sealer.seal("x", ROW)) == first
    xaes.forget()
    second = sealer.seal("x", ROW)
    assert half(second) != first
    assert half(sealer.seal("x", ROW)) == half(second)


def test_a_forked_child_takes_a_half_nonce_of_its_own() -> None:
    sealer = Sealer(PLACE, KEY)
    mine = half(sealer.seal("x", ROW))
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, sealer.seal("x", ROW))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    sealed = os.read(read, 1000)
    os.close(read)
    os.close(write)
    assert half(sealed) != mine
    assert opener().open(sealed, ROW) == "x"
    assert half(sealer.seal("x", ROW)) == mine


def test_a_changed_place_changes_every_byte_of_the_aad() -> None:
    """The parts of the AAD are length-prefixed: no bound bytes of one place read as those of another."""
    sealed = Sealer(Place(STORE, 17, Binding.SUBJECT), KEY).seal("x", b"ab" + ROW)
    for bound in (b"ab", b"a", b"ab" + ROW + b"\x00", ROW):
        with pytest.raises(TamperedError):
            opener(Place(STORE, 17, Binding.SUBJECT)).open(sealed, bound)


def test_randomness_is_of_the_asked_size_and_fresh() -> None:
    assert len(random.token(17)) == 17
    assert random.token(16) != random.token(16)
    assert len(bytes.fromhex(random.hex_token(8))) == 8
