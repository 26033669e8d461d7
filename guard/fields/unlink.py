"""Make a shredded person's rows impossible to find by what is gone: their blind tokens become random bytes.

Not NULL: the database refuses a sealed value without a token where the column is unique, and a sweep that fills in
missing tokens could never fill these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guard import faults
from guard.canon import KeyPart, key_bytes
from guard.crypto import random
from guard.fields.person import Owner, rows_of
from guard.fields.store import IndexRecord, Record
from guard.shop import Shop, Table, progress
from guard.shop.rows import Key

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Linked:
    """A table in which a person's rows can be found by tokens."""

    table: str
    tokens: tuple[IndexRecord, ...]
    way: Owner


def linked(records: Iterable[Record], indexes: Sequence[IndexRecord], ways: Mapping[int, Owner]) -> list[Linked]:
    """Return the tables with token columns for the columns of `records`, whose ways to the person are given by id."""
    found: dict[str, Linked] = {}
    for record in records:
        tokens = tuple(each for each in indexes if each.column_id == record.column_id)
        table = record.at.partition(".")[0]
        if tokens:
            before = found[table].tokens if table in found else ()
            found[table] = Linked(table, (*before, *tokens), ways[record.column_id])
    return list(found.values())


def unlink(shop: Shop, bracket: progress.Bracket, places: Sequence[Linked], person: KeyPart) -> int:
    """Put random bytes in place of the tokens in all rows about `person`; return how many rows there were.

    One transaction of the shop with its mark; doing it again does no harm.
    """
    if not places:
        return 0
    tables, total = shop.tables(fresh=True), 0
    with shop.begin() as connection:
        progress.begin(shop, connection, bracket)
        for number, place in enumerate(places, 1):
            rows = rows_of(shop, connection, tables[place.table], place.way, person)
            for at in range(0, len(rows), _BATCH):
                _replace(shop, connection, place, tables[place.table], rows[at : at + _BATCH])
            if rows:
                mark = progress.Batch(key_bytes(rows[0]), key_bytes(rows[-1]), len(rows))
                progress.note(shop, connection, bracket, number, mark)
            total += len(rows)
        progress.end(shop, connection, bracket)
        faults.point("fields.unlink.written")
    return total


def _replace(shop: Shop, connection: Connection, place: Linked, table: Table, rows: Sequence[Key]) -> None:
    """Replace the tokens of `rows` that have one, each by bytes of its own."""
    names = [column.name for column in table.columns] + [token.name for token in place.tokens]
    clause = sa.table(table.name, *map(sa.column, dict.fromkeys(names)), schema=shop.schema)
    here = [clause.c[name] == sa.bindparam(f"k{at}") for at, name in enumerate(table.key)]
    for token in place.tokens:
        statement = sa.update(clause).where(*here, clause.c[token.name].is_not(None))
        statement = statement.values({token.name: sa.bindparam("t")})
        fresh: list[Mapping[str, object]] = [
            {"t": random.token(token.size), **{f"k{at}": part for at, part in enumerate(key)}} for key in rows
        ]
        connection.execute(statement, fresh)
