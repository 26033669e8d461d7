"""guard's one table in the shop: how far each run has come, written in the transaction that changed the rows.

A *bracket* is one run (its run id) at one *work* (e.g. "encrypt 17"). Its head row has number 0; batches count from 1.
A work may be shared by several, each with a range of keys of its own ("encrypt 17.1"). After a crash `resolve` tells
from the shop alone what became of a run. docs/FORMATS.md, section "The shop's table".
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Connection

from guard.shop.connect import Shop

NAME = "guard_progress"
_WORD = 64
_SHARES = re.compile(r"(\.[0-9]+)*")


class Stand(StrEnum):
    """How a row of the table stands."""

    ANNOUNCED = "announced"
    """A work that its run has not begun."""
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
class Range:
    """Rows behind `after`, up to and with `upto`, both canonical keys; None where the table begins or ends."""

    after: bytes | None = None
    upto: bytes | None = None


WHOLE = Range()


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


_BINARY = mysql.VARCHAR(_WORD, charset="utf8mb4", collation="utf8mb4_bin")
_EXACT = sa.String(_WORD).with_variant(_BINARY, "mysql", "mariadb")
"""A name that is told from one in other letters, wherever the database stands."""


@lru_cache
def _table(schema: str | None) -> sa.Table:
    return sa.Table(
        NAME,
        sa.MetaData(),
        sa.Column("bracket", sa.String(_WORD), primary_key=True),
        sa.Column("work", _EXACT, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("first_key", sa.Text),
        sa.Column("last_key", sa.Text),
        sa.Column("row_count", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(_WORD)),
        sa.Column("state", sa.String(16), nullable=False),
        schema=schema,
    )


def _made(shop: Shop, connection: Connection) -> sa.Table:
    """Return the table, which is made now when it is missing."""
    table = _table(shop.schema)
    table.create(connection, checkfirst=True)
    return table


def _exists(shop: Shop, connection: Connection) -> bool:
    return sa.inspect(connection).has_table(NAME, schema=shop.schema)


def announce(shop: Shop, connection: Connection, run: str, works: Iterable[str]) -> None:
    """Write the heads of all works of a run before its first, so that one killed between two is not taken for done."""
    table = _made(shop, connection)
    for work in works:
        connection.execute(sa.insert(table).values(_head(Bracket(run, work), Stand.ANNOUNCED)))


def _head(bracket: Bracket, state: Stand, part: Range = WHOLE) -> dict[str, object]:
    return {
        "bracket": bracket.run,
        "work": bracket.work,
        "number": 0,
        "first_key": part.after.hex() if part.after is not None else None,
        "last_key": part.upto.hex() if part.upto is not None else None,
        "row_count": 0,
        "state": state,
    }


def begin(shop: Shop, connection: Connection, bracket: Bracket, part: Range = WHOLE) -> None:
    """Open a bracket over a range of keys, making the table when it is missing."""
    table = _made(shop, connection)
    connection.execute(sa.delete(table).where(_is_head(table, bracket)))  # where the run was announced
    connection.execute(sa.insert(table).values(_head(bracket, Stand.OPEN, part)))


def take_over(shop: Shop, connection: Connection, work: str) -> tuple[Range, ...]:
    """Return the ranges that earlier runs left at `work`, alone or shared, and mark them as left.

    Each goes on behind the last batch that was committed in it. A work that was announced only left nothing.
    """
    table = _made(shop, connection)
    mine = sa.and_(table.c.work.in_(_names(connection, table, work)), table.c.number == 0)
    opened = connection.execute(sa.select(table).where(mine, table.c.state == Stand.OPEN)).all()
    unfinished = table.c.state.in_((Stand.OPEN, Stand.ANNOUNCED))
    connection.execute(sa.update(table).where(mine, unfinished).values(state=Stand.LEFT))
    return tuple(
        Range(
            _last_key(connection, table, Bracket(head.bracket, head.work)) or _bytes(head.first_key),
            _bytes(head.last_key),
        )
        for head in sorted(opened, key=lambda head: (head.bracket, head.work))
    )


def share(
    shop: Shop, connection: Connection, bracket: Bracket, ranges: Sequence[Range]
) -> tuple[tuple[Bracket, Range], ...]:
    """Open a bracket for each range of a work: its own for one, else one with a number for each.

    With several the work's own head is announced: it begins when they are done.
    """
    if len(ranges) == 1:
        begin(shop, connection, bracket, ranges[0])
        return ((bracket, ranges[0]),)
    table = _made(shop, connection)
    connection.execute(sa.delete(table).where(_is_head(table, bracket)))
    connection.execute(sa.insert(table).values(_head(bracket, Stand.ANNOUNCED)))
    parts = tuple((Bracket(bracket.run, f"{bracket.work}.{number}"), part) for number, part in enumerate(ranges, 1))
    for mine, part in parts:
        begin(shop, connection, mine, part)
    return parts


def _last_key(connection: Connection, table: sa.Table, bracket: Bracket) -> bytes | None:
    """Return the canonical key of the last row of a bracket's newest batch; None when it has none."""
    query = sa.select(table.c.last_key).where(
        table.c.bracket == bracket.run, table.c.work == bracket.work, table.c.number > 0
    )
    return _bytes(connection.execute(query.order_by(table.c.number.desc()).limit(1)).scalar())


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
    connection.execute(sa.insert(_table(shop.schema)), row)


def end(shop: Shop, connection: Connection, bracket: Bracket, *, forget: Iterable[str] = ()) -> None:
    """Close a bracket. `forget` names works whose batches mean nothing any more; their heads are kept."""
    table = _table(shop.schema)
    connection.execute(sa.update(table).where(_is_head(table, bracket)).values(state=Stand.CLOSED))
    for work in forget:
        names = _names(connection, table, work)
        connection.execute(sa.delete(table).where(table.c.work.in_(names), table.c.number > 0))


def total(shop: Shop, connection: Connection, work: str) -> Total:
    """Return what all batches of `work`, alone or shared, add up to, over all runs since they were last forgotten."""
    if not _exists(shop, connection):
        return Total(0, 0, 0)
    table = _table(shop.schema)
    rows = connection.execute(
        sa.select(table.c.row_count, table.c.digest).where(
            table.c.work.in_(_names(connection, table, work)), table.c.number > 0
        )
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


def _names(connection: Connection, table: sa.Table, work: str) -> list[str]:
    """Return the names under which `work` stands in the table: its own, and those of its shares."""
    begins = sa.or_(table.c.work == work, table.c.work.startswith(f"{work}.", autoescape=True))
    found = connection.execute(sa.select(table.c.work).where(begins).distinct()).scalars()
    return [name for name in found if _SHARES.fullmatch(name.removeprefix(work))]


def _is_head(table: sa.Table, bracket: Bracket) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.bracket == bracket.run, table.c.work == bracket.work, table.c.number == 0)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)
