"""A store in a folder: written to a temporary name, flushed to the disk, then linked to its own name."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from guard.backup.place import name_if_free, sync_folder
from guard.backup.stores import Entry, MissingError
from guard.clock import Clock
from guard.errors import DeniedError, GuardError, UnavailableError

_TEMPORARY = ".tmp"
_STALE_SECONDS = 86_400  # what a killed writer left; no write of a pack takes a day


class LocalStore:
    """Objects as files below `root`. The store's clock is `clock`: each file's mtime is set from it."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self.root = root
        self._clock = clock

    @property
    def where(self) -> str:
        """The folder."""
        return str(self.root)

    def now(self) -> datetime:
        """Return the clock's time."""
        return self._clock.now()

    def prepare(self) -> None:
        """Make the folder itself, readable by its owner alone."""
        with _explained(self.root):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put_if_absent(self, name: str, data: bytes | bytearray) -> bool:
        """Write a file and flush it and its folder; what is half written never has the object's name."""
        path = self.root / name
        with _explained(self.root):
            self._need_root()
            if path.exists():
                return path.read_bytes() == data
            _make_folders(self.root, path.parent)
            half = self._half_written(data)
            try:
                done = name_if_free(half, path)
            finally:
                half.unlink(missing_ok=True)
            sync_folder(path.parent)
        return done or path.read_bytes() == data

    def get(self, name: str) -> bytes:
        """Return a file's bytes."""
        with _explained(self.root, name):
            return (self.root / name).read_bytes()

    def get_range(self, name: str, start: int, length: int) -> bytes:
        """Return a part of a file."""
        with _explained(self.root, name), (self.root / name).open("rb", buffering=0) as file:
            out = bytearray()
            while len(out) < length and (read := os.pread(file.fileno(), length - len(out), start + len(out))):
                out += read
            return bytes(out)

    def list(self, prefix: str) -> Iterator[Entry]:
        """Yield the files below the folder that `prefix` names, or that begin so."""
        with _explained(self.root):
            self._need_root()
            top = self.root / prefix.rpartition("/")[0]
            found = sorted(_files(top, self.root))
            for name in found:
                if name.startswith(prefix):
                    with suppress(FileNotFoundError):  # removed since by another run
                        stat = (self.root / name).stat()
                        yield Entry(name, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))

    def size(self, name: str) -> int | None:
        """Return a file's size; None when there is no such file."""
        with _explained(self.root):
            self._need_root()
            path = self.root / name
            return path.stat().st_size if path.is_file() else None

    def delete(self, name: str) -> None:
        """Remove a file and flush its folder."""
        path = self.root / name
        with _explained(self.root), suppress(FileNotFoundError):
            path.unlink()
            sync_folder(path.parent)

    def _need_root(self) -> None:
        if not self.root.is_dir():
            raise _no_root(self.root)

    def _half_written(self, data: bytes | bytearray) -> Path:
        folder = self.root / _TEMPORARY
        folder.mkdir(mode=0o700, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder)
        half = Path(name)
        try:
            with os.fdopen(handle, "wb", buffering=0) as file:
                _remove_stale(folder, os.fstat(handle).st_ctime)
                _write_all(handle, data)
                at = int(self._clock.now().timestamp() * 1e9)
                os.utime(handle, ns=(at, at))
                os.fsync(file.fileno())
        except BaseException:
            half.unlink(missing_ok=True)
            raise
        return half


def _write_all(handle: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _remove_stale(folder: Path, now: float) -> None:
    """Remove what killed writers left. By ctime: the file system's own clock, which nobody sets."""
    for each in folder.iterdir():
        with suppress(FileNotFoundError):
            if each.stat().st_ctime < now - _STALE_SECONDS:
                each.unlink()


def _files(top: Path, root: Path) -> Iterator[str]:
    stack = [top]
    while stack:
        try:
            with os.scandir(stack.pop()) as found:
                for each in found:
                    if each.name.startswith("."):
                        continue
                    if each.is_dir(follow_symlinks=False):
                        stack.append(Path(each.path))
                    else:
                        yield Path(each.path).relative_to(root).as_posix()
        except FileNotFoundError:
            continue


def _make_folders(root: Path, folder: Path) -> None:
    missing = []
    while folder != root and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        sync_folder(each.parent)


@contextmanager
def _explained(root: Path, name: str | None = None) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        if not root.is_dir():
            raise _no_root(root) from None
        if name is None:
            raise UnavailableError(f"{root} changed while it was used", hint="try again") from None
        raise MissingError(f"{name} is missing in {root}") from None
    except OSError as error:
        raise _explanation(root, error) from error


def _no_root(root: Path) -> UnavailableError:
    return UnavailableError(
        f"the folder {root} is not there", hint="is its disk mounted? a new store needs guard backup init"
    )


def _explanation(root: Path, error: OSError) -> GuardError:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return UnavailableError(f"no space left in {root}", hint="free some disk space; nothing half-written stays")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return DeniedError(f"{root} may not be used: {error.strerror}", hint="check the folder's owner and mode")
        case _:
            return UnavailableError(f"{root} cannot be used: {error.strerror or type(error).__name__}")
