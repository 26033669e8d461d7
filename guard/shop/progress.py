"""guard's one table in the shop: how far each run has come, written in the transaction that changed the rows.

A *bracket* is one run (its run id) at one *work* (e.g. "encrypt 17"). Its head row has number 0; batches count from 1.
After a crash `resolve` tells from the shop alone what became of a run. docs/FORMATS.md, section "The shop's table".
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guard.shop.connect import Shop

NAME = "guard_progress"
_WORD = 64


class Stand(StrEnum):
    """How a row of the table stands."""

    OPEN = "open"
    CLOSED = "closed"
    LEFT = "left"
    """Ended early; a later run went on where it stopped."""
    DONE = "done"
    """A batch; it was committed with its rows."""


class Resolution(StrEnum):
    """What became of a run."""

    DONE = "done"
    ROLLED_BACK = "rolled back"
    PARTLY = "partly"


@dataclass(frozen=True, slots=True)
class Batch:
    """One committed batch: canonical keys of its first and last row, how many rows, and their digest.

    `digest` is a sum mod 2^256 of keyed digests, None where the work takes none.
    """

    first: bytes
    last: bytes
    rows: int
    digest: int | None = None


@dataclass(frozen=True, slots=True)
class Bracket:
    """One run at one work."""

    run: str
    work: str


@dataclass(frozen=True, slots=True)
class Total:
    """What all batches of a work add up to."""

    batches: int
    rows: int
    digest: int


@dataclass(frozen=True, slots=True)
class Resolved:
    """What became of a run, by what the shop says."""

    state: Resolution
    rows: int


@lru_cache
def _table(schema: str | None) -> sa.Table:
    return sa.Table(
        NAME,
        sa.MetaData(),
        sa.Column("bracket", sa.String(_WORD), primary_key=True),
        sa.Column("work", sa.String(_WORD), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("first_key", sa.Text),
        sa.Column("last_key", sa.Text),
        sa.Column("row_count", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(_WORD)),
        sa.Column("state", sa.String(16), nullable=False),
        schema=schema,
    )


def _exists(shop: Shop, connection: Connection) -> bool:
    return sa.inspect(connection).has_table(NAME, schema=shop.schema)


def announce(shop: Shop, connection: Connection, run: str, works: Iterable[str]) -> None:
    """Write the heads of all works of a run before its first, so that one killed between two is not taken for done."""
    table = _table(shop.schema)
    table.create(connection, checkfirst=True)
    for work in works:
        connection.execute(sa.insert(table).values(_head(Bracket(run, work))))


def _head(bracket: Bracket) -> dict[str, object]:
    return {"bracket": bracket.run, "work": bracket.work, "number": 0, "row_count": 0, "state": Stand.OPEN}


def begin(shop: Shop, connection: Connection, bracket: Bracket) -> Batch | None:
    """Open a bracket, making the table when it is missing. Returns the last batch of the run it goes on from.

    A bracket that stands open for the same work was interrupted: it is marked as left, and this run goes on behind it.
    """
    table = _table(shop.schema)
    table.create(connection, checkfirst=True)
    mine = sa.and_(table.c.bracket == bracket.run, table.c.work == bracket.work, table.c.number == 0)
    connection.execute(sa.delete(table).where(mine))  # its head, where the run was announced
    heads = sa.and_(table.c.work == bracket.work, table.c.number == 0, table.c.state == Stand.OPEN)
    left = list(connection.execute(sa.select(table.c.bracket).where(heads)).scalars())
    connection.execute(sa.update(table).where(heads).values(state=Stand.LEFT))
    connection.execute(sa.insert(table).values(_head(bracket)))
    last = connection.execute(
        sa.select(table.c.first_key, table.c.last_key, table.c.row_count, table.c.digest)
        .where(table.c.work == bracket.work, table.c.bracket.in_(left), table.c.number > 0)
        .order_by(table.c.number.desc())
        .limit(1)
    ).first()
    if last is None:
        return None
    return Batch(bytes.fromhex(last[0]), bytes.fromhex(last[1]), last[2], int(last[3], 16) if last[3] else None)


def note(shop: Shop, connection: Connection, bracket: Bracket, number: int, batch: Batch) -> None:
    """Write down batch `number` (from 1) in the transaction that changed its rows."""
    row = {
        "bracket": bracket.run,
        "work": bracket.work,
        "number": number,
        "first_key": batch.first.hex(),
        "last_key": batch.last.hex(),
        "row_count": batch.rows,
        "digest": None if batch.digest is None else f"{batch.digest:064x}",
        "state": Stand.DONE,
    }
    connection.execute(sa.insert(_table(shop.schema)).values(row))


def end(shop: Shop, connection: Connection, bracket: Bracket, *, forget: Iterable[str] = ()) -> None:
    """Close a bracket. `forget` names works whose batches mean nothing any more; their heads are kept."""
    table = _table(shop.schema)
    mine = sa.and_(table.c.bracket == bracket.run, table.c.work == bracket.work, table.c.number == 0)
    connection.execute(sa.update(table).where(mine).values(state=Stand.CLOSED))
    if works := list(forget):
        connection.execute(sa.delete(table).where(table.c.work.in_(works), table.c.number > 0))


def total(shop: Shop, connection: Connection, work: str) -> Total:
    """Return what all batches of `work` add up to, over all runs since they were last forgotten."""
    if not _exists(shop, connection):
        return Total(0, 0, 0)
    table = _table(shop.schema)
    rows = connection.execute(
        sa.select(table.c.row_count, table.c.digest).where(table.c.work == work, table.c.number > 0)
    ).all()
    digest = sum(int(text, 16) for _, text in rows if text) % (1 << 256)
    return Total(len(rows), sum(count for count, _ in rows), digest)


def resolve(shop: Shop, run: str) -> Resolved:
    """Tell what became of a run: done, rolled back (nothing of it is in the shop) or partly, and its committed rows."""
    with shop.read() as connection:
        if not _exists(shop, connection):
            return Resolved(Resolution.ROLLED_BACK, 0)
        table = _table(shop.schema)
        found = connection.execute(
            sa.select(table.c.number, table.c.state, table.c.row_count).where(table.c.bracket == run)
        ).all()
    heads = {state for number, state, _ in found if number == 0}
    rows = sum(count for number, _, count in found if number)
    if not found:
        return Resolved(Resolution.ROLLED_BACK, 0)
    return Resolved(Resolution.DONE if heads == {Stand.CLOSED} else Resolution.PARTLY, rows)
