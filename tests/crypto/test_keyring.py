"""The keys of a store: made once, opened by the right root, recovered by the right shares, and never exchanged."""

import hmac
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, update

from guard.canon import parts
from guard.clock import SteppedClock
from guard.crypto import keyring as module
from guard.crypto import kit as kits
from guard.crypto import random, recovery, wrap
from guard.crypto.kek import LocalRoot
from guard.crypto.keyring import STORE_KEYS, Key, Keyring, Origin
from guard.crypto.recovery import Kit
from guard.crypto.sources import GivenSource
from guard.crypto.store import KEY, ROOT
from guard.crypto.unlock import Roots
from guard.errors import DeniedError, InterlockError, TamperedError
from guard.state import State

PURPOSES = ("kek", *STORE_KEYS)


def rows(state: State) -> list[Any]:
    with state.read() as tx:
        return list(tx.execute(select(KEY).order_by(KEY.c.id)))


def change(at: State, key_id: int, **values: object) -> None:
    at.write(lambda tx: tx.execute(update(KEY).where(KEY.c.id == key_id).values(**values)) and None)


def test_a_new_store_has_its_keys_before_there_is_a_ledger(keyring: Keyring, clock: SteppedClock) -> None:
    found = keyring.list()
    assert [(key.id, key.purpose, key.version) for key in found] == [(i, p, 1) for i, p in enumerate(PURPOSES, 1)]
    assert all(key.state == "current" and key.recoverable and key.made_at == clock.now() for key in found)


def test_every_key_is_another_one(keyring: Keyring) -> None:
    assert len({keyring.current(purpose).material for purpose in PURPOSES}) == len(PURPOSES)


def test_it_opens_again_with_the_root_key(state: State, root: bytes, keyring: Keyring) -> None:
    again = Keyring.open(state, root)
    assert [again.current(purpose) for purpose in PURPOSES] == [keyring.current(purpose) for purpose in PURPOSES]


def test_a_store_gets_its_keys_once(state: State, root: bytes, keyring: Keyring) -> None:
    before = rows(state)
    with pytest.raises(InterlockError, match="has its keys already"):
        Keyring.create(state, root, None)
    assert rows(state) == before


def test_of_two_that_found_a_store_at_the_same_time_one_is_refused(state: State, root: bytes) -> None:
    class Slow(Roots):
        def wrap_named(self, *args: Any, **other: Any) -> Any:
            Keyring.create(state, root, None)
            return super().wrap_named(*args, **other)

    slow = Slow([GivenSource(LocalRoot(random.token(32)))])
    with pytest.raises(InterlockError, match="has its keys already"):
        Keyring.create(state, slow, None)
    assert len(Keyring.open(state, root).list()) == 7


def test_a_store_without_keys_says_so(state: State, root: bytes) -> None:
    assert module.origins(state) == ()
    for attempt in (Keyring.open, Keyring.recover):
        with pytest.raises(InterlockError, match="no keys yet"):
            attempt(state, root)


def test_another_root_key_is_denied(state: State, keyring: Keyring) -> None:
    with pytest.raises(DeniedError, match="this root key does not open the KEK"):
        Keyring.open(state, random.token(32))


def test_a_root_key_has_32_bytes(state: State) -> None:
    with pytest.raises(ValueError, match="a root key has 32 bytes, not 16"):
        Keyring.create(state, bytes(16), None)
    assert rows(state) == []


def test_state_knows_the_root_again_by_a_mark_that_does_not_tell_it(
    state: State, root: bytes, keyring: Keyring
) -> None:
    assert module.origins(state) == (Origin("file", wrap.mark(state.store_id, root)),)


def test_state_holds_no_material(state: State, root: bytes, keyring: Keyring, tmp_path: Path) -> None:
    keyring.ensure("column/17")
    materials = [root, *(keyring.by_id(key.id).material for key in keyring.list())]
    assert len(materials) == 9
    state.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("state.db*"))
    assert b"column/17" in stored
    assert not any(material in stored for material in materials)


def test_ensure_makes_a_key_once(state: State, root: bytes, keyring: Keyring) -> None:
    made = keyring.ensure("column/17")
    assert (made.id, made.purpose, made.version) == (8, "column/17", 1)
    assert keyring.ensure("column/17") is made
    assert keyring.current("column/17") is made
    assert Keyring.open(state, root).ensure("column/17") == made
    assert keyring.list()[-1].recoverable


def test_ensure_by_many_at_once_makes_one_key(state: State, root: bytes, keyring: Keyring) -> None:
    rings = [keyring, *(Keyring.open(state, root) for _ in range(7))]
    found: list[Key] = []
    threads = [threading.Thread(target=lambda ring=ring: found.append(ring.ensure("column/17"))) for ring in rings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({key.id for key in found}) == 1
    assert len({key.material for key in found}) == 1
    assert len(keyring.list()) == 8


def test_key_ids_are_not_given_twice(state: State, keyring: Keyring) -> None:
    gone = keyring.ensure("column/17").id
    state.write(lambda tx: tx.execute(delete(KEY).where(KEY.c.id == gone)) and None)
    assert keyring.ensure("column/18").id == gone + 1


def test_a_state_that_guard_never_writes_is_tampering(state: State, keyring: Keyring) -> None:
    change(state, 2, state="sealing")
    with pytest.raises(TamperedError, match="key 0000000002 is in no state that guard writes"):
        keyring.list()


def test_a_key_that_lost_its_material_is_tampering(state: State, root: bytes, keyring: Keyring) -> None:
    change(state, 2, wrapped=None)
    with pytest.raises(TamperedError, match=r"\(totp\) has lost its material"):
        Keyring.open(state, root).current("totp")


def test_a_purpose_without_a_key_says_so(keyring: Keyring) -> None:
    with pytest.raises(InterlockError, match="there is no key for column/99"):
        keyring.current("column/99")


def test_a_key_id_that_is_not_there_is_tampering(keyring: Keyring) -> None:
    with pytest.raises(TamperedError, match="key 00000003e7, which this store does not have"):
        keyring.by_id(999)


def test_a_key_is_found_by_its_id(state: State, root: bytes, keyring: Keyring) -> None:
    again = Keyring.open(state, root)
    assert again.by_id(3) == keyring.current("ledger")
    assert again.by_id(3) is again.current("ledger")
    assert again.by_id(1).purpose == "kek"


def test_an_exchanged_key_is_found(state: State, root: bytes, keyring: Keyring) -> None:
    totp, ledger = rows(state)[1:3]
    change(state, totp.id, wrapped=ledger.wrapped, commitment=ledger.commitment)
    with pytest.raises(TamperedError, match=r"key 0000000002 \(totp\) does not open"):
        Keyring.open(state, root).current("totp")


@pytest.mark.parametrize(("key_id", "purpose"), [(1, "kek"), (2, "totp")])
def test_a_key_other_than_the_committed_one_is_found(
    state: State, root: bytes, keyring: Keyring, key_id: int, purpose: str
) -> None:
    change(state, key_id, commitment=bytes(32))
    with pytest.raises(TamperedError, match=rf"\({purpose}\) is not the key that was committed to"):
        Keyring.open(state, root).current(purpose)


def test_a_changed_purpose_is_found(state: State, root: bytes, keyring: Keyring) -> None:
    change(state, 4, purpose="column/17")
    with pytest.raises(TamperedError, match="does not open under its parent"):
        Keyring.open(state, root).current("column/17")


def test_keys_of_another_store_do_not_open(state: State, root: bytes, keyring: Keyring, tmp_path: Path) -> None:
    other = State.create(f"sqlite:///{tmp_path}/other.db", state.clock, UUID(int=8))
    try:
        Keyring.create(other, root, None)
        totp, commitment = rows(state)[1].wrapped, rows(state)[1].commitment
        change(other, 2, wrapped=totp, commitment=commitment)
        with pytest.raises(TamperedError, match=r"\(totp\) does not open"):
            Keyring.open(other, root).current("totp")
        with state.read() as tx:
            kek = tx.execute(select(ROOT.c.wrapped)).scalar_one()
        other.write(lambda tx: tx.execute(update(ROOT).values(wrapped=kek)) and None)
        with pytest.raises(TamperedError, match=r"\(kek\) does not open"):
            Keyring.open(other, root)
    finally:
        other.close()


def test_the_digest_is_keyed_and_told_apart_by_domain(keyring: Keyring) -> None:
    key = keyring.current("digest").material
    expected = hmac.digest(key, parts(b"guard/digest1", b"action", b"{}"), "sha256").hex()
    assert keyring.digest("action", b"{}") == expected == keyring.digest("action", b"{}")
    assert keyring.digest("actio", b"n{}") != expected


@given(domain=st.text(max_size=20), data=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_digest_is_the_same_whatever_was_digested_before(keyring: Keyring, domain: str, data: bytes) -> None:
    key = keyring.current("digest").material
    for each in (data, b"", data):
        expected = hmac.digest(key, parts(b"guard/digest1", domain.encode(), each), "sha256").hex()
        assert keyring.digest(domain, each) == expected


def test_digests_are_those_of_our_vectors(state: State, keyring: Keyring, vectors: Callable[[str], Any]) -> None:
    read = vectors("wrapped_keys.json")
    material = next(bytes.fromhex(key["material"]) for key in read["keys"] if key["purpose"] == "digest")
    key = Key(4, "digest", 1, material)
    change(
        state,
        4,
        wrapped=wrap.wrap(state.store_id, key, keyring.by_id(1)),
        commitment=wrap.commitment(state.store_id, key),
    )
    again = Keyring(state, keyring.by_id(1))
    for case in read["digests"]:
        assert again.digest(case["domain"], bytes.fromhex(case["data"])) == case["digest"]


def test_the_keys_live_in_postgresql_as_well(postgres_url: str, clock: SteppedClock, root: bytes, kit: Kit) -> None:
    state = State.create(postgres_url, clock)
    try:
        keyring = Keyring.create(state, root, kit.public)
        made = keyring.ensure("column/17")
        assert Keyring.open(state, root).by_id(made.id) == made
        private = recovery.combine(kit.shares[1:])
        assert kits.prove(Keyring.recover(state, private).ring, private) == 8
    finally:
        state.close()
