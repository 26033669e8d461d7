"""Anchors: places outside the ledger that keep its checkpoints. A folder proves rollback as far as it is kept apart."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from guard.errors import TamperedError, UnavailableError

_NAME = re.compile(r"([0-9]{20})\.checkpoint")


@dataclass(frozen=True, slots=True)
class FolderAnchor:
    """Keeps each checkpoint as `<size as 20 digits>.checkpoint` in a folder; what is there is never rewritten."""

    name: str
    folder: Path

    def create(self) -> None:
        """Make the folder. Elsewhere a missing one is an error: a lost mount must not look like an empty anchor."""
        try:
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise self._away(error) from error

    def put(self, size: int, note: str) -> None:
        """Keep a checkpoint; returns once it is safe on disk.

        Raises TamperedError when a different one of the same size is kept, UnavailableError when it cannot be written.
        """
        path = self.folder / f"{size:020d}.checkpoint"
        fresh = self.folder / f".{size:020d}.{os.getpid()}.new"
        try:
            _write(fresh, note)
            try:
                os.link(fresh, path)  # fails when it exists: nothing is ever rewritten, nothing half-written is seen
            except FileExistsError:
                if path.read_bytes() != note.encode():
                    raise TamperedError(f"anchor {self.name} holds another checkpoint of size {size}") from None
            finally:
                fresh.unlink()
            _sync(self.folder)
        except OSError as error:
            raise self._away(error) from error

    def newest(self) -> str | None:
        """Return the note of the largest size; None when none is kept.

        Raises UnavailableError when the folder cannot be read, TamperedError when the file is not what its name says.
        """
        try:
            kept = [found for path in self.folder.iterdir() if (found := _NAME.fullmatch(path.name))]
            if not kept:
                return None
            last = max(kept, key=lambda found: found[1])
            note = (self.folder / last[0]).read_bytes().decode()
        except OSError as error:
            raise self._away(error) from error
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
