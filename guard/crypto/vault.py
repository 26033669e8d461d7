"""The vault: keys of epochs, kept where deletion is honoured and in no backup. docs/FORMATS.md, section 3.

An epoch is a calendar month in UTC. Its key wraps the keys of people; when it is gone from every mirror, no backup of
state opens what was shredded in that month. It lies in the mirrors only, wrapped under guard's `vault` key, so that a
mirror alone opens nothing and state alone does not either. It is never sealed to the recovery kit: that copy would
outlive its deletion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from guard import faults
from guard.crypto import random, store, wrap
from guard.crypto.epochs import Objects, month
from guard.crypto.keyring import Keyring
from guard.crypto.mirrors import Mirror
from guard.crypto.opened import is_fresh
from guard.crypto.places import Places
from guard.crypto.vault_store import Epoch, Epochs
from guard.crypto.wrap import KEY_SIZE, Key
from guard.crypto.xaes import PROCESS
from guard.errors import ConfigError, GuardError, InterlockError, ShreddedError, TamperedError, UnavailableError
from guard.state import State, Tx

PURPOSE: Final = "vault"
LEAST: Final = 2
"""Mirrors: with one, losing it would lose every person's data."""

Lock = Callable[[], AbstractContextManager[None]]
"""Keeps other processes of this folder from changing the vault meanwhile."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How one mirror was found. `trouble`: why it cannot be relied on; None when it can."""

    name: str
    where: str
    trouble: GuardError | None
    lacking: tuple[Epoch, ...] = ()
    """Epochs in use that are not there, or that state does not know to be there."""
    risen: tuple[Epoch, ...] = ()
    """Epochs that were deleted there, and are there again."""
    unknown: tuple[str, ...] = ()
    """Objects of this store that state does not know: it was restored from an older backup."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """How far the deletion of an epoch's key has come; `failed` are mirrors that must be asked again."""

    epoch: Epoch
    failed: Mapping[str, GuardError]


@dataclass(slots=True)
class Mended:
    """What was put right in the mirrors, and which of them failed."""

    copied: int = 0
    deleted: int = 0
    adopted: int = 0
    failed: dict[str, GuardError] = field(default_factory=dict)


class Vault:
    """The epochs of one store, in their mirrors. May be shared by threads."""

    def __init__(self, state: State, keyring: Keyring, mirrors: Sequence[Mirror], lock: Lock) -> None:
        self.mirrors = tuple(mirrors)
        self._state = state
        self._keyring = keyring
        self._lock = lock
        self._objects = Objects(state.store_id, keyring)
        self._epochs = Epochs(keyring.digest)
        self._places = Places(state, keyring)
        self._opened: dict[int, tuple[datetime, int, Key]] = {}

    # Look ------------------------------------------------------------------------------------------------------------

    def missing(self) -> tuple[str, ...]:
        """Read every mirror now, and return what stands against trusting people's data to the vault."""
        out = []
        if len(self.mirrors) < LEAST:
            out.append(f"a vault with {LEAST} mirrors: a [[vault]] for each in guard.toml")
        for seen in self.look():
            if seen.trouble is not None:
                out.append(f"a sound mirror {seen.name} of the vault: {seen.trouble}")
            out += [f"the key of epoch {each.name} in the vault's mirror {seen.name}: guard run epoch"
                    for each in seen.lacking]  # fmt: skip
        return tuple(out)

    def look(self) -> tuple[Seen, ...]:
        """Read every mirror: each key in use is opened there. Changes nothing."""
        epochs = self.epochs()
        return tuple(self._look_at(mirror, epochs) for mirror in self.mirrors)

    def epochs(self) -> list[Epoch]:
        """Return every epoch there was, the oldest first. Raises TamperedError for one that guard did not write."""
        with self._state.read() as tx:
            return self._epochs.list(tx)

    def alive(self, tx: Tx) -> list[Epoch]:
        """Return the epochs whose keys may still be read somewhere."""
        now = self._state.clock.now()
        return [each for each in self._epochs.list(tx) if each.ready_at and (not each.gone_at or each.gone_at > now)]

    def current(self, tx: Tx) -> Epoch | None:
        """Return the epoch that new keys are wrapped under; None before there is one."""
        found = [(each.ready_at, each.id, each) for each in self._epochs.list(tx) if each.in_use]
        return max(found)[2] if found else None

    def key(self, epoch_id: int) -> Key:
        """Return an epoch's key, from the first mirror that gives it.

        Raises ShreddedError when it was deleted, TamperedError when what a mirror holds is not that key,
        UnavailableError when no mirror answers.
        """
        now = self._state.clock.now()
        known = self._opened.get(epoch_id)
        if known is not None and known[1] == PROCESS.generation and is_fresh(known[0], now):
            return known[2]
        epoch = next((each for each in self.epochs() if each.id == epoch_id), None)
        if epoch is None:
            raise TamperedError(f"a person's key names epoch key {epoch_id:010x}, which this store does not have")
        key = self._read(epoch)
        self._opened[epoch_id] = now, PROCESS.generation, key
        return key

    def forget(self) -> None:
        """Drop every opened key."""
        self._opened.clear()

    # Change ----------------------------------------------------------------------------------------------------------

    def ensure(self) -> Epoch:
        """Return the current epoch; the first one is begun now."""
        with self._state.read() as tx:
            found = self.current(tx)
        return found or self.begin()

    def begin(self) -> Epoch:
        """Begin an epoch: its key is written to every mirror and read back from each before it is used.

        Raises InterlockError with fewer than two mirrors, or when one would keep what is deleted; UnavailableError when
        one does not answer. What is half made is never used, and deleted by the next one.
        """
        if len(self.mirrors) < LEAST:
            raise InterlockError(
                f"the vault needs {LEAST} mirrors, and guard.toml names {len(self.mirrors)}",
                hint="add a [[vault]] for each: a folder, an unversioned bucket, or KMS",
            )
        for mirror in self.mirrors:
            mirror.check()
        parent = self._keyring.ensure(PURPOSE)
        with self._lock():
            for mirror in self.mirrors:
                self._places.claim(mirror)
            self._discard()
            epoch, data = self._numbered(parent)
            faults.point("vault.epoch.numbered")
            return self._keep(replace(self._spread(epoch, data), ready_at=self._state.clock.now()))

    def close(self, tx: Tx, epoch: Epoch) -> None:
        """Note that nobody living needs an epoch any more, and that a verified backup of state says so too."""
        self._epochs.keep(tx, replace(epoch, closed_at=self._state.clock.now()))

    def delete(self, epoch: Epoch) -> Deleted:
        """Delete the key of a closed epoch in every mirror. One that fails is named, and asked again the next time.

        Raises InterlockError for an epoch that is not closed.
        """
        if epoch.in_use:
            raise InterlockError(f"epoch {epoch.name} is not closed: its key still opens living people's data")
        with self._lock():
            return self._delete(epoch)

    def mend(self) -> Mended:
        """Put the mirrors right: copy keys where they lack, delete what has risen again, take in what is unknown."""
        done = Mended()
        with self._lock():
            for seen in self.look():
                try:
                    self._mend(self._mirror(seen.name), seen, done)
                except GuardError as error:
                    done.failed[seen.name] = error
        return done

    # Inside ----------------------------------------------------------------------------------------------------------

    def _look_at(self, mirror: Mirror, epochs: Sequence[Epoch]) -> Seen:
        try:
            mirror.check()
            self._places.check(mirror, is_new=all(mirror.name not in epoch.mirrors for epoch in epochs))
            there = mirror.names(self._objects.prefix)
            for epoch in epochs:
                if epoch.in_use and self._objects.name(epoch) in there:
                    self._open(epoch, mirror)
        except GuardError as error:
            return Seen(mirror.name, mirror.where, error)
        lacking, risen = [], []
        for epoch in epochs:
            listed = mirror.name in epoch.mirrors
            if epoch.in_use and not (listed and self._objects.name(epoch) in there):
                lacking.append(epoch)
            if not epoch.in_use and self._objects.name(epoch) in there and (not listed or epoch.mirrors[mirror.name]):
                risen.append(epoch)
        unknown = there - {self._objects.name(each) for each in epochs}
        return Seen(mirror.name, mirror.where, None, tuple(lacking), tuple(risen), tuple(sorted(unknown)))

    def _read(self, epoch: Epoch) -> Key:
        if epoch.gone_at is not None:
            raise ShreddedError(
                f"the key of epoch {epoch.name} was deleted; what was wrapped under it opens nothing any more",
                hint="state came from a backup of an epoch that has ended: restore a newer one",
            )
        errors: list[GuardError] = []
        for mirror in self.mirrors:
            try:
                if (data := self._get(epoch, mirror)) is not None:
                    return self._objects.open(epoch, data, mirror.name)
            except GuardError as error:
                errors.append(error)
        if errors:
            raise next((each for each in errors if isinstance(each, TamperedError)), errors[0])
        raise UnavailableError(
            f"no mirror of the vault holds the key of epoch {epoch.name}",
            hint="guard doctor looks at each [[vault]] of guard.toml; the two it was written to are needed",
        )

    def _open(self, epoch: Epoch, mirror: Mirror) -> Key:
        return self._objects.open(epoch, self._get(epoch, mirror), mirror.name)

    def _get(self, epoch: Epoch, mirror: Mirror) -> bytes | None:
        return mirror.get(self._objects.name(epoch), epoch.arns.get(mirror.name))

    def _numbered(self, parent: Key) -> tuple[Epoch, bytes]:
        """Give a new epoch its id, and return it with its object."""
        material, now = random.token(KEY_SIZE), self._state.clock.now()

        def work(tx: Tx) -> tuple[Epoch, bytes]:
            name = month(now)
            version = 1 + sum(each.name == name for each in self._epochs.list(tx))
            key = Key(store.take_id(tx), f"epoch/{name}", version, material)
            there, proof = dict.fromkeys(each.name for each in self.mirrors), wrap.commitment(self._state.store_id, key)
            epoch = Epoch(key.id, name, version, parent.id, proof, now, mirrors=there)
            self._epochs.add(tx, epoch)
            return epoch, self._objects.write(epoch, key, parent)

        return self._state.write(work)

    def _put(self, epoch: Epoch, data: bytes, mirror: Mirror) -> Epoch:
        arn = mirror.put(self._objects.name(epoch), data, epoch.arns.get(mirror.name))
        return replace(epoch, arns={**epoch.arns, mirror.name: arn}) if arn else epoch

    def _spread(self, epoch: Epoch, data: bytes) -> Epoch:
        """Write an object to every mirror, then read it back from each; return where it lies now."""
        for mirror in self.mirrors:
            self._places.claim(mirror)
            epoch = self._put(epoch, data, mirror)
            faults.point("vault.epoch.put")
        for mirror in self.mirrors:
            self._open(epoch, mirror)
        faults.point("vault.epoch.read")
        return epoch

    def _discard(self) -> None:
        """Delete what an interrupted `begin` left; it never wrapped anything."""
        for epoch in self.epochs():
            if epoch.ready_at is None and epoch.gone_at is None and (failed := self._delete(epoch).failed):
                raise next(iter(failed.values()))

    def _delete(self, epoch: Epoch) -> Deleted:
        failed: dict[str, GuardError] = {}
        self._opened.pop(epoch.id, None)
        for name in [name for name, dead in epoch.mirrors.items() if dead is None]:
            try:
                self._places.check(mirror := self._mirror(name))
                at = mirror.delete(self._objects.name(epoch), epoch.arns.get(name))
            except GuardError as error:
                failed[name] = error
                continue
            faults.point("vault.epoch.deleted")
            epoch = self._dead_in(epoch, name, at)
            faults.point("vault.epoch.noted")
        return Deleted(epoch, failed)

    def _dead_in(self, epoch: Epoch, name: str, at: datetime | None) -> Epoch:
        mirrors = {**epoch.mirrors, name: at or self._state.clock.now()}
        times = [each for each in mirrors.values() if each is not None]
        return self._keep(replace(epoch, mirrors=mirrors, gone_at=max(times) if len(times) == len(mirrors) else None))

    def _mend(self, mirror: Mirror, seen: Seen, done: Mended) -> None:
        if seen.trouble is not None:
            raise seen.trouble
        self._places.claim(mirror)
        for epoch in seen.lacking:
            known = self._put(self._again(epoch), self._elsewhere(epoch), mirror)
            self._open(known, mirror)
            faults.point("vault.mend.copied")
            self._keep(replace(known, mirrors={**known.mirrors, mirror.name: None}))
            done.copied += 1
        for epoch in seen.risen:
            at = mirror.delete(self._objects.name(epoch), epoch.arns.get(mirror.name))
            faults.point("vault.mend.deleted")
            self._dead_in(self._again(epoch), mirror.name, at)
            done.deleted += 1
        for name in seen.unknown:
            done.adopted += self._adopt(name, mirror)

    def _elsewhere(self, epoch: Epoch) -> bytes:
        """Return the object of an epoch from the first mirror that holds it."""
        for mirror in self.mirrors:
            if (data := self._get(epoch, mirror)) is not None:
                self._objects.open(epoch, data, mirror.name)
                return data
        raise UnavailableError(f"no mirror of the vault holds the key of epoch {epoch.name}")

    def _adopt(self, name: str, mirror: Mirror) -> int:
        """Take in an epoch that a restored state does not know, so that its key is deleted in its time."""
        data = mirror.get(name) or b""
        found = self._objects.read(name, data, mirror.name, self._state.clock.now())
        if any(each.id == found.id for each in self.epochs()):
            return 0  # found in another mirror a moment ago
        spread = self._spread(found, data)
        epoch = replace(spread, ready_at=found.made_at, mirrors=dict.fromkeys(each.name for each in self.mirrors))
        self._state.write(lambda tx: self._epochs.add(tx, epoch))
        return 1

    def _again(self, epoch: Epoch) -> Epoch:
        """Return an epoch as state knows it now."""
        return next(each for each in self.epochs() if each.id == epoch.id)

    def _keep(self, epoch: Epoch) -> Epoch:
        self._state.write(lambda tx: self._epochs.keep(tx, epoch))
        return epoch

    def _mirror(self, name: str) -> Mirror:
        for mirror in self.mirrors:
            if mirror.name == name:
                return mirror
        raise ConfigError(
            f"the vault's mirror {name} is not in guard.toml any more, and holds a key that must be deleted",
            hint="put its [[vault]] back until the key is gone",
        )
