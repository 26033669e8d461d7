"""Bring a snapshot back into a folder.

Each chunk is compared with its id before it is written; what does not fit is not written, and no file gets its name
before it is whole and on the disk.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from guard.backup.erasures import Position, Register
from guard.backup.place import name_if_free, sync_folder
from guard.backup.repository import Repository
from guard.backup.snapshot import Snapshot, SnapshotId, SourceManifest, tree
from guard.backup.sources.sqlite import address
from guard.backup.tree import Record, What
from guard.crypto.random import token
from guard.errors import ConfigError, DeniedError, GuardError, InterlockError, TamperedError, UnavailableError
from guard.events import Progress, silent

_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to restore, and where to. Without `sources` all of them; without `paths` all of each.

    A path is relative to its source, a shell pattern is allowed; it brings back what lies below it too.
    """

    to: Path
    sources: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore will write."""

    snapshot: SnapshotId
    wanted: Wanted
    sources: tuple[str, ...]
    files: int
    bytes: int
    not_covered: tuple[str, ...]
    """Sources that the snapshot does not hold, each with the reason."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore wrote. `checks`: for each database, what SQLite's quick_check said."""

    snapshot: SnapshotId
    files: int
    bytes: int
    checks: dict[str, str]


def plan(repository: Repository, snapshot: Snapshot, wanted: Wanted) -> RestorePlan:
    """Work out what a restore writes. Changes nothing; needs the index loaded.

    Raises ConfigError when nothing fits, InterlockError when a file is there already and `overwrite` is not set.
    """
    not_covered = {each.name: f"{each.name}: {each.why}" for each in snapshot.manifest.sources if not each.covered}
    _need_sources(snapshot, wanted.sources, not_covered)
    files = size = 0
    there: list[Path] = []
    chosen = _chosen(snapshot, wanted)
    for source in chosen:
        for record in _records(repository, source, wanted):
            path = _target(wanted.to, source.name, record.path)
            files += record.what is not What.FOLDER
            size += record.size
            if record.what is not What.FOLDER and os.path.lexists(path):
                there.append(path)
            if source.digest:
                _need_no_journal(path)
    if there and not wanted.overwrite:
        shown = ", ".join(map(_shown, there[:_SHOWN])) + (" ..." if len(there) > _SHOWN else "")
        raise InterlockError(
            f"{len(there)} of the files to restore are in {wanted.to} already: {shown}",
            hint="restore to another folder, or add --overwrite",
        )
    if not files and wanted.paths:
        raise ConfigError("nothing in the snapshot fits the paths given")
    names = tuple(each.name for each in chosen)
    return RestorePlan(snapshot.id, wanted, names, files, size, tuple(not_covered.values()))


def restore(
    repository: Repository, snapshot: Snapshot, wanted: Wanted, least: Position, progress: Progress = silent
) -> Restored:
    """Write a snapshot to `wanted.to`, each source to a folder of its own name.

    `least`: how far the erasure register must reach at the least, by what guard knows beside the manifest.
    Raises InterlockError when the register does not reach as far as it must, TamperedError when the repository is
    damaged or a restored database is not sound, UnavailableError when the disk is full.
    """
    manifest = snapshot.manifest
    register = Register(repository)
    register.require(least)
    register.require(Position(manifest.erasures.count, bytes.fromhex(manifest.erasures.head)))
    with _explained(wanted.to):
        wanted.to.mkdir(mode=0o700, parents=True, exist_ok=True)
        writings = [_Writing(repository, source, wanted, progress) for source in _chosen(snapshot, wanted)]
        for writing in writings:
            writing.run()
    checks: dict[str, str] = {}
    for writing in writings:
        checks |= writing.check()
    return Restored(snapshot.id, sum(each.files for each in writings), sum(each.bytes for each in writings), checks)


class _Writing:
    """One source on its way to the disk."""

    def __init__(self, repository: Repository, source: SourceManifest, wanted: Wanted, progress: Progress) -> None:
        self._repository = repository
        self._source = source
        self._wanted = wanted
        self._progress = progress
        self._folders: list[tuple[Path, Record]] = []
        self._databases: list[Path] = []
        self._made: set[Path] = set()
        self.files = 0
        self.bytes = 0

    def run(self) -> None:
        self._folder(_target(self._wanted.to, self._source.name, b""))
        for record in _records(self._repository, self._source, self._wanted):
            path = _target(self._wanted.to, self._source.name, record.path)
            self._folder(path if record.what is What.FOLDER else path.parent)
            match record.what:
                case What.FOLDER:
                    self._folders.append((path, record))
                case What.LINK:
                    self._link(path, record)
                case What.FILE:
                    self._file(path, record)
        for path, record in reversed(self._folders):  # last, so that times stay and read-only folders can be filled
            _set_meta(path, record)
        for folder in self._made:
            sync_folder(folder)

    def check(self) -> dict[str, str]:
        """Ask SQLite whether the restored databases are sound. Raises TamperedError when one is not."""
        return {str(path): _quick_check(path) for path in self._databases}

    def _folder(self, path: Path) -> None:
        """Make a folder and those above it, never through a link that lies in the way."""
        missing: list[Path] = []
        while path != self._wanted.to and path not in self._made:
            missing.append(path)
            path = path.parent
        for each in reversed(missing):
            with suppress(FileExistsError):
                each.mkdir(mode=0o700)
            if not stat.S_ISDIR(each.lstat().st_mode):
                raise InterlockError(f"{_shown(each)} is in the way: it is not a folder")
            self._made.add(each)

    def _link(self, path: Path, record: Record) -> None:
        half = _half_name(path)
        half.symlink_to(os.fsdecode(record.target))
        with _removed_on_error(half):
            _own(half, record)
            os.utime(half, ns=(record.meta.mtime, record.meta.mtime), follow_symlinks=False)
            self._give_name(half, path)
        self.files += 1

    def _file(self, path: Path, record: Record) -> None:
        half = _half_name(path)
        handle = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with _removed_on_error(half), os.fdopen(handle, "wb", 1 << 20) as file:
            digest = self._repository.digest() if self._source.digest else None
            length = 0
            for piece in self._repository.stream(record.chunks):
                file.write(piece)
                length += len(piece)
                if digest is not None:
                    digest.update(piece)
                self._progress(self._source.name, self.bytes + length, self._source.bytes)
            file.flush()
            if length != record.size or (digest is not None and digest.hexdigest() != self._source.digest):
                raise TamperedError(f"{_shown(path)} does not come out as it was backed up")
            _set_meta(half, record)
            os.fsync(handle)
            self._give_name(half, path)
        self.files += 1
        self.bytes += length
        if self._source.digest:
            self._databases.append(path)

    def _give_name(self, half: Path, path: Path) -> None:
        if self._wanted.overwrite:
            if path.is_dir() and not path.is_symlink():
                raise InterlockError(f"{_shown(path)} is in the way: it is a folder")
            half.replace(path)
        elif not name_if_free(half, path):
            raise InterlockError(f"{_shown(path)} is there already")


def _need_sources(snapshot: Snapshot, wanted: Sequence[str], not_covered: Mapping[str, str]) -> None:
    """Raise ConfigError when a source that was named is not in the snapshot: 0 files restored would be no success."""
    known = {source.name for source in snapshot.manifest.sources}
    if strange := sorted(set(wanted) - known):
        raise ConfigError(f"the snapshot has no source {', '.join(strange)}", hint=f"it has {', '.join(sorted(known))}")
    if absent := [not_covered[name] for name in wanted if name in not_covered]:
        raise ConfigError(
            f"snapshot {snapshot.id[:12]} does not hold {'; '.join(absent)}",
            hint="take a whole one; guard backup list shows which are",
        )


def _chosen(snapshot: Snapshot, wanted: Wanted) -> list[SourceManifest]:
    chosen = [
        each
        for each in snapshot.manifest.sources
        if each.covered and (not wanted.sources or each.name in wanted.sources)
    ]
    for each in chosen:
        if "/" in each.name or "\0" in each.name or each.name in {"", ".", ".."}:
            raise TamperedError("the snapshot has a source whose name is none")
    return chosen


def _records(repository: Repository, source: SourceManifest, wanted: Wanted) -> Iterator[Record]:
    """Yield what is wanted of a source."""
    for record in tree(repository, source):
        if not wanted.paths or _fits(os.fsdecode(record.path), wanted.paths):
            yield record


def _fits(path: str, patterns: Sequence[str]) -> bool:
    """Say whether a path, or a folder above it, fits one of the patterns."""
    names = path.split("/")
    above = ["/".join(names[: end + 1]) for end in range(len(names))]
    return any(fnmatchcase(each, pattern.strip("/")) for each in above for pattern in patterns)


def _target(to: Path, source: str, path: bytes) -> Path:
    return to / source / os.fsdecode(path) if path else to / source


def _half_name(path: Path) -> Path:
    return path.with_name(f".guard-{token(8).hex()}.half")


def _set_meta(path: Path, record: Record) -> None:
    mode = record.meta.mode if _own(path, record) else record.meta.mode & 0o777  # no set-user-id for another owner
    path.chmod(mode)
    os.utime(path, ns=(record.meta.mtime, record.meta.mtime))


def _own(path: Path, record: Record) -> bool:
    """Give a file its owner back, which only root can; say whether it has it."""
    if os.geteuid() == 0:
        os.chown(path, record.meta.uid, record.meta.gid, follow_symlinks=False)
        return True
    return False


def _need_no_journal(path: Path) -> None:
    """Refuse to put a database beside a journal that is not its own: SQLite would play it into the restored file.

    A WAL that is empty counts too: it is there while somebody has the database open, and they would go on to fill it.
    """
    for suffix in ("-wal", "-journal"):
        journal = Path(f"{path}{suffix}")
        if journal.exists() and (suffix == "-wal" or journal.stat().st_size):
            raise InterlockError(
                f"{_shown(journal)} belongs to another database that lies or lay here",
                hint="stop what uses the database, move that file away, or restore to another folder",
            )


def _quick_check(path: Path) -> str:
    """Return what SQLite says of a restored database. Raises TamperedError when it is not sound."""
    try:
        with closing(sqlite3.connect(address(path, fixed=True), uri=True)) as database:
            said = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError as error:  # e.g. a collation only the shop has
        return f"could not be checked: {type(error).__name__}"
    except sqlite3.DatabaseError:  # so damaged that the check cannot even begin
        said = "damaged"
    if said != "ok":
        raise TamperedError(
            f"{_shown(path)} is restored as it was, but SQLite finds it unsound", hint="take an older snapshot"
        )
    return said


def _shown(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@contextmanager
def _removed_on_error(half: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):
            half.unlink(missing_ok=True)
        raise


@contextmanager
def _explained(to: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _explanation(to, error) from error


def _explanation(to: Path, error: OSError) -> GuardError:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return UnavailableError(f"no space left in {to}", hint="the file that did not fit was removed again")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return DeniedError(f"{to} may not be written: {error.strerror}")
        case _:
            return UnavailableError(f"{to} cannot be written: {error.strerror or type(error).__name__}")
