"""Anchors: places outside the ledger that keep its checkpoints. A folder proves rollback as far as it is kept apart."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from guard.audit.checkpoint import FIRST
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

    def create(self) -> None:
        """Make the folder. Elsewhere a missing one is an error: a lost mount must not look like an empty anchor."""
        try:
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise self._away(error) from error

    def put(self, size: int, note: str, log: str = FIRST) -> None:
        """Keep a checkpoint of a log; returns once it is safe on disk.

        Raises TamperedError when a different one of the same size is kept, UnavailableError when it cannot be written.
        """
        folder = self.folder if log == FIRST else self.folder / log
        path = folder / f"{size:020d}.checkpoint"
        fresh = folder / f".{size:020d}.{os.getpid()}.new"
        try:
            if log != FIRST:
                folder.mkdir(mode=0o755, exist_ok=True)
                _sync(self.folder)
            _write(fresh, note)
            try:
                os.link(fresh, path)  # fails when it exists: nothing is ever rewritten, nothing half-written is seen
            except FileExistsError:
                if path.read_bytes() != note.encode():
                    raise TamperedError(f"anchor {self.name} holds another checkpoint of size {size}") from None
            finally:
                fresh.unlink()
            _sync(folder)
        except OSError as error:
            raise self._away(error) from error

    def newest(self) -> Mapping[str, str]:
        """Return the note of the largest size of each log that has one, by the log's name.

        Raises UnavailableError when the folder cannot be read, TamperedError when a file is not what its name says.
        """
        try:
            logs = {path.name: path for path in self.folder.iterdir() if _LOG.fullmatch(path.name) and path.is_dir()}
            found = {log: self._newest(path) for log, path in {FIRST: self.folder, **logs}.items()}
        except OSError as error:
            raise self._away(error) from error
        return {log: note for log, note in found.items() if note is not None}

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

    def _away(self, error: OSError) -> UnavailableError:
        return UnavailableError(f"anchor {self.name} at {self.folder}: {error.strerror}")


def _write(path: Path, note: str) -> None:
    with suppress(FileNotFoundError):
        path.unlink()  # left behind by a process of the same number that was killed
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.write(file, note.encode())
        os.fsync(file)
    finally:
        os.close(file)


def _sync(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
