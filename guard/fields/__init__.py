"""Personal data sealed in the shop's own database: plan, seal, verify, finish, and open again.

A value is sealed for its row: moved to another row or column it does not open. This room changes the shop only by
sweeps that may end anywhere; the next run goes on. It does not decide which columns are personal; the catalog does.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from guard.clock import Clock
from guard.config import Catalog, Column
from guard.crypto.keyring import Keyring
from guard.errors import ConfigError, InterlockError, UnavailableError
from guard.events import Progress, RunId, silent
from guard.fields import finalize as _finalize
from guard.fields import read, store, sweep
from guard.fields.count import count
from guard.fields.plan import ColumnPlan, Counts, Facts, SealPlan, plan_column
from guard.fields.read import Open, Seal
from guard.fields.status import ColumnStatus
from guard.fields.store import Record, Stage
from guard.fields.sweep import Pace, Swept, Tools
from guard.fields.value import Cell, purpose
from guard.fields.verify import Check, verify_column
from guard.shop import Shop
from guard.shop import progress as progress_table
from guard.state import State, Tx

__all__ = [
    "Check", "ColumnPlan", "ColumnStatus", "Counts", "Fields", "Finished", "Pace", "Record", "SealPlan", "Stage",
    "Swept",
]  # fmt: skip

_WHOLE = (Stage.SEALED, Stage.STRICT)


@dataclass(frozen=True, slots=True)
class Finished:
    """What finalizing did: the columns that refuse plaintext now, and where old plaintext may remain."""

    columns: tuple[Check, ...]
    remains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fields:
    """The columns the catalog wants sealed.

    `ready` returns what is missing before anything may be sealed: a recovery kit, a backup of state newer than the last
    key. Empty means go.
    """

    shop: Shop
    catalog: Catalog
    keyring: Keyring
    state: State
    clock: Clock
    ready: Callable[[], tuple[str, ...]]
    pace: Pace = field(default_factory=Pace)

    def prepare(self) -> tuple[str, ...]:
        """Make the keys of all columns to be sealed that have none yet; return their purposes.

        Called when a catalog is accepted, so that the next backup of state holds them.
        """
        there = {key.purpose for key in self.keyring.list()}
        wanted = [purpose(column.id) for column in self.catalog.encrypted() if column.id]
        made = tuple(name for name in wanted if name not in there)
        for name in made:
            self.keyring.ensure(name)
        return made

    def plan(self, columns: Sequence[str] = ()) -> SealPlan:
        """Return what sealing `columns` ("Table.Column"; all that the catalog wants sealed when empty) would do."""
        tables = self.shop.tables(fresh=True)
        plans = []
        with self.state.read() as tx:
            records = {record.column_id: record for record in store.every(tx)}
        with self.shop.read() as connection:
            for column in self._wanted(columns):
                table = tables.get(column.table) or self.shop.table(column.table)
                table.column(column.name)
                counts = count(self.shop, connection, table, column.name)
                plans.append(plan_column(Facts(column, table, self.shop.dialect, counts, records.get(column.id))))
        return SealPlan(tuple(plans), self._missing())

    def encrypt(self, plan: SealPlan, run: RunId, progress: Progress = silent) -> tuple[Swept, ...]:
        """Seal what `plan` says; goes on where an interrupted run stopped.

        Raises InterlockError when the plan refuses a column, or when a recovery kit or a backup of state is missing.
        What it returns goes to `remember` in the transaction that records the end.
        """
        plan.require()
        self.prepare()
        replace(plan, missing=self._missing()).require()
        tools = self._tools()
        self._announce(run, [sweep.encrypting(each.id) for each in plan.columns])
        return tuple(sweep.seal_column(tools, self._column(each.at), each, run, progress) for each in plan.columns)

    def decrypt(self, columns: Sequence[str], run: RunId, progress: Progress = silent) -> tuple[Swept, ...]:
        """Put `columns` back into plain text, with their own types. Raises ConfigError for one that is not sealed."""
        tools = self._tools()
        self.shop.tables(fresh=True)
        chosen = [self._placed(at) for at in dict.fromkeys(columns)]
        self._announce(run, [sweep.decrypting(column.id) for column, _ in chosen])
        return tuple(sweep.open_column(tools, column, run, progress) for column, _ in chosen)

    def remember(self, swept: Sequence[Swept]) -> Callable[[Tx], None]:
        """Return the work that notes what became of columns."""

        def work(tx: Tx) -> None:
            for each in swept:
                store.keep(tx, each.record)

        return work

    def verify(self, columns: Sequence[str] = (), progress: Progress = silent) -> tuple[Check, ...]:
        """Open every sealed value of `columns` (all sealed ones when empty), and compare counts and digests.

        Raises TamperedError naming table, column and rows when a value was changed or moved.
        """
        names = columns or [record.at for record in self.records() if record.stage is not Stage.PLAIN]
        self.shop.tables(fresh=True)
        return tuple(
            verify_column(self.shop, self._cell(column), record, progress)
            for column, record in map(self._placed, names)
        )

    def verified(self, checks: Sequence[Check]) -> Callable[[Tx], None]:
        """Return the work that notes the columns of `checks` as verified now."""
        now = self.clock.now()
        ids = [self.sealed(check.at)[0].id for check in checks]

        def work(tx: Tx) -> None:
            for column_id in ids:
                store.note_verified(tx, column_id, now)

        return work

    def finalize(self, columns: Sequence[str] = (), progress: Progress = silent) -> Finished:
        """Verify `columns` (all sealed ones when empty), and clear old values from the database's file.

        What it returns goes to `finished`, which makes the columns refuse plaintext from then on. Raises InterlockError
        when one is not wholly sealed, BusyError while others read an old state.
        """
        names = columns or [record.at for record in self.records() if record.stage in _WHOLE]
        if not names:
            raise InterlockError("no column is sealed yet", hint="guard fields encrypt")
        checks = self.verify(names, progress)
        if open_ := [check.at for check in checks if check.plain or self.sealed(check.at)[1].stage not in _WHOLE]:
            raise InterlockError(
                f"not wholly sealed yet: {', '.join(open_)}", hint="guard fields encrypt goes on where it stopped"
            )
        tables = sorted({self.sealed(name)[0].table for name in names})
        return Finished(checks, _finalize.scrub(self.shop, tables))

    def finished(self, done: Finished) -> Callable[[Tx], None]:
        """Return the work that makes the columns of `done` strict."""
        now = self.clock.now()
        ids = [self.sealed(check.at)[0].id for check in done.columns]

        def work(tx: Tx) -> None:
            for column_id in ids:
                if (record := store.find(tx, column_id)) is not None:
                    store.keep(tx, replace(record, stage=Stage.STRICT, changed_at=now, verified_at=now))

        return work

    def status(self) -> tuple[ColumnStatus, ...]:
        """Return how each column the catalog wants sealed, or that still is, stands now."""
        self.shop.tables(fresh=True)
        records = {record.column_id: record for record in self.records() if record.stage is not Stage.PLAIN}
        wanted = {column.at: column for column in self.catalog.encrypted()}
        sealed = (self._of_record(record) for record in records.values())
        columns = {**{column.at: column for column in sealed}, **wanted}
        return tuple(self._status(column, records.get(column.id)) for column in columns.values())

    def opener(self, at: str) -> Open:
        """Return the function that reads values of "Table.Column": (key parts, stored) -> value."""
        column, record = self._find(at)
        return read.opener(self._cell(column), record.stage) if column and record else read.as_it_is

    def sealer(self, at: str) -> Seal:
        """Return the function that prepares values for "Table.Column": (key parts, value) -> what to store."""
        column, record = self._find(at)
        return read.sealer(self._cell(column), record.stage) if column and record else read.as_it_is

    def key_columns(self, at: str) -> tuple[str, ...]:
        """Return the order of key parts `opener` and `sealer` want for "Table.Column"."""
        column, record = self._find(at)
        return record.key_columns if column and record else self.shop.table(at.partition(".")[0]).key

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

    def _placed(self, at: str) -> tuple[Column, Record]:
        """Return a sealed column and its record. Raises InterlockError where its table, name or key is another now."""
        column, record = self.sealed(at)
        table = self.shop.tables().get(column.table)
        for name in (column.name, *record.key_columns):
            if table is None or table.find(name) is None:
                raise InterlockError(
                    f"{at} is sealed, but the shop has no column {column.table}.{name} any more",
                    hint="its values open only by the names and the key they had: give them back, then decrypt first",
                )
        return column, record

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
        return Column(at=known.at if known else record.at, id=record.column_id, bind=record.binding)

    def _status(self, column: Column, record: Record | None) -> ColumnStatus:
        state = record.stage.value if record else Stage.PLAIN.value
        key = f"{record.key_id:010x}" if record else None
        verified = record.verified_at if record else None
        try:
            table = self.shop.table(column.table)
            table.column(column.name)
        except ConfigError as error:
            return ColumnStatus(column.at, column.id, state, None, None, None, None, key, verified, str(error))
        with self.shop.read() as connection:
            found = count(self.shop, connection, table, column.name)
        plain = found.plain + found.other
        return ColumnStatus(column.at, column.id, state, found.rows, found.sealed, plain, found.nulls, key, verified)

    def _announce(self, run: RunId, works: Sequence[str]) -> None:
        with self.shop.begin() as connection:
            progress_table.announce(self.shop, connection, run, works)

    def _missing(self) -> tuple[str, ...]:
        """Return what `ready` says; a place it could not look at counts as missing."""
        try:
            return self.ready()
        except UnavailableError as error:
            return (f"a look at the backups: {error}",)

    def _wanted(self, columns: Sequence[str]) -> tuple[Column, ...]:
        if not columns:
            if not (wanted := self.catalog.encrypted()):
                raise ConfigError('the catalog has no column with protect = "encrypt"', hint="guard data scan")
            return wanted
        chosen = tuple(map(self._column, dict.fromkeys(columns)))
        for column in chosen:
            if column not in self.catalog.encrypted():
                raise ConfigError(
                    f'{column.at} does not have protect = "encrypt" in the catalog',
                    hint="write it in policies/catalog.toml, then guard data accept --from policies/catalog.toml",
                )
        return chosen

    def _column(self, at: str) -> Column:
        if (column := self.catalog.find(at)) is None:
            near = difflib.get_close_matches(at, [each.at for each in self.catalog.column], 1)
            hint = f"did you mean {near[0]}?" if near else "guard data catalog lists what is"
            raise ConfigError(f"{at} is not in the catalog", hint=hint)
        return column

    def _cell(self, column: Column) -> Cell:
        return Cell.of(column, self.state.store_id, self.keyring)

    def _tools(self) -> Tools:
        return Tools(self.shop, self.keyring, self.state, self.clock, self.pace)
