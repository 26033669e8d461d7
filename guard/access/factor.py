"""The second factor: a code is charged before it is looked at, and taken once.

Two commits for every try. The first counts the try and, when there were too many, locks; only then is the code
compared. So a client that is killed, or that guesses from many processes, never gets more tries than the policy gives.
The second takes the code's step by compare-and-set and lifts the count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from guard.access import recovery, totp
from guard.access.refusals import Refusal, bad_code, refused
from guard.access.store import FACTOR, RECOVERY, Row, Sealed
from guard.canon import key_bytes
from guard.clock import Clock, parse, stamp
from guard.config.access import CodeRule
from guard.crypto.envelope import Binding, Opener, Place, Sealer, key_id_of
from guard.crypto.keyring import Key, Keyring
from guard.errors import TamperedError
from guard.state import State, Tx

T = TypeVar("T")

COLUMN = 0
"""The column number of TOTP secrets: the catalog numbers its columns from 1."""

RECOVERY_DOMAIN = "recovery code"


@dataclass(frozen=True, slots=True)
class NewFactor:
    """A second factor as state will hold it: the sealed secret, the step of its last code, recovery digests."""

    person: str
    secret: bytes
    step: int
    recovery: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Try:
    """A try that was counted, and when."""

    row: Row
    at: datetime


@dataclass(frozen=True, slots=True)
class _Reading:
    """What was typed stands for: a step of the authenticator, or the digest of a recovery code, or neither."""

    step: int | None = None
    recovery: str | None = None


@dataclass(frozen=True, slots=True)
class _Taken(Generic[T]):
    result: T


def locked_for(tries: int, rule: CodeRule) -> timedelta:
    """Return for how long no code is taken after `tries` that failed in a row: nothing, then doubling from `lock`."""
    over = tries - rule.tries
    if over < 0:
        return timedelta()
    return min(rule.lock.rest * (1 << min(over, 20)), rule.longest_lock.rest)  # 2^20 minutes are two years: no overflow


class Factors:
    """The second factors of all people, in state."""

    def __init__(self, state: State, keyring: Keyring, rule: CodeRule, clock: Clock) -> None:
        self._state = state
        self._keyring = keyring
        self._rule = rule
        self._clock = clock
        self._place = Place(state.store_id, COLUMN, Binding.SUBJECT)
        self._rows = Sealed(FACTOR, keyring.digest)
        self._recovery = Sealed(RECOVERY, keyring.digest)

    def prepare(self, person: str, secret: str, step: int, codes: tuple[str, ...]) -> NewFactor:
        """Return a factor ready to be stored. The secret is sealed for this person, recovery codes are digested."""
        key = self._keyring.ensure("totp")
        sealed = Sealer(self._place, key).seal(secret, key_bytes((person,)))
        return NewFactor(person, sealed, step, tuple(self._recovery_digest(person, code) for code in codes))

    def add(self, tx: Tx, new: NewFactor) -> None:
        """Store a factor. The step it was enrolled with is spent."""
        self._rows.add(tx, person=new.person, secret=new.secret, last_step=new.step, tries=0)
        for code in new.recovery:
            self._recovery.add(tx, person=new.person, code=code)

    def recovery_left(self, tx: Tx, person: str) -> int:
        """Return how many recovery codes the person has left."""
        return sum(row["used_at"] is None for row in self._recovery.find(tx, person=person))

    def under(self, tx: Tx, key_id: int) -> int:
        """Return how many secrets are sealed under a version of the TOTP key."""
        return sum(key_id_of(bytes(row["secret"])) == key_id for row in self._rows.find(tx))

    def reseal(self, tx: Tx) -> int:
        """Seal every secret under the TOTP key of now, and return how many were under an older version."""
        key, count = self._keyring.current("totp"), 0
        sealer = Sealer(self._place, key)
        for row in self._rows.find(tx):
            if key_id_of(bytes(row["secret"])) != key.id:
                secret = self._open(row["person"], row["secret"])
                count += self._rows.change(tx, row, secret=sealer.seal(secret, key_bytes((row["person"],))))
        return count

    def take(self, person: str, typed: str, then: Callable[[Tx], T]) -> T:
        """Take a code or a recovery code, run `then` in the same transaction and return its result.

        Raises DeniedError when the code is empty, wrong, used before, or given while locked; TamperedError when state's
        rows of this person are not what guard wrote; ClockError when the clock went back.
        """
        plain = recovery.plain(typed)
        if not plain:
            raise refused(Refusal.NO_CODE, "no code was given")
        charged = self._state.write(lambda tx: self._charge(tx, person))
        if charged is None:
            raise bad_code(Refusal.LOCKED)
        reading = self._read(person, plain, charged)
        taken = self._state.write(lambda tx: self._spend(tx, charged, reading, then))
        if isinstance(taken, Refusal):
            raise bad_code(taken)
        return taken.result

    def _charge(self, tx: Tx, person: str) -> _Try | None:
        """Count a try, and lock when it is one too many. None while locked: such a try is not even compared."""
        row, now = self._row(tx, person), self._clock.now()
        if row["locked_until"] is not None and now < parse(row["locked_until"]):
            return None
        tries = row["tries"] + 1
        lock = locked_for(tries, self._rule)
        self._rows.change(tx, row, tries=tries, locked_until=stamp(now + lock) if lock else None)
        return _Try(row, now)

    def _read(self, person: str, plain: str, charged: _Try) -> _Reading:
        if recovery.looks_like_code(plain):
            return _Reading(recovery=self._recovery_digest(person, plain))
        if charged.row["tries"] >= self._rule.give_up:
            return _Reading()  # so many wrong ones: the authenticator is no longer believed, only recovery codes
        return _Reading(step=totp.match(self._open(person, charged.row["secret"]), plain, charged.at))

    def _spend(self, tx: Tx, charged: _Try, reading: _Reading, then: Callable[[Tx], T]) -> _Taken[T] | Refusal:
        row = self._row(tx, charged.row["person"])
        step = row["last_step"]
        if reading.recovery is not None:
            refusal = self._spend_recovery(tx, row["person"], reading.recovery, charged.at)
        elif reading.step is None:
            refusal = Refusal.WRONG_CODE
        else:
            refusal = None if reading.step > step else Refusal.USED_CODE
            step = reading.step
        if refusal is not None or not self._rows.change(tx, row, last_step=step, tries=0, locked_until=None):
            return refusal or Refusal.USED_CODE  # the latter: another process was faster
        return _Taken(then(tx))

    def _spend_recovery(self, tx: Tx, person: str, code: str, at: datetime) -> Refusal | None:
        found = self._recovery.find(tx, person=person, code=code)
        if not found:
            return Refusal.WRONG_CODE
        unused = found[0]["used_at"] is None and self._recovery.change(tx, found[0], used_at=stamp(at))
        return None if unused else Refusal.USED_CODE

    def _row(self, tx: Tx, person: str) -> Row:
        rows = self._rows.find(tx, person=person)
        if not rows:
            raise TamperedError(
                f"state: the second factor of {person} is gone",
                hint="restore state from a backup; guard never deletes one",
            )
        return rows[0]

    def _open(self, person: str, sealed: bytes) -> str:
        return str(Opener(self._place, self._key).open(bytes(sealed), key_bytes((person,))))

    def _key(self, key_id: int) -> Key:
        key = self._keyring.by_id(key_id)
        if key.purpose != "totp":
            raise LookupError(key_id)
        return key

    def _recovery_digest(self, person: str, code: str) -> str:
        return self._keyring.digest(RECOVERY_DOMAIN, recovery.digest_input(person, code))
