"""The tables of the ledger and what is asked of them. docs/FORMATS.md, section 4."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    Select,
    Table,
    TableClause,
    Text,
    column,
    delete,
    false,
    func,
    insert,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from guard.clock import stamp
from guard.errors import TamperedError
from guard.state import METADATA, Tx

UnreadableError = SQLAlchemyError
"""What a damaged database raises while it is read; only this module knows the library."""

_PART = 256
"""Rows that are held at once where many are read."""

_Big = BigInteger().with_variant(Integer, "sqlite")

ENTRY = Table(
    "ledger_entry",
    METADATA,
    Column("n", _Big, primary_key=True, autoincrement=False),
    Column("leaf", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("at", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("subject", Text),
    Index("ledger_entry_what", "what"),
    Index("ledger_entry_run", "run"),
    Index("ledger_entry_subject", "subject", "what"),
)

NODE = Table(
    "ledger_node",
    METADATA,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("position", _Big, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

CHECKPOINT = Table(
    "ledger_checkpoint",
    METADATA,
    Column("size", _Big, primary_key=True, autoincrement=False),
    Column("kind", Text, primary_key=True),
    Column("note", Text, nullable=False),
    Index("ledger_checkpoint_kind", "kind"),
)

PAYLOAD = Table(
    "ledger_payload",
    METADATA,
    Column("n", _Big, primary_key=True, autoincrement=False),
    Column("sealed", LargeBinary, nullable=False),
)

PERSON = Table(
    "ledger_person",
    METADATA,
    Column("key", _Big, primary_key=True, autoincrement=False),
    Column("sealed", LargeBinary, nullable=False),
)

TAKEN = Table(
    "ledger_taken",
    METADATA,
    Column("source", Text, primary_key=True),
    Column("lines", _Big, nullable=False),
    Column("taken", _Big, nullable=False),
    Column("run", Text, nullable=False),
    Column("at", Text, nullable=False),
)

_SCHEMA = TableClause("sqlite_master", column("type"), column("name"), column("tbl_name"))

TABLES = (ENTRY, NODE, CHECKPOINT, PAYLOAD, PERSON, TAKEN)


class Kind(StrEnum):
    """Why a checkpoint is kept."""

    LATEST = "latest"
    HOURLY = "hourly"
    """The last one of an hour in which something was recorded."""
    ANCHORED = "anchored"
    CLOSED = "closed"
    """The last one of a log that a restore has closed."""
    REKEYED = "rekeyed"
    """The first one behind a change of key, signed by both."""


Row = tuple[int, bytes, bytes, str, str, str, str, str, str | None]
"""A row of ledger_entry, in the order of its columns."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which entries: those that fit everything that is given; times include `since` and exclude `until`."""

    since: datetime | None = None
    until: datetime | None = None
    who: str | tuple[str, ...] | None = None
    """A principal, or any of several."""
    what: str | None = None
    """An action; "fields.*" stands for all that begin with "fields."."""
    outcome: str | None = None
    run: str | None = None
    subject: str | None = None
    """A pseudonym, 32 hex characters."""
    after: int | None = None
    """Only entries behind the one with this number."""


def add_entries(tx: Tx, rows: Sequence[Row]) -> None:
    """Write entries. Raises TamperedError when one of their numbers is taken."""
    names = ENTRY.c.keys()
    try:
        tx.execute(insert(ENTRY), [dict(zip(names, row, strict=True)) for row in rows])
    except IntegrityError as error:
        raise TamperedError(f"ledger entry {rows[0][0]} or a later one exists without a checkpoint") from error


def add_nodes(tx: Tx, nodes: Sequence[tuple[int, int, bytes]]) -> None:
    """Write full subtrees as (level, position, hash)."""
    if nodes:
        tx.execute(insert(NODE), [{"level": level, "position": at, "hash": digest} for level, at, digest in nodes])


def latest(tx: Tx) -> tuple[int, str] | None:
    """Return size and note of the newest checkpoint; None when there is none. Raises TamperedError for several."""
    rows = tx.execute(select(CHECKPOINT).where(CHECKPOINT.c.kind == Kind.LATEST)).fetchall()
    if len(rows) > 1:
        raise TamperedError(f"the ledger has {len(rows)} newest checkpoints")
    return next((_checked(row)[::2] for row in rows), None)


def set_latest(tx: Tx, size: int, note: str) -> None:
    """Write the newest checkpoint over the one before."""
    found = tx.execute(update(CHECKPOINT).where(CHECKPOINT.c.kind == Kind.LATEST).values(size=size, note=note))
    if not found.rowcount:
        keep(tx, size, Kind.LATEST, note)


def keep(tx: Tx, size: int, kind: Kind, note: str) -> None:
    """Keep a checkpoint for good; one that is kept already stays as it is."""
    same = (CHECKPOINT.c.size == size) & (CHECKPOINT.c.kind == kind)
    if not tx.scalar(select(func.count()).where(same)):
        tx.execute(insert(CHECKPOINT).values(size=size, kind=kind.value, note=note))


def kept(tx: Tx, size: int, kind: Kind) -> str | None:
    """Return the kept checkpoint of a size and kind; None when there is none."""
    same = (CHECKPOINT.c.size == size) & (CHECKPOINT.c.kind == kind)
    return tx.scalar(select(CHECKPOINT.c.note).where(same))


def put_kept(tx: Tx, size: int, kind: Kind, note: str) -> None:
    """Keep a checkpoint, over the one of this size and kind that is kept."""
    same = (CHECKPOINT.c.size == size) & (CHECKPOINT.c.kind == kind)
    if not tx.execute(update(CHECKPOINT).where(same).values(note=note)).rowcount:
        keep(tx, size, kind, note)


def notes(tx: Tx, *kinds: Kind) -> list[str]:
    """Return the kept checkpoints of some kinds, those of the largest size first."""
    wanted = select(CHECKPOINT).where(CHECKPOINT.c.kind.in_(kinds)).order_by(CHECKPOINT.c.size.desc())
    return [_checked(row)[2] for row in tx.execute(wanted)]


def checkpoints(tx: Tx) -> list[tuple[int, str, str]]:
    """Return all kept checkpoints as (size, kind, note), smallest first. Raises TamperedError for what can be none."""
    rows = tx.execute(select(CHECKPOINT).order_by(CHECKPOINT.c.size, CHECKPOINT.c.kind))
    return [_checked(row) for row in rows]


def _checked(row: Any) -> tuple[int, str, str]:
    """Return size, kind and note of a kept checkpoint: SQLite takes a value of any type in any column."""
    size, kind, note = row.size, row.kind, row.note
    if not (isinstance(size, int) and size >= 0 and isinstance(kind, str) and isinstance(note, str)):
        raise TamperedError(f"the ledger keeps a checkpoint that is none: of {size!r} entries, of the kind {kind!r}")
    return size, kind, note


def subtree(tx: Tx, level: int, position: int) -> bytes:
    """Return the stored hash of a full subtree; level 0 is a leaf's. Raises TamperedError when it is missing."""
    if level:
        query = select(NODE.c.hash).where(NODE.c.level == level, NODE.c.position == position)
    else:
        query = select(ENTRY.c.hash).where(ENTRY.c.n == position)
    found = tx.scalar(query)
    if not isinstance(found, bytes) or len(found) != 32:
        first, last = position << level, (position + 1 << level) - 1
        raise TamperedError(f"the ledger has lost a hash over entries {first} to {last}")
    return found


def hashes(tx: Tx, places: Collection[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    """Return what is stored of the full subtrees at `places`, by (level, position); level 0 is a leaf's hash."""
    leaves = select(ENTRY.c.n, ENTRY.c.hash).where(ENTRY.c.n.in_([at for level, at in places if not level]))
    above = ((NODE.c.level == level) & (NODE.c.position == at) for level, at in places if level)
    nodes = select(NODE).where(or_(false(), *above))  # a list of pairs would be looked for in the whole table
    found = {(0, row.n): row.hash for row in tx.execute(leaves)}
    return found | {(row.level, row.position): row.hash for row in tx.execute(nodes)}


def last_leaf(tx: Tx) -> tuple[int, bytes] | None:
    """Return number and bytes of the last entry; None when there is none."""
    row = tx.execute(select(ENTRY.c.n, ENTRY.c.leaf).order_by(ENTRY.c.n.desc()).limit(1)).one_or_none()
    return None if row is None else (row.n, row.leaf)


def leaves(tx: Tx, query: Query, *, limit: int | None = None, newest: bool = False) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of the entries that fit, oldest first, or newest first; at most `limit`."""
    order = ENTRY.c.n.desc() if newest else ENTRY.c.n
    statement = _fitting(tx, query).order_by(order).limit(limit).execution_options(yield_per=1000)
    for row in tx.execute(statement):
        yield row.n, row.leaf


def _fitting(tx: Tx, query: Query) -> Select[tuple[int, bytes]]:
    found = select(ENTRY.c.n, ENTRY.c.leaf)
    if query.since:
        found = found.where(ENTRY.c.n >= first_since(tx, query.since), ENTRY.c.at >= stamp(query.since))
    if query.until:
        found = found.where(ENTRY.c.n < first_since(tx, query.until), ENTRY.c.at < stamp(query.until))
    if query.after is not None:
        found = found.where(ENTRY.c.n > query.after)
    if query.who is not None:
        found = found.where(ENTRY.c.who.in_((query.who,) if isinstance(query.who, str) else query.who))
    if query.what is not None and query.what.endswith(".*"):  # no range of texts: a collation may pass over the dot
        found = found.where(ENTRY.c.what.startswith(query.what[:-1], autoescape=True))
    what = None if query.what is not None and query.what.endswith(".*") else query.what
    same = {"what": what, "outcome": query.outcome, "run": query.run, "subject": query.subject}
    for name, value in same.items():
        if value is not None:
            found = found.where(ENTRY.c[name] == value)
    return found


def rows_from(tx: Tx, first: int, count: int, until: int | None = None) -> Sequence[Any]:
    """Return up to `count` rows of ledger_entry from number `first` up to and without `until`, in order."""
    return tx.execute(_from(first, count, until)).fetchall()


def parts_from(tx: Tx, first: int, count: int) -> Iterator[Sequence[Any]]:
    """Yield what `rows_from` returns, some rows at a time.

    So that rows are let go of before Python's garbage collector counts them as old: looking through all that is old
    cost a seventh of the time of a walk.
    """
    yield from tx.execute(_from(first, count)).partitions(_PART)


def _from(first: int, count: int, until: int | None = None) -> Select[Any]:
    within = ENTRY.c.n >= first if until is None else (ENTRY.c.n >= first) & (ENTRY.c.n < until)
    return select(ENTRY).where(within).order_by(ENTRY.c.n).limit(count)


def rows_called(tx: Tx, names: Collection[str], before: int) -> Sequence[Any]:
    """Return the rows of ledger_entry of these actions with numbers below `before`, in order."""
    fits = ENTRY.c.what.in_(names) & (ENTRY.c.n < before)
    return tx.execute(select(ENTRY).where(fits).order_by(ENTRY.c.n)).fetchall()


def first_since(tx: Tx, at: datetime) -> int:
    """Return the number of the first entry at or after a time; that of the next one to come where there is none.

    Entries are in the order of their times, which `walk` checks: an index on them would be more to keep and to verify.
    """
    last = last_leaf(tx)
    low, high = 0, last[0] + 1 if last else 0
    while low < high:
        middle = (low + high) // 2
        n, is_before = _told_from(tx, middle, ENTRY.c.at < stamp(at))
        low, high = (n + 1, high) if is_before else (low, middle)
    return _told_from(tx, low, null())[0] if last and low <= last[0] else low


def _told_from(tx: Tx, n: int, told: ColumnElement[Any]) -> tuple[int, Any]:
    """Return the number of the first entry from `n` on, and what is told of it."""
    found = tx.execute(select(ENTRY.c.n, told).where(ENTRY.c.n >= n).order_by(ENTRY.c.n).limit(1)).one()
    return found[0], found[1]


def blocks(tx: Tx, before: int, width: int) -> list[int]:
    """Return the numbers of the blocks of `width` entries that have one below `before`, in order."""
    return sorted(tx.scalars(select(ENTRY.c.n // width).where(ENTRY.c.n < before).distinct()))


def remove(tx: Tx, first: int, behind: int) -> None:
    """Remove the entries from `first` to before `behind`, their payloads, and the hashes within their blocks of 256."""
    for numbered in (ENTRY, PAYLOAD):
        tx.execute(delete(numbered).where(numbered.c.n >= first, numbered.c.n < behind))
    for level in range(1, 8):
        within = (NODE.c.position >= first >> level) & (NODE.c.position < behind >> level)
        tx.execute(delete(NODE).where(NODE.c.level == level, within))


def drop_kept(tx: Tx, size: int) -> None:
    """Remove the hourly and anchored checkpoints of fewer than `size` entries."""
    kinds = [Kind.HOURLY.value, Kind.ANCHORED.value]
    tx.execute(delete(CHECKPOINT).where(CHECKPOINT.c.size < size, CHECKPOINT.c.kind.in_(kinds)))


def first_unreadable(tx: Tx, first: int, count: int) -> int:
    """Return the first number from `first` on whose row cannot be read."""
    for n in range(first, first + count):
        try:
            tx.execute(select(ENTRY).where(ENTRY.c.n == n)).fetchall()
        except SQLAlchemyError:
            return n
    return first


def nodes_between(tx: Tx, level: int, first: int, last: int) -> list[tuple[int, bytes]]:
    """Return (position, hash) of the stored full subtrees of `level` from position `first` up to and without `last`."""
    within = (NODE.c.level == level) & (NODE.c.position >= first) & (NODE.c.position < last)
    found = select(NODE.c.position, NODE.c.hash).where(within).order_by(NODE.c.position)
    return [tuple(row) for part in tx.execute(found).partitions(_PART) for row in part]


def count_nodes(tx: Tx, first: int = 0) -> int:
    """Return how many full subtrees are stored; where `first` is not 0, of those that hold it or lie behind it."""
    if not first:
        return tx.scalar(select(func.count()).select_from(NODE)) or 0
    levels = range(1, 64)
    behind = (select(func.count()).where(NODE.c.level == each, NODE.c.position >= first >> each) for each in levels)
    return sum(tx.scalar(query) or 0 for query in behind)


def damage(tx: Tx) -> str | None:
    """Return the first thing SQLite finds wrong with the tables and indexes of the ledger; None when they are sound."""
    if tx.dialect.name != "sqlite":
        return None
    ours = func.lower(_SCHEMA.c.tbl_name).in_([table.name for table in TABLES])
    between = tx.execute(select(_SCHEMA).where(_SCHEMA.c.type.in_(["view", "trigger"]), ours)).first()
    if between is not None:
        return f"a {between.type} {between.name} stands between them and guard"
    for table in TABLES:
        found = tx.exec_driver_sql(f"PRAGMA integrity_check('{table.name}')").scalar()
        if found != "ok":
            return str(found)
    return None
