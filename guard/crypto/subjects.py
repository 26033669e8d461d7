"""The keys of people: one for each person and class of data, so that one person's data can be shredded alone.

A subject key is random, wrapped under the key of the current epoch, and lies in state's table `subject_key`; once its
wrapped bytes are gone it opens nothing. Unlike all other keys it is never sealed to the recovery kit, for that copy
would survive shredding. What is opened is kept for a minute, so that a shredded key dies in other processes too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Final, NamedTuple, TypeVar

from guard import faults
from guard.canon import parts
from guard.crypto import random, store, subject_store, wrap
from guard.crypto.envelope import Opener, Place, Sealer, key_id_of
from guard.crypto.keyring import Keyring
from guard.crypto.opened import Opened
from guard.crypto.subject_store import Subject
from guard.crypto.vault import Vault
from guard.crypto.vault_store import Epoch
from guard.crypto.wrap import KEY_SIZE, Key
from guard.errors import InterlockError, ShreddedError, TamperedError
from guard.events import Progress, silent
from guard.state import State, Tx

T = TypeVar("T")

_BATCH: Final = 2000
"""Keys that are made or wrapped in one transaction of state: some 20 ms."""


class Person(NamedTuple):
    """Somebody: the catalog's kind of subject, and the canonical key (guard.canon.key_bytes)."""

    kind: str
    key: bytes


class Shredded(Enum):
    """Stands in place of a value whose key was shredded."""

    SHREDDED = "shredded"


SHREDDED: Final = Shredded.SHREDDED
"""What `SubjectOpener.open_each` gives for a value that nobody can open any more."""


class SubjectKeys:
    """The subject keys of one store. May be shared by threads; a forked child begins with none opened."""

    def __init__(self, state: State, keyring: Keyring, vault: Vault) -> None:
        self.vault = vault
        self._state = state
        self._keyring = keyring
        self._opened: Opened[Key] = Opened(state.clock)

    def person_digest(self, person: Person) -> bytes:
        """Return the 32 bytes state knows a person by: keyed, so that nobody without the key can guess who it is."""
        return bytes.fromhex(self._keyring.digest("subject", parts(person.kind.encode(), person.key)))

    def purpose(self, person: Person, class_: str) -> str:
        """Return the purpose of a person's key for a class."""
        return subject_store.purpose(class_, person.kind, self.person_digest(person))

    def for_writing(self, person: Person, class_: str) -> Key:
        """Return the key that seals a person's data of a class; made now when there is none.

        After shredding that is a new one: what is written then is about somebody who came back. Raises InterlockError
        without a vault of two mirrors, UnavailableError when none of them answers.
        """
        return self.all_for_writing((person,), class_)[0]

    def all_for_writing(self, persons: Sequence[Person], class_: str) -> list[Key]:
        """Return the key of each person; the same as `for_writing` for each, in few transactions."""
        wanted = [(self.person_digest(each), each.kind) for each in persons]
        kept = ((person, self._opened.of((person, class_))) for person, _ in dict.fromkeys(wanted))
        found = {person: key for person, key in kept if key is not None}
        for batch in _batches([each for each in dict.fromkeys(wanted) if each[0] not in found]):
            with self._state.read() as tx:
                stored = subject_store.living_of(tx, [person for person, _ in batch], class_)
            opened = self._open(stored.values())
            found.update({person: opened[row.id] for person, row in stored.items()})
            if absent := [each for each in batch if each[0] not in found]:
                found.update(self._make(absent, class_))
        return [found[person] for person, _ in wanted]

    def of(self, person: Person, class_: str) -> Key | None:
        """Return the living key of a person's data of a class; None when there is none. Makes none."""
        digest = self.person_digest(person)
        if (kept := self._opened.of((digest, class_))) is not None:
            return kept
        with self._state.read() as tx:
            stored = subject_store.living_of(tx, [digest], class_)
        return next(iter(self._open(stored.values()).values()), None)

    def each(self, class_: str) -> Iterator[list[tuple[Subject, Key]]]:
        """Yield all living keys of a class in batches, by id, opened; none of them is kept."""
        after = 0
        while True:
            with self._state.read() as tx:
                rows = subject_store.living_after(tx, after, _BATCH, class_)
            if not rows:
                return
            yield [(row, self._unwrap(row, self.vault.key(row.epoch))) for row in rows]
            after = rows[-1].id

    def by_id(self, key_id: int) -> Key:
        """Return the one key with this id.

        Raises ShreddedError when it was shredded, TamperedError when it is no person's key.
        """
        if (key := self.by_ids((key_id,))[key_id]) is None:
            raise ShreddedError(f"key {key_id:010x} of a person was shredded", hint=HINT)
        return key

    def by_ids(self, ids: Iterable[int]) -> dict[int, Key | None]:
        """Return the key of each id, None where it was shredded. Raises TamperedError for an id that is no person's."""
        found: dict[int, Key | None] = {key_id: self._opened.by_id(key_id) for key_id in ids}
        for batch in _batches([key_id for key_id, key in found.items() if key is None]):
            with self._state.read() as tx:
                stored = subject_store.subjects_by_id(tx, batch)
            if unknown := set(batch) - set(stored):
                raise TamperedError(f"a stored value names key {min(unknown):010x}, which is no person's key")
            found.update(self._open(row for row in stored.values() if row.shredded_at is None))
        return found

    def classes(self, person: Person) -> tuple[str, ...]:
        """Return the classes a person has living keys for."""
        with self._state.read() as tx:
            return tuple(sorted(subject_store.classes_of(tx, self.person_digest(person))))

    def unsaved(self, saved_at: datetime | None) -> tuple[int, int]:
        """Return how many living keys are newer than `saved_at` (None: all), and how many there are."""
        with self._state.read() as tx:
            return subject_store.count_living(tx, since=saved_at), subject_store.count_living(tx)

    def forget(self) -> None:
        """Drop every opened key, those of epochs too."""
        self._opened.clear()
        self.vault.forget()

    # At the end of an epoch ------------------------------------------------------------------------------------------

    def left_under(self, epochs: Sequence[Epoch]) -> int:
        """Return how many living keys are wrapped under these epochs."""
        with self._state.read() as tx:
            return subject_store.count_living(tx, [epoch.id for epoch in epochs])

    def rewrap(self, old: Sequence[Epoch], new: Epoch, tell: Progress = silent) -> int:
        """Wrap every living key that is under one of `old` under `new`, in batches; return how many.

        A run that is interrupted is simply made again. Raises TamperedError for a key that does not open.
        """
        total, done = self.left_under(old), 0
        while True:
            parents = {epoch.id: self.vault.key(epoch.id) for epoch in (*old, new)}
            moved = self._state.write(partial(self._rewrap, parents=parents, new=new))
            faults.point("subjects.rewrap.batch")
            if not moved:
                return done
            done += moved
            tell("keys of people", done, max(total, done))

    def prove(self, epoch: Epoch) -> int:
        """Open every living key under `epoch` alone, whose key is read from each mirror anew; return how many.

        Raises TamperedError when one does not open or is under another epoch, and what stands against the mirrors.
        """
        self.forget()
        if troubles := [seen.trouble for seen in self.vault.look() if seen.trouble is not None]:
            raise troubles[0]
        parent, after, count = self.vault.key(epoch.id), 0, 0
        while True:
            with self._state.read() as tx:
                rows = subject_store.living_after(tx, after, _BATCH)
            if not rows:
                return count
            for row in rows:
                self._unwrap(row, parent)
            after, count = rows[-1].id, count + len(rows)

    def close(self, old: Sequence[Epoch]) -> None:
        """Note that epochs have ended: state is backed up, and the living need them no more.

        Raises InterlockError, and closes none, when a living key is still wrapped under one of them.
        """

        def work(tx: Tx) -> None:
            if left := subject_store.count_living(tx, [epoch.id for epoch in old]):
                raise InterlockError(f"{left} keys of living people are still under an epoch that was to end")
            for epoch in old:
                self.vault.close(tx, epoch)

        self._state.write(work)

    def _rewrap(self, tx: Tx, parents: dict[int, Key], new: Epoch) -> int:
        rows = subject_store.living_under(tx, [key_id for key_id in parents if key_id != new.id], _BATCH)
        keys = [self._unwrap(row, parents[row.epoch]) for row in rows]
        wrapped = [wrap.wrap(self._state.store_id, key, parents[new.id]) for key in keys]
        subject_store.rewrap(
            tx, [replace(row, epoch=new.id, wrapped=each) for row, each in zip(rows, wrapped, strict=True)]
        )
        return len(rows)

    # Inside ----------------------------------------------------------------------------------------------------------

    def _make(self, persons: Sequence[tuple[bytes, str]], class_: str) -> dict[bytes, Key]:
        """Make keys for persons that have none; where another process was faster, return its keys."""
        while True:
            parent = self.vault.key(self.vault.ensure().id)
            made = self._state.write(partial(self._make_in, persons=persons, class_=class_, parent=parent))
            faults.point("subjects.made")
            if made is not None:
                theirs, ours = made
                self._opened.keep(((person, class_), key) for person, key in ours.items())
                opened = self._open(theirs)
                return {**{row.person: opened[row.id] for row in theirs}, **ours}

    def _make_in(
        self, tx: Tx, persons: Sequence[tuple[bytes, str]], class_: str, parent: Key
    ) -> tuple[list[Subject], dict[bytes, Key]] | None:
        """Return the keys another process made meanwhile, and those made here; None when the epoch is another now."""
        current = self.vault.current(tx)
        if current is None or current.id != parent.id:
            return None
        theirs = subject_store.living_of(tx, [person for person, _ in persons], class_)
        absent = [each for each in persons if each[0] not in theirs]
        store_id, now, ours, rows = self._state.store_id, self._state.clock.now(), {}, []
        for key_id, (person, kind) in enumerate(absent, store.take_id(tx, len(absent))):
            key = Key(key_id, subject_store.purpose(class_, kind, person), 1, random.token(KEY_SIZE))
            wrapped, committed = wrap.wrap(store_id, key, parent), wrap.commitment(store_id, key)
            rows.append(Subject(key_id, person, kind, class_, parent.id, wrapped, committed, now))
            ours[person] = key
        subject_store.add_subjects(tx, rows)
        return list(theirs.values()), ours

    def _open(self, rows: Iterable[Subject]) -> dict[int, Key]:
        """Open keys, and keep them for a minute; return them by id."""
        opened = [(row, self._unwrap(row, self.vault.key(row.epoch))) for row in rows]
        self._opened.keep(((row.person, row.class_), key) for row, key in opened)
        return {row.id: key for row, key in opened}

    def _unwrap(self, row: Subject, parent: Key) -> Key:
        if row.wrapped is None or row.commitment is None:
            raise TamperedError(f"key {row.id:010x} of a person was emptied, but not by shredding")
        key = wrap.unwrap(self._state.store_id, row.wrapped, Key(row.id, row.purpose, 1, b""), parent)
        return wrap.check(self._state.store_id, key, row.commitment)


class SubjectSealer:
    """Seals values of one column, each under the key of the person it is about. May be shared by threads."""

    def __init__(self, place: Place, keys: SubjectKeys, kind: str, class_: str, *, padded: bool = False) -> None:
        self.place = place
        self._keys = keys
        self._kind = kind
        self._class = class_
        self._padded = padded

    def seal(self, value: object, bound: bytes) -> bytes:
        """Return `value` sealed for the person whose canonical key is `bound`. Raises what `Sealer.seal` does."""
        return self.seal_all((value,), (bound,))[0]

    def seal_all(self, values: Sequence[object], bounds: Sequence[bytes]) -> list[bytes]:
        """Return each value sealed for its person; keys that are missing are made together."""
        if len(values) != len(bounds):
            raise ValueError(f"{len(values)} values, but {len(bounds)} persons")
        persons = [Person(self._kind, bound) for bound in dict.fromkeys(bounds)]
        keys = dict(zip(dict.fromkeys(bounds), self._keys.all_for_writing(persons, self._class), strict=True))
        sealers: dict[bytes, Sealer] = {}
        out = []
        for value, bound in zip(values, bounds, strict=True):
            sealer = sealers.get(bound)
            if sealer is None:
                sealer = sealers[bound] = Sealer(self.place, keys[bound], padded=self._padded)
            out.append(sealer.seal(value, bound))
        return out


class SubjectOpener:
    """Opens values of one column, each with the key of the person it is about. May be shared by threads."""

    def __init__(self, place: Place, keys: SubjectKeys, kind: str, class_: str) -> None:
        self.place = place
        self._keys = keys
        self._kind = kind
        self._class = class_

    def open(self, sealed: bytes, bound: bytes) -> object:
        """Return the value that was sealed for the person whose canonical key is `bound`.

        Raises ShreddedError when the person's key was shredded, TamperedError when the value is not exactly what was
        sealed for this place.
        """
        return self.open_all((sealed,), (bound,))[0]

    def open_all(self, sealed: Sequence[bytes], bounds: Sequence[bytes]) -> list[object]:
        """Return each value; the same as `open` for each. One that does not open fails them all."""
        found = self.open_each(sealed, bounds)
        if gone := sum(value is SHREDDED for value in found):
            raise ShreddedError(f"{gone} of {len(found)} values of column {self.place.column} were shredded", hint=HINT)
        return found

    def open_each(self, sealed: Sequence[bytes], bounds: Sequence[bytes]) -> list[object]:
        """Return each value, and `SHREDDED` in place of those whose key was shredded. Raises TamperedError."""
        if len(sealed) != len(bounds):
            raise ValueError(f"{len(sealed)} values, but {len(bounds)} persons")
        ids = [key_id_of(each) for each in sealed]
        keys = {key_id: key for key_id, key in self._keys.by_ids(ids).items() if key is not None}
        living = [at for at, key_id in enumerate(ids) if key_id in keys]
        for at in living:
            self._require_own(keys[ids[at]], bounds[at])
        opener = Opener(self.place, keys.__getitem__)  # keeps no key beyond this call
        opened = opener.open_all([sealed[at] for at in living], [bounds[at] for at in living])
        out: list[object] = [SHREDDED] * len(sealed)
        for at, value in zip(living, opened, strict=True):
            out[at] = value
        return out

    def _require_own(self, key: Key, bound: bytes) -> None:
        """Raise TamperedError for a value under a key of another person or class: shredding would pass it by."""
        if key.purpose != self._keys.purpose(Person(self._kind, bound), self._class):
            raise TamperedError(f"a sealed value of column {self.place.column} is under a key that is not its person's")


HINT: Final = "guard keys shred --receipt shows when; there is no way back, as was asked for"


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[at : at + _BATCH] for at in range(0, len(items), _BATCH))
