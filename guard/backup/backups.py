"""All that can be done with backups, on the stores of `guard.toml`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from uuid import UUID

from guard.backup import prune as pruning
from guard.backup import restore as restoring
from guard.backup import slots, store
from guard.backup.erasures import START, Position, Register
from guard.backup.marks import marked_packs
from guard.backup.prune import PrunePlan
from guard.backup.repository import Founding, Repository
from guard.backup.restore import Restored, RestorePlan, Wanted
from guard.backup.results import Founded, Listed, Several, StoreRun, in_each, listed, store_run
from guard.backup.run import Occasion, back_up
from guard.backup.snapshot import Snapshot, SnapshotId, newest, pick, snapshots
from guard.backup.sources import Ready, Source, Uncovered
from guard.backup.sources.sqlite import remove_copies
from guard.backup.stores import Store
from guard.backup.stores.places import Places
from guard.backup.verify import Looking, Verified, verify
from guard.canon import Json
from guard.clock import Clock
from guard.config.backup import BackupPolicy
from guard.crypto import recovery
from guard.errors import ConfigError, GuardError, UnavailableError
from guard.events import Progress, silent
from guard.state import Tx


@dataclass(frozen=True, slots=True)
class Keys:
    """What opens guard's repositories: `masters` are the versions of the `repository` key."""

    store_id: UUID
    masters: Mapping[int, bytes] = field(repr=False)
    recovery_public: bytes | None = None


@dataclass(frozen=True, slots=True)
class Setup:
    """What the room is given. Functions are asked when needed; `temp` is a private scratch folder."""

    places: Places
    keys: Callable[[], Keys]
    sources: Callable[[], Sequence[Source]]
    policy: Callable[[], BackupPolicy]
    clock: Clock
    temp: Path


class Backups:
    """The backups of one shop. Where a method takes `names`, none means every configured store."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._places: dict[str, Store] = {}

    @property
    def stores(self) -> tuple[str, ...]:
        """The names of the configured stores."""
        return self._setup.places.names

    # Make and fill ---------------------------------------------------------------------------------------------------

    def init(self, names: Sequence[str] = (), passphrase: str | None = None) -> Several[Founded]:
        """Make a repository in each store that has none, with a key slot for the recovery kit and for `passphrase`.

        Raises InterlockError when a store that is named has one already.
        """
        return in_each(self._chosen(names), lambda name: self._found(name, passphrase, is_named=bool(names)))

    def run(
        self, names: Sequence[str] = (), tags: Sequence[str] = (), progress: Progress = silent
    ) -> Several[StoreRun]:
        """Back all sources up into each store. One at a time: the caller holds "repository".

        A source that cannot be read is reported in a partial snapshot; a store that fails does not stop the others.
        """
        chosen = self._chosen(names)
        occasion = Occasion(self._setup.keys().store_id, self._setup.clock.now(), tuple(tags), progress)
        with self._ready() as ready:
            return in_each(chosen, lambda name: store_run(name, back_up(self._open(name), ready, occasion)))

    # Look ------------------------------------------------------------------------------------------------------------

    def list(self, names: Sequence[str] = ()) -> Several[tuple[Listed, ...]]:
        """Return the snapshots of each store, the oldest first."""
        return in_each(
            self._chosen(names), lambda name: tuple(listed(name, each) for each in snapshots(self._open(name)))
        )

    def newest(self, name: str) -> Snapshot | None:
        """Return the newest snapshot in a store that is not late; None when there is none."""
        return newest(snapshots(self._open(name)))

    def state_saved_at(self) -> datetime | None:
        """Return when the newest sound-looking backup of guard's state was begun, in any store; None without one.

        Raises UnavailableError when no store can be looked at.
        """
        found = in_each(self._chosen(()), self._state_saved_at)
        return max((at for at in found.done.values() if at is not None), default=None)

    def verify(
        self, name: str, *, data: bool = False, expected: Sequence[str] = (), progress: Progress = silent
    ) -> Verified:
        """Look for damage in a store, with `data` at every byte. `expected`: snapshots that must be there."""
        return verify(self._open(name), Looking(data, tuple(map(SnapshotId, expected)), progress))

    # Bring back and clear out ----------------------------------------------------------------------------------------

    @staticmethod
    def wanted(args: Mapping[str, Json]) -> Wanted:
        """Read what to restore from an action's arguments: to, sources, paths, overwrite."""
        return Wanted(Path(str(args["to"])), _texts(args.get("sources")), _texts(args.get("paths")),
                      overwrite=args.get("overwrite") is True)  # fmt: skip

    def plan_restore(self, name: str, snapshot: str, wanted: Wanted) -> RestorePlan:
        """Work out what a restore of `snapshot` ("latest" or the beginning of an id) writes."""
        repository = self._open(name)
        chosen = pick(snapshots(repository), snapshot)
        repository.load_index(marked_packs(repository))
        return restoring.plan(repository, chosen, wanted)

    def restore(self, name: str, plan: RestorePlan, least: Position = START, progress: Progress = silent) -> Restored:
        """Carry a plan out. `least`: how far the erasure register must reach, by what guard knows itself."""
        repository = self._open(name)
        chosen = pick(snapshots(repository), plan.snapshot)
        repository.load_index(marked_packs(repository))
        restoring.plan(repository, chosen, plan.wanted)  # what is in the way may have come since
        return restoring.restore(repository, chosen, plan.wanted, least, progress)

    def plan_prune(self, names: Sequence[str] = ()) -> Several[PrunePlan]:
        """Work out what retention lets go in each store, by the policy and the clock."""
        keep, now = self._setup.policy().keep, self._setup.clock.now()
        return in_each(self._chosen(names), lambda name: pruning.plan(self._open(name), keep, now))

    def prune(self, plans: Mapping[str, PrunePlan], progress: Progress = silent) -> Several[PrunePlan]:
        """Carry plans out, store by store."""

        def work(name: str) -> PrunePlan:
            pruning.prune(self._open(name), plans[name], progress)
            return plans[name]

        return in_each(plans, work)

    def register(self, name: str) -> Register:
        """Return the erasure register of a store."""
        return Register(self._open(name))

    # What state remembers --------------------------------------------------------------------------------------------

    def remember(self, tx: Tx, runs: Sequence[StoreRun]) -> None:
        """Note the snapshots of a run, so that `verify` misses one that is taken away."""
        for each in runs:
            store.add(tx, each.store, each.snapshot, each.at)

    def forget(self, tx: Tx, plans: Sequence[PrunePlan]) -> None:
        """Note that snapshots were pruned."""
        for each in plans:
            store.remove(tx, each.dropped)

    def known(self, tx: Tx, name: str) -> tuple[str, ...]:
        """Return the snapshots that should be in a store."""
        return store.of(tx, name)

    # Without state ---------------------------------------------------------------------------------------------------

    def by_passphrase(self, name: str, passphrase: str) -> Backups:
        """Return the same backups, opened by a passphrase slot of a store instead of guard's keyring."""
        slot, raw = self._slot(name, slots.PASSPHRASE)
        sealing = slots.open_passphrase(slot, raw, passphrase)
        return self._with(sealing.masters)

    def by_recovery(self, name: str, shares: Sequence[str]) -> Backups:
        """Return the same backups, opened by two shares of the recovery kit instead of guard's keyring."""
        slot, raw = self._slot(name, slots.RECOVERY)
        sealing = slots.open_recovery(slot, raw, recovery.combine(shares))
        return self._with(sealing.masters)

    def _with(self, masters: Mapping[int, bytes]) -> Backups:
        keys = Keys(UUID(int=0), masters)
        return Backups(replace(self._setup, keys=lambda: keys))

    def _slot(self, name: str, kind: str) -> tuple[str, bytes]:
        place = self._place(name)
        found = [entry.name for entry in place.list(f"keys/{kind}-") if entry.name.rpartition("-")[2].isdecimal()]
        if not found:
            raise ConfigError(f"the repository in {place.where} has no {kind} slot")
        slot = max(found, key=lambda each: int(each.rpartition("-")[2]))
        return slot, place.get(slot)

    def _chosen(self, names: Sequence[str]) -> tuple[str, ...]:
        if not self.stores:
            raise ConfigError("no store for backups is configured", hint="add a [[backup.store]] to guard.toml")
        return tuple(names) or self.stores

    def _open(self, name: str) -> Repository:
        return Repository.open(self._place(name), self._setup.keys().masters)

    def _place(self, name: str) -> Store:
        """Return a store; opened once, because a client of S3 keeps its connections."""
        if name not in self._places:
            self._places[name] = self._setup.places.open(name)
        return self._places[name]

    def _found(self, name: str, passphrase: str | None, *, is_named: bool) -> Founded:
        places, keys = self._setup.places, self._setup.keys()
        places.prepare(name)
        place = self._place(name)
        if not is_named and place.size("config") is not None:
            return Founded(name, place.where, made=False, slots=Repository.open(place, keys.masters).config.slots)
        founding = Founding(
            keys.store_id, self._setup.clock.now(), self._setup.policy().grace.rest, keys.recovery_public, passphrase
        )
        made = Repository.init(place, keys.masters, founding)
        return Founded(name, place.where, made=True, slots=made.config.slots)

    def _state_saved_at(self, name: str) -> datetime | None:
        found = [
            each.at
            for each in snapshots(self._open(name))
            if not each.late and any(source.kind == "state" and source.is_whole for source in each.manifest.sources)
        ]
        return max(found, default=None)

    @contextmanager
    def _ready(self) -> Iterator[tuple[Ready, ...]]:
        """Make all sources readable; one that fails is not covered, with its reason."""
        temp = self._setup.temp
        try:
            temp.mkdir(mode=0o700, parents=True, exist_ok=True)
            remove_copies(temp)
        except OSError as error:
            raise UnavailableError(f"cannot write to {temp}: {error.strerror}") from error
        with ExitStack() as stack:
            ready = []
            for source in self._setup.sources():
                try:
                    ready.append(stack.enter_context(source.ready(temp)))
                except (GuardError, OSError) as error:
                    why = error.strerror if isinstance(error, OSError) else str(error)
                    ready.append(stack.enter_context(Uncovered(source.name, why or "cannot be read").ready(temp)))
            yield tuple(ready)


def _texts(value: Json) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError("expected a list of texts")
    return tuple(map(str, value))
