"""Shredding: a person's key of one class is wiped, and a receipt says what is dead since when. docs/FORMATS.md, 3.

The key and the receipt change in one transaction of state. What else has to be done in live stores is written down in
the receipt before, so that whatever ends the process, the next run finishes.
"""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from guard.canon import parts
from guard.crypto import random, subject_store
from guard.crypto.epochs import ends
from guard.crypto.keyring import Keyring
from guard.crypto.subjects import Person, SubjectKeys
from guard.crypto.vault import PURPOSE
from guard.crypto.vault_store import Epoch, Receipt, Receipts
from guard.crypto.wrap import Key, id_bytes
from guard.errors import GoneError, TamperedError
from guard.events import GUARD, Event, PrincipalId
from guard.state import State, Tx

_NONCE = 12
_TRIES = 10
"""How often shredding is begun anew when somebody writes about the person at that moment."""


@dataclass(frozen=True, slots=True)
class Fate:
    """When a shredded key is dead in all backups: since `dead_at`; or it is pending, `until` when."""

    dead_at: datetime | None
    until: datetime | None
    late: bool = False
    """Whether `until` is over, and an epoch's key is still somewhere."""


@dataclass(frozen=True, slots=True)
class Death:
    """What is to be shredded, and what has to be done in live stores beside it."""

    person: Person
    class_: str
    run: str
    steps: tuple[str, ...]
    before: datetime | None = None
    """Only a key made until then: one made later is about somebody who came back. None: whatever key there is."""
    who: PrincipalId = GUARD


class Along(Protocol):
    """What goes with a key of one class, in the transaction that wipes it."""

    def told(self, death: Death) -> tuple[Event, ...]:
        """Return what is recorded in that transaction; the ledger takes away what has to go as it records it."""
        ...

    def is_whole(self, tx: Tx, key_id: int, told: Sequence[Event]) -> bool:
        """Tell whether `told` takes away all that is to go with the key."""
        ...


class _NobodyError(Exception):
    """There is no key to wipe, so nothing is recorded either."""


class Shredder:
    """Wipes keys of people, and keeps the receipts."""

    def __init__(
        self, state: State, keyring: Keyring, subjects: SubjectKeys, along: Mapping[str, Along] | None = None
    ) -> None:
        """`along`: what goes with the keys of a class, by class."""
        self._state = state
        self._keyring = keyring
        self._subjects = subjects
        self._along = along or {}
        self._receipts = Receipts(keyring.digest)

    def shred(self, death: Death) -> Receipt | None:
        """Wipe a person's key of a class, and return the receipt; None when there is no living key.

        From the commit on nothing opens the person's values of this class but processes that opened the key less than a
        minute before, and old backups of state until the epochs named in the receipt are gone. Raises GoneError when
        somebody writes about the person again and again meanwhile.
        """
        for _ in range(_TRIES - 1):
            with suppress(GoneError):
                return self._tried(death)
        return self._tried(death)

    def _tried(self, death: Death) -> Receipt | None:
        key, along = self._keyring.ensure(PURPOSE), self._along.get(death.class_)
        told = along.told(death) if along else ()

        def work(tx: Tx) -> Receipt:
            receipt = self._shred(tx, death, key)
            if receipt is None:
                raise _NobodyError
            if along and not along.is_whole(tx, receipt.key_id, told):
                raise GoneError("somebody wrote about the person at the same moment", hint="run it again")
            return receipt

        try:
            return self._state.write(work, *told)
        except _NobodyError:
            return None
        finally:
            self._subjects.forget()

    def lives(self, person: Person, class_: str, before: datetime) -> bool:
        """Tell whether a person has a living key of a class that was made until `before`."""
        digest = self._subjects.person_digest(person)
        with self._state.read() as tx:
            row = subject_store.living_of(tx, [digest], class_).get(digest)
        return row is not None and row.made_at <= before

    def receipts(self, person: Person | None = None) -> list[Receipt]:
        """Return the receipts, of one person when it is given, the oldest first.

        Raises TamperedError for one that guard did not write.
        """
        equal = {} if person is None else {"person": self._subjects.person_digest(person)}
        with self._state.read() as tx:
            return self._receipts.list(tx, **equal)

    def of_run(self, run: str) -> list[Receipt]:
        """Return the receipts a run wrote."""
        with self._state.read() as tx:
            return self._receipts.list(tx, run=run)

    def unfinished(self) -> list[Receipt]:
        """Return the receipts with something left to do in live stores."""
        with self._state.read() as tx:
            return self._receipts.list(tx, ended_at=None)

    def did(self, receipts: Sequence[Receipt], step: str, rows: Mapping[str, int] | None = None) -> list[Receipt]:
        """Note that a step was done for each of `receipts`; return them as they are now.

        `rows`: how many rows of the shop were changed, by receipt. When nothing is left, who it was is wiped.
        """
        return self._state.write(lambda tx: [self._did(tx, each, step, rows or {}) for each in receipts])

    def who(self, receipt: Receipt) -> Person:
        """Return the person of an unfinished receipt. Raises TamperedError when it does not open."""
        sealed = receipt.who or b""
        key = self._keyring.by_id(int.from_bytes(sealed[:5], "big"))
        try:
            raw = AESGCM(key.material).decrypt(sealed[5:][:_NONCE], sealed[5 + _NONCE :], self._place(receipt.id, key))
        except (InvalidTag, ValueError):
            raise TamperedError(f"the receipt {receipt.id} does not tell whom it is about") from None
        return Person(receipt.kind, raw)

    def fate(self, receipt: Receipt, epochs: Mapping[int, Epoch]) -> Fate:
        """Return when the shredded key is dead in all backups; `epochs` are all of the vault's, by id."""
        now = self._state.clock.now()
        mine = [epochs[each] for each in receipt.epochs]
        gone = [each.gone_at for each in mine if each.gone_at is not None]
        if len(gone) == len(mine) and all(at <= now for at in gone):
            return Fate(max((receipt.at, *gone)), None)
        until = max(self._expected(each) for each in mine)
        return Fate(None, until, late=until <= now)

    def _shred(self, tx: Tx, death: Death, key: Key) -> Receipt | None:
        digest = self._subjects.person_digest(death.person)
        row = subject_store.living_of(tx, [digest], death.class_).get(digest)
        if row is None or (death.before is not None and row.made_at > death.before):
            return None
        now = self._state.clock.now()
        receipt_id = f"k-{b32encode(random.token(7)).decode()[:10].lower()}"
        receipt = Receipt(
            receipt_id,
            death.run,
            digest,
            death.person.kind,
            death.class_,
            row.id,
            tuple(each.id for each in self._subjects.vault.alive(tx)),
            now,
            death.steps,
            self._sealed(receipt_id, death.person.key, key),
        )
        subject_store.wipe(tx, [row.id], now)
        self._receipts.add(tx, receipt)
        return receipt

    def _did(self, tx: Tx, receipt: Receipt, step: str, rows: Mapping[str, int]) -> Receipt:
        now = self._receipts.list(tx, id=receipt.id)[0]
        left = tuple(each for each in now.left if each != step)
        changed = replace(now, left=left, rows=now.rows + rows.get(receipt.id, 0))
        if not left:
            changed = replace(changed, who=None, ended_at=now.ended_at or self._state.clock.now())
        self._receipts.keep(tx, changed)
        return changed

    def _expected(self, epoch: Epoch) -> datetime:
        """Return when an epoch's key should be gone: in the future where it is under way, else after its month."""
        if epoch.gone_at is not None:
            return epoch.gone_at
        return ends(epoch.name) + max((mirror.delay for mirror in self._subjects.vault.mirrors), default=timedelta())

    def _sealed(self, receipt_id: str, who: bytes, key: Key) -> bytes:
        nonce = random.token(_NONCE)
        return id_bytes(key.id) + nonce + AESGCM(key.material).encrypt(nonce, who, self._place(receipt_id, key))

    def _place(self, receipt_id: str, key: Key) -> bytes:
        return parts(b"guard/gk1/receipt", self._state.store_id.bytes, id_bytes(key.id), receipt_id.encode())
