"""Open every sealed value of a column and compare what is there with what was sealed. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from guard.canon import key_bytes
from guard.crypto.envelope import looks_sealed
from guard.errors import TamperedError
from guard.events import Progress
from guard.fields.store import Record, Stage
from guard.fields.value import MODULUS, Cell
from guard.shop import Shop
from guard.shop.rows import Key, Row, Scan, one_batch

_NAMED = 10
"""How many broken rows an error names."""
_BATCH = 2000


@dataclass(frozen=True, slots=True)
class Check:
    """What was found in one column."""

    at: str
    rows: int
    opened: int
    """Sealed values; each one opened in its own row."""
    plain: int
    nulls: int
    expected: int | None
    """How many values the sweep sealed; None while it is not finished."""
    same: bool | None
    """Whether they are exactly those, by count and digest. No: rows were changed, added or deleted since."""
    proven: bool = False
    """Whether it was verified before, since it was last sealed: from then on a shop that lives changes its rows."""

    @property
    def clean(self) -> bool:
        """Whether all is sealed, and what was sealed was there when it was first looked at."""
        return not self.plain and (self.proven or self.same is not False)


def verify_column(shop: Shop, cell: Cell, record: Record, tell: Progress) -> Check:
    """Open every value of a column in its row.

    Raises TamperedError, naming table, column and the rows' places in the order of their key, when any does not open,
    and when a finished column holds plain text.
    """
    table = shop.table(cell.column.table)
    tally = _Tally(cell)
    for batch in _batches(shop, Scan(table, (cell.column.name,), _BATCH, key=record.key_columns)):
        tally.add(batch)
        tell(cell.column.at, tally.rows)
    if tally.broken:
        raise TamperedError(
            f"{cell.column.at}: {len(tally.broken)} of {tally.rows} values were changed or moved: row "
            + ", ".join(map(str, tally.broken[:_NAMED]))
            + (" and more" if len(tally.broken) > _NAMED else "")
            + f" in the order of {', '.join(record.key_columns)}",
            hint="restore these rows from a backup; until then nothing reads them",
        )
    if record.stage is Stage.STRICT and tally.plain:
        raise TamperedError(
            f"{cell.column.at} is finished, but holds {tally.plain} values in plain text",
            hint="somebody wrote past the seal; guard fields encrypt seals them",
        )
    finished = record.stage in {Stage.SEALED, Stage.STRICT}
    return Check(
        cell.column.at,
        tally.rows,
        tally.opened,
        tally.plain,
        tally.nulls,
        record.rows if finished else None,
        (tally.opened == record.rows and f"{tally.digest:064x}" == record.digest) if finished else None,
        record.verified_at is not None and record.verified_at >= record.changed_at,
    )


def _batches(shop: Shop, scan: Scan) -> Iterator[list[Row]]:
    """Yield the rows in batches, each read in a transaction of its own: a long one would keep the shop from writing."""
    after: Key | None = None
    while True:
        with shop.read() as connection:
            batch = one_batch(shop, connection, scan, after)
        if not batch:
            return
        yield batch
        after = batch[-1].key


class _Tally:
    """Counts and adds up as rows go by."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self.rows = self.opened = self.plain = self.nulls = self.digest = 0
        self.broken: list[int] = []
        """Places, from 1, of rows whose value does not open."""

    def add(self, batch: list[Row]) -> None:
        for row in batch:
            self.rows += 1
            value = row.values[0]
            if value is None:
                self.nulls += 1
            elif isinstance(value, str) and looks_sealed(value):
                self._open(row, value)
            else:
                self.plain += 1

    def _open(self, row: Row, stored: str) -> None:
        key = key_bytes(row.key)
        try:
            text = self._cell.open(key, stored)
        except TamperedError:
            self.broken.append(self.rows)
            return
        self.opened += 1
        self.digest = (self.digest + self._cell.digest(key, text)) % MODULUS
