"""Seal or open a whole column in place, in short transactions, while the shop goes on writing.

Each batch changes its rows and notes itself in one transaction of the shop, so the next run goes on where one ended,
wherever that was (Ctrl-C, SIGKILL, power). State is told what is about to happen before the shop is touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guard.canon import key_bytes, parse_key
from guard.clock import Clock
from guard.config import Column
from guard.crypto.keyring import Keyring
from guard.errors import BusyError, TamperedError
from guard.events import Progress, RunId
from guard.fields.count import count
from guard.fields.plan import ColumnPlan
from guard.fields.store import Record, Stage, find, keep
from guard.fields.value import MODULUS, PREFIX, Cell, purpose
from guard.shop import Shop, Table, progress
from guard.shop.bulk import Changed, Rewrite, rewrite_batch
from guard.shop.progress import Batch, Bracket
from guard.shop.rows import Key
from guard.state import State, Tx

_PASSES = 5
"""How often the whole column is looked through for what the shop wrote in clear meanwhile."""
_RETRIES = 5


@dataclass(frozen=True, slots=True)
class Pace:
    """How many rows a batch has: as many as keep its transaction between `low` and `high`."""

    start: int = 1000
    least: int = 100
    most: int = 8000
    low: timedelta = timedelta(milliseconds=50)
    high: timedelta = timedelta(milliseconds=100)

    def next(self, size: int, took: timedelta) -> int:
        """Return the size of the batch after one of `size` rows that took `took`."""
        if took > self.high:
            return max(self.least, size // 2)
        if took < self.low:
            return min(self.most, size * 2)
        return size


@dataclass(frozen=True, slots=True)
class Tools:
    """What a sweep works with."""

    shop: Shop
    keyring: Keyring
    state: State
    clock: Clock
    pace: Pace = field(default_factory=Pace)


@dataclass(frozen=True, slots=True)
class Swept:
    """What became of one column. `left` are values that still need work, `rows` those this run changed."""

    at: str
    rows: int
    left: int
    record: Record = field(repr=False)
    note: str | None = None


def encrypting(column_id: int) -> str:
    """Return the name of the work "seal this column" in the shop's table of progress."""
    return f"encrypt {column_id}"


def decrypting(column_id: int) -> str:
    """Return the name of the work "open this column" in the shop's table of progress."""
    return f"decrypt {column_id}"


def seal_column(tools: Tools, column: Column, plan: ColumnPlan, run: RunId, tell: Progress) -> Swept:
    """Seal every plain text of a column. Goes on where an interrupted run stopped."""
    table = tools.shop.table(column.table)
    known = _known(tools.state, column.id)
    if known is None or known.stage is Stage.PLAIN:
        known = Record(column.id, column.at, Stage.SEALING, column.bind, table.key, plan.widen, 0, tools.clock.now())
    stage = Stage.STRICT if known.stage is Stage.STRICT else Stage.SEALING
    record = replace(known, at=column.at, stage=stage, key_id=tools.keyring.current(purpose(column.id)).id)
    _remember(tools.state, record)
    cell = Cell.of(column, tools.state.store_id, tools.keyring)
    sweep = _Sweep(tools, table, cell, record, Bracket(run, encrypting(column.id)))
    with tools.shop.begin() as connection:
        if plan.widen:
            _set_type(tools.shop, connection, column, _widened(plan.widen))
        last = progress.begin(tools.shop, connection, sweep.bracket)
    done = sweep.run(last, plan.seal, tell)
    with tools.shop.begin() as connection:
        left = count(tools.shop, connection, table, column.name).plain
        progress.end(tools.shop, connection, sweep.bracket)
        total = progress.total(tools.shop, connection, sweep.bracket.work)
    if plan.widen:
        tools.shop.tables(fresh=True)
    finished = replace(record, rows=total.rows, digest=f"{total.digest:064x}", changed_at=tools.clock.now())
    if not left and stage is Stage.SEALING:
        finished = replace(finished, stage=Stage.SEALED)
    return Swept(column.at, done, left, finished)


def open_column(tools: Tools, column: Column, run: RunId, tell: Progress) -> Swept:
    """Put every sealed value of a column back into plain text, and the column's own type with it."""
    table = tools.shop.table(column.table)
    known = _known(tools.state, column.id)
    if known is None:
        raise LookupError(column.id)
    record = replace(known, stage=Stage.OPENING)
    _remember(tools.state, record)
    cell = Cell.of(column, tools.state.store_id, tools.keyring)
    sweep = _Sweep(tools, table, cell, record, Bracket(run, decrypting(column.id)))
    with tools.shop.begin() as connection:
        last = progress.begin(tools.shop, connection, sweep.bracket)
        sealed = count(tools.shop, connection, table, column.name).sealed
    done = sweep.run(last, sealed, tell)
    note = None
    with tools.shop.begin() as connection:
        left = count(tools.shop, connection, table, column.name).sealed
        if not left and record.original_type:
            note = _restore_type(tools.shop, connection, column, record.original_type)
        progress.end(
            tools.shop,
            connection,
            sweep.bracket,
            forget=() if left else (encrypting(column.id), decrypting(column.id)),
        )
    if record.original_type:
        tools.shop.tables(fresh=True)
    stage = Stage.OPENING if left else Stage.PLAIN
    finished = replace(record, stage=stage, rows=None, digest=None, changed_at=tools.clock.now())
    return Swept(column.at, done, left, finished, note)


class _Sweep:
    """One column, one direction, one run."""

    def __init__(self, tools: Tools, table: Table, cell: Cell, record: Record, bracket: Bracket) -> None:
        self.tools = tools
        self.bracket = bracket
        self.cell = cell
        self._table = table
        self._opens = record.stage is Stage.OPENING
        self._digests: dict[Key, int] = {}
        self._number = 0
        self._job = Rewrite(
            table, cell.column.name, record.key_columns, PREFIX, begins=self._opens, change=self._change
        )

    def run(self, last: Batch | None, total: int, tell: Progress) -> int:
        """Go through the column until nothing is left to do; return how many values were changed.

        `last` is the batch behind which to go on. A pass after the first finds what the shop wrote meanwhile; a shop
        that never stops writing plain text is left after some passes.
        """
        done = 0
        tell(self.cell.column.at, 0, total)
        after = parse_key(last.last) if last else None
        for _ in range(_PASSES):
            found = 0
            for rows in self._batches(after):
                found += 1
                done += rows
                tell(self.cell.column.at, done, max(total, done))
            if not found and after is None:
                break
            after = None
        return done

    def _batches(self, after: Key | None) -> Iterator[int]:
        clock, pace = self.tools.clock, self.tools.pace
        size = pace.start
        while True:
            began = clock.now()
            changed = self._batch(after, size)
            if changed is None:
                return
            after = changed.keys[-1]
            size = pace.next(size, clock.now() - began)
            yield changed.rows

    def _batch(self, after: Key | None, size: int) -> Changed | None:
        """Change one batch and note it, in one transaction; several times where another writer is in the way."""
        for attempt in range(_RETRIES):
            try:
                return self._once(after, max(1, size >> attempt))
            except BusyError:
                if attempt == _RETRIES - 1:
                    raise
                self.tools.clock.sleep(timedelta(milliseconds=100 << attempt))
        return None

    def _once(self, after: Key | None, size: int) -> Changed | None:
        self._digests.clear()
        shop = self.tools.shop
        with shop.begin() as connection:
            changed = rewrite_batch(shop, connection, self._job, after, size)
            if changed is None:
                return None
            kept = [digest for key, digest in self._digests.items() if key not in changed.missed]
            first, last = key_bytes(changed.keys[0]), key_bytes(changed.keys[-1])
            batch = Batch(first, last, changed.rows, sum(kept) % MODULUS)
            progress.note(shop, connection, self.bracket, self._number + 1, batch)
        self._number += 1
        return changed

    def _change(self, key: Key, old: str) -> str:
        row = key_bytes(key)
        if not self._opens:
            self._digests[key] = self.cell.digest(row, old)
            return self.cell.seal(row, old)
        try:
            new = self.cell.open(row, old)
        except TamperedError as error:
            raise TamperedError(str(error), hint="guard fields verify says which rows; restore them first") from None
        self._digests[key] = self.cell.digest(row, new)
        return new


def _known(state: State, column_id: int) -> Record | None:
    with state.read() as tx:
        return find(tx, column_id)


def _remember(state: State, record: Record) -> None:
    def work(tx: Tx) -> None:
        keep(tx, record)

    state.write(work)


def _widened(original: str) -> str:
    _, collate, name = original.partition(" COLLATE ")
    return f"text{collate}{name}"


def _set_type(shop: Shop, connection: Connection, column: Column, to: str) -> None:
    """Change a column's type on PostgreSQL. `to` comes from the schema itself. Waits 5 s for the table's lock."""
    quote = connection.dialect.identifier_preparer.quote
    table = f"{quote(shop.schema or 'public')}.{quote(column.table)}"
    connection.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
    connection.exec_driver_sql(f"ALTER TABLE {table} ALTER COLUMN {quote(column.name)} TYPE {to}")


def _restore_type(shop: Shop, connection: Connection, column: Column, original: str) -> str | None:
    """Give a column its own type back; say why not when the shop wrote longer texts meanwhile or made a view of it."""
    table = shop.tables(fresh=True)[column.table]
    if not table.column(column.name).type.startswith("text"):
        return None  # it was never widened, or this was done before an interruption
    if reading := [view.name for view in table.views if column.name in view.columns]:
        return f"{column.at} stays text: the view {reading[0]} reads it"
    limit = original.partition("(")[2].partition(")")[0]
    clause = sa.table(column.table, sa.column(column.name), schema=shop.schema)
    longest = connection.execute(sa.select(sa.func.max(sa.func.char_length(clause.c[column.name])))).scalar() or 0
    if limit.isdecimal() and longest > int(limit):
        return f"{column.at} stays text: it holds texts longer than {original}"
    _set_type(shop, connection, column, original)
    return None
