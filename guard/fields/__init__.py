"""Personal data sealed in the shop's own database: plan, seal, verify, finish, and open again.

A value is sealed for its row: moved to another row or column it does not open. This room changes the shop only by
sweeps that may end anywhere; the next run goes on. It does not decide which columns are personal; the catalog does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from guard import faults
from guard.config import Column
from guard.errors import ConfigError, InterlockError, UnavailableError
from guard.events import Progress, RunId, silent
from guard.fields import finalize as _finalize
from guard.fields import store, turn
from guard.fields.batch import Direction, Job
from guard.fields.gather import Sight, budgets, seal_plan
from guard.fields.known import Known
from guard.fields.lack import Lack, require_none
from guard.fields.pace import Pace, Times
from guard.fields.person import make_keys
from guard.fields.plan import ColumnPlan, Counts, SealPlan
from guard.fields.rebind_plan import Rebinding
from guard.fields.rename import follow
from guard.fields.search import Found
from guard.fields.standing import amiss
from guard.fields.status import ColumnStatus
from guard.fields.store import Filling, IndexRecord, Record, Stage
from guard.fields.sweep import job_of, work_of
from guard.fields.turn import Swept
from guard.fields.uninstall import Leaving
from guard.fields.value import Cell, purposes
from guard.fields.verify import Check, blaming, verify_column
from guard.shop import progress as progress_table
from guard.shop.remains import Remains
from guard.shop.rename import Rename
from guard.state import Tx

__all__ = [
    "Check", "ColumnPlan", "ColumnStatus", "Counts", "Fields", "Finished", "Found", "Pace", "Record", "SealPlan",
    "Stage", "Swept", "Times",
]  # fmt: skip

_WHOLE = (Stage.SEALED, Stage.STRICT)


def _by_hand() -> None:
    """Leave the backup of state to whoever has to make it."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What finalizing did: the columns that refuse plaintext now, and where old plaintext may remain."""

    columns: tuple[Check, ...]
    remains: tuple[Remains, ...]


@dataclass(frozen=True, slots=True)
class Fields(Known):
    """The columns the catalog wants sealed, and what seals, verifies, finishes and opens them."""

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
            indexes = store.indexes(tx)
        sight = Sight(
            self.shop,
            self.catalog,
            records,
            self.clock,
            self.outside,
            budgets(self.keyring, self.state),
            {index.column_id: index.normaliser for index in indexes},
            self._filled(indexes),
            self._tools().keys.cell,
        )
        return seal_plan(sight, columns, self._lacking())

    def encrypt(
        self,
        plan: SealPlan,
        run: RunId,
        progress: Progress = silent,
        workers: int = 1,
        save: Callable[[], object] = _by_hand,
    ) -> tuple[Swept, ...]:
        """Seal what `plan` says, and re-key what is left of a rotation; goes on where an interrupted run stopped.

        `workers` processes share each column. `save` is called once all keys are made: it lets a backup of state hold
        them.

        Raises InterlockError when the plan refuses a column, or when a recovery kit or a backup of state is missing
        after that. What it returns goes to `remember` in the transaction that records the end.
        """
        plan.require()
        self.prepare()
        bound = [column for column in map(self._column, (each.at for each in plan.columns)) if column.bind == "subject"]
        if bound and self.subjects is not None:
            make_keys(self.shop, self.catalog, self.subjects, bound)
        faults.point("fields.encrypt.keys")
        save()
        faults.point("fields.encrypt.saved")
        require_none(self._lacking())
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
        return tuple(self._checked(job, record, indexes, progress) for job, record in jobs)

    def _checked(self, job: Job, record: Record, indexes: Sequence[IndexRecord], progress: Progress) -> Check:
        cell = Cell(job.spec, self._tools().keys.means())
        harms = amiss(self.shop, job.table, job.column, record, indexes)
        with blaming(harms):
            check = verify_column(self.shop, job, cell, record, self._of_rows(job.table, progress))
        return replace(check, amiss=harms)

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

    def _announce(self, run: RunId, works: Sequence[str]) -> None:
        with self.shop.begin() as connection:
            progress_table.announce(self.shop, connection, run, works)

    def _lacking(self) -> tuple[Lack, ...]:
        """Return what `lacks` says; a place it could not look at counts as missing."""
        try:
            return self.lacks()
        except (ConfigError, UnavailableError) as error:
            return (Lack("a look at the backups", f"{error}; {error.hint}" if error.hint else str(error)),)

    def _filled(self, indexes: Sequence[IndexRecord]) -> frozenset[int]:
        """Return the columns whose values all have tokens under the current key of their index."""
        current = {key.id for key in self.keyring.list() if key.state == "current"}
        filling = {index.column_id for index in indexes if index.stage is Filling.FILLING}
        ready = {index.column_id for index in indexes if index.stage is Filling.READY and index.key_id in current}
        return frozenset(ready - filling)
