"""What may go: retention of snapshots (pure), then their bytes in two phases, so that no other run loses any.

Partly dead packs stay until nothing in them is used; only wholly dead ones are deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from guard.backup import marks
from guard.backup.pack import pack_name, pack_of
from guard.backup.repository import Repository, now_of
from guard.backup.sealed import Kind
from guard.backup.snapshot import Snapshot, SnapshotId, chunks_of, snapshots
from guard.backup.stores import Entry
from guard.config.backup import Keep
from guard.errors import InterlockError, TamperedError
from guard.events import Progress, silent


def keep(found: Iterable[Snapshot], policy: Keep, now: datetime) -> frozenset[SnapshotId]:
    """Return the snapshots that retention keeps.

    Of each of the last `daily` UTC days that have a snapshot (`weekly` ISO weeks, `monthly` months) the last one that
    is not partial stays, or the last partial one of a day that has no other. The newest snapshot and the newest that is
    not partial always stay. Those from after `now` (a clock was wrong) and late ones stay and are not counted. Those of
    state alone are counted by themselves: one made at noon does not replace the night's, which holds the shop.
    """
    of_state: list[Snapshot] = []
    others: list[Snapshot] = []
    for each in found:
        (of_state if each.of_state else others).append(each)
    return _kept(of_state, policy, now) | _kept(others, policy, now)


def _kept(found: Iterable[Snapshot], policy: Keep, now: datetime) -> frozenset[SnapshotId]:
    every = sorted(found, key=lambda each: (each.at, each.id))
    counted = [each for each in every if each.at <= now and not each.late]
    kept = {each.id for each in every if each.at > now or each.late}
    kept |= {each.id for each in counted[-1:]}
    kept |= {each.id for each in [each for each in counted if not each.partial][-1:]}
    for number, span in ((policy.daily, _day), (policy.weekly, _week), (policy.monthly, _month)):
        kept |= _last_of_each(counted, number, span)
    return frozenset(kept)


def _last_of_each(counted: Sequence[Snapshot], number: int, span: Callable[[datetime], str]) -> set[SnapshotId]:
    last: dict[str, Snapshot] = {}
    for each in counted:  # the oldest first
        before = last.get(span(each.at))
        if before is None or before.partial or not each.partial:
            last[span(each.at)] = each
    return {last[name].id for name in sorted(last, reverse=True)[:number]}


def _day(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d")


def _week(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%G-%V")


def _month(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m")


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """What a prune will do in one store. Bytes are bytes of packs."""

    kept: tuple[SnapshotId, ...]
    dropped: tuple[SnapshotId, ...]
    late: tuple[SnapshotId, ...]
    """Published later than the protocol allows; never pruned, to be looked at by a person."""
    days_lost: int
    """UTC days that have a snapshot now and will have none."""
    to_mark: tuple[bytes, ...]
    mark_bytes: int
    to_delete: tuple[bytes, ...]
    delete_bytes: int

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.dropped or self.to_mark or self.to_delete)


@dataclass(frozen=True, slots=True)
class _Packs:
    """The packs in a store, and which of them the kept snapshots use."""

    entries: dict[bytes, Entry]
    used: frozenset[bytes]

    def size(self, packs: Iterable[bytes]) -> int:
        return sum(self.entries[pack].size for pack in packs if pack in self.entries)


def plan(repository: Repository, policy: Keep, now: datetime) -> PrunePlan:
    """Work out what a prune would do; reads manifests, trees and the index, changes nothing.

    Raises TamperedError when a snapshot that is kept cannot be read: then nothing may be deleted.
    """
    found = snapshots(repository)
    kept = keep(found, policy, now)
    stays = [each for each in found if each.id in kept]
    pending = marks.marks(repository)
    packs = _packs(repository, stays, frozenset().union(*(mark.packs for mark in pending)))
    at = now_of(repository.store)
    marked = frozenset().union(*(mark.packs for mark in pending))
    young = {pack for pack, entry in packs.entries.items() if at - entry.at < repository.grace}
    to_mark = set(packs.entries) - packs.used - marked - young
    due = frozenset().union(*(mark.packs for mark in pending if at - mark.at >= repository.grace))
    to_delete = (due & set(packs.entries)) - packs.used
    return PrunePlan(
        kept=tuple(each.id for each in stays),
        dropped=tuple(each.id for each in found if each.id not in kept),
        late=tuple(each.id for each in found if each.late),
        days_lost=len({_day(each.at) for each in found} - {_day(each.at) for each in stays}),
        to_mark=tuple(sorted(to_mark)),
        mark_bytes=packs.size(to_mark),
        to_delete=tuple(sorted(to_delete)),
        delete_bytes=packs.size(to_delete),
    )


def prune(repository: Repository, planned: PrunePlan, progress: Progress = silent) -> None:
    """Carry out a plan: delete manifests, mark dead packs, delete those whose grace is over.

    May be interrupted anywhere and run again. What a snapshot made since the plan uses is left alone.
    Raises InterlockError when a snapshot that the plan keeps is gone.
    """
    there = {entry.name.rpartition("/")[2] for entry in repository.entries("snapshots")}
    if not set(planned.kept) <= there:
        raise InterlockError(f"a snapshot that should stay is gone from {repository.store.where}")
    for number, dropped in enumerate(planned.dropped, 1):
        repository.store.delete(f"snapshots/{dropped}")
        progress("snapshots", number, len(planned.dropped))
    if planned.to_mark:
        marks.mark(repository, planned.to_mark)
    _delete(repository, frozenset(planned.to_delete), progress)


def _delete(repository: Repository, planned: frozenset[bytes], progress: Progress) -> None:
    """Delete packs whose mark is older than grace and which no snapshot uses now."""
    at = now_of(repository.store)
    pending = marks.marks(repository)
    due = [mark for mark in pending if at - mark.at >= repository.grace]
    if not due:
        return
    marked = frozenset().union(*(mark.packs for mark in pending))
    packs = _packs(repository, snapshots(repository), marked)
    doomed = frozenset().union(*(mark.packs for mark in due)) - packs.used
    doomed &= planned | (doomed - set(packs.entries))  # packs an interrupted prune deleted already count as planned
    for name in repository.names("index"):
        _without(repository, name, doomed)
    for number, pack in enumerate(sorted(doomed), 1):
        repository.store.delete(pack_name(pack))
        progress("packs", number, len(doomed))
    for mark in due:
        if mark.packs <= doomed | packs.used:
            repository.store.delete(mark.name)


def _without(repository: Repository, name: str, doomed: frozenset[bytes]) -> None:
    """Replace an index segment by one without the doomed packs; the new one is there before the old one goes."""
    segment = repository.segment(name)
    if doomed.isdisjoint(segment.packs):
        return
    rest = segment.without(doomed)
    if rest.blocks:
        repository.write(Kind.INDEX, "index", rest.to_bytes())
    repository.store.delete(name)


def _packs(repository: Repository, stays: Iterable[Snapshot], marked: frozenset[bytes]) -> _Packs:
    """Find which packs the snapshots in `stays` use; of chunks in several packs, one that is not marked counts."""
    repository.load_index(marked)
    entries = {pack: entry for entry in repository.entries("packs") if (pack := pack_of(entry.name)) is not None}
    seen: set[bytes] = set()
    used: set[bytes] = set()
    for snapshot in stays:
        try:
            for chunk in chunks_of(repository, snapshot):
                if chunk not in seen:
                    seen.add(chunk)
                    used.add(_pack_of(repository, chunk))
        except TamperedError:
            if not snapshot.late:
                raise
    return _Packs(entries, frozenset(used))


def _pack_of(repository: Repository, chunk: bytes) -> bytes:
    at = repository.index.find(chunk)
    if at is None:
        raise TamperedError(
            f"chunk {chunk.hex()[:16]} of a snapshot is in no index of {repository.store.where}",
            hint="guard backup verify names what is damaged; nothing is deleted until then",
        )
    return repository.index.pack_of(at)
