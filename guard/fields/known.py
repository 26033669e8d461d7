"""The sealed columns as catalog and state know them now: how each stands, and its single values, read and written.

What seals and opens whole columns is `guard.fields.Fields`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from guard.clock import Clock
from guard.config import Catalog, Column
from guard.crypto.budget import Budget
from guard.crypto.keyring import Keyring
from guard.crypto.subjects import SubjectKeys
from guard.errors import ConfigError
from guard.events import Progress
from guard.fields import read, store
from guard.fields import search as _search
from guard.fields.batch import Direction
from guard.fields.choice import named
from guard.fields.count import count
from guard.fields.facts import Outside
from guard.fields.kinds import declared
from guard.fields.lack import Lack
from guard.fields.pace import Pace
from guard.fields.read import Open, Reach, Seal, Tokens
from guard.fields.search import Found, Searched
from guard.fields.standing import amiss
from guard.fields.status import ColumnStatus
from guard.fields.store import Record, Stage
from guard.fields.sweep import Tools, job_of
from guard.fields.value import Cell
from guard.fields.whose import person_of
from guard.shop import Shop, Table, rows
from guard.state import State


@dataclass(frozen=True, slots=True)
class Known:
    """The columns the catalog wants sealed, and those that are.

    `lacks` returns what is missing before anything may be sealed: a recovery kit, a backup of state newer than the last
    key. Empty means go.
    """

    shop: Shop
    catalog: Catalog
    keyring: Keyring
    state: State
    clock: Clock
    lacks: Callable[[], tuple[Lack, ...]]
    pace: Pace = field(default_factory=Pace)
    outside: Outside = field(default_factory=Outside)
    """Other rooms, asked for a plan."""
    subjects: SubjectKeys | None = None
    """The keys of persons; None where there is no vault."""
    budget: Budget | None = None
    """What tight keys may still seal: one for each process."""

    def records(self) -> tuple[Record, ...]:
        """Return what is remembered of every column that ever was sealed."""
        with self.state.read() as tx:
            return store.every(tx)

    def sealed(self, at: str) -> tuple[Column, Record]:
        """Return a column and its record. Raises ConfigError when it is not sealed."""
        column, record = self._find(at)
        if column is None or record is None:
            raise ConfigError(f"{at} is not sealed", hint="guard fields status shows which columns are")
        return column, record

    def status(self) -> tuple[ColumnStatus, ...]:
        """Return how each column the catalog wants sealed, or that still is, stands now."""
        self.shop.tables(fresh=True)
        records = {record.column_id: record for record in self.records() if record.stage is not Stage.PLAIN}
        wanted = {column.at: column for column in self.catalog.encrypted()}
        sealed = (self._of_record(record) for record in records.values())
        columns = {**{column.at: column for column in sealed}, **wanted}
        return tuple(self._status(column, records.get(column.id)) for column in columns.values())

    def opener(self, at: str) -> Open:
        """Return the function that reads values of "Table.Column": (key parts, stored) -> value with its type."""
        _, record = self._find(at)
        return read.opener(self._reach(record)) if record else read.as_it_is

    def sealer(self, at: str) -> Seal:
        """Return the function that prepares values for "Table.Column": (key parts, value) -> what to store."""
        _, record = self._find(at)
        return read.sealer(self._reach(record)) if record else read.as_it_is

    def tokens(self, at: str) -> Tokens:
        """Return the token columns that are written with each value of "Table.Column", and what goes into them."""
        _, record = self._find(at)
        return read.tokens(self._reach(record)) if record else Tokens()

    def search(self, at: str, text: str) -> Found:
        """Return the keys of the rows of "Table.Column" whose value is `text`, as its index reads it.

        Raises ConfigError or InterlockError for a column that is not searchable, saying why.
        """
        self.shop.tables(fresh=True)
        found, record = self._find(at)
        column = self.catalog.find(at) or found or self._column(at)
        with self.state.read() as tx:
            indexes = store.indexes(tx, column.id)
        record = _search.searchable(column, record, indexes)
        keys = self._tools().keys
        return _search.search(Searched(self.shop, column, record, indexes, keys, self.opener(at)), text)

    def declared(self, tables: Mapping[str, Table]) -> dict[str, Table]:
        """Return the shop's tables with the types that sealed columns had before they were widened."""
        found = dict(tables)
        for record in self.records():
            name, _, column = record.at.partition(".")
            if record.original_type is None or record.stage is Stage.PLAIN or name not in found:
                continue
            columns = tuple(
                declared(self.shop.dialect, each, record.original_type) if each.name == column else each
                for each in found[name].columns
            )
            found[name] = replace(found[name], columns=columns)
        return found

    def key_columns(self, at: str) -> tuple[str, ...]:
        """Return the order of key parts `opener` and `sealer` want for "Table.Column"."""
        column, record = self._find(at)
        return record.key_columns if column and record else self.shop.table(at.partition(".")[0]).key

    def _find(self, at: str) -> tuple[Column | None, Record | None]:
        """Return a column and its record. One that the catalog has lost, but that is sealed, is found all the same."""
        column = self.catalog.find(at)
        for record in self.records():
            if record.stage is not Stage.PLAIN and (record.column_id == column.id if column else record.at == at):
                return self._of_record(record), record
        return column, None

    def _of_record(self, record: Record) -> Column:
        """Return the column of a record as it was bound; its name is the catalog's, which follows renames."""
        known = next((column for column in self.catalog.column if column.id == record.column_id), None)
        at = known.at if known else record.at
        return Column(at=at, id=record.column_id, bind=record.binding, tight=record.tight)

    def _status(self, column: Column, record: Record | None) -> ColumnStatus:
        state = record.stage.value if record else Stage.PLAIN.value
        key = f"{record.key_id:010x}" if record and record.key_id else None
        verified = record.verified_at if record else None
        try:
            table = self.shop.table(column.table)
            table.column(column.name)
        except ConfigError as error:
            return ColumnStatus(column.at, column.id, state, None, None, None, None, key, verified, str(error))
        with self.shop.read() as connection:
            found = count(self.shop, connection, table, column.name)
        plain, trouble = found.plain + found.other, None
        if record is not None:
            with self.state.read() as tx:
                indexes = store.indexes(tx, column.id)
            trouble = "; ".join(amiss(self.shop, table, column.name, record, indexes)) or None
        return ColumnStatus(
            column.at, column.id, state, found.rows, found.sealed, plain, found.nulls, key, verified, trouble
        )

    def _column(self, at: str) -> Column:
        return named(self.catalog, at)

    def _reach(self, record: Record) -> Reach:
        tools = self._tools()
        with self.state.read() as tx:
            indexes = store.indexes(tx, record.column_id)
        if record.subject is None:
            return Reach(tools.keys.cell(record, indexes), record.stage)
        job = job_of(tools, record, Direction.OPEN, indexes)
        return Reach(Cell(job.spec, tools.keys.means()), record.stage, person_of(self.shop, job))

    def _tools(self, workers: int = 1) -> Tools:
        budget = self.budget or Budget(self.state)
        return Tools(
            self.shop, self.keyring, self.state, self.clock, self.pace, self.catalog, budget, self.subjects, workers
        )

    def _of_rows(self, table: Table, progress: Progress) -> Progress:
        """Return a progress that also tells how many rows `table` has now."""
        with self.shop.read() as connection:
            count = rows.count(self.shop, connection, table)

        def tell(what: str, done: int, total: int | None = None) -> None:
            progress(what, done, total or max(count, done))

        return tell
