"""Open state's database and say in guard's words what is wrong with it. SQLite by default, PostgreSQL by URL."""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from guard.errors import BusyError, ConfigError, GuardError, InterlockError, TamperedError, UnavailableError
from guard.state import forks
from guard.state.turn import Turn

Tx = Connection
"""A transaction of state: a SQLAlchemy Core connection inside one."""

_BUSY_SECONDS = 30
"""How long a write waits for another process; a group commits in milliseconds."""

_KEPT = re.compile(r"(\d+) ")
"""How VACUUM FULL begins to say how many dead rows it could not remove."""

_PRAGMAS = (
    f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA secure_delete = ON",
    "PRAGMA cell_size_check = ON",
)
"""Secure delete: a wrapped key that was destroyed or shredded is overwritten in the file, not only taken out of it."""


class Database:
    """Two engines on one database: readers in a snapshot, and the one writer."""

    def __init__(self, url: str) -> None:
        self.url = _parsed(url)
        self.path = Path(self.url.database or "") if self.url.get_backend_name() == "sqlite" else None
        self.where = str(self.path) if self.path else self.url.render_as_string(hide_password=True)
        self.reader, self.writer = self._engines()
        self._in_use = 0
        self._turn = Turn(self.path, _BUSY_SECONDS) if self.path else None
        forks.watch(self)

    def _engines(self) -> tuple[Engine, Engine]:
        return _sqlite_engines(self.path) if self.path else _postgres_engines(self.url)

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """Give a transaction that sees one snapshot and writes nothing."""
        with self.explained(), self.reader.connect() as tx, tx.begin():
            yield tx

    def turn(self) -> AbstractContextManager[None]:
        """Hold this process's turn to write while the block runs. PostgreSQL's row lock keeps its own line."""
        return nullcontext() if self._turn is None else self._turn.taken()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of the database into guard's."""
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise self.explain(error) from error

    def explain(self, error: Exception) -> Exception:
        """Return the GuardError that tells an operator what happened; others, constraints included, as they are."""
        if isinstance(error, DBAPIError) and not self.path:
            return _explain_postgres(error, self.where) or error
        orig = error.orig if isinstance(error, DBAPIError) else error
        return (_explain_sqlite(orig, self.where) if isinstance(orig, sqlite3.Error) else None) or error

    def require_file(self) -> None:
        """Raise ConfigError when the SQLite file is not there."""
        if self.path and not self.path.exists():
            raise ConfigError(
                f"no state at {self.path}",
                hint="correct state.url in guard.toml, or bring it back with `guard state restore`",
            )

    def make_file(self) -> None:
        """Make an empty SQLite file, mode 0600, in a folder of mode 0700.

        Raises InterlockError when there is one, UnavailableError when the folder cannot be written.
        """
        if not self.path:
            return
        _make_empty(self.path)

    def copy_file(self, path: Path) -> None:
        """Write a consistent copy of the SQLite file to `path`, mode 0600, safe on disk; writers go on meanwhile.

        Raises InterlockError when `path` exists, ConfigError on PostgreSQL.
        """
        if not self.path:
            raise ConfigError("a state in PostgreSQL is not a file")
        _make_empty(path)
        with self.explained(), closing(sqlite3.connect(_uri(self.path), uri=True, timeout=_BUSY_SECONDS)) as connection:
            connection.execute("VACUUM INTO ?", (str(path),))
        with path.open("rb") as file:
            os.fsync(file.fileno())

    def remove_file(self) -> None:
        """Remove the SQLite file that `make_file` made, when filling it failed."""
        for end in ("", "-wal", "-shm") if self.path else ():
            Path(f"{self.path}{end}").unlink(missing_ok=True)

    def scrub(self, *tables: str) -> None:
        """Clear old versions of rows from what lies beside the tables: SQLite's log, PostgreSQL's dead rows.

        PostgreSQL writes `tables` anew for it, and nobody reads or writes one meanwhile. Raises BusyError while another
        connection still reads them. PostgreSQL's own log keeps them as long as it does.
        """
        with self.explained():
            if self.path:
                with closing(sqlite3.connect(_uri(self.path), uri=True, timeout=_BUSY_SECONDS)) as connection:
                    is_busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                if is_busy:
                    raise BusyError(f"{self.where} is being read by another process", hint="try again")
                return
            with self.writer.connect().execution_options(isolation_level="AUTOCOMMIT") as vacuum:
                vacuum.exec_driver_sql(f"SET lock_timeout = '{_BUSY_SECONDS}s'")
                kept = [table for table in tables if _rewrite(vacuum, table)]
            if kept:
                raise BusyError(
                    f"a transaction is open that may still read what was removed from {', '.join(kept)}",
                    hint="end it (pg_stat_activity, pg_prepared_xacts, pg_replication_slots), then run it again",
                )

    def close(self) -> None:
        """Close every connection."""
        self.reader.dispose()
        self.writer.dispose()

    def before_fork(self) -> None:
        """Close every idle connection."""
        self._in_use = _busy(self.reader) + _busy(self.writer)
        self.close()

    def after_fork(self) -> None:
        """Open connections of one's own. A SQLite file that another thread had in use at the fork is refused."""
        refused = self.path and self._in_use + _busy(self.reader) + _busy(self.writer)
        self.reader, self.writer = self._engines()
        for engine in (self.reader, self.writer) if refused else ():
            event.listen(engine, "do_connect", self._refuse)

    def _refuse(self, *_: object) -> None:
        raise InterlockError(
            f"this process was forked while {self.where} was in use",
            hint="open guard after the fork, or fork while no other thread works with it",
        )


def _busy(engine: Engine) -> int:
    pool = engine.pool
    return pool.checkedout() if isinstance(pool, QueuePool) else 0


def _parsed(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise ConfigError("state.url is not a database URL", hint='e.g. "sqlite:///var/state.db"') from error
    name = url.get_backend_name()
    if name not in {"sqlite", "postgresql"} or (name == "sqlite" and url.database in {None, "", ":memory:"}):
        raise ConfigError("state.url must be a SQLite file or PostgreSQL", hint='e.g. "sqlite:///var/state.db"')
    return url.set(drivername="postgresql+psycopg") if name == "postgresql" else url


def _make_empty(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        raise InterlockError(f"{path} exists already", hint="move it away first, or name another file") from None
    except OSError as error:
        raise UnavailableError(f"cannot write {path}: {error.strerror}") from error


def _uri(path: Path) -> str:
    # mode=rw: a missing file is an error, never silently a new empty state.
    return f"file:{quote(str(path.absolute()))}?mode=rw"


def _sqlite_engines(path: Path) -> tuple[Engine, Engine]:
    def engine(begin: str, pragmas: tuple[str, ...], **pool: Any) -> Engine:
        url = URL.create("sqlite", database=_uri(path), query={"uri": "true"})
        how = {"timeout": _BUSY_SECONDS, "isolation_level": None}
        made = create_engine(url, connect_args=how, hide_parameters=True, poolclass=QueuePool, **pool)

        @event.listens_for(made, "connect")
        def prepare(raw: sqlite3.Connection, _: object) -> None:
            for pragma in pragmas:
                raw.execute(pragma)

        @event.listens_for(made, "begin")
        def start(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        return made

    reader = engine("BEGIN", (*_PRAGMAS, "PRAGMA query_only = ON"), pool_size=4, max_overflow=-1)
    return reader, engine("BEGIN IMMEDIATE", _PRAGMAS, pool_size=1, max_overflow=0)


def tls_of(url: URL) -> dict[str, str]:
    """Return what makes libpq verify the server's certificate, unless the server is local or the URL decides."""
    local = not url.host or url.host.startswith("/") or url.host in {"localhost", "127.0.0.1", "::1"}
    if local or "sslmode" in url.query:
        return {}
    return {"sslmode": "verify-full"} | ({} if "sslrootcert" in url.query else {"sslrootcert": "system"})


def _postgres_engines(url: URL) -> tuple[Engine, Engine]:
    connect = {**tls_of(url), "connect_timeout": 10}
    try:
        writer = create_engine(url, hide_parameters=True, pool_pre_ping=True, connect_args=connect)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise ConfigError("PostgreSQL needs psycopg", hint="pip install 'guard-toolkit[postgres]'") from error
    return writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True), writer


def _rewrite(connection: Connection, table: str) -> int:
    """Write a table of PostgreSQL anew; return how many old rows had to be kept for somebody.

    VACUUM alone frees the space of removed rows, and leaves their bytes in it.
    """
    said: list[str] = []
    raw: Any = connection.connection.dbapi_connection

    def hear(diagnostic: Any) -> None:
        said.append(diagnostic.message_detail or "")

    raw.add_notice_handler(hear)
    try:
        connection.exec_driver_sql(f"VACUUM (FULL, VERBOSE) {connection.dialect.identifier_preparer.quote(table)}")
    finally:
        raw.remove_notice_handler(hear)
    return sum(int(found[1]) for detail in said if (found := _KEPT.match(detail)))


def _explain_sqlite(error: sqlite3.Error, where: str) -> GuardError | None:
    name = getattr(error, "sqlite_errorname", "").removeprefix("SQLITE_").split("_")[0]
    match name:
        case "CORRUPT" | "NOTADB":
            return TamperedError(f"{where} is malformed", hint="keep the file as it is and restore state from a backup")
        case "BUSY" | "LOCKED":
            return BusyError(f"{where} is locked by another process", hint="try again, with --wait if it takes longer")
        case "FULL":
            return UnavailableError(f"no space left for {where}", hint="free some disk space; nothing was written")
        case "READONLY" | "CANTOPEN" | "PERM" | "AUTH":
            return UnavailableError(
                f"{where} cannot be opened or written", hint="check the modes of the file and its folder"
            )
        case "IOERR" | "NOLFS":
            return UnavailableError(f"the disk failed while {where} was used")
        case _:
            return None


def _explain_postgres(error: DBAPIError, where: str) -> GuardError | None:
    state = getattr(error.orig, "sqlstate", None) or ""
    if state in {"55P03", "40001", "40P01"}:  # lock not available, serialization failure, deadlock
        return BusyError(f"{where} is locked by another process", hint="try again, with --wait if it takes longer")
    if state in {"XX001", "XX002"}:  # data corrupted, index corrupted
        return TamperedError(f"{where} is malformed", hint="keep it as it is and restore state from a backup")
    if state == "25006":
        return UnavailableError(f"{where} cannot be written", hint="check that it is the primary, not a standby")
    if state[:2] in {"08", "28", "3D", "53", "57", "58"} or (not state and _lost(error)):
        return UnavailableError(f"{where} does not answer", hint="check that the server runs and lets guard in")
    return None


def _lost(error: DBAPIError) -> bool:
    return error.connection_invalidated or type(error).__name__ in {"OperationalError", "InterfaceError"}
