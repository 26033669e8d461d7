"""Count what lies in a column: plain, sealed, NULL, and what is no text at all."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guard.fields.plan import Counts
from guard.fields.value import PREFIX
from guard.shop import Shop, Table
from guard.shop.catalog import Sort


def count(shop: Shop, connection: Connection, table: Table, name: str) -> Counts:
    """Return the counts of `table`.`name` as this connection sees them."""
    clause = shop.clause(table)
    column = clause.c[name]
    text, sealed, size = _tests(shop, table, name, column)
    plain = sa.and_(text, sa.not_(sealed))
    query = sa.select(
        sa.func.count(),
        _total(column.is_(None)),
        _total(plain),
        _total(sa.and_(text, sealed)),
        _total(sa.and_(column.is_not(None), sa.not_(text))),
        sa.func.coalesce(sa.func.sum(sa.case((plain, size), else_=0)), 0),
        sa.func.coalesce(sa.func.max(sa.case((plain, size), else_=0)), 0),
        _total(sa.or_(sa.false(), *(clause.c[key].is_(None) for key in table.key))),
    ).select_from(clause)
    return Counts(*(int(number) for number in connection.execute(query).one()))


def _tests(
    shop: Shop, table: Table, name: str, column: sa.ColumnClause[Any]
) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool], sa.ColumnElement[Any]]:
    """Return the conditions "is text" and "begins as sealed", and the bytes of a text."""
    if shop.dialect == "sqlite":
        head = sa.func.substr(column, 1, len(PREFIX)) == PREFIX
        return sa.func.typeof(column) == "text", head, sa.func.length(sa.cast(column, sa.LargeBinary))
    if table.column(name).sort is not Sort.TEXT:
        return sa.false(), sa.false(), sa.literal(0)
    return (
        column.is_not(None),
        sa.func.left(sa.cast(column, sa.Text), len(PREFIX)) == PREFIX,
        sa.func.octet_length(column),
    )


def _total(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)
