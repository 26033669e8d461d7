"""How the values of a column spread under a normaliser, counted while the shop writes: without a long transaction.

Batches are read one after the other, so a value that goes from a row behind to a row ahead meanwhile is met twice.
Where the column is unique, what seems to fall together is therefore looked at again, all of it in one moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from guard.canon import all_key_bytes
from guard.config import Column
from guard.crypto.blind import normal
from guard.crypto.envelope import looks_sealed
from guard.fields.spread import Spread, Tally
from guard.fields.value import Cell
from guard.shop import Shop, Table
from guard.shop.rows import Key, Row, Scan, among, one_batch, typed_key

_BATCH: Final = 5000
_CHUNK: Final = 500
_FORMS: Final = 2000
"""So many forms that rows share are no accident of the moment: they are not looked at again."""

Values = list[tuple[Key, Any]]


@dataclass(frozen=True, slots=True)
class Source:
    """A column whose values are counted. `cell` opens what is sealed in it; None where nothing is."""

    shop: Shop
    table: Table
    column: Column
    key: tuple[str, ...] = ()
    """The order of the key's columns that sealed values are bound to."""
    cell: Cell | None = None

    @property
    def is_unique(self) -> bool:
        """Whether the shop's database keeps its values unique."""
        return any(index.unique and index.is_on(self.column.name) for index in self.table.indexes)


def spread(source: Source) -> Spread:
    """Count how the values spread under the column's normaliser. Raises TamperedError for what does not open."""
    tally = Tally()
    for values in _all(source):
        tally.add(_forms(source, values))
    found = tally.spread()
    if found.falling and source.is_unique:
        shared = tally.shared()
        if len(shared) <= _FORMS:
            return replace(found, distinct=found.values - _falling(source, tally, shared))
    return found


def _falling(source: Source, tally: Tally, shared: frozenset[int]) -> int:
    """Return how many rows hold a form that another one holds, of the forms `shared`, in one moment."""
    keys = [
        key
        for values in _all(source)
        for (key, _), form in zip(values, _forms(source, values), strict=True)
        if form is not None and tally.digest(form) in shared
    ]
    forms: list[bytes] = []
    with source.shop.read(moment=True) as connection:
        for start in range(0, len(keys), _CHUNK):
            values = _opened(source, _rows(source, connection, keys[start : start + _CHUNK]))
            forms += [form for form in _forms(source, values) if form is not None]
    return len(forms) - len(set(forms))


def _all(source: Source) -> Iterator[Values]:
    """Yield all values in batches, sealed ones opened; each batch is read in a transaction of its own."""
    scan, after = Scan(source.table, (source.column.name,), _BATCH, key=source.key), None
    while True:
        with source.shop.read() as connection:
            rows = one_batch(source.shop, connection, scan, after)
        if not rows:
            return
        yield _opened(source, rows)
        after = rows[-1].key


def _rows(source: Source, connection: sa.Connection, keys: Sequence[Key]) -> list[Row]:
    clause = source.shop.clause(source.table)
    columns = [clause.c[name] for name in source.key or source.table.key]
    query = sa.select(*columns, clause.c[source.column.name]).where(among(columns, keys))
    return [Row(typed_key(source.table, row[:-1]), (row[-1],)) for row in connection.execute(query).all()]


def _opened(source: Source, rows: Iterable[Row]) -> Values:
    """Return the values in clear, each with its key; NULLs are left out, sealed ones where nothing opens them."""
    there = [(row.key, row.values[0]) for row in rows if row.values[0] is not None]
    found = [(key, value) for key, value in there if not looks_sealed(value)]
    ours = [(key, value) for key, value in there if looks_sealed(value)]
    if source.cell is None or not ours:
        return found
    bounds = source.cell.bounds(all_key_bytes([key for key, _ in ours]))
    values = source.cell.open_each(bounds, [value for _, value in ours])
    return [*found, *((key, value) for (key, _), value in zip(ours, values, strict=True))]


def _forms(source: Source, values: Values) -> Iterator[bytes | None]:
    for _, value in values:
        try:
            yield normal(str(source.column.index), value)
        except TypeError:
            yield normal(str(source.column.index), str(value))
