"""Bind sealed values to the key their rows have now, where primary keys were changed.

A value that opens under the new key is done, so a run that was interrupted simply begins again. One that opens under
neither key is left as it is, and told by its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa

from guard import faults
from guard.canon import all_key_bytes, column_key_bytes
from guard.clock import Clock
from guard.errors import BusyError, TamperedError
from guard.events import Progress, RunId
from guard.fields.count import count
from guard.fields.former import Former
from guard.fields.pace import Pace
from guard.fields.store import Record
from guard.fields.value import MARK, MODULUS, Cell
from guard.shop import Shop, Table, progress
from guard.shop.bulk import Changed, Found, Fresh, Rewrite, Rewriter
from guard.shop.due import Due
from guard.shop.progress import Batch, Bracket
from guard.shop.rows import Key, within

_TRIES: Final = 6
_REST: Final = timedelta(milliseconds=50)
_NAMED: Final = 10
"""How many values that do not open are told by place."""


@dataclass(frozen=True, slots=True)
class Rebound:
    """What became of one column."""

    at: str
    rows: int
    """Values that were sealed for the new key now."""
    done: int
    """Values that were sealed for it before."""
    broken: int
    """Values that open under neither key; they are as they were."""
    places: tuple[int, ...]
    """The first of those, by the place of their row in the order of the key, from 1."""
    record: Record = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sampled:
    """How the first sealed values of a column open."""

    new: int
    former: int
    neither: int


@dataclass(frozen=True, slots=True)
class Binding:
    """One column whose values are to be bound anew."""

    shop: Shop
    table: Table
    cell: Cell
    record: Record
    former: Former
    clock: Clock
    pace: Pace

    @property
    def column(self) -> str:
        """The column's name."""
        return self.record.at.partition(".")[2]


def rebinding(column_id: int) -> str:
    """Return the name of the work "bind this column anew" in the shop's table of progress."""
    return f"rebind {column_id}"


def sample(binding: Binding, size: int = 200) -> Sampled:
    """Look how the first sealed values open. Changes nothing."""
    opening = _Opening(binding.cell, binding.former)
    with binding.shop.read() as connection:
        found = _rewriter(binding).read(connection, None, size)
    if found is None:
        return Sampled(0, 0, 0)
    new = opening(found)
    broken = len(opening.broken)
    former = len(found) - len(new.left)
    return Sampled(len(new.left) - broken, former, broken)


def rebind_column(binding: Binding, run: RunId, tell: Progress) -> Rebound:
    """Seal each value of a column for the key its row has now; raise BusyError when rows stay locked."""
    sweep = _Sweep(binding, Bracket(run, rebinding(binding.record.column_id)))
    with binding.shop.begin() as connection:
        progress.begin(binding.shop, connection, sweep.bracket)
        total = count(binding.shop, connection, binding.table, binding.column).sealed
    sweep.run(total, tell)
    faults.point("fields.rebind.swept")
    sweep.settle()
    faults.point("fields.rebind.settled")
    record = replace(
        binding.record,
        key_columns=binding.table.key,
        rows=sweep.opened,
        digest=f"{sweep.digest:064x}",
        changed_at=binding.clock.now(),
        verified_at=None,
    )
    return Rebound(
        binding.record.at,
        sweep.rows,
        sweep.opened - sweep.rows,
        len(sweep.broken),
        _places(binding, sweep.broken[:_NAMED]),
        record,
    )


class _Opening:
    """Opens a batch, each value under the key its row has or had, and seals those of the former key for the new one."""

    def __init__(self, cell: Cell, former: Former) -> None:
        self._cell = cell
        self._former = former
        self._reading = 0
        self.broken: list[int] = []
        """Places in the batch of what opened under neither."""
        self.digest = self.opened = 0

    def __call__(self, found: Found) -> Fresh:
        """Return what each row is to hold; left is what is done, and what does not open."""
        now = column_key_bytes(found.key)
        stored = found.values
        were = [self._former.of(key, row[1:]) for key, row in zip(found.keys, found.rows, strict=True)]
        values, is_new = self._open(now, were, stored)
        self.broken = [place for place, value in enumerate(values) if value is None]
        opened = [place for place, value in enumerate(values) if value is not None]
        kept = [values[place] for place in opened]
        self.opened = len(opened)
        self.digest = sum(self._cell.digests([now[place] for place in opened], kept)) % MODULUS
        due = [place for place in opened if not is_new[place]]
        sealed = self._cell.seal_all([now[place] for place in due], [values[place] for place in due])
        return Fresh((sealed,) if due else (), frozenset(range(len(stored))) - set(due))

    def _open(
        self, now: Sequence[bytes], were: Sequence[tuple[bytes, ...]], stored: Sequence[Any]
    ) -> tuple[list[Any], list[bool]]:
        """Return the values, None where one does not open, and whether each is bound to its new key already."""
        for bounds in (self._likely(were), now):
            if bounds is not None and (values := self._all(bounds, stored)) is not None:
                return values, [old == new for old, new in zip(bounds, now, strict=True)]
        found = [self._one(new, old, each) for new, old, each in zip(now, were, stored, strict=True)]
        return [value for value, _ in found], [is_new for _, is_new in found]

    def _likely(self, were: Sequence[tuple[bytes, ...]]) -> list[bytes] | None:
        """Return the former key of each row as it was read last; None when one row has none."""
        if not all(len(each) > self._reading for each in were):
            return None
        return [each[self._reading] for each in were]

    def _one(self, new: bytes, were: tuple[bytes, ...], stored: Any) -> tuple[Any, bool]:
        if (values := self._all((new,), (stored,))) is not None:
            return values[0], True
        for reading, old in enumerate(were):
            if (values := self._all((old,), (stored,))) is not None:
                self._reading = reading
                return values[0], False
        return None, False

    def _all(self, bounds: Sequence[bytes], stored: Sequence[Any]) -> list[Any] | None:
        try:
            return self._cell.open_all(bounds, stored)
        except TamperedError:
            return None


class _Sweep:
    """One column, once through."""

    def __init__(self, binding: Binding, bracket: Bracket) -> None:
        self.bracket = bracket
        self.rows = self.opened = self.digest = 0
        self.broken: list[Key] = []
        self._binding = binding
        self._opening = _Opening(binding.cell, binding.former)
        self._rewriter = _rewriter(binding)
        self._size = binding.pace.start
        self._number = 0
        self._first: Key | None = None
        self._last: Key | None = None

    def run(self, total: int, tell: Progress) -> None:
        """Go through all sealed values of the column."""
        at, done = self._binding.record.at, 0
        tell(at, 0, total)
        while (keys := self._batch()) is not None:
            self._first, self._last = self._first or keys[0], keys[-1]
            done += len(keys)
            tell(at, done, max(total, done))

    def settle(self) -> None:
        """Let the shop's table say what there is now: the keys in batches of other works are none any more."""
        shop, column_id = self._binding.shop, self._binding.record.column_id
        works = tuple(f"{word} {column_id}" for word in ("encrypt", "decrypt", "rekey", "tokens", "rebind"))
        with shop.begin() as connection:
            for work in works[:-1]:
                progress.take_over(shop, connection, work)  # what was left there begins again at the first row
            progress.end(shop, connection, self.bracket, forget=works)
            if self._first is not None and self._last is not None:
                first, last = all_key_bytes((self._first, self._last))
                batch = Batch(first, last, self.opened, self.digest)
                progress.note(shop, connection, replace(self.bracket, work=works[0]), 1, batch)

    def _batch(self) -> tuple[Key, ...] | None:
        """Bind one batch anew and return its keys; once more where somebody else was at a row of it."""
        for attempt in range(_TRIES):
            try:
                return self._once(max(1, self._size >> attempt))
            except BusyError:
                if attempt == _TRIES - 1:
                    raise
                self._binding.clock.sleep(_REST * 2**attempt)
        return None

    def _once(self, size: int) -> tuple[Key, ...] | None:
        binding = self._binding
        with binding.shop.read() as connection:
            found = self._rewriter.read(connection, self._last, size)
        if found is None:
            return None
        new = self._opening(found)
        if new.columns:
            began = binding.clock.now()
            with binding.shop.begin() as connection:
                changed = self._rewriter.write(connection, found, new)
                faults.point("fields.rebind.written")
                self._note(connection, found.keys, changed)
            faults.point("fields.rebind.committed")
            self._number += 1
            self._size = binding.pace.next(size, binding.clock.now() - began)
            self.rows += changed.rows
            if changed.missed:
                raise BusyError(f"{binding.record.at}: somebody else writes the same rows")
        self.opened += self._opening.opened
        self.digest = (self.digest + self._opening.digest) % MODULUS
        self.broken += [found.keys[place] for place in self._opening.broken]
        return found.keys

    def _note(self, connection: sa.Connection, keys: tuple[Key, ...], changed: Changed) -> None:
        first, last = all_key_bytes((keys[0], keys[-1]))
        shop = self._binding.shop
        progress.note(shop, connection, self.bracket, self._number + 1, Batch(first, last, changed.rows))


def _rewriter(binding: Binding) -> Rewriter:
    table, column = binding.table, binding.column
    job = Rewrite(table, column, (column,), table.key, Due(begins=MARK), (), binding.former.columns)
    return Rewriter(binding.shop, job)


def _places(binding: Binding, keys: Sequence[Key]) -> tuple[int, ...]:
    """Return the places of rows in the order of the key, from 1."""
    clause = binding.shop.clause(binding.table)
    columns = [clause.c[name] for name in binding.table.key]
    with binding.shop.read() as connection:
        return tuple(
            int(
                connection.execute(
                    sa.select(sa.func.count()).select_from(clause).where(*within(columns, None, key))
                ).scalar_one()
            )
            for key in keys
        )
