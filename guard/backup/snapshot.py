"""The manifest of one backup: what it holds, when it was made, how to read it. Written last, sealed, never changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, NewType

import msgspec

from guard.backup.repository import Repository, decode
from guard.backup.sealed import Kind
from guard.backup.tree import Record, records
from guard.canon import json_bytes
from guard.clock import parse
from guard.errors import ConfigError, TamperedError

SnapshotId = NewType("SnapshotId", str)
"""64 hex characters; a unique beginning of at least 8 is enough for a person."""

SourceKind = Literal["files", "sqlite", "state", "uncovered"]
STATE: Final = "state"
"""The name of the source that is guard's own state."""
POLICIES: Final = "policies"
"""The name of the source that is guard's policies: what state means without its catalog, nobody could say."""


Latest = Callable[[Iterable["Snapshot"]], "Snapshot | None"]
"""Says which snapshot "latest" means."""


class Problem(msgspec.Struct, frozen=True):
    """A path that could not be backed up as it was, and why."""

    path: str
    what: str


class SourceManifest(msgspec.Struct, frozen=True, kw_only=True):
    """One source in a snapshot."""

    name: str
    kind: SourceKind
    covered: bool = True
    why: str | None = None
    """Why it is not covered."""
    tree: tuple[str, ...] = ()
    tree_bytes: int = 0
    entries: int = 0
    files: int = 0
    bytes: int = 0
    skipped: int = 0
    """Sockets, pipes and devices, which have no content."""
    rows: dict[str, int] = {}  # msgspec copies an empty default
    digest: str | None = None
    problems: tuple[Problem, ...] = ()
    problem_count: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether everything of it is in the snapshot as it was at one moment."""
        return self.covered and not self.problem_count

    @property
    def gap(self) -> str | None:
        """What is not in the snapshot, in words without names of files; None when it is whole."""
        if not self.covered:
            return f"{self.name} is not backed up: {self.why}"
        return f"{self.name}: {self.problem_count} could not be read as they were" if self.problem_count else None


class ErasurePosition(msgspec.Struct, frozen=True):
    """How far the erasure register reached: its length and the hash that stands for all of it."""

    count: int
    head: str


class Statistics(msgspec.Struct, frozen=True):
    """What the run added to the repository; `stored` counts bytes of packs."""

    files: int
    bytes: int
    new_chunks: int
    new_bytes: int
    stored: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of a snapshot's manifest."""

    v: int = 1
    store: str
    host: str
    at: str
    checked: str
    parent: str | None
    partial: bool
    tags: tuple[str, ...] = ()
    erasures: ErasurePosition
    statistics: Statistics
    sources: tuple[SourceManifest, ...]

    @property
    def gaps(self) -> tuple[str, ...]:
        """What is not in the snapshot as it was, a line for each source."""
        return tuple(gap for source in self.sources if (gap := source.gap))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A manifest in its repository. `late`: published later than the protocol allows; see docs/FORMATS.md."""

    id: SnapshotId
    at: datetime
    manifest: Manifest
    late: bool

    @property
    def partial(self) -> bool:
        """Whether something is not covered or could not be read."""
        return self.manifest.partial

    @property
    def of_state(self) -> bool:
        """Whether it was made of guard's state alone: it brings back no shop, and retention counts it apart."""
        return bool(self.manifest.sources) and all(each.name in {STATE, POLICIES} for each in self.manifest.sources)

    @property
    def holds_state(self) -> bool:
        """Whether guard's state is in it, as it was at one moment."""
        return any(each.kind == "state" and each.is_whole for each in self.manifest.sources)

    def source(self, name: str) -> SourceManifest | None:
        """Return a source by its name; None when the snapshot has none of it."""
        return next((source for source in self.manifest.sources if source.name == name), None)


def publish(repository: Repository, manifest: Manifest) -> SnapshotId:
    """Write a manifest; from now on the snapshot exists."""
    name = repository.write(Kind.SNAPSHOT, "snapshots", json_bytes(msgspec.to_builtins(manifest)))
    return SnapshotId(name.rpartition("/")[2])


def read(repository: Repository, name: str, stored: datetime) -> Snapshot:
    """Return the snapshot in object `name`, which the store dates `stored`. Raises TamperedError."""
    manifest = decode(repository.read(Kind.SNAPSHOT, name), Manifest, name)
    try:
        at, checked = parse(manifest.at), parse(manifest.checked)
    except ValueError as error:
        raise TamperedError(f"{name}: {error}") from None
    return Snapshot(SnapshotId(name.rpartition("/")[2]), at, manifest, stored > checked + repository.grace / 4)


def snapshots(repository: Repository) -> list[Snapshot]:
    """Return all snapshots, the oldest first. Raises TamperedError when one cannot be read."""
    found = [read(repository, entry.name, entry.at) for entry in repository.entries("snapshots")]
    return sorted(found, key=lambda each: (each.at, each.id))


def newest(found: Iterable[Snapshot]) -> Snapshot | None:
    """Return the newest snapshot that is neither late nor of state alone; None when there is none."""
    return _newest(each for each in found if not each.of_state)


def newest_of_state(found: Iterable[Snapshot]) -> Snapshot | None:
    """Return the newest snapshot that is not late and holds all of guard's state; None when there is none."""
    return _newest(each for each in found if each.holds_state)


def _newest(found: Iterable[Snapshot]) -> Snapshot | None:
    return max((each for each in found if not each.late), key=lambda each: (each.at, each.id), default=None)


def pick(found: Sequence[Snapshot], wanted: str, latest: Latest = newest) -> Snapshot:
    """Return the snapshot `wanted` names: "latest", or the beginning of an id (8 characters or more).

    Raises ConfigError when there is none or more than one.
    """
    if wanted == "latest":
        chosen = latest(found)
        if chosen is None:
            late = sum(each.late for each in found)
            raise ConfigError(
                f"there is no snapshot yet{f' but {late} late ones' if late else ''}",
                hint="name a late one by its id: guard backup list" if late else "guard backup run makes one",
            )
        return chosen
    fitting = [each for each in found if len(wanted) >= 8 and each.id.startswith(wanted)]
    if len(fitting) != 1:
        raise ConfigError(f"{len(fitting)} snapshots are called {wanted!r}", hint="guard backup list shows them")
    return fitting[0]


def tree(repository: Repository, source: SourceManifest) -> Iterator[Record]:
    """Yield the records of a source. Raises TamperedError when its tree is damaged."""
    try:
        chunks = [bytes.fromhex(chunk) for chunk in source.tree]
    except ValueError:
        raise TamperedError(f"the tree of {source.name} names no chunks") from None
    return records(repository.stream(chunks), source.name)


def chunks_of(repository: Repository, snapshot: Snapshot) -> Iterator[bytes]:
    """Yield the id of every chunk a snapshot needs, its trees included; often the same one many times."""
    for source in snapshot.manifest.sources:
        yield from map(bytes.fromhex, source.tree)
        for record in tree(repository, source):
            yield from record.chunks
