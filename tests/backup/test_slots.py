"""Key slots open a repository without state, for whoever should, and tell when they were changed."""

import pytest

from guard.backup import slots
from guard.backup.repository import Repository
from guard.backup.sealed import Sealing
from guard.crypto import recovery
from guard.crypto.roots import Argon2Params
from guard.errors import ConfigError, DeniedError, InterlockError, TamperedError

SEALING = Sealing(b"r" * 16, {3: b"m" * 32})
CHEAP = Argon2Params(salt=bytes(16), memory=19 * 1024, passes=2, lanes=1)
NAME, RAW = slots.passphrase_slot(SEALING, "Schlüssel für später", CHEAP)


def test_a_passphrase_opens_the_master_key_however_it_was_typed() -> None:
    opened = slots.open_passphrase(NAME, RAW, "Schlüssel für später")
    assert NAME == "keys/passphrase-3"
    assert (opened.repository, dict(opened.masters)) == (b"r" * 16, {3: b"m" * 32})


def test_a_wrong_passphrase_is_denied() -> None:
    with pytest.raises(DeniedError, match="passphrase-3"):
        slots.open_passphrase(NAME, RAW, "schlüssel für später")


def test_two_shares_of_the_kit_open_the_master_key() -> None:
    kit, other = recovery.new_kit(), recovery.new_kit()
    name, raw = slots.recovery_slot(SEALING, kit.public)
    opened = slots.open_recovery(name, raw, recovery.combine(kit.shares[1:]))
    assert dict(opened.masters) == {3: b"m" * 32}
    with pytest.raises(DeniedError, match="recovery kit"):
        slots.open_recovery(name, raw, recovery.combine(other.shares[1:]))


@pytest.mark.parametrize("at", range(0, len(RAW), 7))
def test_who_holds_the_key_sees_every_change_of_a_slot(at: int) -> None:
    slots.check(SEALING, NAME, RAW)
    changed = bytearray(RAW)
    changed[at] ^= 1
    with pytest.raises(TamperedError, match="keys/passphrase-3"):
        slots.check(SEALING, NAME, bytes(changed))


@pytest.mark.parametrize("length", [0, 20, len(RAW) - 1, len(RAW) + 1])
def test_what_is_no_slot_is_refused(length: int) -> None:
    with pytest.raises(TamperedError, match="not a key slot"):
        slots.open_passphrase(NAME, (RAW + b"x")[:length], "x")


def test_a_slot_does_not_open_under_another_name() -> None:
    with pytest.raises(DeniedError):
        slots.open_passphrase("keys/passphrase-4", RAW, "Schlüssel für später")


def test_parameters_that_would_take_the_machine_are_refused() -> None:
    heavy = RAW[:25] + (2**31).to_bytes(4, "big") + RAW[29:]
    with pytest.raises(InterlockError, match="Argon2id"):
        slots.open_passphrase(NAME, heavy, "x")


def test_a_repository_opens_with_what_its_slot_gave(bench, made_up, tmp_path) -> None:
    kit = recovery.new_kit()
    bench.store.objects.clear()
    made = bench.found(recovery_public=kit.public)
    name = f"keys/recovery-{kit.id}-1"
    assert made.config.slots == (name,)
    bench.run(made_up(a=b"saved"))
    sealing = slots.open_recovery(name, bench.store.get(name), recovery.combine(kit.shares[:2]))
    opened = Repository.open(bench.store, sealing.masters)
    assert opened.config == made.config


def test_opening_without_the_key_says_what_is_missing(bench, clock, memory) -> None:
    with pytest.raises(DeniedError, match="version 1"):
        Repository.open(bench.store, {2: bytes(32)})
    with pytest.raises(TamperedError, match="does not open"):
        Repository.open(bench.store, {1: bytes(32)})
    with pytest.raises(ConfigError, match="no repository"):
        Repository.open(memory(clock), {1: bytes(32)})


def test_a_second_init_is_refused(bench) -> None:
    with pytest.raises(InterlockError, match="already"):
        bench.found()


def test_a_repository_that_lost_its_config_is_not_founded_anew(bench, made_up) -> None:
    bench.run(made_up(a=b"x"))
    bench.store.delete("config")
    with pytest.raises(InterlockError, match="without its config"):
        bench.found()


def test_an_interrupted_init_can_be_repeated(bench) -> None:
    kit = recovery.new_kit()
    bench.store.objects.clear()
    name = f"keys/recovery-{kit.id}-1"
    for left in (name, "keys/recovery-0badc0de-1", "keys/passphrase-1"):
        bench.store.put_if_absent(left, b"left by the interrupted one")
    bench.found(recovery_public=kit.public)
    assert [entry.name for entry in bench.store.list("keys/")] == [name]
    slots.check(bench.open().sealing, name, bench.store.get(name))
