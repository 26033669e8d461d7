"""All that can be done with backups, on the stores of `guard.toml`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from uuid import UUID

from guard import faults
from guard.backup import holders, slots, store
from guard.backup import prune as pruning
from guard.backup import restore as restoring
from guard.backup.erasures import START, Erasure, Newer, Position, Register
from guard.backup.marks import marked_packs
from guard.backup.prune import PrunePlan
from guard.backup.repository import Founding, Repository
from guard.backup.restore import Restored, RestorePlan, Wanted
from guard.backup.results import Founded, Listed, Several, StoreRun, in_each, listed, store_run
from guard.backup.run import Occasion, back_up
from guard.backup.sealed import Sealing
from guard.backup.snapshot import POLICIES, STATE, Snapshot, SnapshotId, newest, newest_of_state, pick, snapshots
from guard.backup.sources import Ready, Source, Uncovered
from guard.backup.sources.sqlite import remove_copies
from guard.backup.stores import Store
from guard.backup.stores.places import Places
from guard.backup.verify import Looking, Verified, read_back, verify
from guard.canon import Json
from guard.clock import Clock
from guard.config import StoreSettings
from guard.config.backup import BackupPolicy
from guard.errors import ConfigError, DeniedError, GuardError, InterlockError, UnavailableError
from guard.events import Progress, silent
from guard.state import Tx


@dataclass(frozen=True, slots=True)
class Keys:
    """What opens guard's repositories: `masters` are the versions of the `repository` key."""

    store_id: UUID
    masters: Mapping[int, bytes] = field(repr=False)
    recovery_public: bytes | None = None
    newest: int | None = None
    """The version that seals; None: the highest."""


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
        with self._ready(self._setup.sources()) as ready:
            return in_each(chosen, lambda name: store_run(name, back_up(self._for_writing(name), ready, occasion)))

    def run_state(self, names: Sequence[str] = (), progress: Progress = silent) -> Several[StoreRun]:
        """Back guard's state and policies up alone, and read them back from each store. The caller holds "repository".

        A store that fails, or that does not give back what it was given, does not stop the others. Raises
        UnavailableError when state cannot be read.
        """
        chosen = self._chosen(names)
        occasion = Occasion(self._setup.keys().store_id, self._setup.clock.now(), (), progress)
        own = [source for source in self._setup.sources() if source.name in {STATE, POLICIES}]
        with self._ready(own) as ready:
            if problems := [why for each in ready if each.name == STATE and (why := each.why or each.problems)]:
                raise UnavailableError(f"guard's state cannot be backed up: {problems[0]}")
            return in_each(chosen, lambda name: self._save_state(name, ready, occasion))

    def _save_state(self, name: str, ready: Sequence[Ready], occasion: Occasion) -> StoreRun:
        made = back_up(self._for_writing(name), ready, occasion)
        faults.point("backup.state.published")
        again = self._open(name)
        again.load_index(marked_packs(again))
        read_back(again, pick(snapshots(again), made.id), occasion.progress)
        return store_run(name, made)

    # Look ------------------------------------------------------------------------------------------------------------

    def list(self, names: Sequence[str] = ()) -> Several[tuple[Listed, ...]]:
        """Return the snapshots of each store, the oldest first."""
        return in_each(
            self._chosen(names), lambda name: tuple(listed(name, each) for each in snapshots(self._open(name)))
        )

    def newest(self, name: str) -> Snapshot | None:
        """Return the newest snapshot in a store that is not late and more than state; None when there is none."""
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

    # Who opens a store without state ---------------------------------------------------------------------------------

    def admit(self, version: int, master: bytes, passphrase: str | None = None) -> None:
        """Give the recovery kit, and who knows the passphrase, a slot for a new version of the master key everywhere.

        Raises InterlockError without a kit or where a passphrase is needed, and what the first store raises that fails.
        """
        public = self._setup.keys().recovery_public
        if public is None:
            raise InterlockError("there is no recovery kit to open the new key with", hint="guard keys recovery make")
        for place in map(self._place, self.stores):
            if place.size("config") is not None:
                holders.admit(place, version, master, public, passphrase)

    def objects_under(self, version: int) -> Several[int]:
        """Return how many objects of each store are sealed with a version of the master key."""
        return in_each(self.stores, lambda name: holders.objects_under(self._place(name), version))

    def _complete(self, repository: Repository) -> tuple[str, ...]:
        return holders.complete(repository.store, repository.sealing, self._setup.keys().recovery_public)

    # Without state ---------------------------------------------------------------------------------------------------

    def by_passphrase(self, name: str, passphrase: str) -> Backups:
        """Return the same backups, opened by the passphrase slots of a store instead of guard's keyring."""
        return self._opened(name, slots.PASSPHRASE, lambda slot, raw: slots.open_passphrase(slot, raw, passphrase))

    def by_recovery(self, name: str, private: bytes) -> Backups:
        """Return the same backups, opened by the recovery kit's private key instead of guard's keyring."""
        return self._opened(name, slots.RECOVERY, lambda slot, raw: slots.open_recovery(slot, raw, private))

    def at(self, folder: Path) -> Backups:
        """Return the same backups with one more store, called as the folder it lies in: one that guard.toml lacks."""
        places = self._setup.places
        store = StoreSettings(name=str(folder), path=str(folder.absolute()))
        return Backups(replace(self._setup, places=replace(places, settings=(*places.settings, store))))

    def pick_state(self, name: str, snapshot: str) -> Snapshot:
        """Return the snapshot to bring state back from: "latest" is the newest that holds it whole.

        Raises ConfigError when there is none, or the one that is named does not hold state.
        """
        chosen = pick(snapshots(self._open(name)), snapshot, newest_of_state)
        if not chosen.holds_state:
            raise ConfigError(f"snapshot {chosen.id[:12]} does not hold guard's state", hint="guard backup list")
        return chosen

    def erasures_since(self, snapshot: Snapshot, names: Sequence[str]) -> Newer:
        """Return what the longest register of these stores holds that is newer than a snapshot."""
        known = snapshot.manifest.erasures
        position = Position(known.count, bytes.fromhex(known.head))
        longest: tuple[Erasure, ...] = ()
        failed: dict[str, GuardError] = {}
        for name in names:
            try:
                longest = max(longest, tuple(self.register(name).require(position)[known.count :]), key=len)
            except GuardError as error:
                failed[name] = error
        return Newer(longest, failed)

    def _opened(self, name: str, kind: str, opened: Callable[[str, bytes], Sealing]) -> Backups:
        """Open every slot of a kind: each holds one version of the master key. Those of another secret stay shut."""
        place = self._place(name)
        found = [entry.name for entry in place.list(f"keys/{kind}-") if entry.name.rpartition("-")[2].isdecimal()]
        if not found:
            raise ConfigError(f"the repository in {place.where} has no {kind} slot")
        masters: dict[int, bytes] = {}
        denied: DeniedError | None = None
        for slot in found:
            try:
                masters.update(opened(slot, place.get(slot)).masters)
            except DeniedError as error:
                denied = error
        if not masters:
            raise denied or DeniedError(f"no {kind} slot in {place.where} opens")
        keys = Keys(UUID(int=0), masters)
        return Backups(replace(self._setup, keys=lambda: keys))

    def _chosen(self, names: Sequence[str]) -> tuple[str, ...]:
        if not self.stores:
            raise ConfigError("no store for backups is configured", hint="add a [[backup.store]] to guard.toml")
        return tuple(names) or self.stores

    def _open(self, name: str) -> Repository:
        keys = self._setup.keys()
        return Repository.open(self._place(name), keys.masters, keys.newest)

    def _for_writing(self, name: str) -> Repository:
        """Open a store, and give the recovery kit a slot where it lacks one: what is written, the kit must open."""
        repository = self._open(name)
        self._complete(repository)
        return repository

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
        newest = keys.newest or max(keys.masters)
        made = Repository.init(place, {newest: keys.masters[newest]}, founding)
        return Founded(name, place.where, made=True, slots=made.config.slots)

    def _state_saved_at(self, name: str) -> datetime | None:
        found = [each.at for each in snapshots(self._open(name)) if not each.late and each.holds_state]
        return max(found, default=None)

    @contextmanager
    def _ready(self, sources: Sequence[Source]) -> Iterator[tuple[Ready, ...]]:
        """Make all sources readable; one that fails is not covered, with its reason."""
        temp = self._setup.temp
        try:
            temp.mkdir(mode=0o700, parents=True, exist_ok=True)
            remove_copies(temp)
        except OSError as error:
            raise UnavailableError(f"cannot write to {temp}: {error.strerror}") from error
        with ExitStack() as stack:
            ready = []
            for source in sources:
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
