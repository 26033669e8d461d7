"""Look for damage: every object, every chain, and with `data` every byte. Collects findings; changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from guard.backup import marks, slots
from guard.backup.erasures import Position, Register
from guard.backup.index import BlockAt, Index, Segment
from guard.backup.pack import pack_name, pack_of, read_pack
from guard.backup.repository import Repository
from guard.backup.snapshot import Snapshot, SnapshotId, SourceManifest, read, tree
from guard.backup.tree import Record, What
from guard.errors import TamperedError
from guard.events import Progress, silent


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was written: which object, and what is wrong with it."""

    object: str
    what: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification looked at and what it found. `data`: whether every byte of every pack was read."""

    data: bool
    snapshots: int
    files: int
    packs: int
    bytes: int
    findings: tuple[Finding, ...]
    late: tuple[SnapshotId, ...]
    orphans: int
    """Packs in no index: left by a killed run, harmless, deleted by prune once they are older than grace."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


@dataclass(frozen=True, slots=True)
class Looking:
    """How to verify: read all `data` or the structure only; which snapshots must be there."""

    data: bool = False
    expected: Collection[SnapshotId] = ()
    progress: Progress = silent


def verify(repository: Repository, looking: Looking) -> Verified:
    """Check the repository and return what was found.

    Raises UnavailableError or DeniedError when the store could not be looked at: that is no clean result.
    """
    return _Verification(repository, looking).run()


def read_back(repository: Repository, snapshot: Snapshot, progress: Progress = silent) -> None:
    """Read every byte of a snapshot from the store and compare it with what the manifest says.

    Raises TamperedError when it would not come back as it was; the index must be loaded.
    """
    for source in snapshot.manifest.sources:
        done = 0
        digest = repository.digest()
        for record in tree(repository, source):
            length = 0
            for piece in repository.stream(record.chunks):
                length += len(piece)
                digest.update(piece)
                progress(f"{source.name}, read back", done + length, source.bytes)
            if length != record.size:
                raise TamperedError(
                    f"{source.name} in snapshot {snapshot.id[:12]} has not the length it was saved with"
                )
            done += length
        if source.digest and digest.hexdigest() != source.digest:
            raise TamperedError(f"{source.name} in snapshot {snapshot.id[:12]} is not what was saved")


class _Verification:
    def __init__(self, repository: Repository, looking: Looking) -> None:
        self._repository = repository
        self._looking = looking
        self._sizes: dict[bytes, int] = {}
        self._position = Position()
        self._findings: list[Finding] = []
        self._late: list[SnapshotId] = []
        self._files = self._snapshot_count = 0

    def run(self) -> Verified:
        self._slots()
        self._packs_there()
        self._index()
        with self._noting("erasures"):
            self._position = Register(self._repository).position()
        with self._noting("marks"):
            marks.marks(self._repository)
        if self._looking.data:
            self._data()
        self._snapshots()
        return Verified(
            data=self._looking.data,
            snapshots=self._snapshot_count,
            files=self._files,
            packs=len(self._sizes),
            bytes=sum(self._sizes.values()),
            findings=tuple(self._findings),
            late=tuple(self._late),
            orphans=len(self._sizes.keys() - self._repository.index.packs),
        )

    def _find(self, name: str, what: str) -> None:
        finding = Finding(name, what)
        if finding not in self._findings:
            self._findings.append(finding)

    @contextmanager
    def _noting(self, name: str) -> Iterator[None]:
        """Turn damage into a finding."""
        try:
            yield
        except TamperedError as error:
            self._find(name, str(error))

    def _slots(self) -> None:
        there = self._repository.names("keys")
        known = {slots.named(each) for each in there}
        for name in self._repository.config.slots:
            if slots.named(name) not in known:  # a later kit's slot stands in for the one that was written first
                self._find(name, "is missing")
        for name in there:
            with self._noting(name):
                slots.check(self._repository.sealing, name, self._repository.store.get(name))

    def _packs_there(self) -> None:
        for entry in self._repository.entries("packs"):
            pack = pack_of(entry.name)
            if pack is None:
                self._find(entry.name, "is not a pack's name")
            else:
                self._sizes[pack] = entry.size

    def _index(self) -> None:
        index = Index()
        for name in self._repository.names("index"):
            with self._noting(name):
                segment = self._repository.segment(name)
                index.add(segment)
                self._compare_sizes(segment)
        self._repository.index = index

    def _compare_sizes(self, segment: Segment) -> None:
        for pack in segment.packs:
            if pack not in self._sizes:
                self._find(pack_name(pack), "is missing")
            elif self._sizes[pack] != segment.sizes[pack]:
                self._find(pack_name(pack), f"is {self._sizes[pack]} bytes long, not {segment.sizes[pack]}")

    def _data(self) -> None:
        """Read every pack whole: header, blocks, footer; each chunk against its id; the footer against the index."""
        indexed: dict[bytes, set[BlockAt]] = {}
        for at in self._repository.index.blocks:
            indexed.setdefault(at.pack, set()).add(at)
        for number, pack in enumerate(sorted(self._sizes), 1):
            try:
                blocks = self._read_pack(pack)
                if pack in indexed and not indexed[pack] <= blocks:
                    raise ValueError("has other blocks than the index says")  # noqa: TRY301  # one place to note it
            except (ValueError, TamperedError) as error:
                self._find(pack_name(pack), str(error))
            self._looking.progress("packs", number, len(self._sizes))

    def _read_pack(self, pack: bytes) -> set[BlockAt]:
        repository = self._repository
        blocks: set[BlockAt] = set()
        by_block: dict[int, list[tuple[bytes, int, int]]] = {}
        for segment, number, data in read_pack(repository.sealing, pack, repository.store.get(pack_name(pack))):
            if not by_block:
                for chunk, at in segment.chunks:
                    by_block.setdefault(at.block, []).append((chunk, at.offset, at.length))
            blocks.add(segment.blocks[number])
            view = memoryview(data)
            for chunk, offset, length in by_block.get(number, ()):
                if repository.chunk_id(view[offset : offset + length]) != chunk:
                    raise ValueError(f"holds another chunk than {chunk.hex()[:16]}")
        return blocks

    def _snapshots(self) -> None:
        entries = self._repository.entries("snapshots")
        there = {entry.name.rpartition("/")[2] for entry in entries}
        for expected in self._looking.expected:
            if expected not in there:
                self._find(f"snapshots/{expected}", "is missing")
        if not entries and self._sizes:
            self._find("snapshots", "there are packs, but no snapshot")
        for number, entry in enumerate(entries, 1):
            with self._noting(entry.name):
                self._snapshot(entry.name, read(self._repository, entry.name, entry.at))
            self._looking.progress("snapshots", number, len(entries))

    def _snapshot(self, name: str, snapshot: Snapshot) -> None:
        self._snapshot_count += 1
        if snapshot.late:
            self._late.append(snapshot.id)
        if snapshot.manifest.erasures.count > self._position.count:
            self._find(name, "knows more erasures than the register holds")
        for source in snapshot.manifest.sources:
            with self._noting(name):
                self._source(name, source)

    def _source(self, name: str, source: SourceManifest) -> None:
        for record in tree(self._repository, source):
            self._files += record.what is What.FILE
            self._record(name, record)

    def _record(self, name: str, record: Record) -> None:
        length = 0
        index = self._repository.index
        for chunk in record.chunks:
            at = index.find(chunk)
            if at is None:
                self._find(name, f"needs chunk {chunk.hex()[:16]}, which is in no index")
                return
            if index.pack_of(at) not in self._sizes:
                self._find(name, f"needs {pack_name(index.pack_of(at))}, which is missing")
                return
            length += at.length
        if length != record.size:
            self._find(name, "has a file whose chunks do not make up its length")
