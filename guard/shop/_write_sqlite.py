"""Write rows of SQLite: an UPDATE from a list of a hundred rows, executed again and again.

Measured beside it, in us of a row: an UPDATE for each row 1.5, this 0.9, a function of ours inside one UPDATE 0.65; but
that one compares nothing, and walks over all rows between those of a batch.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.engine import Connection

from guard.shop._sql import quoted

if TYPE_CHECKING:
    from guard.shop.bulk import New, Old, Rewrite
    from guard.shop.connect import Shop
    from guard.shop.rows import Key

ERRORS: Final = (sqlite3.Error,)
"""What the driver raises while rows are fetched."""
_ROWS: Final = 100
_TOLD_APART: Final = frozenset({str, bytes})
"""Types whose values never equal one of another type; 1 and 1.0 do."""


class Writer:
    """Writes rows that still hold what they held, byte for byte and of the same storage class."""

    def __init__(self, shop: Shop, job: Rewrite, told: tuple[str, ...]) -> None:  # noqa: ARG002  # one file, no schema
        self._job = job
        self._told = told
        self._width = len(job.sets) + len(job.key) + len(told)

    def write(self, connection: Connection, keys: Sequence[Key], held: Sequence[Old], new: Sequence[New]) -> int:
        """See `guard.shop.bulk.Writer`."""
        columns = (*zip(*new, strict=True), *zip(*keys, strict=True), *zip(*held, strict=True))
        kinds = {type(value) for column in columns[self._width - len(self._told) :] for value in column}
        rows = list(zip(*columns, strict=True))
        whole = len(rows) - len(rows) % _ROWS
        given = [_flat(rows[start : start + _ROWS]) for start in range(0, whole, _ROWS)]
        hit = 0
        for count, parameters in ((_ROWS, given), (len(rows) - whole, [_flat(rows[whole:])])):
            if count and parameters:
                sql = self._sql(count, told_apart=kinds <= _TOLD_APART)
                hit += connection.exec_driver_sql(sql, parameters).rowcount
        return hit

    def _sql(self, rows: int, *, told_apart: bool) -> str:
        table = quoted(self._job.table.name)
        places = iter(range(1, self._width + 1))
        sets = ", ".join(f"{quoted(name)} = guard.column{next(places)}" for name in self._job.sets)
        same = [f"{table}.{quoted(name)} = guard.column{next(places)}" for name in self._job.key]
        for name, place in zip(self._told, places, strict=True):
            value = f"{table}.{quoted(name)}"
            same.append(f"{value} COLLATE BINARY IS guard.column{place}")
            same += [] if told_apart else [f"typeof({value}) = typeof(guard.column{place})"]
        row = f"({', '.join('?' * self._width)})"
        return f"UPDATE {table} SET {sets} FROM (VALUES {', '.join([row] * rows)}) AS guard WHERE {' AND '.join(same)}"  # noqa: S608  # quoted


def _flat(rows: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    return tuple(chain.from_iterable(rows))
