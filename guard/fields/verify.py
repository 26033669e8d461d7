"""Open every sealed value of a column and compare what is there with what was sealed. Changes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from guard.canon import all_key_bytes, key_bytes
from guard.crypto.stored import looks_sealed
from guard.crypto.subjects import SHREDDED
from guard.errors import TamperedError
from guard.events import Progress
from guard.fields.batch import Job
from guard.fields.store import Record, Stage
from guard.fields.value import MODULUS, Cell
from guard.shop import Shop
from guard.shop.bulk import Found, Reader
from guard.shop.rows import Key

_NAMED: Final = 10
"""How many broken rows an error names."""
_BATCH: Final = 2000


@dataclass(frozen=True, slots=True)
class Check:
    """What was found in one column."""

    at: str
    rows: int
    opened: int
    """Sealed values; each one opened in its own place."""
    plain: int
    nulls: int
    expected: int | None
    """How many values the sweep sealed; None while it is not finished."""
    same: bool | None
    """Whether they are exactly those, by count and digest. No: rows were changed, added or deleted since."""
    proven: bool = False
    """Whether it was verified before, since it was last sealed: from then on a shop that lives changes its rows."""
    shredded: int = 0
    """Values whose person's key was destroyed, as was asked for."""
    untold: int = 0
    """Values whose token is not theirs, or missing: a search does not find them, or finds them for another value."""
    lost: tuple[int, ...] = ()
    """The places of the first of those rows, from 1, in the order of the key."""
    amiss: tuple[str, ...] = ()
    """What stands on the column and should not, or should and does not: triggers, each with what to do."""

    @property
    def clean(self) -> bool:
        """Whether all is sealed and found, nothing was lost before it was first looked at, and no trigger harms."""
        return not (self.plain or self.untold or self.amiss) and (self.proven or self.same is not False)


def verify_column(shop: Shop, job: Job, cell: Cell, record: Record, tell: Progress) -> Check:
    """Open every value of a column in its place, and make its tokens anew.

    Raises TamperedError, naming table, column and the rows' places in the order of their key, when any does not open,
    and when a finished column holds plain text.
    """
    tally = _Tally(job, cell)
    for batch in _batches(shop, job, cell.token_names):
        tally.add(batch)
        tell(cell.at, tally.rows)
    if tally.broken:
        raise TamperedError(
            f"{cell.at}: {len(tally.broken)} of {tally.rows} values were changed or moved: row "
            + ", ".join(map(str, tally.broken[:_NAMED]))
            + (" and more" if len(tally.broken) > _NAMED else "")
            + f" in the order of {', '.join(record.key_columns)}",
            hint="restore these rows from a backup; until then nothing reads them",
        )
    if record.stage is Stage.STRICT and tally.plain:
        raise TamperedError(
            f"{cell.at} is finished, but holds {tally.plain} values in plain text",
            hint="somebody wrote past the seal; guard fields encrypt seals them",
        )
    return tally.check(record)


@contextlib.contextmanager
def blaming(harms: Sequence[str]) -> Iterator[None]:
    """Let a TamperedError say what in the database may be to blame, before the rows are restored and spoilt again."""
    try:
        yield
    except TamperedError as error:
        error.hint = "; ".join([*harms, *([error.hint] if error.hint else [])])
        raise


def _batches(shop: Shop, job: Job, tokens: Sequence[str]) -> Iterator[Found]:
    """Yield the rows in batches, each read in a transaction of its own: a long one would keep the shop from writing."""
    reader = Reader(shop, job.look(*tokens))
    after: Key | None = None
    while True:
        with shop.read() as connection:
            found = reader.read(connection, after, _BATCH)
        if found is None:
            return
        yield found
        after = found.keys[-1]


class _Tally:
    """Counts and adds up as rows go by."""

    def __init__(self, job: Job, cell: Cell) -> None:
        self._job = job
        self._cell = cell
        self.rows = self.opened = self.plain = self.nulls = self.shredded = self.untold = self.digest = 0
        self.broken: list[int] = []
        """Places, from 1, of rows whose value does not open."""
        self.lost: list[int] = []
        """Places, from 1, of the first rows whose token is not their value's."""

    def add(self, batch: Found) -> None:
        """Count a batch."""
        sealed: list[int] = []
        for place, (value, *_) in enumerate(batch.rows):
            if value is None:
                self.nulls += 1
            elif looks_sealed(value):
                sealed.append(place)
            else:
                self.plain += 1
        if sealed:
            self._open(batch, sealed)
        self.rows += len(batch.rows)

    def check(self, record: Record) -> Check:
        """Return what was found, compared with what is remembered."""
        finished = record.stage in {Stage.SEALED, Stage.STRICT}
        same: bool | None = self.opened == record.rows and f"{self.digest:064x}" == record.digest
        if self.shredded and self.opened + self.shredded == record.rows:
            same = None  # what is gone cannot be compared
        return Check(
            self._cell.at,
            self.rows,
            self.opened,
            self.plain,
            self.nulls,
            record.rows if finished else None,
            same if finished else None,
            record.verified_at is not None and record.verified_at >= record.changed_at,
            self.shredded,
            self.untold,
            tuple(self.lost),
        )

    def _open(self, batch: Found, sealed: Sequence[int]) -> None:
        rows = all_key_bytes([batch.keys[place] for place in sealed])
        bounds = self._bounds(batch, sealed, rows)
        stored = [batch.rows[place][0] for place in sealed]
        values = self._values(bounds, stored)
        self.broken += [self.rows + place + 1 for place, value in zip(sealed, values, strict=True) if value is _BROKEN]
        self.shredded += sum(value is SHREDDED for value in values)
        good = [at for at, value in enumerate(values) if value is not _BROKEN and value is not SHREDDED]
        kept = [values[at] for at in good]
        self.opened += len(good)
        self.digest = (self.digest + sum(self._cell.digests([rows[at] for at in good], kept))) % MODULUS
        self._compare(batch, [sealed[at] for at in good], kept)

    def _bounds(self, batch: Found, sealed: Sequence[int], rows: Sequence[bytes]) -> list[bytes]:
        if self._job.spec.subject is None:
            return list(self._cell.bounds(rows))
        width = 1 + len(self._job.person)
        persons = [batch.rows[place][1:width] for place in sealed]
        return [b"" if None in person else key_bytes(person) for person in persons]  # of nobody: opens nothing

    def _values(self, bounds: Sequence[bytes], stored: Sequence[Any]) -> list[Any]:
        """Return the values, `_BROKEN` in place of those that do not open: only then they are tried one by one."""
        try:
            return self._cell.open_each(bounds, stored)
        except TamperedError:
            if len(stored) == 1:
                return [_BROKEN]
        half = len(stored) // 2
        return self._values(bounds[:half], stored[:half]) + self._values(bounds[half:], stored[half:])

    def _compare(self, batch: Found, places: Sequence[int], values: Sequence[Any]) -> None:
        if names := self._cell.token_names:
            there = [batch.rows[place][-len(names) :] for place in places]
            made = self._cell.tokens(values)
            wrong = [place for place, one, other in zip(places, there, made, strict=True) if one != other]
            self.untold += len(wrong)
            self.lost += [self.rows + place + 1 for place in wrong[: _NAMED - len(self.lost)]]


_BROKEN: Final = object()
