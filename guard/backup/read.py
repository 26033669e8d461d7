"""Read one source into a repository: contents become chunks, names become a tree."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO, Final

from guard.backup.repository import Repository
from guard.backup.snapshot import Problem, Snapshot, SourceManifest, tree
from guard.backup.sources import Found, Ready
from guard.backup.sources.files import why_not
from guard.backup.tree import Record, What
from guard.backup.writer import ChunkWriter
from guard.errors import TamperedError
from guard.events import Progress

_MOST_PROBLEMS: Final = 100
_TELL_EVERY: Final = 4 << 20
_TREES: Final = 1


class Reading:
    """One pass over one source."""

    def __init__(self, repository: Repository, writer: ChunkWriter, source: Ready, progress: Progress) -> None:
        self._repository = repository
        self._writer = writer
        self._source = source
        self._progress = progress
        self._digest = repository.digest() if source.has_digest else None
        self._problems: list[Problem] = []
        self._problem_count = 0
        self._entries = self._files = self._bytes = self._skipped = 0
        self._total: int | None = None
        """Bytes there are to read: of one file its size, of a tree what it had at the last backup."""

    def manifest(self, parent: Snapshot | None) -> SourceManifest:
        """Read all of the source and return its part of the manifest. `parent`: says which files are known."""
        source = self._source
        if source.why is not None:
            return SourceManifest(name=source.name, kind=source.kind, covered=False, why=source.why)
        for problem in source.problems:
            self._report(b"", problem)
        known = _Known(self._repository, parent, source)
        before = parent.source(source.name) if parent else None
        self._total = before.bytes if before is not None and before.covered else None
        stream = _Stream(self._records(known))
        chunks: list[str] = []
        length = 0
        for piece in self._repository.cutter.cut_stream(stream):
            length += len(piece)
            chunks.append(self._writer.add(piece, _TREES).hex())
        return SourceManifest(
            name=source.name,
            kind=source.kind,
            tree=tuple(chunks),
            tree_bytes=length,
            entries=self._entries,
            files=self._files,
            bytes=self._bytes,
            skipped=self._skipped,
            rows=dict(source.rows),
            digest=self._digest.hexdigest() if self._digest else None,
            problems=tuple(self._problems),
            problem_count=self._problem_count,
        )

    def _records(self, known: _Known) -> Iterator[bytes]:
        for found in self._source.walk(self._report):
            record = self._record(found, known)
            if record is not None:
                self._entries += 1
                yield record.to_bytes()

    def _record(self, found: Found, known: _Known) -> Record | None:
        if found.what is not What.FILE:
            return Record(found.path, found.what, found.meta, target=found.target)
        if found.read is None:
            self._skipped += 1
            return None
        record = known.unchanged(found, self._writer) or self._file(found)
        if record is not None:
            self._files += 1
            self._bytes += record.size
            self._tell(0)
        return record

    def _file(self, found: Found) -> Record | None:
        """Store a file's content; report it, and return None, when it cannot be read to its end."""
        assert found.read is not None  # noqa: S101  # asked before
        settled = found.settled
        if self._source.has_digest:
            self._total = found.size
        try:
            with found.read() as file:
                size, chunks = self._content(file, found.size)
                if found.changed(file):
                    self._report(found.path, "changed while it was read")
                    settled = False
        except OSError as error:
            self._report(found.path, why_not(error))
            return None
        return Record(found.path, What.FILE, found.meta, size, tuple(chunks), settled=settled)

    def _content(self, file: BinaryIO, size: int) -> tuple[int, list[bytes]]:
        chunks: list[bytes] = []
        length = told = 0
        for piece in self._repository.cutter.cut(file, size):
            chunks.append(self._writer.add(piece))
            length += len(piece)
            if self._digest is not None:
                self._digest.update(piece)
            if length - told >= _TELL_EVERY:
                told = length
                self._tell(length)
        return length, chunks

    def _tell(self, length: int) -> None:
        """Tell how far it is: all files before, and `length` bytes of this one."""
        done = self._bytes + length
        self._progress(self._source.name, done, None if self._total is None else max(self._total, done))

    def _report(self, path: bytes, what: str) -> None:
        self._problem_count += 1
        if len(self._problems) < _MOST_PROBLEMS:
            self._problems.append(Problem(path.decode("utf-8", "backslashreplace") or ".", what))


class _Known:
    """The parent's tree of the same source, walked alongside: both are in the same order."""

    def __init__(self, repository: Repository, parent: Snapshot | None, source: Ready) -> None:
        before = parent.source(source.name) if parent else None
        usable = before is not None and before.kind == source.kind == "files"
        self._records = tree(repository, before) if before is not None and usable else iter(())
        self._next: Record | None = None
        self._step()

    def unchanged(self, found: Found, writer: ChunkWriter) -> Record | None:
        """Return the parent's record when the file is the same and all its chunks are safe; None otherwise."""
        order = Record(found.path, found.what).order
        while self._next is not None and self._next.order < order:
            self._step()
        before = self._next
        if before is None or before.path != found.path or not _is_same(before, found):
            return None
        if not all(map(writer.knows, before.chunks)):
            return None
        return Record(found.path, What.FILE, found.meta, before.size, before.chunks, settled=True)

    def _step(self) -> None:
        try:
            self._next = next(self._records, None)
        except TamperedError:  # a damaged parent costs time, not the backup; verify tells of it
            self._records = iter(())
            self._next = None


def _is_same(before: Record, found: Found) -> bool:
    old, new = before.meta, found.meta
    return (
        before.settled
        and before.what is What.FILE
        and (before.size, old.mtime, old.ctime, old.inode) == (found.size, new.mtime, new.ctime, new.inode)
    )


class _Stream(io.RawIOBase):
    """Pieces as a stream that is read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, into: memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer hides len()
        if not self._rest:
            self._rest = next(self._pieces, b"")
        found = self._rest[: len(into)]
        self._rest = self._rest[len(into) :]
        into[: len(found)] = found
        return len(found)
