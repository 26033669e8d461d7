"""An anchor in a folder. It proves rollback as far as the folder is kept apart from the ledger."""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from guard.audit.anchors import FIRST, NOTHING, Known
from guard.errors import TamperedError, UnavailableError

_NAME = re.compile(r"([0-9]{20})\.checkpoint")
_LOG = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class FolderAnchor:
    """Keeps each checkpoint as `<size as 20 digits>.checkpoint` in a folder; what is there is never rewritten.

    Those of the ledger's first log lie in the folder itself, those of a later one in a folder with the log's name.
    """

    name: str
    folder: Path
    beside: Path | None = None
    """Where the ledger lies, or what belongs to it: a folder on the same file system is weak."""

    witness = None

    @property
    def where(self) -> str:
        """The folder."""
        return str(self.folder)

    @property
    def weak(self) -> bool:
        """Whether the folder lies on the ledger's own file system; False where that cannot be told."""
        try:
            return self.beside is not None and self.folder.stat().st_dev == self.beside.stat().st_dev
        except OSError:
            return False

    def create(self) -> None:
        """Make the folder. Elsewhere a missing one is an error: a lost mount must not look like an empty anchor."""
        try:
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise self.away(error) from error

    def put(self, size: int, note: str, log: str = FIRST, known: Known = NOTHING) -> None:  # noqa: ARG002  # read back
        """Keep a checkpoint of a log; returns once it is safe on disk.

        Raises TamperedError when a different one of the same size is kept, UnavailableError when it cannot be written.
        """
        try:
            path = self.make_room(size, log)
            if not link_new(path, note.encode()) and path.read_bytes() != note.encode():
                raise TamperedError(f"anchor {self.name} holds another checkpoint of size {size}")
        except OSError as error:
            raise self.away(error) from error

    def newest(self, known: Known = NOTHING) -> Mapping[str, str]:  # noqa: ARG002  # it is read itself
        """Return the note of the largest size of each log that has one, by the log's name.

        Raises UnavailableError when the folder cannot be read, TamperedError when a file is not what its name says.
        """
        try:
            logs = {path.name: path for path in self.folder.iterdir() if _LOG.fullmatch(path.name) and path.is_dir()}
            found = {log: self._newest(path) for log, path in {FIRST: self.folder, **logs}.items()}
        except OSError as error:
            raise self.away(error) from error
        return {log: note for log, note in found.items() if note is not None}

    def time_of(self, note: str) -> None:
        """Nobody signs here."""

    def check(self, known: Known = NOTHING) -> Sequence[str]:  # noqa: ARG002  # as above
        """Look whether the folder can be written."""
        self.newest()
        return () if os.access(self.folder, os.W_OK) else (f"{self.folder} cannot be written",)

    def path(self, size: int, log: str) -> Path:
        """Return where the checkpoint of `size` entries of a log lies."""
        folder = self.folder if log == FIRST else self.folder / log
        return folder / f"{size:020d}.checkpoint"

    def make_room(self, size: int, log: str) -> Path:
        """Make the folder of a later log, and return where the checkpoint is to lie."""
        path = self.path(size, log)
        if log != FIRST:
            path.parent.mkdir(mode=0o755, exist_ok=True)
            _sync(self.folder)
        return path

    def away(self, error: OSError) -> UnavailableError:
        """Return what to say where the folder cannot be used."""
        return UnavailableError(f"anchor {self.name} at {self.folder}: {error.strerror}")

    def _newest(self, folder: Path) -> str | None:
        kept = [found for path in folder.iterdir() if (found := _NAME.fullmatch(path.name))]
        if not kept:
            return None
        last = max(kept, key=lambda found: found[1])
        try:
            note = (folder / last[0]).read_bytes().decode()
        except UnicodeDecodeError:
            raise TamperedError(f"anchor {self.name} holds a file that is no checkpoint") from None
        if note.split("\n")[1:2] != [str(int(last[1]))]:
            raise TamperedError(f"anchor {self.name} holds a file that is not the checkpoint its name says")
        return note


def link_new(path: Path, data: bytes) -> bool:
    """Write a file whole and durably, 0644; False, and nothing changed, when there is one of this name."""
    fresh = _written(path, data)
    try:
        os.link(fresh, path)  # fails when it exists: nothing is ever rewritten, nothing half-written is seen
    except FileExistsError:
        return False
    finally:
        fresh.unlink()
    _sync(path.parent)
    return True


def write_over(path: Path, data: bytes) -> None:
    """Write a file whole and durably, 0644, in the place of one of this name."""
    _written(path, data).replace(path)
    _sync(path.parent)


def _written(path: Path, data: bytes) -> Path:
    """Return a file with `data` that has no lasting name yet."""
    fresh = path.with_name(f".{path.stem}.{os.getpid()}.new")
    with suppress(FileNotFoundError):
        fresh.unlink()  # left behind by a process of the same number that was killed
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return fresh


def _sync(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
