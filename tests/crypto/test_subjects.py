"""Keys of people: one each, made together, kept for a minute, wrapped anew, and shredded one at a time."""

import os
import sqlite3
from contextlib import closing, nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guard.canon import key_bytes
from guard.clock import SteppedClock
from guard.crypto import subject_store, xaes
from guard.crypto.envelope import Binding, Place, Sealer
from guard.crypto.keyring import Keyring
from guard.crypto.mirrors import FolderMirror
from guard.crypto.opened import MOST, Opened
from guard.crypto.receipts import Death, Shredder
from guard.crypto.subjects import SHREDDED, Person, SubjectKeys, SubjectOpener, SubjectSealer
from guard.crypto.vault import Vault
from guard.crypto.wrap import Key
from guard.errors import InterlockError, ShreddedError, TamperedError, UnavailableError
from guard.state import State

PLACE = Place(UUID(int=7), 17, Binding.SUBJECT)
ADA, BOB = (Person("customer", key_bytes((number,))) for number in (1, 2))
STEPS = ("log",)


@pytest.fixture
def shredder(state: State, keyring: Keyring, subjects: SubjectKeys) -> Shredder:
    return Shredder(state, keyring, subjects)


@pytest.fixture
def sealer(subjects: SubjectKeys) -> SubjectSealer:
    return SubjectSealer(PLACE, subjects, "customer", "account")


@pytest.fixture
def opener(subjects: SubjectKeys) -> SubjectOpener:
    return SubjectOpener(PLACE, subjects, "customer", "account")


def rows(state: State) -> list[subject_store.Subject]:
    with state.read() as tx:
        return list(subject_store.subjects_by_id(tx, range(100)).values())


def people(count: int) -> list[Person]:
    return [Person("customer", key_bytes((number,))) for number in range(count)]


# Keys -----------------------------------------------------------------------------------------------------------------


def test_each_person_and_class_has_one_key(subjects: SubjectKeys) -> None:
    ada = subjects.for_writing(ADA, "account")
    assert subjects.for_writing(ADA, "account") == ada
    others = [
        subjects.for_writing(*each) for each in ((BOB, "account"), (ADA, "tax"), (Person("staff", ADA.key), "tax"))
    ]
    assert len({ada.id, *(each.id for each in others)}) == 4
    assert len({ada.material, *(each.material for each in others)}) == 4
    assert subjects.classes(ADA) == ("account", "tax")
    assert subjects.classes(Person("customer", b"nobody")) == ()


def test_it_opens_again_by_its_id_and_by_its_person(subjects: SubjectKeys) -> None:
    made = subjects.for_writing(ADA, "account")
    subjects.forget()
    assert subjects.by_id(made.id) == made
    subjects.forget()
    assert subjects.for_writing(ADA, "account") == made
    assert made.purpose == subjects.purpose(ADA, "account")


def test_state_does_not_tell_who_it_is(subjects: SubjectKeys, state: State, keyring: Keyring) -> None:
    mail = Person("customer", key_bytes(("planted@example.org",)))
    key = subjects.for_writing(mail, "account")
    state.scrub()
    assert state.path
    raw = state.path.read_bytes()
    assert b"customer" in raw  # the search finds what is there
    assert b"planted" not in raw
    assert b"planted".hex().encode() not in raw
    assert "planted" not in key.purpose
    assert key.material not in raw


def test_ids_come_from_the_same_counter_as_all_keys(subjects: SubjectKeys, keyring: Keyring) -> None:
    made = [subjects.for_writing(ADA, "account").id, keyring.ensure("column/1").id, subjects.for_writing(BOB, "tax").id]
    assert len({*made, *(key.id for key in keyring.list())}) == len(keyring.list()) + 2
    assert made == sorted(made)


def test_they_are_in_no_recovery_kit(subjects: SubjectKeys, keyring: Keyring) -> None:
    made = subjects.for_writing(ADA, "account")
    assert made.id not in {key.id for key in keyring.list()}


def test_many_are_made_and_opened_in_few_transactions(subjects: SubjectKeys, state: State) -> None:
    everybody = people(4500)

    def generation() -> int:
        with state.read() as tx:
            return int(tx.exec_driver_sql("SELECT max(generation) FROM state_commit").scalar_one())

    subjects.for_writing(ADA, "account")
    before = generation()
    made = subjects.all_for_writing([*everybody, *everybody[:10]], "account")
    assert generation() - before == 3
    assert made[:10] == made[4500:]
    assert made[1] == subjects.for_writing(ADA, "account")
    subjects.forget()
    assert subjects.all_for_writing(everybody, "account") == made[:4500]
    assert generation() - before == 3
    assert subjects.by_ids([key.id for key in made]) == {key.id: key for key in made}


def test_two_processes_that_make_the_same_key_agree(
    subjects: SubjectKeys, state: State, keyring: Keyring, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = SubjectKeys(state, keyring, vault)
    mine = subjects._make
    theirs: list[Key] = []

    def meanwhile(persons, class_):  # the other one is faster, between the look and the write
        theirs.extend(other.all_for_writing([ADA], "account"))
        return mine(persons, class_)

    monkeypatch.setattr(subjects, "_make", meanwhile)
    ada, bob = subjects.all_for_writing([ADA, BOB], "account")
    assert [ada] == theirs
    assert other.for_writing(BOB, "account") == bob


def test_a_key_made_while_the_epoch_turns_is_under_the_new_one(
    subjects: SubjectKeys, vault: Vault, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault.begin()
    begun = []
    key = vault.key

    def turn(epoch_id: int) -> Key:
        if not begun:
            begun.append(vault.begin())
        return key(epoch_id)

    monkeypatch.setattr(vault, "key", turn)
    subjects.for_writing(ADA, "account")
    assert [row.epoch for row in rows(state)] == [begun[0].id]


def test_without_two_mirrors_nothing_is_made(state: State, keyring: Keyring, mirrors: tuple[FolderMirror, ...]) -> None:
    subjects = SubjectKeys(state, keyring, Vault(state, keyring, mirrors[:1], nullcontext))
    with pytest.raises(InterlockError, match="needs 2 mirrors"):
        subjects.for_writing(ADA, "account")
    assert rows(state) == []


def test_a_key_nobody_gave_is_tampering(subjects: SubjectKeys) -> None:
    made = subjects.for_writing(ADA, "account")
    with pytest.raises(TamperedError, match="names key 00000003e7, which is no person's key"):
        subjects.by_ids([made.id, 999])


@pytest.mark.parametrize(
    "change",
    [
        "person = randomblob(32)",
        "kind = 'staff'",
        "class = 'tax'",
        "wrapped = randomblob(64)",
        "wrapped = NULL",
        "commitment = zeroblob(32)",
    ],
)
def test_a_changed_row_does_not_open(subjects: SubjectKeys, state: State, change: str) -> None:
    made = subjects.for_writing(ADA, "account")
    subjects.forget()
    state.write(lambda tx: tx.exec_driver_sql(f"UPDATE subject_key SET {change}") and None)
    with pytest.raises(TamperedError) as told:
        subjects.by_id(made.id)
    assert ADA.key.hex() not in str(told.value)


def test_rows_of_two_people_cannot_be_swapped(subjects: SubjectKeys, state: State) -> None:
    ada, bob = subjects.all_for_writing([ADA, BOB], "account")
    subjects.forget()
    wrapped = {row.id: row.wrapped for row in rows(state)}
    swap = "UPDATE subject_key SET wrapped = ? WHERE id = ?"
    for one, other in ((ada, bob), (bob, ada)):
        state.write(lambda tx, to=one.id, of=other.id: tx.exec_driver_sql(swap, (wrapped[of], to)) and None)
    with pytest.raises(TamperedError, match="does not open under its parent"):
        subjects.by_id(ada.id)


# What is kept in memory -----------------------------------------------------------------------------------------------


def key(number: int) -> Key:
    return Key(number, "subject", 1, bytes(32))


def test_an_opened_key_is_kept_for_a_minute(subjects: SubjectKeys, clock: SteppedClock, state: State) -> None:
    made = subjects.for_writing(ADA, "account")
    state.write(lambda tx: subject_store.wipe(tx, [made.id], clock.now()))  # by another process
    clock.step(timedelta(seconds=60))
    assert subjects.by_id(made.id) == made
    clock.step(timedelta(seconds=1))
    with pytest.raises(ShreddedError):
        subjects.by_id(made.id)


def test_few_are_kept_and_the_least_used_go_first(clock: SteppedClock) -> None:
    opened = Opened(clock)
    opened.keep(((b"p", str(number)), key(number)) for number in range(MOST))
    assert opened.by_id(0) is not None
    opened.keep([((b"p", "more"), key(MOST))])
    assert len(opened) == MOST
    assert opened.by_id(0) is not None
    assert opened.by_id(1) is None
    assert opened.of((b"p", "1")) is None
    assert opened.of((b"p", "more")) == key(MOST)


def test_what_is_too_old_leaves_memory_with_the_ciphers_copies(clock: SteppedClock) -> None:
    opened = Opened(clock)
    opened.keep([((b"p", "c"), key(1))])
    xaes.subcipher(bytes(32), bytes(12))
    clock.step(timedelta(seconds=61))
    assert opened.by_id(2) is None
    assert len(opened) == 0
    assert xaes.subcipher.cache_info().currsize == xaes._schedule.cache_info().currsize == 0


def test_a_forked_child_and_a_clock_that_went_back_find_nothing(clock: SteppedClock) -> None:
    opened = Opened(clock)
    opened.keep([((b"p", "c"), key(1))])
    child = os.fork()
    if child == 0:
        os._exit(0 if opened.by_id(1) is None and opened.of((b"p", "c")) is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert opened.by_id(1) is not None
    clock.step(timedelta(seconds=-1))
    assert opened.by_id(1) is None


# Values ---------------------------------------------------------------------------------------------------------------


def test_values_open_for_their_person_only(sealer: SubjectSealer, opener: SubjectOpener) -> None:
    sealed = sealer.seal_all(["Ada", "Bob", "Ada too"], [ADA.key, BOB.key, ADA.key])
    assert opener.open_all(sealed, [ADA.key, BOB.key, ADA.key]) == ["Ada", "Bob", "Ada too"]
    assert opener.open(sealer.seal(5, ADA.key), ADA.key) == 5
    for value, bound in ((sealed[0], BOB.key), (sealed[1], ADA.key), (sealed[0][:-1], ADA.key)):
        with pytest.raises(TamperedError):
            opener.open(value, bound)
    assert opener.open_all([], []) == []


@given(st.lists(st.tuples(st.text(), st.integers(0, 5)), max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_they_come_back_as_they_were(
    sealer: SubjectSealer, opener: SubjectOpener, found: list[tuple[str, int]]
) -> None:
    values, bounds = [text for text, _ in found], [key_bytes((number,)) for _, number in found]
    assert opener.open_all(sealer.seal_all(values, bounds), bounds) == values


def test_a_value_under_another_persons_or_classes_key_is_refused(subjects: SubjectKeys, opener: SubjectOpener) -> None:
    """Whoever holds one person's key must not be able to write what outlives another's shredding."""
    for person, class_ in ((BOB, "account"), (ADA, "tax"), (Person("staff", ADA.key), "account")):
        forged = Sealer(PLACE, subjects.for_writing(person, class_)).seal("x", ADA.key)
        with pytest.raises(TamperedError, match="is under a key that is not its person's"):
            opener.open(forged, ADA.key)


def test_a_column_key_is_no_persons_key(keyring: Keyring, opener: SubjectOpener) -> None:
    forged = Sealer(PLACE, keyring.ensure("column/17")).seal("x", ADA.key)
    with pytest.raises(TamperedError, match="is no person's key"):
        opener.open(forged, ADA.key)


def test_lengths_must_fit(sealer: SubjectSealer, opener: SubjectOpener) -> None:
    with pytest.raises(ValueError, match="1 values, but 0 persons"):
        sealer.seal_all(["x"], [])
    with pytest.raises(ValueError, match="0 values, but 1 persons"):
        opener.open_all([], [ADA.key])


# Shredding ------------------------------------------------------------------------------------------------------------


def test_a_shredded_persons_values_are_marked_and_the_others_open(
    sealer: SubjectSealer, opener: SubjectOpener, shredder: Shredder
) -> None:
    bounds = [ADA.key, BOB.key, ADA.key]
    sealed = sealer.seal_all(["a", "b", "c"], bounds)
    assert shredder.shred(Death(ADA, "account", "run", STEPS)) is not None
    assert opener.open_each(sealed, bounds) == [SHREDDED, "b", SHREDDED]
    with pytest.raises(ShreddedError, match="2 of 3 values of column 17 were shredded"):
        opener.open_all(sealed, bounds)
    with pytest.raises(ShreddedError):
        opener.open(sealed[0], ADA.key)
    assert opener.open(sealed[1], BOB.key) == "b"


def test_only_the_class_goes(subjects: SubjectKeys, shredder: Shredder) -> None:
    tax, account = (subjects.for_writing(ADA, name) for name in ("tax", "account"))
    receipt = shredder.shred(Death(ADA, "account", "run", STEPS))
    assert receipt is not None
    assert (receipt.key_id, receipt.class_, receipt.kind) == (account.id, "account", "customer")
    assert subjects.by_id(tax.id) == tax
    with pytest.raises(ShreddedError, match=f"key {account.id:010x} of a person was shredded"):
        subjects.by_id(account.id)
    assert shredder.shred(Death(ADA, "account", "run", STEPS)) is None


def test_the_wrapped_bytes_are_in_no_file_of_state_any_more(
    subjects: SubjectKeys, shredder: Shredder, state: State
) -> None:
    made = subjects.for_writing(ADA, "account")
    wrapped = next(row.wrapped for row in rows(state) if row.id == made.id)
    assert wrapped
    assert state.path

    def found() -> list[str]:
        return [path.name for path in state.path.parent.glob("state.db*") if wrapped in path.read_bytes()]

    assert found() != []
    shredder.shred(Death(ADA, "account", "run", STEPS))
    state.scrub()
    assert found() == []


def test_who_comes_back_gets_a_new_key(subjects: SubjectKeys, shredder: Shredder) -> None:
    old = subjects.for_writing(ADA, "account")
    shredder.shred(Death(ADA, "account", "run", STEPS))
    new = subjects.for_writing(ADA, "account")
    assert new.id != old.id
    assert subjects.by_ids([old.id, new.id]) == {old.id: None, new.id: new}
    assert len(shredder.receipts(ADA)) == 1


def test_a_receipt_tells_whom_until_all_is_done_and_then_nobody(
    subjects: SubjectKeys, shredder: Shredder, clock: SteppedClock
) -> None:
    subjects.for_writing(ADA, "account")
    receipt = shredder.shred(Death(ADA, "account", "run", ("log", "tokens")))
    assert receipt is not None
    assert shredder.unfinished() == shredder.receipts(ADA) == shredder.of_run("run") == [receipt]
    assert shredder.receipts(BOB) == []
    assert shredder.who(receipt) == ADA
    assert receipt.who is not None
    for at in range(5, len(receipt.who)):
        with pytest.raises(TamperedError, match="does not tell whom it is about"):
            shredder.who(replace(receipt, who=receipt.who[:at] + bytes([receipt.who[at] ^ 1]) + receipt.who[at + 1 :]))
    clock.step(timedelta(minutes=1))
    (after,) = shredder.did([receipt], "tokens", {receipt.id: 3})
    assert (after.left, after.rows, after.ended_at) == (("log",), 3, None)
    (done,) = shredder.did([after], "log")
    assert (done.left, done.rows, done.who, done.ended_at) == ((), 3, None, clock.now())
    assert shredder.unfinished() == []
    with pytest.raises(TamperedError):
        shredder.who(done)


def test_a_receipt_somebody_else_wrote_is_not_believed(subjects: SubjectKeys, shredder: Shredder, state: State) -> None:
    subjects.for_writing(ADA, "account")
    receipt = shredder.shred(Death(ADA, "account", "run", STEPS))
    assert receipt is not None
    later = "2027-01-01T00:00:00.000000Z"
    state.write(lambda tx: tx.exec_driver_sql("UPDATE shred_receipt SET at = ?", (later,)) and None)
    with pytest.raises(TamperedError, match=f"shred_receipt {receipt.id} is not what guard wrote"):
        shredder.receipts()


def test_a_key_made_later_than_a_shredding_stays(
    subjects: SubjectKeys, shredder: Shredder, clock: SteppedClock
) -> None:
    at = clock.now()
    clock.step(timedelta(minutes=1))
    new = subjects.for_writing(ADA, "account")
    assert not shredder.lives(ADA, "account", at)
    assert shredder.shred(Death(ADA, "account", "run", STEPS, at)) is None
    assert shredder.lives(ADA, "account", clock.now())
    assert not shredder.lives(ADA, "tax", clock.now())
    assert subjects.by_id(new.id) == new
    assert shredder.shred(Death(ADA, "account", "run", STEPS, clock.now())) is not None


# The end of an epoch --------------------------------------------------------------------------------------------------


def test_the_living_are_wrapped_anew_and_nothing_sealed_changes(
    subjects: SubjectKeys, vault: Vault, sealer: SubjectSealer, opener: SubjectOpener, state: State
) -> None:
    bounds = [each.key for each in people(5)]
    sealed = sealer.seal_all(["x"] * 5, bounds)
    old = vault.ensure()
    new = vault.begin()
    told: list[tuple[int, int | None]] = []
    assert subjects.left_under([old]) == 5
    assert subjects.rewrap([old], new, lambda _, done, total=None: told.append((done, total))) == 5
    assert told == [(5, 5)]
    assert subjects.rewrap([old], new) == 0
    assert subjects.left_under([old]) == 0
    assert subjects.prove(new) == 5
    subjects.close([old])
    assert vault.delete(vault.epochs()[0]).failed == {}
    subjects.forget()
    assert opener.open_all(sealed, bounds) == ["x"] * 5
    assert {row.epoch for row in rows(state)} == {new.id}


def test_an_epoch_that_living_people_need_is_not_closed(subjects: SubjectKeys, vault: Vault) -> None:
    subjects.for_writing(ADA, "account")
    old = vault.ensure()
    vault.begin()
    with pytest.raises(InterlockError, match="1 keys of living people are still under"):
        subjects.close([old])
    assert vault.epochs()[0].closed_at is None


def test_the_shredded_are_not_wrapped_anew(
    subjects: SubjectKeys, vault: Vault, shredder: Shredder, state: State
) -> None:
    made = subjects.all_for_writing([ADA, BOB], "account")
    shredder.shred(Death(ADA, "account", "run", STEPS))
    old = vault.ensure()
    assert subjects.rewrap([old], vault.begin()) == 1
    assert {row.id: row.wrapped is None for row in rows(state)} == {made[0].id: True, made[1].id: False}


def test_a_key_that_does_not_open_stops_the_turn(subjects: SubjectKeys, vault: Vault, state: State) -> None:
    subjects.for_writing(ADA, "account")
    old, new = vault.ensure(), vault.begin()
    state.write(lambda tx: tx.exec_driver_sql("UPDATE subject_key SET wrapped = randomblob(64)") and None)
    with pytest.raises(TamperedError, match="is not a wrapped key"):
        subjects.rewrap([old], new)
    with pytest.raises(TamperedError):
        subjects.prove(new)


def test_what_was_proved_is_read_from_every_mirror(
    subjects: SubjectKeys, vault: Vault, mirrors: tuple[FolderMirror, ...]
) -> None:
    subjects.for_writing(ADA, "account")
    epoch = vault.ensure()
    assert subjects.prove(epoch) == 1
    mirrors[1].root.rename(mirrors[1].root.with_name("away"))
    with pytest.raises(UnavailableError):
        subjects.prove(epoch)


def test_keys_newer_than_a_backup_are_counted(subjects: SubjectKeys, clock: SteppedClock) -> None:
    subjects.all_for_writing(people(3), "account")
    saved = clock.now()
    clock.step(timedelta(hours=1))
    subjects.for_writing(Person("customer", b"new"), "account")
    assert subjects.unsaved(None) == (4, 4)
    assert subjects.unsaved(saved) == (1, 4)
    assert subjects.unsaved(clock.now()) == (0, 4)


def test_fate(subjects: SubjectKeys, shredder: Shredder, vault: Vault, clock: SteppedClock) -> None:
    subjects.all_for_writing([ADA, BOB], "account")
    receipt = shredder.shred(Death(ADA, "account", "run", STEPS))
    assert receipt is not None

    def fate() -> tuple[object, ...]:
        found = shredder.fate(receipt, {epoch.id: epoch for epoch in vault.epochs()})
        return found.dead_at, found.until and f"{found.until:%Y-%m-%d}", found.late

    assert fate() == (None, "2026-02-01", False)
    clock.step(timedelta(days=30))
    assert fate() == (None, "2026-02-01", True)
    old = vault.epochs()[0]
    subjects.rewrap([old], vault.begin())
    subjects.close([old])
    vault.delete(vault.epochs()[0])
    assert fate() == (clock.now(), None, False)


def test_a_state_in_postgresql_holds_them_too(postgres_url: str, clock: SteppedClock, tmp_path: Path) -> None:
    state = State.create(postgres_url, clock, UUID(int=7))
    try:
        keyring = Keyring.create(state, bytes(32), None)
        for name in ("one", "two"):
            (tmp_path / name).mkdir(mode=0o700)
        vault = Vault(state, keyring, [FolderMirror(name, tmp_path / name) for name in ("one", "two")], nullcontext)
        subjects = SubjectKeys(state, keyring, vault)
        shredder = Shredder(state, keyring, subjects)
        ada, bob = subjects.all_for_writing([ADA, BOB], "account")
        receipt = shredder.shred(Death(ADA, "account", "run", STEPS))
        assert receipt is not None
        state.scrub("subject_key", "shred_receipt")
        assert shredder.did([receipt], "log")[0].left == ()
        again = subjects.for_writing(ADA, "account")
        old = vault.ensure()
        assert subjects.rewrap([old], vault.begin()) == 2
        subjects.close([old])
        vault.delete(vault.epochs()[0])
        subjects.forget()
        assert subjects.by_ids([ada.id, bob.id, again.id]) == {ada.id: None, bob.id: bob, again.id: again}
    finally:
        state.close()


def test_one_person_has_one_living_key_by_the_database(subjects: SubjectKeys, state: State) -> None:
    subjects.for_writing(ADA, "account")
    assert state.path
    state.scrub()
    copied = "SELECT 999, person, kind, class, epoch, wrapped, commitment, made_at, NULL FROM subject_key"
    with closing(sqlite3.connect(state.path)) as raw, pytest.raises(sqlite3.IntegrityError):
        raw.execute(f"INSERT INTO subject_key {copied}")
