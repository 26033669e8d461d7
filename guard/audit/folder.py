"""A folder of tiles on disk: files that appear whole or not at all, and the checkpoint as the last of them."""

import os
import re
from pathlib import Path
from typing import Final

from guard.audit import tiles
from guard.audit.tiles import WIDTH, Tile
from guard.errors import InterlockError

CHECKPOINT: Final = "checkpoint"
SUMS: Final = "SHA256SUMS"
"""The digests of what lies beside the tiles, as `sha256sum -c` reads them."""

_NAMES = frozenset({CHECKPOINT, SUMS, "tile", "vkey", "keys", "anchored", "verify.py", "README"})
_LEFT = re.compile(r"\..+\.[0-9]+\.new")


class Folder:
    """A folder that is written to, file by file."""

    def __init__(self, path: Path) -> None:
        """Make the folder if it is not there. Raises InterlockError when it holds what no export writes."""
        path.mkdir(parents=True, exist_ok=True)
        strange = sorted(
            each.name for each in path.iterdir() if each.name not in _NAMES and not _LEFT.fullmatch(each.name)
        )
        if strange:
            raise InterlockError(f"{path} holds {strange[0]}, so it is no export of a ledger", hint="name a new folder")
        self.path = path
        self.written = 0
        """How many files were written."""
        self._fresh: list[Path] = []

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None when there is none."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def put(self, name: str, content: bytes) -> None:
        """Write a file in one step, unless it is there with this content."""
        if self.read(name) == content:
            return
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.{os.getpid()}.new")
        try:
            fresh.write_bytes(content)
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)
        self.written += 1
        self._fresh.append(target)

    def close(self, note: str) -> None:
        """Put the checkpoint in its place once everything else is safe on disk."""
        folders = {above for path in self._fresh for above in path.parents if above.is_relative_to(self.path)}
        for path in (*self._fresh, *folders):
            _sync(path)
        self.put(CHECKPOINT, note.encode())
        _sync(self.path / CHECKPOINT)
        _sync(self.path)

    def sweep(self, before: int, size: int) -> None:
        """Remove what a run that was broken off has left: all that is in neither log, of `before` or `size` entries."""
        for path, tile in self._tiles():
            if tile is None or not (
                tiles.belongs(tile, before) or tile.width == tiles.width(tile.level, tile.index, size)
            ):
                path.unlink()
        for path in self.path.glob(".*.new"):
            path.unlink()

    def drop_partial(self, size: int) -> None:
        """Remove the partial tiles of which a log of `size` entries has the full ones."""
        for path, tile in self._tiles():
            if tile is not None and tile.width < tiles.width(tile.level, tile.index, size) == WIDTH:
                path.unlink()
                if not any(path.parent.iterdir()):
                    path.parent.rmdir()

    def _tiles(self) -> list[tuple[Path, Tile | None]]:
        found = [path for path in (self.path / "tile").rglob("*") if not path.is_dir()]
        return [(path, tiles.parse(path.relative_to(self.path).as_posix())) for path in found]


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
