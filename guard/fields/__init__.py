"""Personal data sealed in the shop's own database: plan, seal, verify, finish, and open again.

A value is sealed for its row: moved to another row or column it does not open. This room changes the shop only by
sweeps that may end anywhere; the next run goes on. It does not decide which columns are personal; the catalog does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from guard.clock import Clock
from guard.config import Catalog, Column
from guard.crypto.budget import Budget
from guard.crypto.keyring import Keyring
from guard.crypto.subjects import SubjectKeys
from guard.errors import ConfigError, InterlockError, UnavailableError
from guard.events import Progress, RunId, silent
from guard.fields import finalize as _finalize
from guard.fields import read, store, turn
from guard.fields import search as _search
from guard.fields.batch import Direction
from guard.fields.count import count
from guard.fields.facts import Outside
from guard.fields.gather import Sight, budgets, seal_plan
from guard.fields.kinds import declared
from guard.fields.pace import Pace, Times
from guard.fields.person import make_keys
from guard.fields.plan import ColumnPlan, Counts, SealPlan, named
from guard.fields.read import Open, Reach, Seal, Tokens
from guard.fields.rebind_plan import Rebinding
from guard.fields.rename import follow
from guard.fields.search import Found, Searched
from guard.fields.status import ColumnStatus
from guard.fields.store import Filling, Record, Stage
from guard.fields.sweep import Tools, job_of, work_of
from guard.fields.turn import Swept
from guard.fields.uninstall import Leaving
from guard.fields.value import Cell, purposes
from guard.fields.verify import Check, verify_column
from guard.fields.whose import person_of
from guard.shop import Shop, Table
from guard.shop import progress as progress_table
from guard.shop.remains import Remains
from guard.shop.rename import Rename
from guard.state import State, Tx

__all__ = [
    "Check", "ColumnPlan", "ColumnStatus", "Counts", "Fields", "Finished", "Found", "Pace", "Record", "SealPlan",
    "Stage", "Swept", "Times",
]  # fmt: skip

_WHOLE = (Stage.SEALED, Stage.STRICT)


@dataclass(frozen=True, slots=True)
class Finished:
    """What finalizing did: the columns that refuse plaintext now, and where old plaintext may remain."""

    columns: tuple[Check, ...]
    remains: tuple[Remains, ...]


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
    outside: Outside = field(default_factory=Outside)
    """Other rooms, asked for a plan."""
    subjects: SubjectKeys | None = None
    """The keys of persons; None where there is no vault."""
    budget: Budget | None = None
    """What tight keys may still seal: one for each process."""

    def prepare(self) -> tuple[str, ...]:
        """Make the keys of all columns to be sealed that have none yet; return their purposes.

        Called when a catalog is accepted, so that the next backup of state holds them.
        """
        there = {key.purpose for key in self.keyring.list()}
        made = tuple(name for name in purposes(self.catalog) if name not in there)
        for name in made:
            self.keyring.ensure(name)
        return made

    def plan(self, columns: Sequence[str] = ()) -> SealPlan:
        """Return what sealing `columns` ("Table.Column"; all that the catalog wants sealed when empty) would do."""
        with self.state.read() as tx:
            records = {record.column_id: record for record in store.every(tx)}
            searched = {index.column_id: index.normaliser for index in store.indexes(tx)}
        keys, left = self._tools().keys, budgets(self.keyring, self.state)
        sight = Sight(self.shop, self.catalog, records, self.clock, self.outside, left, searched, keys.cell)
        return seal_plan(sight, columns, self._missing())

    def encrypt(self, plan: SealPlan, run: RunId, progress: Progress = silent, workers: int = 1) -> tuple[Swept, ...]:
        """Seal what `plan` says, and re-key what is left of a rotation; goes on where an interrupted run stopped.

        `workers` processes share each column.

        Raises InterlockError when the plan refuses a column, or when a recovery kit or a backup of state is missing.
        What it returns goes to `remember` in the transaction that records the end.
        """
        plan.require()
        self.prepare()
        bound = [column for column in map(self._column, (each.at for each in plan.columns)) if column.bind == "subject"]
        if bound and self.subjects is not None:
            make_keys(self.shop, self.catalog, self.subjects, bound)
        replace(plan, missing=self._missing()).require()
        tools = self._tools(workers)
        self._announce(run, [work_of(Direction.SEAL, each.id) for each in plan.columns])
        return tuple(turn.seal_column(tools, self._column(each.at), run, progress, each.seal) for each in plan.columns)

    def decrypt(
        self, columns: Sequence[str], run: RunId, progress: Progress = silent, workers: int = 1
    ) -> tuple[Swept, ...]:
        """Put `columns` back into plain text, with their own types. Raises ConfigError for one that is not sealed."""
        tools = self._tools(workers)
        self.shop.tables(fresh=True)
        chosen = [self._placed(at) for at in dict.fromkeys(columns)]
        self._announce(run, [work_of(Direction.OPEN, column.id) for column, _ in chosen])
        return tuple(turn.open_column(tools, column, run, progress) for column, _ in chosen)

    def rekey(self, at: str, run: RunId, progress: Progress = silent, workers: int = 1) -> Swept:
        """Seal what older keys of a column sealed under the one that seals now. Raises ConfigError for a plain one."""
        self.shop.tables(fresh=True)
        column, _ = self._placed(at)
        self._announce(run, [work_of(Direction.REKEY, column.id)])
        return turn.rekey_column(self._tools(workers), column, run, progress)

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
        tools = self._tools()
        with self.state.read() as tx:
            indexes = [index for index in store.indexes(tx) if index.stage is Filling.READY]
        jobs = [(job_of(tools, record, Direction.OPEN, indexes), record) for _, record in map(self._placed, names)]
        means = tools.keys.means()
        return tuple(verify_column(self.shop, job, Cell(job.spec, means), record, progress) for job, record in jobs)

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
        places = [(column.table, column.name) for column in (self.sealed(name)[0] for name in names)]
        return Finished(checks, _finalize.finish(self.shop, places, self.outside.copies))

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

    def renamed(self, rename: Rename) -> Callable[[Tx], None]:
        """Follow what the shop calls otherwise now; return the work that notes it. Sealed values open as before."""
        return follow(self.shop, self.state, rename)

    @property
    def rebinding(self) -> Rebinding:
        """What binds sealed values to changed primary keys."""
        return Rebinding(self._tools(), self.records())

    @property
    def leaving(self) -> Leaving:
        """What takes guard out of the shop's database."""
        return Leaving(self)

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
                    hint="renamed: guard data rename OLD NEW; another primary key: guard fields rebind TABLE",
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
