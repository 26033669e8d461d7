"""Open the shop's database: SQLite, PostgreSQL, MariaDB or MySQL. Nothing here ever creates one.

Messages name the place without user and password, and never carry a value: the engine hides its parameters.
"""

import contextlib
import sqlite3
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, Connection, Engine, make_url

from guard.errors import ConfigError, UnavailableError
from guard.shop import _mysql, _mysql_level, _postgres, _sqlite
from guard.shop._explain import explained
from guard.shop._sizes import Size, sizes
from guard.shop.catalog import Table
from guard.shop.names import is_guards

_DIALECTS = {
    "sqlite": "sqlite",
    "postgres": "postgresql",
    "postgresql": "postgresql",
    "postgresql+psycopg": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
    "mysql+pymysql": "mysql",
    "mariadb+pymysql": "mysql",
}
_EXTRAS = {"postgresql": "postgres", "mysql": "mysql"}
_READERS: Mapping[str, Callable[[Connection, str | None], dict[str, Table]]] = MappingProxyType(
    {"sqlite": _sqlite.read_tables, "postgresql": _postgres.read_tables, "mysql": _mysql.read_tables}
)
_BUSY_MS = 5000


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a change of the schema waits for the table's lock, how often it tries, and how long it rests between.

    Behind a waiting change everybody else waits too: so it waits briefly, gives way, and tries again.
    """

    lock: timedelta = timedelta(seconds=5)
    tries: int = 5
    rest: timedelta = timedelta(seconds=1)


class Shop:
    """The shop's database, open. `dialect` is "sqlite", "postgresql" or "mysql"; `path` the SQLite file or None."""

    patience = Patience()
    tls = "verify"
    """How `connect` was told to prove the server's certificate."""

    def __init__(self, engine: Engine, dialect: str, schema: str | None, place: str) -> None:
        self.engine = engine
        self.dialect = dialect
        self.schema = schema
        self.place = place
        """Where it is, without user and password."""
        self.path = Path(engine.url.database or "") if dialect == "sqlite" else None
        self._tables: Mapping[str, Table] | None = None
        self._clauses: dict[Table, sa.TableClause] = {}

    @classmethod
    def connect(cls, url: str, schema: str | None = None, tls: str = "verify") -> "Shop":
        """Open the database at a SQLAlchemy URL and look whether it answers.

        `tls` "verify" (default) proves the server's certificate unless the server is on this host; "off" does not.
        Raises ConfigError for a wrong URL or a missing driver, UnavailableError when it does not answer.
        """
        parsed = _parse(url)
        dialect = _dialect(parsed)
        place = _place(parsed)
        engine = _engine(parsed, dialect, tls)
        shop = cls(engine, dialect, _schema(dialect, schema), place)
        shop.tls = tls
        try:
            with shop.read() as connection:
                connection.exec_driver_sql("SELECT 1 FROM sqlite_master" if dialect == "sqlite" else "SELECT 1")
        except BaseException:
            engine.dispose()
            raise
        return shop

    def tables(self, *, fresh: bool = False) -> Mapping[str, Table]:
        """Return every table by name, guard's own left out. Read once; `fresh` reads the schema again."""
        if self._tables is None or fresh:
            with self.read() as connection:
                found = _READERS[self.dialect](connection, self.schema)
            shops = (name for name in sorted(found) if name != "guard_progress" and not is_guards(name))
            self._tables = MappingProxyType({name: found[name] for name in shops})
        return self._tables

    def table(self, name: str) -> Table:
        """Return the table called `name`. Raises ConfigError when there is none."""
        if (found := self.tables().get(name)) is None:
            hidden = "it shows guard's account only tables it holds a grant for: GRANT SELECT; "
            raise ConfigError(
                f"the shop at {self.place} has no table {name}",
                hint=f"{hidden if self.dialect == 'mysql' else ''}`guard data scan` shows what the schema has now",
            )
        return found

    def sizes(self, names: Iterable[str]) -> dict[str, Size]:
        """Return how much room each of the tables `names` takes, and about how many rows it has."""
        with self.read() as connection:
            return sizes(connection, self.schema, names)

    def forget(self) -> None:
        """Read the schema again when it is next asked for: it was changed."""
        self._tables = None

    def clause(self, table: Table) -> sa.TableClause:
        """Return `table` for SQLAlchemy Core statements, with its token columns: quoted as needed, values raw."""
        if table not in self._clauses:  # one object for each table: parts of a statement must name the same
            names = (*(column.name for column in table.columns), *table.tokens)
            columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in names]
            self._clauses[table] = sa.table(table.name, *columns, schema=self.schema)
        return self._clauses[table]

    @contextlib.contextmanager
    def read(self, *, moment: bool = False) -> Iterator[Connection]:
        """Give a connection in a transaction that only reads; rolled back at the end.

        With `moment` all of it sees the shop as it was at the first statement, on every database and whatever the
        server's default: to be held for a moment only.
        """
        with self._told(), self.engine.connect() as connection:
            if self.dialect == "postgresql":
                connection.execution_options(postgresql_readonly=True)
            if moment and self.dialect != "sqlite":
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield connection
            connection.rollback()

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """Give a connection in a transaction that writes; committed at the end, rolled back on any error.

        It reads what is committed, statement by statement (on SQLite nobody else commits meanwhile), and locks the rows
        it writes and no others: see `locks_gaps`.
        """
        with self._told(), self.engine.connect() as connection:
            connection.execution_options(guard_write=True)
            with connection.begin():
                if self.dialect == "mysql":
                    _mysql_level.lower(connection)
                yield connection

    @contextlib.contextmanager
    def bare(self) -> Iterator[Connection]:
        """Give a connection in autocommit, for what refuses a transaction: VACUUM, checkpoints."""
        with self._told(), self.engine.connect() as connection:
            if self.dialect == "sqlite":
                connection.execution_options(guard_bare=True)  # each statement stands alone until BEGIN
            else:
                connection.execution_options(isolation_level="AUTOCOMMIT")
            yield connection

    def locks_gaps(self) -> bool:
        """Say whether what guard writes locks more than its own rows: only MariaDB, with a binlog of statements."""
        if self.dialect != "mysql":
            return False
        with self.read() as connection:
            return _mysql_level.locks_gaps(connection)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except exc.DBAPIError as error:
            raise explained(error, self.place) from error


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except (exc.ArgumentError, ValueError):
        raise ConfigError(
            "shop.url is not a database URL", hint="e.g. sqlite:///shop.db or postgresql://user@host/shop"
        ) from None


def _dialect(url: URL) -> str:
    if (dialect := _DIALECTS.get(url.drivername)) is None:
        raise ConfigError(
            f"shop.url: guard does not know {url.drivername}", hint="it knows sqlite, postgresql, mysql and mariadb"
        )
    return dialect


def _place(url: URL) -> str:
    if url.drivername == "sqlite":
        return url.database or ":memory:"
    host = url.host or str(url.query.get("host", "this host"))
    port = f":{url.port}" if url.port else ""
    return f"{host}{port}/{url.database or ''}"


def _schema(dialect: str, schema: str | None) -> str | None:
    return schema or ("public" if dialect == "postgresql" else None)


def _engine(url: URL, dialect: str, tls: str) -> Engine:
    if dialect == "sqlite":
        return _sqlite_engine(url)
    try:
        if dialect == "postgresql":
            return sa.create_engine(
                url.set(drivername="postgresql+psycopg"),
                connect_args=_postgres_args(url, tls),
                hide_parameters=True,
                pool_size=2,
            )
        return sa.create_engine(
            url.set(drivername="mysql+pymysql"), connect_args=_mysql_args(url, tls), hide_parameters=True
        )
    except ModuleNotFoundError as error:
        extra = _EXTRAS[dialect]
        raise ConfigError(
            f"the driver for {dialect} is not installed", hint=f"pip install 'guard-toolkit[{extra}]'"
        ) from error


def is_local(url: URL) -> bool:
    """Say whether the server is on this host: a Unix socket, or the loopback."""
    host = url.host or url.query.get("host") or ""
    return str(host) in {"", "localhost", "127.0.0.1", "::1"} or str(host).startswith(("/", "@"))


def _postgres_args(url: URL, tls: str) -> dict[str, object]:
    args: dict[str, object] = {"connect_timeout": 10, "application_name": "guard"}
    if tls != "verify" or is_local(url):
        return args
    if url.query.get("sslmode", "verify-full") != "verify-full":
        raise ConfigError(
            f"shop.url asks for sslmode={url.query['sslmode']}, but shop.tls says verify",
            hint='leave sslmode out of the URL, or say tls = "off" and accept that anybody between may read along',
        )
    args["sslmode"] = "verify-full"
    if "sslrootcert" not in url.query:
        args["sslrootcert"] = "system"
    return args


def _mysql_args(url: URL, tls: str) -> dict[str, object]:
    args: dict[str, object] = {"connect_timeout": 10, "charset": "utf8mb4"}
    if tls == "verify" and not is_local(url):
        args["ssl"] = ssl.create_default_context()
    return args


def _sqlite_engine(url: URL) -> Engine:
    path = Path(url.database or "")
    if not url.database or url.database == ":memory:":
        raise ConfigError("shop.url: an SQLite shop needs a file", hint="e.g. sqlite:///shop.db")
    if not path.is_file():
        raise UnavailableError(f"the shop's database {path} does not exist", hint="check shop.url in guard.toml")
    address = f"file:{quote(str(path))}?mode=rw"  # never creates one

    def connect() -> sqlite3.Connection:
        raw = sqlite3.connect(address, uri=True, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
        raw.execute("PRAGMA secure_delete = ON")  # what guard replaces is zeroed on its page
        return raw

    engine = sa.create_engine(url, creator=connect, hide_parameters=True)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get("guard_bare"):
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("guard_write") else "BEGIN")

    return engine
