"""Turn a column: from plain to sealed and back, or to another key. State is told before the shop is touched."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from guard import faults
from guard.config import Column
from guard.events import Progress, RunId
from guard.fields import index, store
from guard.fields.batch import Direction
from guard.fields.count import longest
from guard.fields.kinds import Form, declared, form_of, kind_of
from guard.fields.lease import SEEN
from guard.fields.measure import sealed_size
from guard.fields.pace import Times
from guard.fields.person import owner
from guard.fields.store import IndexRecord, Record, Stage
from guard.fields.sweep import Outcome, Tools, carry_out, job_of, work_of, works_of
from guard.fields.value import purpose
from guard.shop import alter, progress
from guard.shop.catalog import Table
from guard.shop.progress import Bracket
from guard.state import Tx

_NO_KEY = 0
_MOMENT = 27
"""Bytes a date and time takes inside a seal, however the database writes it. FORMATS 2, type 5."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What became of one column. `left` are values that still need work, `rows` those this run changed."""

    at: str
    rows: int
    left: int
    record: Record = field(repr=False)
    note: str | None = None
    times: Times = field(default_factory=Times)
    """How long the transactions took; the shop may have waited for rows of theirs."""
    workers: int = 1
    """Processes that shared the column."""


def seal_column(tools: Tools, column: Column, run: RunId, tell: Progress, expected: int | None = None) -> Swept:
    """Seal every plain value of a column (about `expected`), and re-key what other keys of it sealed.

    Goes on where an interrupted run stopped: building the index, widening, sealing, re-keying.
    """
    record = _prepared(tools, column, run, tell)
    bracket = Bracket(run, work_of(Direction.SEAL, column.id))
    indexes = _indexes(tools, column.id)
    done = carry_out(tools, job_of(tools, record, Direction.SEAL, indexes), bracket, tell, expected)
    rekeyed = _rekey(tools, record, run, tell) if _has_old_keys(tools, record) else None
    faults.point("fields.column.swept")
    with tools.shop.begin() as connection:
        progress.end(tools.shop, connection, bracket)
        total = progress.total(tools.shop, connection, bracket.work)
    faults.point("fields.column.ended")
    record = replace(record, rows=total.rows, digest=f"{total.digest:064x}", changed_at=tools.clock.now())
    left = done.left + (rekeyed.left if rekeyed else 0)
    if not left and record.stage is Stage.SEALING:
        record = replace(record, stage=Stage.SEALED)
    rows = done.rows + (rekeyed.rows if rekeyed else 0)
    return Swept(column.at, rows, left, record, _orphans(record, done), done.times, done.workers)


def open_column(tools: Tools, column: Column, run: RunId, tell: Progress) -> Swept:
    """Put every sealed value of a column back into plain, take its index away, and give it its own type back."""
    indexes = _indexes(tools, column.id)
    if indexes:  # before writers are told to write in plain, which the fence would refuse
        alter.unguard(tools.shop, tools.shop.table(column.table), column.name)
        faults.point("fields.column.unguarded")
    record = replace(_known(tools, column.id), stage=Stage.OPENING)
    _remember(tools, record)
    faults.point("fields.column.remembered")
    tools.clock.sleep(SEEN)
    bracket = Bracket(run, work_of(Direction.OPEN, column.id))
    done = carry_out(tools, job_of(tools, record, Direction.OPEN), bracket, tell)
    faults.point("fields.column.swept")
    note = f"{column.at}: {done.left} values were shredded and cannot be opened" if done.passed else None
    if not done.left:
        index.remove(tools, column, record)
        tools.shop.forget()
        note = _narrowed(tools, column, record)
    with tools.shop.begin() as connection:
        progress.end(tools.shop, connection, bracket, forget=() if done.left else works_of(column.id))
    faults.point("fields.column.ended")
    stage = Stage.OPENING if done.left else Stage.PLAIN
    record = replace(record, stage=stage, rows=None, digest=None, changed_at=tools.clock.now())
    return Swept(column.at, done.rows, done.left, record, note, done.times, done.workers)


def rekey_column(tools: Tools, column: Column, run: RunId, tell: Progress) -> Swept:
    """Seal again what other keys of the column sealed, under the one that seals now. Digests are of values: they stay.

    Where each person has a key there is nothing to do.
    """
    record = _known(tools, column.id)
    if record.subject is not None:
        return Swept(column.at, 0, 0, record)
    record = replace(record, key_id=_key_id(tools, record))
    _remember(tools, record)
    faults.point("fields.column.remembered")
    done = _rekey(tools, record, run, tell)
    return Swept(column.at, done.rows, done.left, record, times=done.times, workers=done.workers)


def _rekey(tools: Tools, record: Record, run: RunId, tell: Progress) -> Outcome:
    bracket = Bracket(run, work_of(Direction.REKEY, record.column_id))
    done = carry_out(tools, job_of(tools, record, Direction.REKEY), bracket, tell)
    with tools.shop.begin() as connection:
        progress.end(tools.shop, connection, bracket, forget=() if done.left else (bracket.work,))
    return done


# Before the first value is sealed -------------------------------------------------------------------------------------


def _prepared(tools: Tools, column: Column, run: RunId, tell: Progress) -> Record:
    """Remember what sealing needs to know, build the index, widen the column; from then on writers seal."""
    table = tools.shop.table(column.table)
    with tools.state.read() as tx:
        known = store.find(tx, column.id)
    if known is None or known.stage is Stage.PLAIN:
        record = _fresh(tools, column, table)
    else:
        record = replace(known, at=column.at, tight=column.tight)
    record = replace(record, key_id=_key_id(tools, record))
    _remember(tools, record)
    faults.point("fields.column.remembered")
    if column.index is not None:
        index.prepare(tools, column, record, run, tell)
    if record.original_type is not None:
        alter.widen(tools.shop, tools.shop.table(column.table), column.name, _longest(tools, record))
    faults.point("fields.column.widened")
    if record.stage is not Stage.INDEXING:
        return record
    record = replace(record, stage=Stage.SEALING, changed_at=tools.clock.now())
    _remember(tools, record)
    faults.point("fields.column.sealing")
    if column.index is not None:
        tools.clock.sleep(SEEN)
        index.prepare(tools, column, record, run, tell)  # from now on plain values are refused where they are unique
    return record


def _fresh(tools: Tools, column: Column, table: Table) -> Record:
    shop, found = tools.shop, table.column(column.name)
    kind = owner(shop.tables(), tools.catalog, column).kind if column.bind == "subject" else None
    return Record(
        column.id,
        column.at,
        Stage.INDEXING,
        column.bind,
        table.key,
        alter.original(shop, table, column.name),
        _NO_KEY,
        tools.clock.now(),
        form=form_of(shop.dialect, found),
        kind=kind_of(shop.dialect, found),
        tight=column.tight,
        subject=kind,
        class_=column.class_ if kind else None,
    )


def _longest(tools: Tools, record: Record) -> int:
    """Return the characters (bytes in a binary column) that the longest value takes once sealed: what is there, and
    what the column's own length lets the shop write later.
    """
    table_name, _, name = record.at.partition(".")
    table = tools.shop.table(table_name)
    with tools.shop.read() as connection:
        found = longest(tools.shop, connection, table, name)
    column = table.column(name)  # wider than the shop declared it, where a run was here before
    length = declared(tools.shop.dialect, column, record.original_type).length if record.original_type else None
    each = 1 if record.form is Form.BINARY else 4  # bytes of a character in UTF-8
    moment = _MOMENT if record.kind == "datetime" else 0
    return sealed_size(max(found, (length or 0) * each, moment), tight=record.tight, binary=record.form is Form.BINARY)


def _key_id(tools: Tools, record: Record) -> int:
    if record.subject is not None:
        return _NO_KEY
    return tools.keyring.ensure(purpose(record.column_id, tight=record.tight)).id


def _has_old_keys(tools: Tools, record: Record) -> bool:
    return record.subject is None and len(tools.keys.opening(record)) > 1


# Afterwards -----------------------------------------------------------------------------------------------------------


def _orphans(record: Record, done: Outcome) -> str | None:
    if not done.passed:
        return None
    return f"{record.at}: {done.passed} rows lead to no {record.subject}, so there is no key to seal them under"


def _narrowed(tools: Tools, column: Column, record: Record) -> str | None:
    """Give the column its own type back; say why not when its values do not allow it."""
    if record.original_type is None:
        return None
    table = tools.shop.table(column.table)
    why = alter.narrow(tools.shop, table, column.name, record.original_type)
    faults.point("fields.column.narrowed")
    return None if why is None else f"{column.at} stays {table.column(column.name).type}: {why}"


def _indexes(tools: Tools, column_id: int) -> tuple[IndexRecord, ...]:
    with tools.state.read() as tx:
        return store.indexes(tx, column_id)


def _known(tools: Tools, column_id: int) -> Record:
    with tools.state.read() as tx:
        record = store.find(tx, column_id)
    if record is None:
        raise LookupError(column_id)
    return record


def _remember(tools: Tools, record: Record) -> None:
    def work(tx: Tx) -> None:
        store.keep(tx, record)

    tools.state.write(work)
