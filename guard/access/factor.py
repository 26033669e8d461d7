"""The second factor: a code is charged before it is looked at, and taken once.

Two commits for every try. The first counts the try and, when there were too many, locks; only then is the code
compared. So a client that is killed, or that guesses from many processes, never gets more tries than the policy gives.
The second takes the code's step by compare-and-set and lifts the count.

A person may have no authenticator, before their first enrolment or after a reset; then no code of theirs is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from guard import faults
from guard.access import recovery, totp
from guard.access.refusals import Refusal, bad_code, refused
from guard.access.store import FACTOR, PERSON, RECOVERY, Row, Sealed
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
    drift: int
    recovery: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FactorStanding:
    """How a person's second factor stands."""

    active: bool
    """Whether there is an authenticator."""
    open_until: datetime | None
    """Until when they may enrol one; None when they may not."""
    locked_until: datetime | None
    recovery_codes: int
    """How many are left."""


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
        self._people = Sealed(PERSON, keyring.digest)

    def prepare(self, person: str, secret: str, at: datetime, step: int, codes: tuple[str, ...]) -> NewFactor:
        """Return a factor ready to be stored. The secret is sealed for this person, recovery codes are digested.

        `step` is that of the last code it was proven with, typed at `at`.
        """
        key = self._keyring.ensure("totp")
        sealed = Sealer(self._place, key).seal(secret, key_bytes((person,)))
        return NewFactor(person, sealed, step, totp.drifted(0, step, at), self.recovery_digests(person, codes))

    def recovery_digests(self, person: str, codes: tuple[str, ...]) -> tuple[str, ...]:
        """Return what is stored of recovery codes."""
        return tuple(self._recovery_digest(person, code) for code in codes)

    def add(self, tx: Tx, new: NewFactor) -> None:
        """Store a factor. The step it was enrolled with is spent."""
        self._rows.add(tx, person=new.person, secret=new.secret, last_step=new.step, drift=new.drift, tries=0)
        self._add_recovery(tx, new.person, new.recovery)

    def expect(self, tx: Tx, person: str, until: datetime) -> None:
        """Let a new person, who has no authenticator yet, enrol one themselves until then."""
        self._rows.add(tx, person=person, last_step=0, drift=0, tries=0, open_until=stamp(until))

    def is_new(self, tx: Tx, person: str) -> bool:
        """Tell whether the person never had an authenticator: recovery codes came with each, and their rows stay."""
        return self._row(tx, person)["secret"] is None and not self._recovery.find(tx, person=person)

    def reopen(self, tx: Tx, person: str, until: datetime) -> None:
        """Let somebody whose time to enrol is over do so until then."""
        self._rows.change(tx, self._row(tx, person), open_until=stamp(until))

    def reset(self, tx: Tx, person: str, now: datetime, until: datetime) -> None:
        """Take the authenticator and all recovery codes away, and let the person enrol a new one until then."""
        self._rows.change(tx, self._row(tx, person), secret=None, drift=0, open_until=stamp(until))
        self._use_up(tx, person, now)

    def renew(self, tx: Tx, new: NewFactor, now: datetime) -> None:
        """Put a new authenticator and new recovery codes in the place of those there were. It closes the enrolment."""
        row = self._row(tx, new.person)
        step = max(row["last_step"], new.step)
        fresh = {"tries": 0, "locked_until": None, "open_until": None}
        self._rows.change(tx, row, secret=new.secret, last_step=step, drift=new.drift, **fresh)
        self.renew_recovery(tx, new.person, new.recovery, now)

    def renew_recovery(self, tx: Tx, person: str, digests: tuple[str, ...], now: datetime) -> None:
        """Put new recovery codes in the place of those there were."""
        self._use_up(tx, person, now)
        self._add_recovery(tx, person, digests)

    def standing(self, tx: Tx, person: str) -> FactorStanding:
        """Return how the second factor of a person stands now."""
        row, now = self._row(tx, person), self._clock.now()
        left = sum(row["used_at"] is None for row in self._recovery.find(tx, person=person))
        return FactorStanding(
            row["secret"] is not None, _ahead(row["open_until"], now), _ahead(row["locked_until"], now), left
        )

    def require_here(self, tx: Tx, person: str) -> None:
        """Raise DeniedError when the person is disabled, or nobody."""
        if not any(row["enabled"] for row in self._people.find(tx, id=person)):
            raise refused(Refusal.UNKNOWN, f"{person} is nobody guard knows", "`guard access list` shows who is")

    def require_active(self, tx: Tx, person: str) -> None:
        """Raise DeniedError when the person has no authenticator: no code of theirs is asked for."""
        if self._row(tx, person)["secret"] is None:
            raise refused(Refusal.NO_CODE, "you have no authenticator yet", "`guard access enrol` sets one up")

    def under(self, tx: Tx, key_id: int) -> int:
        """Return how many secrets are sealed under a version of the TOTP key."""
        secrets = [bytes(row["secret"]) for row in self._rows.find(tx) if row["secret"] is not None]
        return sum(key_id_of(secret) == key_id for secret in secrets)

    def reseal(self, tx: Tx) -> int:
        """Seal every secret under the TOTP key of now, and return how many were under an older version."""
        key, count = self._keyring.current("totp"), 0
        sealer = Sealer(self._place, key)
        for row in self._rows.find(tx):
            if row["secret"] is not None and key_id_of(bytes(row["secret"])) != key.id:
                secret = self._open(row["person"], row["secret"])
                count += self._rows.change(tx, row, secret=sealer.seal(secret, key_bytes((row["person"],))))
        return count

    def take(self, person: str, typed: str, then: Callable[[Tx], T]) -> T:
        """Take a code or a recovery code, run `then` in the same transaction and return its result.

        Raises DeniedError when the code is empty, wrong, used before, or given while locked, when the person has no
        authenticator, or is nobody guard knows by now; TamperedError when state's rows of this person are not what
        guard wrote; ClockError when the clock went back.
        """
        plain = recovery.plain(typed)
        if not plain:
            raise refused(Refusal.NO_CODE, "no code was given")
        charged = self._state.write(lambda tx: self._charge(tx, person))
        if charged is None:
            raise bad_code(Refusal.LOCKED)
        faults.point("access.code.charged")
        reading = self._read(person, plain, charged)
        faults.point("access.code.compared")
        taken = self._state.write(lambda tx: self._spend(tx, charged, reading, then))
        faults.point("access.code.spent")
        if isinstance(taken, Refusal):
            raise bad_code(taken)
        return taken.result

    def _charge(self, tx: Tx, person: str) -> _Try | None:
        """Count a try, and lock when it is one too many. None while locked: such a try is not even compared."""
        self.require_here(tx, person)
        self.require_active(tx, person)
        row, now = self._row(tx, person), self._clock.now()
        if _ahead(row["locked_until"], now):
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
        secret = self._open(person, charged.row["secret"])
        return _Reading(step=totp.match(secret, plain, charged.at, charged.row["drift"]))

    def _spend(self, tx: Tx, charged: _Try, reading: _Reading, then: Callable[[Tx], T]) -> _Taken[T] | Refusal:
        self.require_here(tx, charged.row["person"])  # they may have been disabled since
        row = self._row(tx, charged.row["person"])
        step, drift = row["last_step"], row["drift"]
        if reading.recovery is not None:
            refusal = self._spend_recovery(tx, row["person"], reading.recovery, charged.at)
        elif reading.step is None or row["secret"] != charged.row["secret"]:  # or reset, or enrolled anew since
            refusal = Refusal.WRONG_CODE
        else:
            refusal = None if reading.step > step else Refusal.USED_CODE
            step, drift = reading.step, totp.drifted(drift, reading.step, charged.at)
        if refusal is not None or not self._rows.change(
            tx, row, last_step=step, drift=drift, tries=0, locked_until=None
        ):
            return refusal or Refusal.USED_CODE  # the latter: another process was faster
        return _Taken(then(tx))

    def _add_recovery(self, tx: Tx, person: str, digests: tuple[str, ...]) -> None:
        for digest in digests:
            self._recovery.add(tx, person=person, code=digest)

    def _use_up(self, tx: Tx, person: str, now: datetime) -> None:
        for row in self._recovery.find(tx, person=person, used_at=None):
            self._recovery.change(tx, row, used_at=stamp(now))

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


def _ahead(text: str | None, now: datetime) -> datetime | None:
    """Return the time in `text` when it is still to come."""
    at = None if text is None else parse(text)
    return at if at is not None and now < at else None
