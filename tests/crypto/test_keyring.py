"""The keys of a store: made once, opened by the right root, recovered by the right shares, and never exchanged."""

import hmac
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, select, update

from guard.canon import parts
from guard.clock import SteppedClock
from guard.crypto import keyring as module
from guard.crypto import random, recovery, wrap
from guard.crypto.keyring import STORE_KEYS, Key, Keyring, Origin
from guard.crypto.recovery import Kit
from guard.crypto.roots import Argon2Params
from guard.crypto.store import KEY, ROOT
from guard.errors import DeniedError, InterlockError, TamperedError
from guard.state import State

PURPOSES = ("kek", *STORE_KEYS)


def rows(state: State) -> list[Any]:
    with state.read() as tx:
        return list(tx.execute(select(KEY).order_by(KEY.c.id)))


def change(state: State, key_id: int, **values: object) -> None:
    state.write(lambda tx: tx.execute(update(KEY).where(KEY.c.id == key_id).values(**values)) and None)


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


def test_a_store_without_keys_says_so(state: State, root: bytes) -> None:
    assert module.origin(state) is None
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


def test_the_origin_of_the_root_is_remembered(state: State, root: bytes) -> None:
    origin = Origin("passphrase", Argon2Params())
    Keyring.create(state, root, None, origin)
    assert module.origin(state) == origin


def test_a_key_file_is_the_usual_origin(state: State, keyring: Keyring) -> None:
    assert module.origin(state) == Origin("file", None)


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


def test_the_newest_version_is_current_and_older_ones_only_open(state: State, root: bytes, keyring: Keyring) -> None:
    old, newer = keyring.ensure("column/17"), Key(100, "column/17", 2, random.token(32))
    values = {
        "wrapped": wrap.wrap(state.store_id, newer, keyring.by_id(1)),
        "commitment": wrap.commitment(state.store_id, newer),
    }
    columns = {"id": 100, "purpose": "column/17", "version": 2, "made_at": "2026-01-05T09:00:00.000000Z", "parent": 1}
    state.write(lambda tx: tx.execute(KEY.insert().values(**columns, **values)) and None)
    again = Keyring.open(state, root)
    assert again.current("column/17") == newer
    assert again.by_id(old.id) == old
    assert [(key.version, key.state, key.recoverable) for key in again.list()[-2:]] == [
        (1, "old", True),
        (2, "current", False),
    ]


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
        wrapped = rows(state)[0].wrapped
        change(other, 1, wrapped=wrapped)
        with pytest.raises(DeniedError):
            Keyring.open(other, root)
    finally:
        other.close()


def test_the_digest_is_keyed_and_told_apart_by_domain(keyring: Keyring) -> None:
    key = keyring.current("digest").material
    expected = hmac.digest(key, parts(b"guard/digest1", b"action", b"{}"), "sha256").hex()
    assert keyring.digest("action", b"{}") == expected == keyring.digest("action", b"{}")
    assert keyring.digest("actio", b"n{}") != expected


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
        assert Keyring.recover(state, private(kit)).prove_kit(private(kit)) == 8
    finally:
        state.close()


# The recovery kit -----------------------------------------------------------------------------------------------------


def private(kit: Kit) -> bytes:
    return recovery.combine(kit.shares[1:])


def test_two_shares_open_the_keys_without_the_root(state: State, keyring: Keyring, kit: Kit) -> None:
    found = Keyring.recover(state, private(kit))
    assert [found.current(purpose) for purpose in PURPOSES] == [keyring.current(purpose) for purpose in PURPOSES]


def test_the_kit_is_proved_on_every_key(keyring: Keyring, kit: Kit) -> None:
    keyring.ensure("column/17")
    assert keyring.prove_kit(private(kit)) == 8
    assert keyring.recovery_public() == kit.public


def test_shares_of_another_kit_are_denied(state: State, keyring: Keyring) -> None:
    other = private(recovery.new_kit())
    with pytest.raises(DeniedError, match="these are shares of kit"):
        keyring.prove_kit(other)
    with pytest.raises(DeniedError, match="these are shares of kit"):
        Keyring.recover(state, other)


def test_a_store_without_a_kit_says_so(state: State, root: bytes, kit: Kit) -> None:
    keyring = Keyring.create(state, root, None)
    assert keyring.recovery_public() is None
    assert not any(key.recoverable for key in keyring.list())
    with pytest.raises(InterlockError, match="has no recovery kit"):
        keyring.prove_kit(private(kit))
    with pytest.raises(InterlockError, match=r"key 0000000001 \(kek\) is not sealed to the recovery kit"):
        Keyring.recover(state, private(kit))


def test_a_key_that_is_not_sealed_to_the_kit_fails_the_proof(state: State, keyring: Keyring, kit: Kit) -> None:
    change(state, 3, recovery=None)
    with pytest.raises(InterlockError, match=r"key 0000000003 \(ledger\) is not sealed"):
        keyring.prove_kit(private(kit))


def test_a_changed_recovery_seal_fails_the_proof(state: State, keyring: Keyring, kit: Kit) -> None:
    sealed = rows(state)[2].recovery
    change(state, 3, recovery=sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(TamperedError, match=r"key 0000000003 \(ledger\) does not open with the recovery kit"):
        keyring.prove_kit(private(kit))


def test_a_recovery_seal_of_another_key_fails_the_proof(state: State, keyring: Keyring, kit: Kit) -> None:
    """Who knows the public half can seal any key to it; the commitment tells."""
    sheet = Key(3, "ledger", 1, bytes(32))
    change(state, 3, recovery=recovery.seal_to(kit.public, bytes(32), wrap.binding(state.store_id, sheet, 0)))
    with pytest.raises(TamperedError, match="is not the key that was committed to"):
        keyring.prove_kit(private(kit))


def test_a_changed_kek_seal_is_tampering_even_with_the_right_shares(state: State, keyring: Keyring, kit: Kit) -> None:
    change(state, 1, recovery=rows(state)[1].recovery)
    for public in (kit.public, None):
        state.write(lambda tx, half=public: tx.execute(update(ROOT).values(recovery_public=half)) and None)
        with pytest.raises(TamperedError, match=r"\(kek\) does not open with the recovery kit"):
            Keyring.recover(state, private(kit))


def test_a_kit_slipped_into_state_gets_no_key(state: State, keyring: Keyring, kit: Kit) -> None:
    thief = recovery.new_kit()
    state.write(lambda tx: tx.execute(update(ROOT).values(recovery_public=thief.public)) and None)
    for use in (lambda: keyring.ensure("column/17"), keyring.recovery_public, lambda: keyring.prove_kit(private(kit))):
        with pytest.raises(TamperedError, match="not the one that was put there"):
            use()
    assert len(keyring.list()) == 7
    assert Keyring.recover(state, private(kit)).current("totp") == keyring.current("totp")


def test_a_new_kit_replaces_the_old_one_for_every_key(state: State, root: bytes, keyring: Keyring, kit: Kit) -> None:
    keyring.ensure("column/17")
    fresh = recovery.new_kit()
    assert state.write(lambda tx: Keyring.open(state, root).replace_kit(tx, fresh.public)) == 8
    assert keyring.prove_kit(private(fresh)) == 8
    with pytest.raises(DeniedError, match=f"this store seals to kit {fresh.id}"):
        keyring.prove_kit(private(kit))
    assert keyring.ensure("column/18").id == 9
    assert keyring.prove_kit(private(fresh)) == 9


def test_a_new_root_replaces_the_old_one(state: State, root: bytes, keyring: Keyring) -> None:
    fresh = random.token(32)
    state.write(lambda tx: keyring.replace_root(tx, fresh, Origin("passphrase", Argon2Params(bytes(16)))))
    assert Keyring.open(state, fresh).current("totp") == keyring.current("totp")
    assert module.origin(state) == Origin("passphrase", Argon2Params(bytes(16)))
    with pytest.raises(DeniedError, match="does not open the KEK"):
        Keyring.open(state, root)
    state.write(lambda tx: keyring.replace_root(tx, root, Origin()))
    assert module.origin(state) == Origin("file", None)
    assert Keyring.open(state, root).current("totp") == keyring.current("totp")
