"""Whatever is done to what is said of people, verification finds it and names the entry."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256

import pytest
from msgspec import structs
from sqlalchemy import delete, select, update

from guard.audit import entry
from guard.audit.named import FORGET
from guard.audit.payloads import Check
from guard.audit.store import ENTRY, PAYLOAD
from guard.errors import Exit, TamperedError
from guard.events import GUARD, Ending, Event, RunId
from guard.state import Tx
from tests.audit.people import ADA, BOB, PLANTED, Room, about, people

PLAIN = Event("a.b", Ending.DONE, GUARD, RunId("0" * 32))


@pytest.fixture
def said(room: Room) -> Room:
    """Two people, of whom one is forgotten: entries 0 to 5 about Ada, Bob, nobody, Ada, the forgetting, Bob."""
    room.record(about(ADA, name=PLANTED))
    room.record(about(BOB, a=1), PLAIN, about(ADA, a=2))
    room.shred(ADA)
    room.record(about(BOB, a=3))
    assert [each.what for each in room.ledger.list()] == [
        "shop.read",
        "shop.read",
        "a.b",
        "shop.read",
        FORGET,
        "shop.read",
    ]
    assert room.ledger.inspect().size == 6
    return room


@contextmanager
def changed(room: Room) -> Iterator[Tx]:
    """Give a transaction to tamper in, past guard's own hands."""
    with room.state.database.writer.begin() as tx:
        yield tx


def flip(tx: Tx, n: int, at: int) -> None:
    (raw,) = tx.execute(select(PAYLOAD.c.sealed).where(PAYLOAD.c.n == n)).scalars()
    at %= len(raw)
    value = raw[:at] + bytes([raw[at] ^ 0x55]) + raw[at + 1 :]
    tx.execute(update(PAYLOAD).where(PAYLOAD.c.n == n).values(sealed=value))


def put(tx: Tx, n: int, sealed: bytes | str = b"gp\x01somewhat") -> None:
    tx.exec_driver_sql("INSERT INTO ledger_payload (n, sealed) VALUES (?, ?)", (n, sealed))


def swap(tx: Tx, first: int, second: int) -> None:
    for old, new in ((first, 999), (second, first), (999, second)):
        tx.execute(update(PAYLOAD).where(PAYLOAD.c.n == old).values(n=new))


WRONG: dict[str, tuple[Callable[[Tx], object], str]] = {
    "one removed": (lambda tx: tx.execute(delete(PAYLOAD).where(PAYLOAD.c.n == 5)), "5: what it says .* is missing"),
    "all removed": (lambda tx: tx.execute(delete(PAYLOAD)), "1: what it says .* is missing"),
    "a first byte changed": (lambda tx: flip(tx, 1, 0), "1: what it says of a person was changed"),
    "a byte in the middle changed": (lambda tx: flip(tx, 5, 17), "5: what it says of a person was changed"),
    "the last byte changed": (lambda tx: flip(tx, 5, -1), "5: what it says of a person was changed"),
    "emptied": (lambda tx: tx.execute(update(PAYLOAD).values(sealed=b"")), "1: what it says of a person was changed"),
    "a text": (lambda tx: tx.exec_driver_sql("UPDATE ledger_payload SET sealed = 'x'"), "1: .* was changed"),
    "two exchanged": (lambda tx: swap(tx, 1, 5), "1: what it says of a person was changed"),
    "moved": (lambda tx: tx.execute(update(PAYLOAD).where(PAYLOAD.c.n == 5).values(n=4)), "5: what it .* is missing"),
    "one beside an entry about nobody": (lambda tx: put(tx, 2), "2: something is said of a person beside it"),
    "one beside a forgetting": (lambda tx: put(tx, 4), "4: something is said of a person beside it"),
    "a text beside an entry about nobody": (lambda tx: put(tx, 2, "x"), "2: something is said of a person beside it"),
    "one before the first": (lambda tx: put(tx, -1), "-1: something is said of a person, and there is no such entry"),
    "one behind the last": (lambda tx: put(tx, 6), "6: something is said of a person, and there is no such entry"),
    "one far behind": (lambda tx: put(tx, 2**40), "1099511627776: something is said"),
    "another one for who was forgotten": (lambda tx: put(tx, 0), "0: what it says .* is there, though entry 4 says"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_it_is_found_and_named(said: Room, name: str) -> None:
    change, expected = WRONG[name]
    with changed(said) as tx:
        change(tx)
    with pytest.raises(TamperedError, match=f"ledger entry ({expected})") as told:
        said.ledger.inspect()
    assert told.value.exit_code == Exit.TAMPERED


@pytest.mark.parametrize("as_text", [False, True])
def test_what_was_put_back_for_who_was_forgotten_is_found(room: Room, as_text: bool) -> None:
    room.record(about(ADA, name=PLANTED), about(BOB, a=1))
    old = room.rows(PAYLOAD)[0]
    room.shred(ADA)
    with changed(room) as tx:
        put(tx, 0, old.hex() if as_text else old)
    with pytest.raises(TamperedError, match="ledger entry 0: what it says of a person is there, though entry 2 says"):
        room.ledger.inspect()


def test_a_table_that_is_gone_is_found(said: Room) -> None:
    with changed(said) as tx:
        tx.exec_driver_sql("DROP TABLE ledger_payload")
    with pytest.raises(TamperedError, match="cannot be read"):
        said.ledger.inspect()


def leaves(room: Room) -> list[entry.Leaf]:
    with room.state.read() as tx:
        return [entry.decode(raw) for raw in tx.execute(select(ENTRY.c.leaf).order_by(ENTRY.c.n)).scalars()]


@pytest.mark.parametrize("most", [10_000, 0])
@pytest.mark.parametrize("size", [1, 2, 6])
def test_it_is_the_same_in_small_pieces_and_however_many_were_forgotten(said: Room, size: int, most: int) -> None:
    found = leaves(said)
    with changed(said) as tx:
        for put_at, expected in ((None, None), (0, "entry 0: .* though entry 4"), (2, "entry 2: "), (5, None)):
            savepoint = tx.begin_nested()
            if put_at in {0, 2}:
                put(tx, put_at)
            check = Check(tx, most=most)
            if expected is None:
                for at in range(0, 6, size):
                    check.look(found[at : at + size])
                check.end(6)
            else:
                with pytest.raises(TamperedError, match=expected):
                    _ = [check.look(found[at : at + size]) for at in range(0, 6, size)]
            savepoint.rollback()


@pytest.mark.parametrize("most", [10_000, 0])
def test_an_entry_of_who_was_forgotten_before_is_found(said: Room, most: int) -> None:
    """Guard writes none, and the entry's own bytes are signed: only who holds the key can have written it."""
    first, *_, last = leaves(said)
    sealed = b"gp\x01forged"
    late = structs.replace(last, subject=first.subject, payload=sha256(sealed).hexdigest())
    nobody = structs.replace(last, subject=None)
    with changed(said) as tx:
        for wrong, expected in ((late, "says something of a person whom entry 4 forgot"), (nobody, "but not of whom")):
            check = Check(tx, 5, most)
            with pytest.raises(TamperedError, match=f"ledger entry 5: .*{expected}"):
                check.look([wrong])


def test_entries_that_retention_removed_leave_no_payload(said: Room) -> None:
    """What lies in the gap between two entries that are at hand belongs to none."""
    found = leaves(said)
    with changed(said) as tx:
        tx.execute(delete(PAYLOAD).where(PAYLOAD.c.n == 1))
        Check(tx).look([found[0], found[5]])
        put(tx, 3)
        with pytest.raises(TamperedError, match="ledger entry 3: something is said"):
            Check(tx).look([found[0], found[5]])


def test_from_a_later_entry_on_only_the_rest_is_compared(said: Room) -> None:
    found = leaves(said)
    with changed(said) as tx:
        flip(tx, 1, 0)
        Check(tx, 2).look(found[2:])
        with pytest.raises(TamperedError, match="ledger entry 1: "):
            Check(tx, 1).look(found[1:])


def test_many_who_were_forgotten_are_looked_up(room: Room) -> None:
    crowd = people(12)
    room.record(*[about(person, a=1) for person in crowd])
    for person in crowd[:7]:
        room.shred(person)
    found = leaves(room)
    with changed(room) as tx:
        for most in (3, 7, 100):
            Check(tx, most=most).look(found)
        put(tx, 2)
        for most in (3, 7, 100):
            with pytest.raises(TamperedError, match=r"ledger entry 2: .* though entry 1\d says"):
                Check(tx, most=most).look(found)
    assert len(room.entries(FORGET)) == 7
