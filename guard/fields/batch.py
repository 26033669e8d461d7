"""What is done to one column, and what it makes of a batch of rows. Opens nothing, and writes nothing."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from guard.canon import column_key_bytes, key_bytes
from guard.crypto.stored import looks_sealed
from guard.crypto.subjects import SHREDDED
from guard.errors import TamperedError
from guard.fields.value import MARK, Cell, CellSpec, heads
from guard.shop import Table
from guard.shop.bulk import Found, Fresh, Look, New
from guard.shop.due import Due
from guard.shop.graph import Step

_CALM: Final = 500_000
"""Objects beyond those of some batches: what is left over by then was not freed without the collector."""


class Direction(StrEnum):
    """What is done to the values of a column."""

    SEAL = "encrypt"
    OPEN = "decrypt"
    REKEY = "rekey"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class Job:
    """What is done to one column. Holds keys."""

    direction: Direction
    table: Table
    column: str
    key: tuple[str, ...]
    """The key's columns in the record's order."""
    spec: CellSpec
    path: tuple[Step, ...] = ()
    """The joins to the rows' persons, with `bind = "subject"`."""
    person: tuple[str, ...] = ()
    """The key of the table at their end."""
    opening: tuple[int, ...] = ()
    """The ids of the keys that values may name."""

    @property
    def due(self) -> Due:
        """Which values still need it."""
        return _DUE[self.direction](self)

    def look(self, *more: str) -> Look:
        """Return how all rows of the column are read, with their persons and the columns `more`."""
        return Look(self.table, self.column, self.key, None, self.path, self.person, more)

    @property
    def sets(self) -> tuple[str, ...]:
        """The columns it writes."""
        tokens = tuple(token.name for token in self.spec.tokens)
        if self.direction is Direction.TOKENS:
            return tokens
        return (self.column, *tokens) if self.direction is Direction.SEAL else (self.column,)


@contextlib.contextmanager
def calm() -> Iterator[None]:
    """Let the cyclic collector rest: it would look at the rows of a batch again and again, which are freed without it.

    Measured: a fifth of a sweep's time.
    """
    _resting.begin()
    try:
        yield
    finally:
        _resting.end()


class _Resting:
    """Counts who lets the collector rest: threads of a daemon do it side by side, and the last one wakes it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._before = gc.get_threshold()

    def begin(self) -> None:
        with self._lock:
            if not self._count:
                self._before = gc.get_threshold()
                gc.set_threshold(_CALM, *self._before[1:])
            self._count += 1

    def end(self) -> None:
        with self._lock:
            self._count -= 1
            if not self._count:
                gc.set_threshold(*self._before)


_resting = _Resting()


class Changer:
    """Gives the rows of a batch their new values; `digests` are those of the last batch, None where it takes none."""

    def __init__(self, job: Job, cell: Cell) -> None:
        self.digests: Sequence[int] | None = None
        self._job = job
        self._cell = cell
        self._change = {
            Direction.SEAL: self._seal,
            Direction.OPEN: self._open,
            Direction.REKEY: self._rekey,
            Direction.TOKENS: self._tokens,
        }[job.direction]

    def __call__(self, found: Found) -> Fresh:
        """Return what each row is to hold; those nothing can be done about are left."""
        given, values = column_key_bytes(found.key), found.values
        if self._job.spec.subject is None:
            return self._change(given, values, self._cell.bounds(given))
        persons = [None if None in person else key_bytes(person) for person in zip(*found.beside, strict=True)]
        known = [place for place, person in enumerate(persons) if person is not None]
        fresh = self._change(
            [given[place] for place in known],
            [values[place] for place in known],
            [person for person in persons if person is not None],
        )
        if len(known) == len(persons):
            return fresh
        if self.digests is not None:
            of = dict(zip(known, self.digests, strict=True))
            self.digests = [of.get(place, 0) for place in range(len(persons))]
        kept = {known[place] for place in range(len(known)) if place not in fresh.left}
        return Fresh(fresh.columns, frozenset(range(len(persons))) - kept)

    def _seal(self, rows: Sequence[bytes], values: Sequence[Any], bounds: Sequence[bytes]) -> Fresh:
        values = self._cell.typed(values)
        self.digests = self._cell.digests(rows, values)
        if not values:
            return Fresh(())
        tokens = zip(*self._cell.tokens(values), strict=True) if self._cell.spec.tokens else ()
        return Fresh((self._cell.seal_all(bounds, values), *tokens))

    def _open(self, rows: Sequence[bytes], stored: Sequence[Any], bounds: Sequence[bytes]) -> Fresh:
        values = self._opened(bounds, stored)
        gone = [place for place, value in enumerate(values) if value is SHREDDED]
        if not gone:
            self.digests = self._cell.digests(rows, values)
            return Fresh((self._cell.plain(values),) if values else ())
        nothing: New | None = (None,) if self._job.table.column(self._job.column).nullable else None
        living = [place for place, value in enumerate(values) if value is not SHREDDED]
        kept = [values[place] for place in living]
        digests = dict(zip(living, self._cell.digests([rows[place] for place in living], kept), strict=True))
        plain = dict(zip(living, self._cell.plain(kept), strict=True))
        self.digests = [digests.get(place, 0) for place in range(len(values))]
        return Fresh.of([(plain[place],) if place in plain else nothing for place in range(len(values))])

    def _rekey(self, _: Sequence[bytes], stored: Sequence[Any], bounds: Sequence[bytes]) -> Fresh:
        return Fresh((self._cell.seal_all(bounds, self._opened(bounds, stored)),) if stored else ())

    def _tokens(self, _: Sequence[bytes], stored: Sequence[Any], bounds: Sequence[bytes]) -> Fresh:
        sealed = [place for place, value in enumerate(stored) if looks_sealed(value)]
        values = list(self._cell.typed(stored))
        opened = self._opened([bounds[place] for place in sealed], [stored[place] for place in sealed])
        for place, value in zip(sealed, opened, strict=True):
            values[place] = None if value is SHREDDED else value
        return Fresh.of([None if None in tokens else tokens for tokens in self._cell.tokens(values)])

    def _opened(self, bounds: Sequence[bytes], stored: Sequence[Any]) -> list[Any]:
        try:
            return self._cell.open_each(bounds, stored)
        except TamperedError as error:
            raise TamperedError(str(error), hint="guard fields verify says which rows; restore them first") from None


_DUE: Final[Mapping[Direction, Callable[[Job], Due]]] = {
    Direction.SEAL: lambda _: Due(unless=MARK),
    Direction.OPEN: lambda _: Due(begins=MARK),
    Direction.REKEY: lambda job: Due(begins=MARK, unless=heads(job.spec)),
    Direction.TOKENS: lambda job: Due(lacks=job.spec.tokens[0].name),
}
