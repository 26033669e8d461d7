"""Whom an entry is about: everybody has a pseudonym, and what is said of them in clear lies under their own key.

The public part of the ledger is never erased, so it names nobody. What tells whose a pseudonym is, and what entries say
of that person, goes with their key of class `ledger`: the entries stay, every proof of them holds, and nobody learns
any more whom they are about. docs/FORMATS.md, section 4.
"""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from guard import faults
from guard.audit import person_store
from guard.audit.named import Named, Settled, settle
from guard.audit.names import Name, cipher_of, draw, open_name, open_payload, seal_name, seal_payload
from guard.audit.person_store import FORGET
from guard.canon import parts
from guard.crypto import random, subject_store
from guard.crypto.keyring import Keyring
from guard.crypto.opened import Opened
from guard.crypto.receipts import Death
from guard.crypto.subjects import Person, SubjectKeys
from guard.errors import GoneError, TamperedError
from guard.events import About, Activity, Ending, Event, RunId
from guard.state import State, Tx

CLASS: Final = "ledger"
"""The class of data whose keys seal what the ledger holds about people."""

_TRIES = 3
_BATCH = 2000
"""People who are looked up or named in one transaction of state."""


class Persons:
    """The people whom one store's ledger names. May be shared by threads; a forked child begins with none known."""

    def __init__(self, state: State, keyring: Keyring, subjects: Callable[[], SubjectKeys]) -> None:
        """`subjects`: gives the keys of people, once somebody is named; until then no mirror of the vault is opened."""
        self._state = state
        self._keyring = keyring
        self._subjects = subjects
        self._known: Opened[Name] = Opened(state.clock)

    # Record ----------------------------------------------------------------------------------------------------------

    def prepare(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """Return events with pseudonym and sealed details of whom they are about; who has no pseudonym gets one.

        A few transactions for any number. Raises ValueError for details that are not JSON, GoneError when somebody is
        shredded again and again meanwhile, and as `SubjectKeys.all_for_writing` does.
        """
        people = list(dict.fromkeys(_person(each.about) for each in events if each.about is not None))
        if not people:
            return tuple(events)
        names = dict(zip(people, self._named(people), strict=True))
        return tuple(
            event if event.about is None else self._prepared(event, event.about, names[_person(event.about)])
            for event in events
        )

    def settle(self, tx: Tx, events: Sequence[Event], first: int) -> Settled:
        """Return what is written for `events`, from entry `first` on; what `FORGET` takes away is removed in `tx`.

        Raises GoneError when a person was forgotten since their event was prepared: it is prepared anew.
        """
        try:
            return settle(tx, events, first)
        except GoneError:
            self.drop()
            raise
        finally:
            if any(each.what == FORGET for each in events):
                self._known.clear()

    def drop(self) -> None:
        """Drop what is kept of people, and their keys."""
        self._known.clear()
        self._subjects().forget()

    # Look ------------------------------------------------------------------------------------------------------------

    def pseudonym_of(self, person: Person) -> str | None:
        """Return a person's pseudonym, 32 hex characters; None when the ledger has none for them. Draws none.

        Raises UnavailableError when no mirror of the vault answers, TamperedError when it does not open.
        """
        name = self._name_of(person)
        return None if name is None else name.subject

    def living(self) -> Iterator[tuple[str, Person]]:
        """Yield the pseudonym of everybody the ledger names, and who it is. Every one is opened for it.

        Raises TamperedError for one that does not open, or names somebody else than its key.
        """
        for batch in self._all():
            yield from ((name.subject, person) for name, person in batch)

    def names(self, subjects: Iterable[str]) -> dict[str, Name]:
        """Return what opens the payloads of these pseudonyms; nothing for who was forgotten. May look at everybody."""
        wanted = {each: bytes.fromhex(each) for each in subjects}
        found = {each: name for each, raw in wanted.items() if (name := self._known.of((raw, CLASS))) is not None}
        for batch in self._all() if len(found) < len(wanted) else ():
            here = {name.subject: name for name, _ in batch if name.subject in wanted}
            self._keep(here.values())
            found |= here
            if len(found) == len(wanted):
                break
        return found

    def opened(self, name: Name, sealed: bytes) -> Mapping[str, Any] | None:
        """Return what a payload says of a person; None when it is none of theirs."""
        return open_payload(self._state.store_id, name, sealed)

    def actor(self, name: str) -> str:
        """Return the stand-in of somebody who acts in the shop, by the name that the shop tells."""
        return actor(self._keyring, name)

    # Forget: what goes along with a key that is shredded (guard.crypto.receipts.Along) -------------------------------

    def told(self, death: Death) -> tuple[Event, ...]:
        """Return the event that takes away what the ledger holds about a person; nothing when it does not name them.

        It has a run of its own: that of the shredding goes on.
        """
        self.drop()
        name = self._name_of(death.person)
        if name is None:
            return ()
        run = RunId(random.hex_token(16))
        return (Named(FORGET, Ending.DONE, death.who, run, Activity.DATA_DELETE, subject=name.subject, key=name.id),)

    def is_whole(self, tx: Tx, key_id: int, told: Sequence[Event]) -> bool:
        """Tell whether `told` forgets all there is under a key."""
        return person_store.persons_among(tx, [key_id]) == {each.key for each in told if isinstance(each, Named)}

    # Inside ----------------------------------------------------------------------------------------------------------

    def _prepared(self, event: Event, about: About, name: Name) -> Named:
        sealed = None if about.details is None else seal_payload(self._state.store_id, name, about.details)
        plain = {each.name: getattr(event, each.name) for each in fields(Event)}
        return Named(**{**plain, "about": None, "subject": name.subject, "payload": sealed}, key=name.id)

    def _named(self, people: Sequence[Person]) -> list[Name]:
        for _ in range(_TRIES):
            keys = self._subjects().all_for_writing(people, CLASS)
            faults.point("audit.persons.keys")
            found = {key.id: name for key in keys if (name := self._known.by_id(key.id)) is not None}
            left = [(key.id, person) for person, key in zip(people, keys, strict=True) if key.id not in found]
            ciphers = {key.id: cipher_of(self._state.store_id, key) for key in keys if key.id not in found}
            for at in range(0, len(left), _BATCH):
                found |= self._stored_or_drawn(dict(left[at : at + _BATCH]), ciphers)
            if len(found) == len(keys):
                return [found[key.id] for key in keys]
            self.drop()  # somebody was shredded by another process meanwhile
        raise GoneError("people were shredded while something was recorded of them", hint="run it again")

    def _stored_or_drawn(self, people: Mapping[int, Person], ciphers: Mapping[int, AESGCM]) -> dict[int, Name]:
        """Return names by key; who has none gets one, and who has no key any more is left out."""
        store_id = self._state.store_id
        with self._state.read() as tx:
            stored = person_store.persons(tx, list(people))
        fresh = [draw(key_id, each.key, ciphers[key_id]) for key_id, each in people.items() if key_id not in stored]
        if fresh:
            sealed = {name.id: seal_name(store_id, name) for name in fresh}
            stored |= self._state.write(partial(_add, sealed=sealed))
            faults.point("audit.persons.drawn")
        found = {key_id: open_name(store_id, key_id, ciphers[key_id], raw) for key_id, raw in stored.items()}
        for key_id, name in found.items():
            _require_same(name, name.key == people[key_id].key)
        self._keep(found.values())
        return found

    def _name_of(self, person: Person) -> Name | None:
        key = self._subjects().of(person, CLASS)
        if key is None:
            return None
        if (known := self._known.by_id(key.id)) is not None:
            return known
        with self._state.read() as tx:
            sealed = person_store.persons(tx, [key.id]).get(key.id)
        if sealed is None:
            return None
        store_id = self._state.store_id
        name = open_name(store_id, key.id, cipher_of(store_id, key), sealed)
        _require_same(name, name.key == person.key)
        self._keep([name])
        return name

    def _keep(self, names: Iterable[Name]) -> None:
        self._known.keep(((name.pseudonym, CLASS), name) for name in names)

    def _all(self) -> Iterator[list[tuple[Name, Person]]]:
        store_id = self._state.store_id
        for batch in self._subjects().each(CLASS):
            with self._state.read() as tx:
                stored = person_store.persons(tx, [row.id for row, _ in batch])
            found = []
            for row, key in batch:
                if row.id in stored:
                    name = open_name(store_id, row.id, cipher_of(store_id, key), stored[row.id])
                    person = Person(row.kind, name.key)
                    _require_same(name, self._subjects().person_digest(person) == row.person)
                    found.append((name, person))
            yield found


def actor(keyring: Keyring, name: str) -> str:
    """Return the stand-in of somebody who acts in the shop; a store without a vault has them too."""
    mac = HMAC(keyring.current("pseudonym").material, SHA256())
    mac.update(parts(b"guard/actor1", name.encode()))
    return f"x-{b32encode(mac.finalize()).decode()[:16].lower()}"


def _person(about: About) -> Person:
    return Person(about.kind, about.key)


def _add(tx: Tx, sealed: Mapping[int, bytes]) -> dict[int, bytes]:
    """Store the names of keys that live and have none; return what is stored for `sealed` then."""
    there = person_store.persons(tx, list(sealed))
    fresh = {key_id: sealed[key_id] for key_id in subject_store.living_among(tx, [*(sealed.keys() - there.keys())])}
    person_store.add_persons(tx, fresh)
    return there | fresh


def _require_same(name: Name, is_same: bool) -> None:
    if not is_same:
        raise TamperedError(f"the name that the ledger has for key {name.id:010x} of a person is somebody else's")
