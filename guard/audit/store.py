"""The tables of the ledger and what is asked of them. docs/FORMATS.md, section 4."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    Select,
    Table,
    Text,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from guard.clock import stamp
from guard.errors import TamperedError
from guard.state import METADATA, Tx

UnreadableError = SQLAlchemyError
"""What a damaged database raises while it is read; only this module knows the library."""

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
    Index("ledger_entry_at", "at"),
    Index("ledger_entry_what", "what"),
    Index("ledger_entry_run", "run"),
    Index("ledger_entry_subject", "subject"),
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

TABLES = (ENTRY, NODE, CHECKPOINT, PAYLOAD, PERSON, TAKEN)


class Kind(StrEnum):
    """Why a checkpoint is kept."""

    LATEST = "latest"
    HOURLY = "hourly"
    """The last one of an hour in which something was recorded."""
    ANCHORED = "anchored"
    CLOSED = "closed"
    """The last one of a log that a restore has closed."""


Row = tuple[int, bytes, bytes, str, str, str, str, str, str | None]
"""A row of ledger_entry, in the order of its columns."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which entries: those that fit everything that is given; times include `since` and exclude `until`."""

    since: datetime | None = None
    until: datetime | None = None
    who: str | None = None
    what: str | None = None
    outcome: str | None = None
    run: str | None = None
    subject: str | None = None
    """A pseudonym, 32 hex characters."""


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
    """Return size and note of the newest checkpoint; None when there is none."""
    row = tx.execute(select(CHECKPOINT.c.size, CHECKPOINT.c.note).where(CHECKPOINT.c.kind == Kind.LATEST)).one_or_none()
    return None if row is None else (row.size, row.note)


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


def checkpoints(tx: Tx) -> list[tuple[int, str, str]]:
    """Return all kept checkpoints as (size, kind, note), smallest first."""
    rows = tx.execute(select(CHECKPOINT).order_by(CHECKPOINT.c.size, CHECKPOINT.c.kind))
    return [(row.size, row.kind, row.note) for row in rows]


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


def last_leaf(tx: Tx) -> tuple[int, bytes] | None:
    """Return number and bytes of the last entry; None when there is none."""
    row = tx.execute(select(ENTRY.c.n, ENTRY.c.leaf).order_by(ENTRY.c.n.desc()).limit(1)).one_or_none()
    return None if row is None else (row.n, row.leaf)


def leaves(tx: Tx, query: Query, *, limit: int | None = None, newest: bool = False) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of the entries that fit, oldest first, or newest first; at most `limit`."""
    order = ENTRY.c.n.desc() if newest else ENTRY.c.n
    statement = _fitting(query).order_by(order).limit(limit).execution_options(yield_per=1000)
    for row in tx.execute(statement):
        yield row.n, row.leaf


def _fitting(query: Query) -> Select[tuple[int, bytes]]:
    found = select(ENTRY.c.n, ENTRY.c.leaf)
    if query.since:
        found = found.where(ENTRY.c.at >= stamp(query.since))
    if query.until:
        found = found.where(ENTRY.c.at < stamp(query.until))
    same = {"who": query.who, "what": query.what, "outcome": query.outcome, "run": query.run, "subject": query.subject}
    for name, value in same.items():
        if value is not None:
            found = found.where(ENTRY.c[name] == value)
    return found


def rows_from(tx: Tx, first: int, count: int) -> Sequence[Any]:
    """Return up to `count` rows of ledger_entry from number `first` on, in order."""
    return tx.execute(select(ENTRY).where(ENTRY.c.n >= first).order_by(ENTRY.c.n).limit(count)).fetchall()


def first_unreadable(tx: Tx, first: int, count: int) -> int:
    """Return the first number from `first` on whose row cannot be read."""
    for n in range(first, first + count):
        try:
            tx.execute(select(ENTRY).where(ENTRY.c.n == n)).fetchall()
        except SQLAlchemyError:
            return n
    return first


def nodes_between(tx: Tx, level: int, first: int, last: int) -> Sequence[Any]:
    """Return (position, hash) of the stored full subtrees of `level` from position `first` up to and without `last`."""
    within = (NODE.c.level == level) & (NODE.c.position >= first) & (NODE.c.position < last)
    return tx.execute(select(NODE.c.position, NODE.c.hash).where(within).order_by(NODE.c.position)).fetchall()


def count_nodes(tx: Tx) -> int:
    """Return how many full subtrees are stored."""
    return tx.scalar(select(func.count()).select_from(NODE)) or 0


def damage(tx: Tx) -> str | None:
    """Return the first thing SQLite finds wrong with the tables and indexes of the ledger; None when they are sound."""
    if tx.dialect.name != "sqlite":
        return None
    for table in TABLES:
        found = tx.exec_driver_sql(f"PRAGMA integrity_check('{table.name}')").scalar()
        if found != "ok":
            return str(found)
    return None
