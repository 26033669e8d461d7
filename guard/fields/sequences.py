"""The keys of rows before they are inserted, so that their values can be sealed for them at once.

What the shop's own Python or a sequence gives is asked for; on PostgreSQL also what the database would put there by
itself. A number that is not used is lost, as always with sequences.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

_MOST = 1000
"""How many numbers are asked for at a time, at most."""

_DEFAULT = sa.text("""
SELECT a.attidentity AS identity, pg_get_expr(d.adbin, d.adrelid) AS expression,
  pg_get_serial_sequence(:table, :column) AS sequence
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = CAST(:table AS regclass) AND a.attname = :column
""")

_known: WeakKeyDictionary[Engine, dict[sa.Column[Any], str | None]] = WeakKeyDictionary()


def next_values(connection: Connection, column: sa.Column[Any], count: int) -> list[Any]:
    """Return up to `count` values for a column of a key, at least one; none where only an INSERT gives them."""
    default = column.default
    if default is not None and (connection.dialect.supports_sequences or not default.is_sequence):
        return [connection.scalar(default)]
    if connection.dialect.name != "postgresql":
        return []
    expression = _expression(connection, column)
    if expression is None:
        return []
    query = sa.text(f"SELECT {expression} FROM generate_series(1, :count)".replace("\\:", ":"))  # noqa: S608  # the schema's own
    return list(connection.scalars(query, {"count": min(max(count, 1), _MOST)}))


def _expression(connection: Connection, column: sa.Column[Any]) -> str | None:
    """Return what PostgreSQL would put there, as SQL that can be selected; None where nobody else may say it."""
    known = _known.setdefault(connection.engine, {})
    if column not in known:
        table: Any = column.table
        place = connection.dialect.identifier_preparer.format_table(table)
        row = connection.execute(_DEFAULT, {"table": place, "column": column.name}).one_or_none()
        known[column] = None if row is None or row.identity == "a" else _selectable(row.expression, row.sequence)
    return known[column]


def _selectable(expression: str | None, sequence: str | None) -> str | None:
    sql = expression or (f"nextval('{sequence}')" if sequence else None)
    return None if sql is None else sql.replace(":", "\\:")
