"""Rows by key: read in batches in the order of the primary key, so that a scan can stop and go on anywhere.

A key's parts are typed as `canon.key_bytes` wants them. A batch is read by "behind the last key", never by offset.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guard.canon import KeyPart
from guard.errors import InterlockError
from guard.shop.catalog import Sort, Table
from guard.shop.connect import Shop

Key = tuple[KeyPart, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its key, and the values that were asked for, in that order."""

    key: Key
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Scan:
    """What to read: `columns` of `table` in batches of `size` rows behind `after`, up to and with `upto`."""

    table: Table
    columns: tuple[str, ...]
    size: int = 1000
    after: Key | None = None
    upto: Key | None = None
    key: tuple[str, ...] = ()
    """The order of the key's columns; the table's own when empty."""

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The key's columns in the order of this scan."""
        return self.key or self.table.key


_EXACT = (Sort.INTEGER, Sort.TEXT, Sort.BINARY, Sort.OTHER)
_INEXACT = ("character(", "real", "double", "float")
"""Types that compare by another rule than the bytes the driver gives: blanks are cut, numbers rounded."""


def key_trouble(table: Table) -> str | None:
    """Say why the rows of `table` cannot be named by their primary key; None when they can."""
    if not table.key:
        return "it has no primary key"
    for name in table.key:
        column = table.column(name)
        if column.folded:
            return f"its key {name} does not tell upper from lower case"
        exact = column.sort in _EXACT or (
            column.sort is Sort.NUMBER and column.type.lower().startswith(("numeric", "dec"))
        )
        if not exact or column.type.lower().startswith(_INEXACT):
            return f"its key {name} is a {column.type}, which does not name a row exactly"
    return None


def typed_key(table: Table, parts: Sequence[object]) -> Key:
    """Return key parts as the driver gave them. Raises InterlockError for what cannot name a row exactly."""
    return typed_keys(table, [(part,) for part in parts])[0]


def typed_keys(table: Table, columns: Sequence[Sequence[Any]]) -> tuple[Key, ...]:
    """Return the keys whose parts are given column by column; the same as `typed_key` for each row, and fast."""
    return tuple(zip(*exact_parts(table, columns), strict=True))


def exact_parts(table: Table, columns: Sequence[Sequence[Any]]) -> Sequence[Sequence[KeyPart]]:
    """Return parts of keys, column by column, as they are. Raises InterlockError for what cannot name a row exactly."""
    for kind in {kind for column in columns for kind in set(map(type, column))}:
        if kind is bool or not issubclass(kind, int | str | bytes | UUID | Decimal):
            raise InterlockError(
                f"a row of {table.name} has a {kind.__name__} in its primary key",
                hint="only whole numbers, texts, UUIDs, decimals and bytes name a row exactly",
            )
    return columns


def batches(shop: Shop, connection: Connection, scan: Scan) -> Iterator[list[Row]]:
    """Yield the rows of `scan` in lists of at most `scan.size`, in the order of the key."""
    after = scan.after
    while batch := one_batch(shop, connection, scan, after):
        yield batch
        after = batch[-1].key


def one_batch(shop: Shop, connection: Connection, scan: Scan, after: Key | None) -> list[Row]:
    """Return the next rows behind `after`; an empty list at the end."""
    clause = shop.clause(scan.table)
    keys = [clause.c[name] for name in scan.key_columns]
    query = sa.select(*keys, *(clause.c[name] for name in scan.columns)).order_by(*keys).limit(scan.size)
    query = query.where(*within(keys, after, scan.upto))
    width = len(keys)
    return [Row(typed_key(scan.table, row[:width]), tuple(row[width:])) for row in connection.execute(query).all()]


Bound = Key | tuple[sa.BindParameter[Any], ...]
"""A key, or parameters that stand for one."""


def within(
    keys: Sequence[sa.ColumnClause[Any]], after: Bound | None, upto: Bound | None
) -> list[sa.ColumnElement[bool]]:
    """Return the conditions "behind `after`, up to and with `upto`" on a composite key."""
    found: list[sa.ColumnElement[bool]] = []
    if after is not None:
        found.append(_ordered(keys, after, behind=True))
    if upto is not None:
        found.append(_ordered(keys, upto, behind=False))
    return found


def _ordered(keys: Sequence[sa.ColumnClause[Any]], key: Bound, *, behind: bool) -> sa.ColumnElement[bool]:
    if len(keys) == 1:
        return keys[0] > key[0] if behind else keys[0] <= key[0]
    bound = sa.tuple_(*(part if isinstance(part, sa.BindParameter) else sa.literal(part) for part in key))
    return sa.tuple_(*keys) > bound if behind else sa.tuple_(*keys) <= bound


def among(keys: Sequence[sa.ColumnClause[Any]], wanted: Sequence[Key]) -> sa.ColumnElement[bool]:
    """Return the condition that picks the rows `wanted`."""
    return keys[0].in_([key[0] for key in wanted]) if len(keys) == 1 else sa.tuple_(*keys).in_(wanted)


def at_key(keys: Sequence[sa.ColumnClause[Any]], key: Key) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that name exactly the row `key`."""
    return [column == part for column, part in zip(keys, key, strict=True)]


def count(shop: Shop, connection: Connection, table: Table) -> int:
    """Return how many rows `table` has."""
    return int(connection.execute(sa.select(sa.func.count()).select_from(shop.clause(table))).scalar_one())


def cut(shop: Shop, connection: Connection, table: Table, key: Sequence[str], parts: int) -> list[Key]:
    """Return the keys at which `table` is cut into `parts` of about as many rows each; fewer when it has few rows."""
    if parts == 1:
        return []
    keys = [shop.clause(table).c[name] for name in key]
    each = -(-count(shop, connection, table) // parts)
    found: list[Key] = []
    for number in range(1, parts):
        row = connection.execute(sa.select(*keys).order_by(*keys).limit(1).offset(each * number - 1)).first()
        if row is not None:
            found.append(typed_key(table, row))
    return list(dict.fromkeys(found))
