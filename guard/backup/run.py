"""One backup into one repository: read the sources, write what is new, check that it is safe, publish."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from guard.backup.erasures import Register
from guard.backup.marks import marked_packs
from guard.backup.read import Reading
from guard.backup.repository import Repository, now_of
from guard.backup.snapshot import (
    ErasurePosition,
    Manifest,
    Snapshot,
    SnapshotId,
    SourceManifest,
    Statistics,
    publish,
    read,
    tree,
)
from guard.backup.sources import Ready
from guard.backup.writer import ChunkWriter
from guard.clock import stamp
from guard.errors import BusyError, DeniedError, TamperedError, UnavailableError
from guard.events import Progress, silent

_MOST_CHECKS: Final = 5


@dataclass(frozen=True, slots=True)
class Occasion:
    """Whose backup it is, when it began, and what it is tagged with."""

    store_id: UUID
    at: datetime
    tags: tuple[str, ...] = ()
    progress: Progress = silent


@dataclass(frozen=True, slots=True)
class Made:
    """A published snapshot."""

    id: SnapshotId
    manifest: Manifest


def back_up(repository: Repository, sources: Sequence[Ready], occasion: Occasion) -> Made:
    """Back the sources up and publish the snapshot.

    What an error or Ctrl-C interrupts stays in the repository and is found by the next run; there is no snapshot then.
    Raises UnavailableError when not one source can be read.
    """
    if all(source.why for source in sources):
        raise UnavailableError("nothing can be backed up: " + "; ".join(f"{each.name}: {each.why}" for each in sources))
    repository.load_index(marked_packs(repository))
    parent = _parent(repository)
    writer = ChunkWriter(repository)
    try:
        done = tuple(Reading(repository, writer, source, occasion.progress).manifest(parent) for source in sources)
        writer.finish()
        checked = _make_safe(repository, writer, done)
    except (UnavailableError, DeniedError):  # of the store: it would not take the rest either
        raise
    except BaseException:
        writer.save()
        raise
    position = Register(repository).position()
    manifest = Manifest(
        store=occasion.store_id.hex,
        host=socket.gethostname(),
        at=stamp(occasion.at),
        checked=stamp(checked),
        parent=parent.id if parent else None,
        partial=not all(source.is_whole for source in done),
        tags=occasion.tags,
        erasures=ErasurePosition(position.count, position.head.hex()),
        statistics=_statistics(done, writer),
        sources=done,
    )
    return Made(publish(repository, manifest), manifest)


def _parent(repository: Repository) -> Snapshot | None:
    """Return the snapshot the store dates last: unchanged files take their chunks from it. A damaged one is none.

    Those of state alone are passed over: they know no files.
    """
    for entry in sorted(repository.entries("snapshots"), key=lambda entry: (entry.at, entry.name), reverse=True):
        try:
            found = read(repository, entry.name, entry.at)
        except TamperedError:
            return None
        if not found.of_state:
            return found
    return None


def _statistics(done: Sequence[SourceManifest], writer: ChunkWriter) -> Statistics:
    return Statistics(
        files=sum(source.files for source in done),
        bytes=sum(source.bytes for source in done),
        new_chunks=writer.new_chunks,
        new_bytes=writer.new_bytes,
        stored=writer.stored,
    )


def _make_safe(repository: Repository, writer: ChunkWriter, done: Sequence[SourceManifest]) -> datetime:
    """Write anew what another host's prune marked meanwhile; return the store's time at which all was safe."""
    for _ in range(_MOST_CHECKS):
        checked = now_of(repository.store)
        marked = marked_packs(repository)
        if not writer.used & marked and repository.has_its_segments():
            return checked
        repository.load_index(marked)
        writer.used.clear()
        for source in done:
            _write_anew(repository, writer, source)
        writer.finish()
    raise BusyError(
        f"other runs keep deleting in {repository.store.where}", hint="run the backup again when they are done"
    )


def _write_anew(repository: Repository, writer: ChunkWriter, source: SourceManifest) -> None:
    for chunk in map(bytes.fromhex, source.tree):
        if not writer.knows(chunk):
            writer.add(repository.chunk(chunk), lane=1)
    for record in tree(repository, source):
        for chunk in record.chunks:
            if not writer.knows(chunk):
                writer.add(repository.chunk(chunk))
