"""A ledger that names people, with a vault of two folders: as one process has it open, and as another one opens it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from guard.audit import Ledger, Query
from guard.audit.persons import CLASS, Persons
from guard.audit.store import PAYLOAD
from guard.canon import key_bytes
from guard.clock import SteppedClock
from guard.crypto.keyring import Keyring
from guard.crypto.mirrors import FolderMirror
from guard.crypto.receipts import Death, Shredder
from guard.crypto.subjects import Person, SubjectKeys
from guard.crypto.vault import Vault
from guard.errors import GoneError
from guard.events import GUARD, About, Ending, Event, PrincipalId, RunId
from guard.state import State

PLANTED = "Zarathustra Quillfeather"
P_ADA = PrincipalId("p-abcdefghij")
ADA, BOB, CYD = (Person("customer", key_bytes((number,))) for number in (1, 2, 3))


def about(person: Person, **details: Any) -> Event:
    """An event that says something of a person; without details it only names them."""
    said = About(person.kind, person.key, details or None)
    return Event("shop.read", Ending.DONE, GUARD, RunId("a" * 32), objects=("Customer.Email",), about=said)


def people(count: int) -> list[Person]:
    return [Person("customer", key_bytes((1000 + number,))) for number in range(count)]


@dataclass
class Room:
    """A ledger that names people, as one process has it open."""

    state: State
    keyring: Keyring
    ledger: Ledger
    persons: Persons
    subjects: SubjectKeys
    shredder: Shredder
    clock: SteppedClock

    def record(self, *events: Event) -> None:
        """Record events as `App.record` does."""
        try:
            self.state.write(lambda tx: None, *self.ledger.prepare(events))
        except GoneError:
            self.state.write(lambda tx: None, *self.ledger.prepare(events))

    def shred(self, person: Person, class_: str = CLASS) -> bool:
        return self.shredder.shred(Death(person, class_, "run", ("log",), who=P_ADA)) is not None

    def entries(self, what: str = "shop.read") -> list[Any]:
        return list(self.ledger.list(Query(what=what), 10_000))

    def rows(self, table: Any) -> dict[int, bytes]:
        with self.state.read() as tx:
            return {row[0]: row[1] for row in tx.execute(select(table).order_by(table.c[0]))}

    def said(self, entry: Any) -> Mapping[str, Any] | None:
        name = self.persons.names([entry.subject]).get(entry.subject)
        sealed = self.rows(PAYLOAD).get(entry.n)
        return None if name is None or sealed is None else self.persons.opened(name, sealed)

    def generation(self) -> int:
        with self.state.read() as tx:
            return int(tx.exec_driver_sql("SELECT max(generation) FROM state_commit").scalar_one())


Open = Callable[..., Room]
"""Open the one ledger of a test as another process does; the first call makes it. Takes the URL of its state."""


@contextmanager
def rooms(folder: Path, clock: SteppedClock) -> Iterator[Open]:
    """Give what opens rooms, and close them all at the end."""
    opened: list[State] = []

    def open_(url: str = f"sqlite:///{folder}/state.db") -> Room:
        state = State.open(url, clock) if opened else State.create(url, clock)
        keyring = Keyring.open(state, bytes(range(32))) if opened else Keyring.create(state, bytes(range(32)), None)
        opened.append(state)
        for name in ("one", "two"):
            (folder / name).mkdir(mode=0o700, exist_ok=True)
        vault = Vault(state, keyring, [FolderMirror(name, folder / name) for name in ("one", "two")], nullcontext)
        subjects = SubjectKeys(state, keyring, vault)
        persons = Persons(state, keyring, lambda: subjects)
        ledger = Ledger(state, bytes(32), persons=persons)
        state.attach(ledger.append)
        shredder = Shredder(state, keyring, subjects, {CLASS: persons})
        return Room(state, keyring, ledger, persons, subjects, shredder, clock)

    try:
        yield open_
    finally:
        for state in opened:
            state.close()
