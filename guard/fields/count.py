"""Count what lies in a column: plain, sealed, NULL; and under which keys."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guard.fields.facts import Counts
from guard.fields.value import MARK, key_id_in
from guard.shop import Shop, Table
from guard.shop.catalog import Sort
from guard.shop.due import begin, head

_TEXT_HEAD, _BINARY_HEAD = 13, 9
"""How much of a sealed value names its key: "g1." and 10 characters, or 67 31 and 7 bytes. FORMATS 2."""


def count(shop: Shop, connection: Connection, table: Table, name: str) -> Counts:
    """Return the counts of `table`.`name` as this connection sees them."""
    clause = shop.clause(table)
    column = clause.c[name]
    sealed = begin(shop, table, name, MARK)
    plain = sa.and_(column.is_not(None), sa.not_(sealed))
    size = _size(shop, table, name)
    query = sa.select(
        sa.func.count(),
        _total(column.is_(None)),
        _total(plain),
        _total(sealed),
        sa.literal(0),
        sa.func.coalesce(sa.func.sum(sa.case((plain, size), else_=0)), 0),
        sa.func.coalesce(sa.func.max(sa.case((plain, size), else_=0)), 0),
        _total(sa.or_(sa.false(), *(clause.c[key].is_(None) for key in table.key))),
    ).select_from(clause)
    return Counts(*(int(number) for number in connection.execute(query).one()))


def heads(shop: Shop, connection: Connection, table: Table, name: str) -> dict[int, int]:
    """Return how many sealed values name each key, by its id. Raises TamperedError for what is cut before its key."""
    column = shop.clause(table).c[name]
    found: dict[int, int] = {}
    for beginning, number in _beginnings(shop, connection, table, name, column):
        key_id = key_id_in(beginning)
        found[key_id] = found.get(key_id, 0) + number
    return found


def longest(shop: Shop, connection: Connection, table: Table, name: str) -> int:
    """Return the bytes of the longest value in plain; 0 when there is none."""
    size = sa.case((begin(shop, table, name, MARK), 0), else_=_size(shop, table, name))
    query = sa.select(sa.func.max(size)).select_from(shop.clause(table))
    return int(connection.execute(query).scalar() or 0)


def _beginnings(
    shop: Shop, connection: Connection, table: Table, name: str, column: sa.ColumnElement[Any]
) -> list[tuple[Any, int]]:
    first: sa.ColumnElement[Any] = head(shop, table, name, _TEXT_HEAD)
    if shop.dialect == "sqlite":
        first = sa.case((sa.func.typeof(column) == "blob", head(shop, table, name, _BINARY_HEAD)), else_=first)
    elif table.column(name).sort is Sort.BINARY:
        first = head(shop, table, name, _BINARY_HEAD)
    query = sa.select(first, sa.func.count()).where(begin(shop, table, name, MARK)).group_by(first)
    return [
        (beginning.decode("latin-1") if _is_text(beginning) else beginning, number)
        for beginning, number in connection.execute(query).all()
    ]


def _is_text(beginning: object) -> bool:
    return isinstance(beginning, bytes) and beginning.startswith(b"g1.") and len(beginning) == _TEXT_HEAD


def _size(shop: Shop, table: Table, name: str) -> sa.ColumnElement[Any]:
    """Return the bytes of a value; of what is no text, those of its text."""
    column: sa.ColumnElement[Any] = shop.clause(table).c[name]
    if shop.dialect == "sqlite":
        return sa.func.length(sa.cast(column, sa.LargeBinary))
    if shop.dialect == "postgresql" and table.column(name).sort is not Sort.BINARY:
        column = sa.cast(column, sa.Text)
    return sa.func.octet_length(column)


def _total(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)
