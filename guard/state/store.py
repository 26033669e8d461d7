"""`State`: the facade of guard's own database."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar
from uuid import UUID, uuid4

from sqlalchemy import MetaData, bindparam, delete, insert, inspect, select, update

from guard.clock import Clock, stamp
from guard.errors import ConfigError, InterlockError, TamperedError
from guard.events import Event
from guard.state import move, runs
from guard.state.db import Database, Tx
from guard.state.runs import OpenRun
from guard.state.schema import COMMIT, META, METADATA, MIGRATIONS, VERSION, Migration, due, version_of
from guard.state.writer import Append, Writer

T = TypeVar("T")

_SET = update(META).where(META.c.name == bindparam("fact")).values(value=bindparam("now"))


class Meta:
    """Small facts of state, a text each, e.g. whether this store is a demo."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str, tx: Tx | None = None) -> str | None:
        """Return the fact `name`; None when it was never set. Reads in `tx` when it is given."""
        query = select(META.c.value).where(META.c.name == name)
        if tx is not None:
            return tx.scalar(query)
        with self._database.read() as own:
            return own.scalar(query)

    def set(self, tx: Tx, name: str, value: str) -> None:
        """Set the fact `name` in a work's transaction."""
        if not tx.execute(_SET, {"fact": name, "now": value}).rowcount:
            tx.execute(insert(META), {"name": name, "value": value})

    def remove(self, tx: Tx, name: str) -> None:
        """Forget the fact `name` in a work's transaction."""
        tx.execute(delete(META).where(META.c.name == name))


class State:
    """Guard's own database. Reads see a snapshot; all writes go through one writer."""

    metadata: MetaData = METADATA

    def __init__(self, database: Database, clock: Clock, store_id: UUID) -> None:
        self.clock = clock
        self.store_id = store_id
        self.meta = Meta(database)
        self._database = database
        self._writer = Writer(database, clock)

    @classmethod
    def create(cls, url: str, clock: Clock, store_id: UUID | None = None) -> "State":
        """Make a new state with all tables of METADATA, and open it. Raises InterlockError when there is one."""
        database = Database(url)
        database.make_file()
        made = store_id or uuid4()
        try:
            _fill(database, clock, made)
        except BaseException:
            database.close()
            database.remove_file()
            raise
        return cls(database, clock, made)

    @classmethod
    def open(cls, url: str, clock: Clock) -> "State":
        """Open a state.

        Raises ConfigError when there is none, TamperedError when it is malformed, InterlockError when its schema is not
        this guard's, UnavailableError when it cannot be reached.
        """
        database = Database(url)
        try:
            return cls(database, clock, _identity(database))
        except BaseException:
            database.close()
            raise

    @property
    def path(self) -> Path | None:
        """The SQLite file; None on PostgreSQL."""
        return self._database.path

    @property
    def where(self) -> str:
        """The place of the database for messages, without its password."""
        return self._database.where

    @property
    def database(self) -> Database:
        """The engines, for tests and `doctor`."""
        return self._database

    def read(self) -> AbstractContextManager[Tx]:
        """Give a transaction that sees one snapshot and writes nothing."""
        return self._database.read()

    def write(self, work: Callable[[Tx], T], *events: Event) -> T:
        """Run `work` and record `events` in one transaction; return its result once that is safe on disk.

        Raises what the work raised (only that work is rolled back), ClockError when the clock went back,
        UnavailableError and BusyError when the database does not take it. `work` touches nothing but its transaction,
        for it may be run a second time after a rollback, and does not call `write`.
        """
        return self._writer.submit(work, events)

    def attach(self, append: Append) -> None:
        """Hand in the ledger's hook, called once a commit with all its events. Before that, events are refused."""
        self._writer.attach(append)

    @property
    def waiting(self) -> int:
        """How many writes wait for the writer's turn, for metrics."""
        return self._writer.waiting

    def open_runs(self) -> tuple[OpenRun, ...]:
        """Return the runs that have begun and not ended, oldest first."""
        with self.read() as tx:
            return runs.open_runs(tx)

    def stale_runs(self) -> tuple[OpenRun, ...]:
        """Return the open runs whose process is known to be gone."""
        return tuple(run for run in self.open_runs() if runs.is_gone(run))

    def copy_to(self, path: Path) -> None:
        """Write a consistent copy to `path`, a new SQLite file; of a state in PostgreSQL all tables of METADATA."""
        if self.path:
            self._database.copy_file(path)
        else:
            move.dump(self._database, path)

    def scrub(self, *tables: str) -> None:
        """Clear old versions of the rows of `tables` from the database's log. Raises BusyError while they are read."""
        self._database.scrub(*tables)

    def close(self) -> None:
        """Close every connection."""
        self._database.close()


def migrate(
    url: str, clock: Clock, migrations: Sequence[Migration] = MIGRATIONS, target: int = VERSION
) -> tuple[Migration, ...]:
    """Bring a state up to schema `target` in one transaction and return the steps that were taken.

    The database is copied first: SQLite to a file beside it, PostgreSQL to a schema beside its own, each named with the
    old version and the time. Raises InterlockError when state is newer than `target`.
    """
    database = Database(url)
    try:
        steps = due(found := _found(database), target, migrations)
        if not steps:
            return ()
        name = f"before_{target}_from_{found}_{clock.now():%Y%m%d%H%M%S}"
        if database.path:
            database.copy_file(database.path.with_name(f"{database.path.name}.{name}"))
        with database.explained(), database.writer.begin() as tx:
            if not database.path:
                _copy_tables(tx, f"guard_{name}")
            for step in steps:
                step.apply(tx)
            tx.execute(update(META).where(META.c.name == "schema").values(value=str(target)))
        return steps
    finally:
        database.close()


def _fill(database: Database, clock: Clock, store_id: UUID) -> None:
    facts = {"schema": str(VERSION), "store_id": str(store_id), "writer": "1"}
    first = {"generation": 0, "token": "created", "at": stamp(clock.now())}
    with database.explained(), database.writer.begin() as tx:
        if inspect(tx).has_table(META.name):
            raise InterlockError(f"there is a state at {database.where} already")
        METADATA.create_all(tx)
        tx.execute(insert(META), [{"name": name, "value": value} for name, value in facts.items()])
        tx.execute(insert(COMMIT), [first])


def _identity(database: Database) -> UUID:
    if due(_found(database), VERSION, MIGRATIONS):
        raise InterlockError(
            f"{database.where} was written by an older guard",
            hint="stop the daemon, then `guard state migrate` copies it and brings it up to date",
        )
    found = Meta(database).get("store_id")
    if found is None:
        raise TamperedError(f"{database.where} has lost its store id")
    return UUID(found)


def _found(database: Database) -> int:
    database.require_file()
    with database.read() as tx:
        found = version_of(tx) if inspect(tx).has_table(META.name) else None
    if found is None:
        raise ConfigError(
            f"{database.where} is not a state of guard",
            hint="correct state.url in guard.toml, or bring it back with `guard state restore`",
        )
    return found


def _copy_tables(tx: Tx, schema: str) -> None:
    quoted = tx.dialect.identifier_preparer.quote
    tx.exec_driver_sql(f"CREATE SCHEMA {quoted(schema)}")
    for name in inspect(tx).get_table_names():
        tx.exec_driver_sql(f"CREATE TABLE {quoted(schema)}.{quoted(name)} AS TABLE {quoted(name)}")
