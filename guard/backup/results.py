"""What the room answers with: values for the command line, the daemon and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from guard.backup.run import Made
from guard.backup.snapshot import Problem, Snapshot, SnapshotId, SourceManifest
from guard.clock import parse
from guard.errors import GuardError

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Several(Generic[R]):
    """What came of a work in several stores: a result each, or the error that ended it there."""

    done: Mapping[str, R]
    failed: Mapping[str, GuardError]

    @property
    def problems(self) -> tuple[str, ...]:
        """What went wrong, a line for each store."""
        return tuple(f"store {name}: {error}" for name, error in self.failed.items())


def in_each(names: Iterable[str], work: Callable[[str], R]) -> Several[R]:
    """Do `work` for each store; one that fails does not stop the others. Raises when all of them fail."""
    done: dict[str, R] = {}
    failed: dict[str, GuardError] = {}
    for name in names:
        try:
            done[name] = work(name)
        except GuardError as error:
            failed[name] = error
    out = Several(done, failed)
    if failed and not done:
        first = next(iter(failed.values()))
        if len(failed) == 1:
            raise first
        raise type(first)("\n".join(out.problems), hint=first.hint) from first
    return out


@dataclass(frozen=True, slots=True)
class Founded:
    """A store after `init`: `made` is False when it had its repository before."""

    store: str
    where: str
    made: bool
    slots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SourceRun:
    """One source in a backup. `why`: the reason when it is not covered."""

    name: str
    kind: str
    files: int
    bytes: int
    why: str | None
    problem_count: int
    problems: tuple[Problem, ...]
    """The first hundred."""

    @property
    def may_do_better(self) -> bool:
        """Whether it was not read whole, but another try could: what this version does not cover, none can."""
        return self.kind != "uncovered" and bool(self.why or self.problem_count)


@dataclass(frozen=True, slots=True)
class StoreRun:
    """One backup into one store. `new`: bytes of content the store did not have; `stored`: bytes written for them."""

    store: str
    snapshot: SnapshotId
    at: datetime
    files: int
    bytes: int
    new: int
    stored: int
    partial: bool
    sources: tuple[SourceRun, ...]
    problems: tuple[str, ...]
    """What is not in the snapshot, in words without names of files."""


def store_run(name: str, made: Made) -> StoreRun:
    """Return what a backup into store `name` made."""
    manifest, counted = made.manifest, made.manifest.statistics
    return StoreRun(
        store=name,
        snapshot=made.id,
        at=parse(manifest.at),
        files=counted.files,
        bytes=counted.bytes,
        new=counted.new_bytes,
        stored=counted.stored,
        partial=manifest.partial,
        sources=tuple(map(_source_run, manifest.sources)),
        problems=manifest.gaps,
    )


def _source_run(source: SourceManifest) -> SourceRun:
    return SourceRun(
        source.name, source.kind, source.files, source.bytes, source.why, source.problem_count, source.problems
    )


@dataclass(frozen=True, slots=True)
class Listed:
    """A snapshot as it is shown. `state`: whole, partly or late."""

    store: str
    id: SnapshotId
    at: datetime
    state: str
    files: int
    bytes: int
    stored: int
    sources: tuple[str, ...]
    tags: tuple[str, ...]


def listed(name: str, snapshot: Snapshot) -> Listed:
    """Return what is shown of a snapshot in store `name`."""
    manifest = snapshot.manifest
    return Listed(
        store=name,
        id=snapshot.id,
        at=snapshot.at,
        state="late" if snapshot.late else "partly" if snapshot.partial else "whole",
        files=manifest.statistics.files,
        bytes=manifest.statistics.bytes,
        stored=manifest.statistics.stored,
        sources=tuple(each.name for each in manifest.sources if each.covered),
        tags=manifest.tags,
    )
