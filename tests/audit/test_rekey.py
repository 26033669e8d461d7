"""The ledger's key is changed on the record: both keys sign the change, each signs only its time, any leads to all."""

import shutil
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError

from guard.audit import Ledger, Query, verify
from guard.audit.checkpoint import Checkpoint
from guard.audit.rekey import REKEY, Keys, Rekey, Seeds
from guard.audit.store import CHECKPOINT, Kind, checkpoints
from guard.audit.verdict import Trust
from guard.config.audit import AuditPolicy
from guard.crypto.sign import Signer, Verifier, split_note
from guard.errors import TamperedError
from guard.events import GUARD, Event, RunId
from guard.state import State

Make = Callable[[int], Event]
RUN = RunId("ab" * 16)
SEED = bytes(range(32))


@pytest.fixture
def told(house, make_event: Make):
    """A ledger of three keys, in commits of one to three entries over some hours."""
    number = 0
    for key in range(3):
        for count in (1, 2, 3, 1, 2):
            house.add(*[make_event(number + each) for each in range(count)])
            number += count
            house.clock.step(timedelta(minutes=23))
        if key < 2:
            house.rekey(make_event(number), make_event(number + 1))
            number += 3
    house.ledger.anchor()
    return house


def kept(house) -> list[tuple[int, str, str]]:
    with house.state.read() as tx:
        return checkpoints(tx)


def signers(house, note: str) -> list[int]:
    """Return the versions of the key that signed a note, by the key ids of its lines alone."""
    text, lines = split_note(note)
    origin = text.split("\n")[0]
    ids = [Signer(seed, origin).verifier.key_id for seed in house.keys.seeds]
    return [ids.index(key_id) + 1 for name, key_id, _ in lines if name == origin]


def test_each_key_signs_its_own_time_and_both_sign_the_change(told) -> None:
    changes = [entry.n for entry in told.ledger.list(Query(what=REKEY))]
    assert changes == [9, 21]
    by = {size: signers(told, note) for size, _, note in kept(told)}
    assert by[12] == [1, 2]
    assert by[24] == [2, 3]
    assert all(each == [1] for size, each in by.items() if size <= 9)
    assert all(each == [2] for size, each in by.items() if 12 < size <= 21)
    assert all(each == [3] for size, each in by.items() if size > 24)
    assert [size for size, kind, _ in kept(told) if kind == "rekeyed"] == [12, 24]


def test_the_entry_says_which_key_follows_which(told) -> None:
    first, second = told.ledger.list(Query(what=REKEY))
    vkeys = [Signer(seed, f"guard-ledger/{told.state.store_id}").vkey for seed in told.keys.seeds]
    assert (first.facts, first.counts) == ({"old": vkeys[0], "new": vkeys[1]}, {"version": 2})
    assert (second.facts, second.counts) == ({"old": vkeys[1], "new": vkeys[2]}, {"version": 3})
    assert told.ledger.vkey == vkeys[2]


def test_any_key_of_the_ledger_leads_to_all_others(told) -> None:
    origin = f"guard-ledger/{told.state.store_id}"
    for seed in told.keys.seeds:
        with told.state.read() as tx:
            trust = Trust(Signer(seed, origin).verifier, [], AuditPolicy(), told.clock.now())
            found = verify.inspect(tx, trust)
        assert [each.n for each in found.rekeys] == [9, 21]
        assert found.vkey == told.ledger.vkey == found.rekeys[-1].vkey


def test_a_key_of_nobody_leads_nowhere(told) -> None:
    with told.state.read() as tx:
        trust = Trust(
            Signer(b"k" * 32, f"guard-ledger/{told.state.store_id}").verifier, [], AuditPolicy(), told.clock.now()
        )
        with pytest.raises(TamperedError, match=r"the trusted key \w+ is none of those"):
            verify.inspect(tx, trust)


def test_old_seeds_are_needed_no_more(told, make_event: Make) -> None:
    """As after `keys retire` and `keys destroy`: the public keys stand in the entries."""
    alone = Ledger(told.state, lambda: Seeds(told.keys.seeds[-1]), [told.anchor])
    assert alone.inspect().size == told.ledger.inspect().size
    told.state.attach(alone.append)
    told.add(make_event(1))
    alone.anchor()
    assert alone.verify().tail == 0


def test_another_process_follows(house, make_event: Make) -> None:
    other = State.open(f"sqlite:///{house.folder}/state.db", house.clock)
    second = Ledger(other, house.keys, [house.anchor])
    other.attach(second.append)
    house.add(make_event(0))
    other.write(lambda tx: None, make_event(1))
    house.rekey()
    other.write(lambda tx: None, make_event(2))
    assert second.vkey == house.ledger.vkey
    assert signers(house, house.ledger.checkpoint()) == [2]
    house.add(make_event(3))
    second.anchor()
    assert second.verify().size == 5
    other.close()


def test_a_process_that_has_the_ledger_open_verifies_and_restarts_after_the_change(house, make_event: Make) -> None:
    house.add(make_event(0))
    house.rekey()
    assert house.ledger.inspect().rekeys[0].n == 1
    assert house.ledger.restart().size == 2
    house.ledger.anchor()
    assert house.ledger.verify().anchored == 2


def test_a_commit_that_is_rolled_back_leaves_the_old_key(house, make_event: Make) -> None:
    house.add(make_event(0))

    def append_and_fail(tx, events) -> None:
        house.ledger.append(tx, events)
        raise ZeroDivisionError

    house.keys.waiting = b"w" * 32
    house.state.attach(append_and_fail)
    with pytest.raises(ZeroDivisionError):
        house.state.write(lambda tx: None, house.ledger.rekey(b"w" * 32, 2).event(GUARD, RUN))
    house.state.attach(house.ledger.append)
    house.add(make_event(1))
    assert signers(house, house.ledger.checkpoint()) == [1]
    assert house.inspect().rekeys == ()


def test_a_key_changes_only_first_and_from_the_one_that_signs(told, make_event: Make) -> None:
    told.keys.waiting = b"w" * 32
    good = told.ledger.rekey(b"w" * 32, 4)
    before = told.ledger.checkpoint()
    origin = good.old.name
    first = Signer(told.keys.seeds[0], origin).verifier
    for wrong in (
        replace(good, old=first),
        replace(good, new=first),
        replace(
            good, old=good.old.named(f"{origin}/0011223344556677"), new=good.new.named(f"{origin}/0011223344556677")
        ),
    ):
        with pytest.raises(ValueError, match="the key changes from the one that signs now"):
            told.add(wrong.event(GUARD, RUN))
    with pytest.raises(ValueError, match="first event of a commit"):
        told.add(make_event(1), good.event(GUARD, RUN))
    with pytest.raises(ValueError, match="first event of a commit"):
        told.add(good.event(GUARD, RUN), good.event(GUARD, RUN))
    with pytest.raises(ValueError, match="lacks new"):
        told.add(replace(good.event(GUARD, RUN), facts={"old": good.old.vkey}))
    with pytest.raises(ValueError, match="no two keys of one log"):
        told.add(replace(good, new=good.old).event(GUARD, RUN))
    with pytest.raises(ValueError, match="names a key that is none"):
        told.add(replace(good.event(GUARD, RUN), facts={"old": good.old.vkey, "new": "x"}))
    stranger = replace(good, new=Signer(b"z" * 32, origin).verifier)
    with pytest.raises(TamperedError, match="do not hold the one that signs"):
        told.add(stranger.event(GUARD, RUN))
    assert told.ledger.checkpoint() == before
    told.add(good.event(GUARD, RUN))
    told.keys.activate()
    assert len(told.inspect().rekeys) == 3


def test_the_first_entry_cannot_change_the_key(house) -> None:
    house.keys.waiting = b"w" * 32
    with pytest.raises(ValueError, match="not before there is an entry"):
        house.add(house.ledger.rekey(b"w" * 32, 2).event(GUARD, RUN))


def test_a_change_beside_the_writes_of_others_comes_first_all_the_same(house, make_event: Make) -> None:
    """The writer takes works together; one with a change of key is then committed alone."""
    import threading

    house.add(make_event(0))
    house.keys.waiting = b"w" * 32
    found = house.ledger.rekey(b"w" * 32, 2)
    entered, go = threading.Event(), threading.Event()

    def slow(tx) -> None:
        entered.set()
        go.wait(10)

    works = [
        threading.Thread(target=house.state.write, args=(slow, make_event(1))),
        threading.Thread(target=house.state.write, args=(lambda tx: None, make_event(2))),
        threading.Thread(target=house.state.write, args=(lambda tx: None, found.event(GUARD, RUN))),
        threading.Thread(target=house.state.write, args=(lambda tx: None, make_event(3))),
    ]
    works[0].start()
    assert entered.wait(10)
    for work in works[1:]:
        work.start()
    while house.state.waiting < 3:
        pass
    go.set()
    for work in works:
        work.join(10)
    house.keys.activate()
    verdict = house.inspect()
    assert (verdict.size, len(verdict.rekeys)) == (5, 1)


# What is found -------------------------------------------------------------------------------------------------------


def text_of(note: str) -> str:
    return note.partition("\n\n")[0] + "\n"


def put(house, size: int, kind: str, note: str) -> None:
    with house.state.database.writer.begin() as tx:
        here = (CHECKPOINT.c.size == size) & (CHECKPOINT.c.kind == kind)
        tx.execute(update(CHECKPOINT).where(here).values(note=note))


def test_a_checkpoint_of_a_key_out_of_its_time_is_found(told) -> None:
    """Everybody who ever held a key of the ledger, and the database: what they sign outside of its time is found."""
    looked = 0
    for size, kind, note in kept(told):
        right = signers(told, note)
        for version, seed in enumerate(told.keys.seeds, 1):
            if right == [version]:
                continue
            put(told, size, kind, told.sign(text_of(note), seed))
            with pytest.raises(TamperedError, match=rf"ledger entry {size - 1}: .*it is signed by the key \w+, not by"):
                told.inspect()
            looked += 1
        put(told, size, kind, note)
    assert looked == 20
    assert told.inspect().tail == 0


@pytest.mark.parametrize("change", ["swapped", "old alone", "new alone", "twice", "another beside"])
def test_the_change_is_signed_by_both_in_order_and_by_nobody_else(told, change: str) -> None:
    size, kind, note = next(each for each in kept(told) if each[1] == "rekeyed")
    head, (old, new) = text_of(note), note.split("\n\n")[1].splitlines()
    other = told.sign(head, b"o" * 32).split("\n\n")[1].strip()
    lines = {
        "swapped": [new, old], "old alone": [old], "new alone": [new], "twice": [old, old, new],
        "another beside": [old, new, other],
    }[change]  # fmt: skip
    put(told, size, kind, head + "\n" + "".join(f"{line}\n" for line in lines))
    with pytest.raises(TamperedError, match=f"ledger entry {size - 1}: .*signed by the key"):
        told.inspect()


def test_every_byte_of_the_note_behind_a_change_counts(told) -> None:
    size, kind, note = next(each for each in kept(told) if each[1] == "rekeyed")
    for at in range(len(note)):
        put(told, size, kind, note[:at] + chr(ord(note[at]) ^ 1) + note[at + 1 :])
        with pytest.raises(TamperedError):
            told.inspect()


def test_a_change_whose_checkpoint_is_gone_is_found(told) -> None:
    with told.state.database.writer.begin() as tx:
        tx.execute(delete(CHECKPOINT).where(CHECKPOINT.c.kind == "rekeyed", CHECKPOINT.c.size == 12))
    with pytest.raises(TamperedError, match=r"has 2 entries audit\.rekey, and keeps 1 checkpoints"):
        told.inspect()


@pytest.mark.parametrize("size", ["'x'", "x'00'", "12.5", "NULL"])
def test_a_checkpoint_whose_size_is_no_number_is_found(told, size: str) -> None:
    with told.state.database.writer.connect() as tx, tx.begin() as transaction:
        try:
            tx.exec_driver_sql(f"UPDATE ledger_checkpoint SET size = {size} WHERE kind = 'rekeyed' AND size = 12")
        except IntegrityError:
            return  # the table itself refuses it
        trust = Trust(Verifier.from_vkey(told.ledger.vkey), [], AuditPolicy(), told.clock.now())
        with pytest.raises(TamperedError):
            verify.inspect(tx, trust)
        transaction.rollback()


def test_a_checkpoint_moved_to_where_no_change_is_is_found(told) -> None:
    latest = max(size for size, _, _ in kept(told))
    with told.state.database.writer.begin() as tx:
        tx.execute(
            update(CHECKPOINT).where(CHECKPOINT.c.kind == "rekeyed", CHECKPOINT.c.size == 12).values(size=latest)
        )
    with pytest.raises(TamperedError, match="changes the key, but the checkpoint behind it is not kept"):
        told.inspect()


def test_the_thief_of_an_old_key_cannot_write_on_after_the_change(told, make_event: Make) -> None:
    """He takes the ledger back to before the change and goes on with the old key: state knows which one is in force."""
    folder = told.folder / "thief"
    folder.mkdir()
    told.state.copy_to(folder / "state.db")
    thief = State.open(f"sqlite:///{folder}/state.db", told.clock)
    forged = Ledger(thief, told.keys.seeds[0])
    thief.attach(forged.append)
    with pytest.raises(TamperedError, match="another key than guard's keys say"):
        thief.write(lambda tx: None, make_event(1))
    with pytest.raises(TamperedError, match="guard's keys say otherwise"):
        forged.inspect()
    thief.close()


def test_a_key_that_follows_without_state_knowing_it_is_found(told) -> None:
    """The thief of the newest key gives the ledger to a key of his own."""
    thief = Ledger(told.state, lambda: Seeds(told.keys.seeds[-1], (b"t" * 32,)))
    told.state.attach(thief.append)
    told.add(thief.rekey(b"t" * 32, 4).event(GUARD, RUN))
    with pytest.raises(TamperedError, match="guard's keys say otherwise"):
        told.inspect()


def test_a_history_that_the_old_key_signed_anew_is_found(house, make_event: Make) -> None:
    """All entries, nodes and checkpoints are made again by who holds the old key, without the change of key."""
    for number in range(4):
        house.add(make_event(number))
    house.rekey()
    with house.state.database.writer.begin() as tx:
        tx.execute(delete(CHECKPOINT))
        for table in ("ledger_entry", "ledger_node", "run_open"):
            tx.exec_driver_sql(f"DELETE FROM {table}")
    forger = Ledger(house.state, SEED)
    house.state.attach(forger.append)
    for number in range(6):
        house.add(make_event(number))
    with pytest.raises(TamperedError, match="it is signed by the key"):
        house.inspect()


# Restores ------------------------------------------------------------------------------------------------------------


def restored(house, keys) -> None:
    """Put the copy `old.db` in place of the state, with the keys that it holds."""
    house.close()
    for end in ("", "-wal", "-shm"):
        (house.folder / f"state.db{end}").unlink(missing_ok=True)
    shutil.copyfile(house.folder / "old.db", house.folder / "state.db")
    fresh = house.reopened(keys)
    house.state, house.ledger, house.keys = fresh.state, fresh.ledger, keys


def lived(house, make_event: Make, *, knows: bool) -> Keys:
    """Live through a change of key after a backup of state; return the keys as that backup holds them."""
    house.add(*[make_event(number) for number in range(5)])
    house.ledger.anchor()
    if knows:
        house.keys.waiting = b"\2" * 32  # made, and in the backup, but not in force yet
    keys = house.keys.copy()
    house.state.copy_to(house.folder / "old.db")
    house.add(make_event(5))
    house.rekey(make_event(6), seed=b"\2" * 32)
    house.add(make_event(7))
    house.ledger.anchor()
    return keys


@pytest.mark.parametrize("knows", [True, False])
def test_what_a_later_key_signed_is_lost_and_named_when_an_older_state_comes_back(house, make_event: Make, knows: bool):
    restored(house, lived(house, make_event, knows=knows))
    stranger = Signer(b"\2" * 32, f"guard-ledger/{house.state.store_id}").verifier.key_id.hex()
    with pytest.raises(
        TamperedError, match=f"entries 5 to 8 gone: .*signed by the key {stranger}, which this ledger does"
    ):
        house.inspect()
    found = house.ledger.restart()
    assert (found.lost, found.ahead["first"][0], found.unknown) == (4, 9, (stranger,))
    house.add(found.event(GUARD, RUN), make_event(8))
    assert signers(house, house.ledger.checkpoint()) == [1]
    verdict = house.inspect()
    assert verdict.restarts == (found,)
    house.ledger.anchor()
    assert house.ledger.verify().tail == 0
    house.rekey(seed=b"\2" * 32 if knows else b"\3" * 32)
    house.ledger.anchor()
    assert house.ledger.verify().rekeys[0].n == 7


def test_a_checkpoint_that_nobody_declared_by_a_key_that_nobody_knows_is_found(house, make_event: Make) -> None:
    restored(house, lived(house, make_event, knows=False))
    house.add(house.ledger.restart().event(GUARD, RUN))
    origin = f"guard-ledger/{house.state.store_id}"
    house.anchor.put(300, house.sign(Checkpoint(origin, 300, bytes(32)).text(), b"f" * 32))
    with pytest.raises(
        TamperedError, match=r"holds 300 entries, signed by the key \w+, which this ledger does not know"
    ):
        house.inspect()


def test_a_smaller_one_by_a_stranger_is_none_of_the_lost(house, make_event: Make) -> None:
    """In the lost part any size below the largest is taken, but only by keys that were seen then."""
    restored(house, lived(house, make_event, knows=False))
    for path in house.anchor.folder.glob("*.checkpoint"):
        path.rename(path.with_suffix(".away"))
    origin = f"guard-ledger/{house.state.store_id}"
    house.anchor.put(9, house.sign(Checkpoint(origin, 9, b"r" * 32).text(), b"\2" * 32))
    house.add(house.ledger.restart().event(GUARD, RUN))
    house.inspect()
    (house.anchor.folder / f"{9:020d}.checkpoint").unlink()
    house.anchor.put(8, house.sign(Checkpoint(origin, 8, b"q" * 32).text(), b"\2" * 32))
    house.inspect()
    (house.anchor.folder / f"{8:020d}.checkpoint").unlink()
    house.anchor.put(7, house.sign(Checkpoint(origin, 7, b"q" * 32).text(), b"f" * 32))
    with pytest.raises(TamperedError, match="does not know"):
        house.inspect()


def test_a_restore_changes_the_key_in_the_commit_that_begins_the_log(house, make_event: Make) -> None:
    house.add(*[make_event(number) for number in range(4)])
    house.keys.waiting = b"w" * 32
    begun = house.ledger.restart()
    told = house.ledger.rekey(b"w" * 32, 2)
    changed = Rekey(told.old.named(begun.origin), told.new.named(begun.origin), 2)
    with pytest.raises(ValueError, match="from the one that signs now"):
        house.add(begun.event(GUARD, RUN), told.event(GUARD, RUN))
    house.add(begun.event(GUARD, RUN), changed.event(GUARD, RUN), make_event(4))
    house.keys.activate()
    house.add(make_event(5))
    house.ledger.anchor()
    verdict = house.ledger.verify()
    assert (verdict.origin, verdict.rekeys[0].n, verdict.restarts) == (begun.origin, 5, (begun,))
    by = {(size, kind): signers(house, note) for size, kind, note in kept(house)}
    assert (by[4, "closed"], by[7, "rekeyed"], by[8, "latest"]) == ([1], [1, 2], [2])
    house.rekey()
    assert len(house.inspect().rekeys) == 2
    with house.state.read() as tx:
        assert tx.scalar(select(CHECKPOINT.c.size).where(CHECKPOINT.c.kind == Kind.CLOSED.value)) == 4


def test_a_change_of_another_logs_key_is_found(told) -> None:
    from guard.audit.chain import Chain
    from guard.audit.rekey import Change

    with told.state.read() as tx:
        chain = verify.chain_of(tx, Verifier.from_vkey(told.ledger.vkey))
    first, second = chain.keys.changes
    away = f"{chain.first}/0011223344556677"
    wrong = Rekey(first.rekey.old.named(away), first.rekey.new.named(away), 2)
    keys = replace(chain.keys, changes=(Change(first.n, first.size, wrong), second))
    with pytest.raises(TamperedError, match="ledger entry 9 changes the key of another log"):
        Chain.read(keys, [])


def test_changes_that_do_not_follow_each_other_are_found(told) -> None:
    first, second = told.ledger.list(Query(what=REKEY))
    trusted = Verifier.from_vkey(told.ledger.vkey)
    assert len(Keys.read(trusted, [first, second], [12, 24]).verifiers) == 3
    other = Signer(b"o" * 32, trusted.name).vkey
    for entries, ends, said in (
        ([first, second], [24], "has 2 entries"),
        ([first, second], [9, 24], "ledger entry 9 changes the key, but"),
        ([first, second], [22, 24], "ledger entry 9 changes the key, but"),
        (
            [first, replace(second, facts={**second.facts, "old": other})],
            [12, 24],
            "ledger entry 21 changes another key",
        ),
        ([first, replace(second, facts={**second.facts, "new": first.facts["old"]})], [12, 24], "21 brings back a key"),
        ([replace(first, facts={})], [12], "ledger entry 9: the entry audit.rekey lacks old"),
        ([first], [12], "is none of those"),
    ):
        with pytest.raises(TamperedError, match=said):
            Keys.read(trusted, entries, ends)


def test_a_note_that_claims_more_than_any_ledger_has_is_tampered(told) -> None:
    keys = Keys((Verifier.from_vkey(told.ledger.vkey),))
    note = told.sign(Checkpoint(keys.name, 2**53, b64decode("A" * 43 + "=")).text(), told.keys.seeds[-1])
    with pytest.raises(TamperedError, match="which no ledger has"):
        keys.open(note)
