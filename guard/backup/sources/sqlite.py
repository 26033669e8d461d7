"""A SQLite database at one moment: copied page by page through SQLite itself, so that writers go on meanwhile."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from guard.backup.snapshot import SourceKind
from guard.backup.sources import Found, Ready, Report
from guard.backup.tree import Meta, What
from guard.errors import GuardError, UnavailableError

_BUSY_SECONDS: Final = 30
_TABLES: Final = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
_SUFFIX: Final = ".copy"


class _LockedError(Exception):
    """Another connection writes and does not stop."""


@dataclass(frozen=True, slots=True)
class SqliteSource:
    """A SQLite database in a file. It is copied to a private file (0600) that goes away at the end.

    `write` makes such a copy of what is no file itself; `path` then only names it.
    """

    name: str
    path: Path
    kind: SourceKind = "sqlite"
    write: Callable[[Path], None] | None = None

    @contextmanager
    def ready(self, temp: Path) -> Iterator[Ready]:
        """Copy it. Raises UnavailableError when the copy has no room or the database stays locked."""
        if self.write is None and not self.path.is_file():
            yield Ready(self.name, self.kind, why=f"{self.path} does not exist")
            return
        handle, name = tempfile.mkstemp(dir=temp, suffix=_SUFFIX)
        os.close(handle)
        copy = Path(name)
        try:
            self._fill(copy)
            rows, problems = _rows(copy)
            walk = partial(_walk, self.path, copy)
            yield Ready(self.name, self.kind, walk, rows=rows, problems=problems, has_digest=True)
        finally:
            for each in (copy, Path(f"{copy}-journal"), Path(f"{copy}-wal"), Path(f"{copy}-shm")):
                each.unlink(missing_ok=True)

    def _fill(self, copy: Path) -> None:
        if self.write is None:
            _copy(self.path, copy)
            return
        copy.unlink()
        self.write(copy)


def remove_copies(temp: Path) -> None:
    """Remove the copies that a killed run left in guard's scratch folder. Only while no other run is at work there."""
    for each in temp.glob(f"*{_SUFFIX}*"):
        with suppress(FileNotFoundError):
            each.unlink()


def address(path: Path, *, fixed: bool = False) -> str:
    """Return the URI that opens a database for reading; `fixed`: nobody else writes to it."""
    return f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if fixed else ''}"


def _copy(path: Path, copy: Path) -> None:
    try:
        with (
            closing(sqlite3.connect(address(path), uri=True, timeout=_BUSY_SECONDS)) as source,
            closing(sqlite3.connect(copy, isolation_level=None)) as target,
        ):
            target.execute("PRAGMA journal_mode = OFF")
            target.execute("PRAGMA synchronous = OFF")
            source.backup(target, progress=_give_up_when_locked)
    except _LockedError:
        raise UnavailableError(f"{path} stayed locked for {_BUSY_SECONDS} s", hint="try again later") from None
    except sqlite3.Error as error:
        raise _explained(error, path, copy) from error


def _give_up_when_locked(status: int, _remaining: int, _total: int) -> None:
    """Stop after one wait of `_BUSY_SECONDS`: left alone, `Connection.backup` asks for ever."""
    if status in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        raise _LockedError


def _rows(copy: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """Count the rows of every table, and tell what is wrong: a damaged database is saved all the same, and said so."""
    out: dict[str, int] = {}
    try:
        with closing(sqlite3.connect(address(copy, fixed=True), uri=True)) as database:
            for (name,) in database.execute(_TABLES).fetchall():
                quoted = '"' + name.replace('"', '""') + '"'
                with suppress(sqlite3.OperationalError):  # a virtual table whose module is not here
                    out[name] = database.execute(f"SELECT count(*) FROM {quoted}").fetchone()[0]  # noqa: S608  # quoted
    except sqlite3.DatabaseError:
        return out, ("SQLite finds it damaged",)
    return out, ()


def _walk(path: Path, copy: Path, report: Report) -> Iterator[Found]:  # noqa: ARG001  # a copy does not change
    found = path.stat() if path.exists() else copy.stat()
    meta = Meta(found.st_mode & 0o777, found.st_uid, found.st_gid, found.st_mtime_ns)
    yield Found(os.fsencode(path.name), What.FILE, meta, copy.stat().st_size, read=partial(_read, copy))


def _read(copy: Path) -> BinaryIO:
    return copy.open("rb", buffering=0)


def _explained(error: sqlite3.Error, path: Path, copy: Path) -> GuardError:
    match getattr(error, "sqlite_errorname", "").removeprefix("SQLITE_").split("_")[0]:
        case "FULL" | "IOERR":
            return UnavailableError(f"no space left in {copy.parent} for a copy of {path}", hint="free some disk space")
        case "NOTADB" | "CORRUPT":
            return UnavailableError(f"{path} is not a sound SQLite database", hint="restore it from an older snapshot")
        case _:
            return UnavailableError(f"{path} cannot be read: {type(error).__name__}", hint="check its owner and mode")
