"""State on the move: a state in PostgreSQL as a SQLite file, and a file put where the settings want their state."""

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy import insert, inspect, select

from guard import faults
from guard.errors import InterlockError, UnavailableError
from guard.state.db import Database, Tx
from guard.state.schema import META, METADATA

_ENDS: Final = ("-wal", "-shm", "-journal")
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def file_url(path: Path) -> str:
    """Return the URL of a SQLite file; a path may hold what has a meaning in URLs."""
    return f"sqlite:///{quote(str(path.absolute()))}"


def file_of(url: str) -> Path | None:
    """Return the SQLite file that a state's URL names; None for PostgreSQL. Raises ConfigError for what is no URL."""
    database = Database(url)
    database.close()
    return database.path


def dump(database: Database, path: Path) -> None:
    """Write all tables of METADATA, as of one moment, to a new SQLite file at `path`, mode 0600, safe on disk."""
    copy = Database(file_url(path))
    copy.make_file()
    try:
        with database.read() as source, copy.explained(), copy.writer.begin() as target:
            _copy_tables(source, target)
    finally:
        copy.close()
    settle(path)


def settle(path: Path) -> None:
    """Make a SQLite state that nobody has open one file without a journal beside it, mode 0600, safe on disk."""
    database = Database(file_url(path))
    try:
        with database.explained(), closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
    finally:
        database.close()
    if left := [f"{path}{end}" for end in _ENDS if Path(f"{path}{end}").exists()]:
        raise UnavailableError(f"{left[0]} stays: another process has {path} open")
    path.chmod(0o600)
    _sync(path)


def place(path: Path, url: str) -> None:
    """Make the settled SQLite state at `path` the one that `url` names, in one step; the file `path` is used up.

    Raises InterlockError when there is a state, or what is left of one; UnavailableError when it cannot be written.
    """
    target = Database(url)
    try:
        if target.path is None:
            _fill(path, target)
            path.unlink()
        else:
            require_free(target.path)
            _name(path, target.path)
    except OSError as error:
        raise UnavailableError(f"cannot write {target.where}: {error.strerror}") from error
    finally:
        target.close()


def require_free(path: Path) -> None:
    """Raise InterlockError when something lies at `path`, or a journal beside it that SQLite would play into it."""
    there = [each for each in (path, *(Path(f"{path}{end}") for end in _ENDS)) if os.path.lexists(each)]
    if there:
        raise InterlockError(
            f"{there[0]} is in the way",
            hint=f"it belongs to a state that was here; keep it, but move it away: {', '.join(map(str, there))}",
        )


def _fill(path: Path, target: Database) -> None:
    source = Database(file_url(path))
    try:
        with source.read() as tx, target.explained(), target.writer.begin() as into:
            if inspect(into).has_table(META.name):
                raise InterlockError(f"there is a state at {target.where} already")
            _copy_tables(tx, into)
            faults.point("state.place.filled")
    finally:
        source.close()


def _copy_tables(source: Tx, target: Tx) -> None:
    METADATA.create_all(target)
    for table in METADATA.sorted_tables:
        found = source.execute(select(table).execution_options(yield_per=1000))
        for rows in found.mappings().partitions():
            target.execute(insert(table), [dict(row) for row in rows])


def _name(path: Path, target: Path) -> None:
    """Give a finished file its name, which nobody may have taken meanwhile."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except FileExistsError:
        raise InterlockError(f"{target} exists already") from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        require_free(target)  # a file system without links
        path.rename(target)
    else:
        faults.point("state.place.linked")
        path.unlink()
    _sync(target.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
