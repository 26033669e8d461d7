"""Whom an entry is about: pseudonyms, what is said of people under their own keys, and forgetting it."""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from guard import faults
from guard.audit import Ledger
from guard.audit.named import FORGET, Named
from guard.audit.names import seal_name
from guard.audit.persons import CLASS
from guard.audit.store import ENTRY, PAYLOAD, PERSON
from guard.clock import SteppedClock
from guard.crypto.receipts import Death, Shredder
from guard.crypto.subjects import Person
from guard.errors import BusyError, GoneError, InterlockError, TamperedError, UnavailableError
from guard.events import GUARD, Ending, Event, RunId
from guard.state import State, Tx
from tests.audit.people import ADA, BOB, P_ADA, PLANTED, Open, Room, about, people

# Naming ---------------------------------------------------------------------------------------------------------------


def test_an_entry_names_a_pseudonym_and_holds_the_digest_of_what_is_said(room: Room) -> None:
    room.record(about(ADA, name=PLANTED, rows=[1, None]))
    (entry,) = room.entries()
    (sealed,) = room.rows(PAYLOAD).values()
    assert len(bytes.fromhex(entry.subject)) == 16
    assert entry.payload == sha256(sealed).hexdigest()
    assert sealed.startswith(b"gp\x01")
    assert room.said(entry) == {"name": PLANTED, "rows": [1, None]}
    with room.state.read() as tx:
        (leaf,) = tx.execute(select(ENTRY.c.leaf)).scalars()
    assert not {b"customer", PLANTED.encode(), ADA.key, ADA.key.hex().encode()} & {leaf}
    assert all(each not in leaf for each in (b"customer", PLANTED.encode(), ADA.key.hex().encode()))
    assert room.ledger.inspect().size == 1


def test_an_event_may_name_somebody_and_say_nothing(room: Room) -> None:
    room.record(about(ADA))
    (entry,) = room.entries()
    assert (entry.subject, entry.payload) == (room.persons.pseudonym_of(ADA), None)
    assert room.rows(PAYLOAD) == {}
    assert room.ledger.inspect().size == 1


def test_everybody_has_one_pseudonym_in_every_process_and_for_good(room: Room, open_room: Open) -> None:
    room.record(about(ADA, a=1), about(BOB, a=2), about(ADA, a=3))
    first, second, third = (entry.subject for entry in room.entries())
    assert first == third != second
    other = open_room()
    other.record(about(BOB, a=4))
    assert other.entries()[-1].subject == second
    staff = Person("staff", ADA.key)
    other.record(about(staff, a=5))
    assert other.entries()[-1].subject not in {first, second}
    assert dict(other.persons.living()) == {first: ADA, second: BOB, other.entries()[-1].subject: staff}


def test_a_thousand_new_people_are_named_in_few_transactions(room: Room) -> None:
    room.record(about(ADA, a=1))
    events = [about(person, number=number) for number, person in enumerate(people(1000))]
    before = room.generation()
    room.record(*events)
    assert room.generation() - before == 3  # their keys, their names, the entries
    before = room.generation()
    room.record(*events)
    assert room.generation() - before == 1
    entries = room.entries()
    assert len({entry.subject for entry in entries}) == 1001
    assert room.said(entries[-1]) == {"number": 999}
    assert room.ledger.inspect().size == 2001


def test_looking_makes_no_pseudonym(room: Room) -> None:
    assert room.persons.pseudonym_of(ADA) is None
    room.subjects.for_writing(ADA, CLASS)
    assert room.persons.pseudonym_of(ADA) is None
    assert room.rows(PERSON) == {}
    assert list(room.persons.living()) == []


def test_a_key_without_a_name_gets_one(room: Room) -> None:
    """What a process leaves that is killed between the two."""

    class KilledError(Exception):
        pass

    def kill(name: str) -> None:
        if name == "audit.persons.keys":
            raise KilledError

    faults.install(kill)
    try:
        with pytest.raises(KilledError):
            room.record(about(ADA, a=1))
    finally:
        faults.install(None)
    assert room.subjects.classes(ADA) == (CLASS,)
    assert room.rows(PERSON) == {}
    room.record(about(ADA, a=1))
    assert dict(room.persons.living()) == {room.entries()[0].subject: ADA}


def test_without_a_vault_nobody_is_named(state: State, clock: SteppedClock) -> None:
    ledger = Ledger(state, bytes(32))
    state.attach(ledger.append)
    with pytest.raises(InterlockError, match="names no person without a vault") as told:
        ledger.prepare([about(ADA, a=1)])
    assert "runbooks/shredding.md" in str(told.value.hint)
    plain = Event("a.b", Ending.DONE, GUARD, RunId("0" * 32))
    assert ledger.prepare([plain]) == (plain,)
    with pytest.raises(ValueError, match="prepared before"):
        state.write(lambda tx: None, about(ADA, a=1))


WRONG = {
    "not prepared": about(ADA, a=1),
    "a payload made by hand": Event("a.b", Ending.DONE, GUARD, RunId("0" * 32), subject="ab" * 16, payload=b"x"),
    "a forgetting made by hand": Event(FORGET, Ending.DONE, GUARD, RunId("0" * 32), subject="ab" * 16),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_was_not_prepared_is_not_recorded(room: Room, name: str) -> None:
    with pytest.raises(ValueError, match=r"prepared before|shredding alone"):
        room.state.write(lambda tx: None, WRONG[name])
    assert room.entries("a.b") == []


def test_details_that_are_not_json_are_refused(room: Room) -> None:
    with pytest.raises(ValueError, match="unsupported type"):
        room.ledger.prepare([about(ADA, when=timedelta())])


def test_a_vault_that_is_away_is_said_and_nothing_recorded(room: Room, tmp_path: Path) -> None:
    room.record(about(ADA, a=1))
    room.persons.drop()
    for name in ("one", "two"):
        (tmp_path / name).rename(tmp_path / f"{name}-away")
    for call in (lambda: room.record(about(ADA, a=2)), lambda: room.persons.pseudonym_of(ADA)):
        with pytest.raises(UnavailableError):
            call()
    assert len(room.entries()) == 1


def test_an_actor_of_the_shop_has_a_stand_in_that_only_the_key_makes(room: Room, open_room: Open) -> None:
    found = room.persons.actor("anna@shop.example")
    assert found == open_room().persons.actor("anna@shop.example")
    assert found != room.persons.actor("Anna@shop.example")
    assert (found[:2], len(found)) == ("x-", 18)


# Whose a pseudonym is -------------------------------------------------------------------------------------------------


def test_the_way_back_opens_everybody_and_stops_when_it_has_found_them(room: Room, open_room: Open) -> None:
    crowd = people(2500)
    room.record(*[about(person) for person in crowd])
    other = open_room()
    found = dict(other.persons.living())
    assert set(found.values()) == set(crowd)
    wanted = [next(each for each, person in found.items() if person == crowd[at]) for at in (0, 2400)]
    names = other.persons.names([*wanted, "00" * 16])
    assert {each: name.key for each, name in names.items()} == {
        wanted[0]: crowd[0].key, wanted[1]: crowd[2400].key
    }  # fmt: skip


def flipped(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


@pytest.mark.parametrize("at", [0, 2, 3, 20, -1])
def test_a_changed_name_is_tampered_with(room: Room, at: int) -> None:
    room.record(about(ADA, a=1))
    ((key, sealed),) = room.rows(PERSON).items()
    at %= len(sealed)
    room.state.write(lambda tx: tx.execute(update(PERSON).values(sealed=flipped(sealed, at))))
    room.persons.drop()
    for call in (lambda: room.persons.pseudonym_of(ADA), lambda: list(room.persons.living()), lambda: room.shred(ADA)):
        with pytest.raises(TamperedError, match=f"key {key:010x} of a person"):
            call()
    assert room.subjects.classes(ADA) == (CLASS,)


def test_a_name_does_not_open_for_another_key(room: Room) -> None:
    room.record(about(ADA, a=1), about(BOB, a=1))
    first, second = room.rows(PERSON).values()
    keys = list(room.rows(PERSON))

    def swap(tx: Tx) -> None:
        for key, sealed in zip(keys, (second, first), strict=True):
            tx.execute(update(PERSON).where(PERSON.c.key == key).values(sealed=sealed))

    room.state.write(swap)
    room.persons.drop()
    with pytest.raises(TamperedError):
        room.persons.pseudonym_of(ADA)


def test_a_name_that_says_somebody_else_is_refused(room: Room) -> None:
    """Only who holds the person's key can have written it."""
    room.record(about(ADA, a=1))
    (name,) = room.persons.names([room.entries()[0].subject]).values()
    other = seal_name(room.state.store_id, replace(name, key=BOB.key))
    room.state.write(lambda tx: tx.execute(update(PERSON).values(sealed=other)))
    room.persons.drop()
    for call in (
        lambda: room.record(about(ADA, a=2)),
        lambda: room.persons.pseudonym_of(ADA),
        lambda: list(room.persons.living()),
    ):
        with pytest.raises(TamperedError, match="is somebody else's"):
            call()


def test_a_payload_opens_for_nobody_else(room: Room) -> None:
    room.record(about(ADA, a=1), about(BOB, a=1))
    ada, bob = room.persons.names([entry.subject for entry in room.entries()]).values()
    (first, second) = room.rows(PAYLOAD).values()
    wanted = {room.entries()[0].subject: first, room.entries()[1].subject: second}
    assert room.persons.opened(ada, wanted[ada.subject]) == {"a": 1}
    assert room.persons.opened(bob, wanted[ada.subject]) is None
    for at in range(len(first)):
        assert room.persons.opened(ada, flipped(wanted[ada.subject], at)) is None


# Forgetting -----------------------------------------------------------------------------------------------------------


def test_to_forget_takes_name_and_payloads_away_and_says_how_many(room: Room) -> None:
    room.record(about(ADA, name=PLANTED), about(BOB, a=1), about(ADA), about(ADA, name=PLANTED))
    before, verdict = room.entries(), room.ledger.inspect()
    assert room.shred(ADA)
    (forget,) = room.entries(FORGET)
    assert (forget.subject, forget.who, forget.counts, forget.activity) == (
        before[0].subject, P_ADA, {"payloads": 2}, "6005.7"
    )  # fmt: skip
    assert forget.run != "run"
    assert room.entries() == before  # what was recorded is as it was
    assert list(room.rows(PAYLOAD)) == [1]
    assert len(room.rows(PERSON)) == 1
    assert [room.said(entry) for entry in before] == [None, {"a": 1}, None, None]
    assert room.persons.pseudonym_of(ADA) is None
    assert dict(room.persons.living()) == {before[1].subject: BOB}
    after = room.ledger.inspect()
    assert (verdict.size, after.size) == (4, 5)


def test_who_comes_back_is_somebody_else(room: Room) -> None:
    room.record(about(ADA, a=1))
    room.shred(ADA)
    room.record(about(ADA, a=2))
    old, new = room.entries()
    assert old.subject != new.subject
    assert (room.said(old), room.said(new)) == (None, {"a": 2})
    assert room.shred(ADA)
    assert [entry.counts["payloads"] for entry in room.entries(FORGET)] == [1, 1]
    assert [entry.subject for entry in room.entries(FORGET)] == [old.subject, new.subject]
    assert room.ledger.inspect().size == 4


def test_other_classes_leave_the_ledger_alone(room: Room) -> None:
    room.record(about(ADA, a=1))
    room.subjects.for_writing(ADA, "account")
    assert room.shred(ADA, "account")
    assert room.entries(FORGET) == []
    assert room.said(room.entries()[0]) == {"a": 1}


def test_who_was_never_named_leaves_no_entry(room: Room) -> None:
    assert not room.shred(ADA)
    room.subjects.for_writing(BOB, CLASS)
    assert room.shred(BOB)
    assert room.entries(FORGET) == []


def test_only_who_was_there_by_then_is_forgotten(room: Room) -> None:
    """A register's old entry does not take away who came back since."""
    before = room.clock.now() - timedelta(days=1)
    room.record(about(ADA, a=1))
    death = Death(ADA, CLASS, "run", ("log",), before)
    assert room.shredder.shred(death) is None
    assert (room.entries(FORGET), len(room.rows(PAYLOAD))) == ([], 1)


def test_a_process_that_had_the_name_open_records_under_a_new_one(room: Room, open_room: Open) -> None:
    room.record(about(ADA, a=1))
    other = open_room()
    other.record(about(ADA, a=2))
    room.shred(ADA)
    stale = other.ledger.prepare([about(ADA, a=3)])
    with pytest.raises(GoneError, match="shredded while something was recorded"):
        other.state.write(lambda tx: None, *stale)
    assert room.rows(PAYLOAD) == {}
    other.record(about(ADA, a=3))
    subjects = [entry.subject for entry in room.entries()]
    assert subjects[0] == subjects[1] != subjects[2]
    assert room.ledger.inspect().size == 4


def test_an_open_name_is_kept_for_a_minute_at_most(room: Room, open_room: Open) -> None:
    room.record(about(ADA, a=1))
    other = open_room()
    other.record(about(ADA, a=2))
    room.shred(ADA)
    other.clock.step(timedelta(seconds=59))
    (old,) = other.ledger.prepare([about(ADA, a=3)])
    other.clock.step(timedelta(seconds=2))
    (new,) = other.ledger.prepare([about(ADA, a=3)])
    assert old.subject != new.subject
    other.state.write(lambda tx: None, new)


def test_what_one_commit_says_and_forgets_is_never_stored(room: Room) -> None:
    """Several works in one commit: the entry stays, its payload is not even written."""
    room.record(about(ADA, a=1))
    (said,) = room.ledger.prepare([about(ADA, name=PLANTED)])
    (forget,) = room.persons.told(Death(ADA, CLASS, "run", ()))
    assert isinstance(said, Named)
    with room.state.database.writer.begin() as tx:
        room.ledger.append(tx, [said, forget])
    assert room.rows(PAYLOAD) == {}
    assert room.entries(FORGET)[0].counts == {"payloads": 2}
    assert room.ledger.inspect().size == 3
    with room.state.database.writer.connect() as tx, tx.begin(), pytest.raises(GoneError):
        room.ledger.append(tx, [said])


def test_in_the_other_order_the_commit_is_refused(room: Room) -> None:
    room.record(about(ADA, a=1))
    (said,) = room.ledger.prepare([about(ADA, name=PLANTED)])
    (forget,) = room.persons.told(Death(ADA, CLASS, "run", ()))
    with room.state.database.writer.connect() as tx, tx.begin(), pytest.raises(GoneError):
        room.ledger.append(tx, [forget, said])


def test_who_is_named_while_they_are_shredded_is_forgotten_too(room: Room, open_room: Open) -> None:
    """Between what shredding looked up and the wipe another process names the person: it begins anew."""
    room.subjects.for_writing(ADA, CLASS)
    other, calls = open_room(), []

    class Late:
        """Names the person right after it was looked whether the ledger names them."""

        is_whole = room.persons.is_whole

        def told(self, death: Death) -> tuple[Event, ...]:
            found = room.persons.told(death)
            if not calls:
                other.record(about(ADA, name=PLANTED))
            calls.append(len(found))
            return found

    shredder = Shredder(room.state, room.keyring, room.subjects, {CLASS: Late()})
    assert shredder.shred(Death(ADA, CLASS, "run", ("log",)))
    assert calls == [0, 1]
    assert (room.rows(PAYLOAD), room.rows(PERSON)) == ({}, {})
    assert room.entries(FORGET)[0].counts == {"payloads": 1}


def bytes_of(state: State) -> bytes:
    """The database's files as they lie on the disk."""
    assert state.path
    return b"".join(path.read_bytes() for path in sorted(state.path.parent.glob(f"{state.path.name}*")))


def test_no_byte_of_it_is_left_in_the_files(room: Room) -> None:
    """Short and long payloads, which take pages of their own, in file, log and free pages; each was there before."""
    text = PLANTED * 2000
    room.record(
        *[about(ADA, name=f"{PLANTED} {number}") for number in range(60)], about(ADA, long=text), about(BOB, a=1)
    )
    gone = [sealed for n, sealed in room.rows(PAYLOAD).items() if n != 61] + [
        sealed for key, sealed in room.rows(PERSON).items() if key == room.subjects.for_writing(ADA, CLASS).id
    ]
    pieces = [each[at : at + 24] for each in gone for at in range(3, len(each) - 24, 997)]
    kept = room.rows(PAYLOAD)[61]
    room.state.scrub()
    assert all(piece in bytes_of(room.state) for piece in pieces)
    room.shred(ADA)
    room.state.scrub("subject_key", "ledger_payload", "ledger_person")
    left = bytes_of(room.state)
    assert [piece for piece in pieces if piece in left] == []
    assert kept in left
    assert room.ledger.inspect().size == 63


# At the same time -----------------------------------------------------------------------------------------------------


def orphans(room: Room) -> list[int]:
    """Payloads of whom the ledger has forgotten."""
    with closing(sqlite3.connect(str(room.state.path))) as raw:
        query = """SELECT p.n FROM ledger_payload p JOIN ledger_entry e ON e.n = p.n WHERE e.subject IN
                   (SELECT subject FROM ledger_entry WHERE what = 'audit.forget')"""
        return [n for (n,) in raw.execute(query)]


def work(room: Room, done: Path, shreds: bool) -> None:
    """Record of two people until somebody shredded one of them ten times; who is too unlucky is told so."""
    left = 10
    while left and not done.exists():
        with suppress(GoneError):
            if shreds:
                left -= room.shred(ADA)
            else:
                room.record(about(ADA, number=left), about(BOB, number=left))
    done.touch()


def check(room: Room) -> None:
    room.shred(ADA)
    assert orphans(room) == []
    assert {person for _, person in room.persons.living()} <= {BOB}
    assert room.entries(FORGET) != []
    ends = {entry.subject: entry.n for entry in room.entries(FORGET)}
    assert all(entry.n < ends.get(entry.subject, entry.n + 1) for entry in room.entries())
    room.ledger.inspect()


def test_threads_that_record_and_one_that_shreds_leave_no_orphan(room: Room, tmp_path: Path) -> None:
    room.record(about(ADA, number=-1))
    failed: list[BaseException] = []

    def run(shreds: bool) -> None:
        try:
            work(room, tmp_path / "done", shreds)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=run, args=(number == 0,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    check(room)


@pytest.mark.slow
def test_processes_that_record_and_one_that_shreds_leave_no_orphan(
    open_room: Open, fault_points: Any, tmp_path: Path
) -> None:
    first = open_room()
    first.record(about(ADA, number=-1))
    first.state.close()
    threads = [
        threading.Thread(
            target=fault_points.passed, args=(lambda each=each: work(open_room(), tmp_path / "done", each),)
        )
        for each in (True, False, False)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(open_room())


# PostgreSQL -----------------------------------------------------------------------------------------------------------


def test_no_byte_of_it_is_left_in_the_files_of_postgresql(
    open_room: Open, private_postgres: Callable[[str], Path]
) -> None:
    """Its free space too: VACUUM alone leaves there what was removed."""
    home = private_postgres("-F -c autovacuum=off")
    room = open_room(f"postgresql://shop@/postgres?host={home}")
    room.record(*[about(ADA if number % 3 else BOB, name=f"{PLANTED} {number}") for number in range(90)])
    room.record(about(ADA, long=PLANTED * 2000))
    key = room.subjects.for_writing(ADA, CLASS).id
    name = room.rows(PERSON)[key]
    with room.state.read() as tx:
        query = "SELECT wrapped, commitment FROM subject_key WHERE id = %(key)s"
        wrapped = [bytes(each) for each in tx.exec_driver_sql(query, {"key": key}).one()]
    payloads = room.rows(PAYLOAD)
    gone = [sealed for n, sealed in payloads.items() if n % 3 or n == 90]
    pieces = [each[at : at + 24] for each in [*gone, name, *wrapped] for at in range(3, len(each) - 24, 997)]

    def found(wanted: list[bytes]) -> list[bytes]:
        with room.state.database.writer.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("CHECKPOINT")
        raw = b"".join(path.read_bytes() for path in (home / "data/base").rglob("*") if path.is_file())
        return [piece for piece in wanted if piece in raw]

    there = found(pieces)  # of the long one all but what the database cut in two
    assert {each[3:27] for each in [*gone[:-1], name, *wrapped]} < set(there)
    assert room.shred(ADA)
    assert found(pieces) != []
    room.state.scrub("subject_key", "ledger_payload", "ledger_person")
    assert found(pieces) == []
    kept = [sealed[3:27] for n, sealed in payloads.items() if not n % 3 and n != 90]
    assert found(kept) == kept
    assert room.ledger.inspect().size == 92


def test_while_somebody_may_still_read_it_scrubbing_is_not_done(open_room: Open, postgres_url: str) -> None:
    room = open_room(postgres_url)
    room.record(about(ADA, name=PLANTED))
    with room.state.read() as reader:
        reader.exec_driver_sql("SELECT 1")  # an old snapshot, of a table that is not locked
        room.shred(ADA)
        with pytest.raises(BusyError, match="may still read what was removed from ledger_payload"):
            room.state.scrub("ledger_payload")
    room.state.scrub("ledger_payload")
