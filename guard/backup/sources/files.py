"""A tree of files: names as bytes, links not followed, what changes or vanishes while it is read is reported."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from guard.backup.sources import Found, Ready, Report
from guard.backup.tree import Meta, What

_SETTLES: Final = 2_000_000_000  # ns; file systems keep times to 2 s at worst (FAT)


@dataclass(frozen=True, slots=True)
class FilesSource:
    """A folder with all below it, or one file.

    `exclude`: shell patterns for paths relative to the source or for single names. `skip`: folders that are never
    backed up wherever they lie: repositories and guard's own scratch.
    """

    name: str
    path: Path
    exclude: Sequence[str] = ()
    skip: Sequence[Path] = ()

    @contextmanager
    def ready(self, temp: Path) -> Iterator[Ready]:
        """Look whether it is there; nothing is copied."""
        if not os.path.lexists(self.path):
            yield Ready(self.name, "files", why=f"{self.path} does not exist")
            return
        yield Ready(self.name, "files", _Walk(self, _now(temp)))


class _Walk:
    def __init__(self, source: FilesSource, now: int) -> None:
        self._source = source
        self._settled = now - _SETTLES
        self._skip = frozenset(found for path in source.skip if (found := _identity(path)))

    def __call__(self, report: Report) -> Iterator[Found]:
        root = os.fsencode(self._source.path)
        if not os.path.isdir(root):  # noqa: PTH112  # bytes: names need not be text
            yield from self._one(root, os.path.basename(root), report)  # noqa: PTH119
            return
        stack = [b""]
        while stack:
            path = stack.pop()
            full = os.path.join(root, path) if path else root  # noqa: PTH118
            below: list[bytes] = []
            for found in self._one(full, path, report):
                below = self._names(full, path, report) if found.what is What.FOLDER else []
                yield found
            stack += reversed(below)

    def _names(self, full: bytes, path: bytes, report: Report) -> list[bytes]:
        try:
            names = sorted(os.listdir(full))  # noqa: PTH208  # bytes
        except OSError as error:
            report(path, why_not(error))
            return []
        return [below for name in names if not self._excluded(below := path + b"/" + name if path else name)]

    def _excluded(self, path: bytes) -> bool:
        text = os.fsdecode(path)
        last = text.rpartition("/")[2]
        return any(fnmatchcase(text, pattern) or fnmatchcase(last, pattern) for pattern in self._source.exclude)

    def _one(self, full: bytes, path: bytes, report: Report) -> Iterator[Found]:
        """Yield what lies at `full`: one thing, or nothing when it vanished, is skipped or cannot be looked at."""
        is_root = not path
        try:
            found = os.stat(full) if is_root else os.lstat(full)  # noqa: PTH116
            target = os.readlink(full) if stat.S_ISLNK(found.st_mode) else b""  # noqa: PTH115
        except OSError as error:
            report(path, why_not(error))
            return
        if (found.st_dev, found.st_ino) in self._skip:
            return
        meta = _meta(found)
        if stat.S_ISDIR(found.st_mode):
            yield Found(path, What.FOLDER, meta)
        elif stat.S_ISLNK(found.st_mode):
            yield Found(path, What.LINK, meta, target=target)
        elif stat.S_ISREG(found.st_mode):
            settled = found.st_ctime_ns < self._settled
            read, changed = partial(_open, full), partial(_has_changed, found)
            yield Found(path, What.FILE, meta, found.st_size, read=read, changed=changed, settled=settled)
        else:
            yield Found(path, What.FILE, meta, read=None)


def _meta(found: os.stat_result) -> Meta:
    mode = stat.S_IMODE(found.st_mode)
    return Meta(mode, found.st_uid, found.st_gid, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def _open(full: bytes) -> BinaryIO:
    """Open a regular file without following a link or waiting for a pipe that took its place."""
    handle = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "is no longer a file")
    return open(handle, "rb", buffering=0)  # noqa: PTH123  # a descriptor


def _has_changed(before: os.stat_result, file: BinaryIO) -> bool:
    after = os.fstat(file.fileno())
    return _identity_of(before) != _identity_of(after)


def _identity_of(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _now(temp: Path) -> int:
    """Return the file system's own time in ns: what `settled` is measured by, so that no other clock matters."""
    with tempfile.TemporaryFile(dir=temp) as file:
        return os.fstat(file.fileno()).st_mtime_ns


def why_not(error: OSError) -> str:
    """Return in words why something could not be read."""
    if error.errno == errno.ENOENT:
        return "vanished while it was read"
    return (error.strerror or type(error).__name__).lower()
