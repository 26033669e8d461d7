"""What is sealed to the recovery kit: every key, to the one kit that was put there, and proved by two shares."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from guard.clock import SteppedClock
from guard.crypto import kit as module
from guard.crypto import recovery, rewrap, wrap
from guard.crypto.keyring import STORE_KEYS, Key, Keyring
from guard.crypto.recovery import Kit
from guard.crypto.store import KEY, RING
from guard.errors import DeniedError, InterlockError, TamperedError
from guard.state import State

PURPOSES = ("kek", *STORE_KEYS)


def private(kit: Kit) -> bytes:
    return recovery.combine(kit.shares[1:])


def rows(state: State) -> list[Any]:
    with state.read() as tx:
        return list(tx.execute(select(KEY).order_by(KEY.c.id)))


def change(state: State, key_id: int, **values: object) -> None:
    state.write(lambda tx: tx.execute(update(KEY).where(KEY.c.id == key_id).values(**values)) and None)


def test_two_shares_open_the_keys_without_the_root(state: State, keyring: Keyring, kit: Kit) -> None:
    found = Keyring.recover(state, private(kit))
    assert [found.current(purpose) for purpose in PURPOSES] == [keyring.current(purpose) for purpose in PURPOSES]


def test_who_has_no_root_cannot_wrap_under_the_roots(state: State, keyring: Keyring, kit: Kit) -> None:
    with pytest.raises(InterlockError, match="opened with the recovery kit, not with a root"):
        rewrap.next_kek(Keyring.recover(state, private(kit)).ring)


def test_the_kit_is_proved_on_every_key(keyring: Keyring, kit: Kit) -> None:
    keyring.ensure("column/17")
    assert module.prove(keyring.ring, private(kit)) == 8
    assert keyring.recovery_public() == kit.public


def test_a_kit_opens_no_backup_from_before_it(state: State, root: bytes, clock: SteppedClock) -> None:
    keyring = Keyring.create(state, root, None)
    clock.step(timedelta(hours=1))
    state.write(lambda tx: module.replace(keyring.ring, tx, recovery.new_kit().public))
    assert keyring.changed_at() == clock.now()


def test_shares_of_another_kit_are_denied(state: State, keyring: Keyring) -> None:
    other = private(recovery.new_kit())
    with pytest.raises(DeniedError, match="these are shares of kit"):
        module.prove(keyring.ring, other)
    with pytest.raises(DeniedError, match="these are shares of kit"):
        Keyring.recover(state, other)


def test_a_store_without_a_kit_says_so(state: State, root: bytes, kit: Kit) -> None:
    keyring = Keyring.create(state, root, None)
    assert keyring.recovery_public() is None
    assert not any(key.recoverable for key in keyring.list())
    assert module.dates(keyring.ring).made_at is None
    with pytest.raises(InterlockError, match="has no recovery kit"):
        module.prove(keyring.ring, private(kit))
    with pytest.raises(InterlockError, match=r"key 0000000001 \(kek\) is not sealed to the recovery kit"):
        Keyring.recover(state, private(kit))


def test_a_key_that_is_not_sealed_to_the_kit_fails_the_proof(state: State, keyring: Keyring, kit: Kit) -> None:
    change(state, 3, recovery=None)
    with pytest.raises(InterlockError, match=r"key 0000000003 \(ledger\) is not sealed"):
        module.prove(keyring.ring, private(kit))


def test_a_changed_recovery_seal_fails_the_proof(state: State, keyring: Keyring, kit: Kit) -> None:
    sealed = rows(state)[2].recovery
    change(state, 3, recovery=sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(TamperedError, match=r"key 0000000003 \(ledger\) does not open with the recovery kit"):
        module.prove(keyring.ring, private(kit))


def test_a_recovery_seal_of_another_key_fails_the_proof(state: State, keyring: Keyring, kit: Kit) -> None:
    """Who knows the public half can seal any key to it; the commitment tells."""
    sheet = Key(3, "ledger", 1, bytes(32))
    change(state, 3, recovery=recovery.seal_to(kit.public, bytes(32), wrap.binding(state.store_id, sheet, 0)))
    with pytest.raises(TamperedError, match="is not the key that was committed to"):
        module.prove(keyring.ring, private(kit))


def test_a_changed_kek_seal_is_tampering_even_with_the_right_shares(state: State, keyring: Keyring, kit: Kit) -> None:
    change(state, 1, recovery=rows(state)[1].recovery)
    for public in (kit.public, None):
        state.write(lambda tx, half=public: tx.execute(update(RING).values(recovery_public=half)) and None)
        with pytest.raises(TamperedError, match=r"\(kek\) does not open with the recovery kit"):
            Keyring.recover(state, private(kit))


def test_a_kit_slipped_into_state_gets_no_key(state: State, keyring: Keyring, kit: Kit) -> None:
    thief = recovery.new_kit()
    state.write(lambda tx: tx.execute(update(RING).values(recovery_public=thief.public)) and None)
    kek, under = rewrap.next_kek(keyring.ring)
    for use in (
        lambda: keyring.ensure("column/17"),
        lambda: keyring.rotate("totp"),
        keyring.recovery_public,
        lambda: module.prove(keyring.ring, private(kit)),
        lambda: state.write(lambda tx: rewrap.rewrap(keyring.ring, tx, kek, under)),
    ):
        with pytest.raises(TamperedError, match="not the one that was put there"):
            use()
    assert len(keyring.list()) == 7
    assert Keyring.recover(state, private(kit)).current("totp") == keyring.current("totp")


def test_a_new_kit_replaces_the_old_one_for_every_key(state: State, root: bytes, keyring: Keyring, kit: Kit) -> None:
    keyring.ensure("column/17")
    fresh = recovery.new_kit()
    assert state.write(lambda tx: module.replace(Keyring.open(state, root).ring, tx, fresh.public)) == 8
    assert module.prove(keyring.ring, private(fresh)) == 8
    with pytest.raises(DeniedError, match=f"this store seals to kit {fresh.id}"):
        module.prove(keyring.ring, private(kit))
    assert keyring.ensure("column/18").id == 9
    assert module.prove(keyring.ring, private(fresh)) == 9


def test_a_key_that_does_not_open_keeps_the_old_kit(state: State, root: bytes, keyring: Keyring, kit: Kit) -> None:
    change(state, 5, wrapped=rows(state)[1].wrapped)
    with pytest.raises(TamperedError, match="does not open"):
        state.write(lambda tx: module.replace(Keyring.open(state, root).ring, tx, recovery.new_kit().public))
    assert keyring.recovery_public() == kit.public
    assert module.prove(keyring.ring, private(kit)) == 7


def test_what_is_destroyed_is_in_no_kit(state: State, keyring: Keyring, kit: Kit, clock: SteppedClock) -> None:
    keyring.ensure("column/17")
    keyring.rotate("column/17")
    state.write(lambda tx: keyring.activate(tx, 9, clock.now()))
    state.write(lambda tx: keyring.retire(tx, 8, lambda _: ()))
    state.write(lambda tx: keyring.destroy(tx, 8, lambda _: ()))
    assert rows(state)[7].recovery is None
    assert module.prove(keyring.ring, private(kit)) == 8
    fresh = recovery.new_kit()
    assert state.write(lambda tx: module.replace(keyring.ring, tx, fresh.public)) == 8
    assert rows(state)[7].recovery is None


def test_when_it_was_made_and_tested_is_remembered(state: State, keyring: Keyring, clock: SteppedClock) -> None:
    made = clock.now()
    assert (module.dates(keyring.ring).made_at, module.dates(keyring.ring).tested_at) == (made, None)
    clock.step(timedelta(days=3))
    state.write(lambda tx: module.note_tested(keyring.ring, tx))
    assert module.dates(keyring.ring).tested_at == clock.now()
    state.write(lambda tx: module.replace(keyring.ring, tx, recovery.new_kit().public))
    assert (module.dates(keyring.ring).made_at, module.dates(keyring.ring).tested_at) == (clock.now(), None)


def test_another_process_that_wrapped_anew_is_no_thief(state: State, root: bytes, keyring: Keyring, kit: Kit) -> None:
    other = Keyring.open(state, root)
    kek, under = rewrap.next_kek(other.ring)
    state.write(lambda tx: rewrap.rewrap(other.ring, tx, kek, under))
    assert keyring.recovery_public() == kit.public
    assert module.prove(keyring.ring, private(kit)) == 7
