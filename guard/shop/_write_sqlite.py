"""Write rows of SQLite: one UPDATE for each row, its statement prepared once.

A function of ours inside one UPDATE was measured as well: with the comparison it takes as long (1.1 to 1.5 us a row),
and it walks over all rows between those of a batch.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sqlalchemy.engine import Connection

from guard.shop._sql import quoted

if TYPE_CHECKING:
    from guard.shop.bulk import New, Old, Rewrite
    from guard.shop.connect import Shop
    from guard.shop.rows import Key

ERRORS: Final = (sqlite3.Error,)
"""What the driver raises while rows are fetched."""


class Writer:
    """Writes rows that still hold what they held, byte for byte and of the same storage class."""

    def __init__(self, shop: Shop, job: Rewrite, told: tuple[str, ...]) -> None:  # noqa: ARG002  # one file, no schema
        self._told = len(told)
        places = [f"?{place}" for place in range(1, 1 + len(job.sets) + len(job.key) + len(told))]
        sets = ", ".join(f"{quoted(name)} = {place}" for name, place in zip(job.sets, places, strict=False))
        row = [f"{quoted(name)} = {place}" for name, place in zip(job.key, places[len(job.sets) :], strict=False)]
        held = list(zip(map(quoted, told), places[len(job.sets) + len(job.key) :], strict=True))
        same = [f"{name} COLLATE BINARY IS {place}" for name, place in held]
        of_kind = [f"typeof({name}) = typeof({place})" for name, place in held]
        update = f"UPDATE {quoted(job.table.name)} SET {sets} WHERE "  # noqa: S608  # quoted
        self._sql = update + " AND ".join([*row, *same])
        self._numbers = update + " AND ".join([*row, *same, *of_kind])

    def write(self, connection: Connection, keys: Sequence[Key], held: Sequence[Old], new: Sequence[New]) -> int:
        """See `guard.shop.bulk.Writer`."""
        columns = (*zip(*new, strict=True), *zip(*keys, strict=True), *zip(*held, strict=True))
        kinds = {type(value) for column in columns[len(columns) - self._told :] for value in column}
        sql = self._sql if kinds <= _TOLD_APART else self._numbers
        return connection.exec_driver_sql(sql, list(zip(*columns, strict=True))).rowcount


_TOLD_APART: Final = frozenset({str, bytes})
"""Types whose values never equal one of another type; 1 and 1.0 do."""
