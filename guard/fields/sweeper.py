"""One range of one column, batch by batch: read, change, write and note in one transaction of the shop.

A batch is changed while nothing is locked, and while the one before it is being written. Whatever ends the process, the
next run goes on behind the last batch that was committed. Nothing here knows state: it runs in guard's own process and
in its workers alike.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

from guard import faults
from guard.canon import all_key_bytes, parse_key
from guard.clock import Clock
from guard.errors import BusyError
from guard.fields.batch import Changer, Job
from guard.fields.pace import Pace
from guard.fields.value import MODULUS, Cell
from guard.shop import Shop, progress
from guard.shop.bulk import Changed, Found, Fresh, Rewrite, Rewriter
from guard.shop.progress import WHOLE, Batch, Bracket, Range
from guard.shop.rows import Key

_TRIES: Final = 6
_REST: Final = timedelta(milliseconds=50)
_SIZED: Final = frozenset({str, bytes})
_NUMBER: Final = 8
"""Bytes a value of any other type takes."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a sweep works and at what pace."""

    shop: Shop
    clock: Clock
    pace: Pace


@dataclass(frozen=True, slots=True)
class Done:
    """One committed batch."""

    last: Key
    rows: int
    left: int
    """Rows that nothing can be done about: without a person, without a token, shredded."""
    took: timedelta
    """How long its transaction was."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """A batch that was read and changed, and waits to be written."""

    found: Found
    new: Fresh
    digests: Sequence[int] | None
    volume: int
    """Bytes of its values."""
    size: int
    """The rows that were asked for."""
    is_whole: bool
    """Whether there were as many."""


class Sweeper:
    """Works through ranges of a job as one bracket."""

    def __init__(self, site: Site, job: Job, cell: Cell, bracket: Bracket) -> None:
        self._site = site
        self._bracket = bracket
        self._size = site.pace.start
        self._number = 0
        self._change = Changer(job, cell)
        self._job = Rewrite(job.table, job.column, job.sets, job.key, job.due, job.path, job.person)

    def sweep(self, part: Range = WHOLE) -> Iterator[Done]:
        """Change what is due in `part` and yield what each batch did, after it was committed.

        Raises BusyError when rows stay locked, TamperedError when a value does not open.
        """
        rewriter = Rewriter(self._site.shop, self._job, parse_key(part.upto) if part.upto is not None else None)
        after = parse_key(part.after) if part.after is not None else None
        with _ahead(self._site.shop) as ahead:
            tries = 0
            waiting = ahead(self._prepare, rewriter, after, self._size)
            while (ready := waiting()) is not None:
                waiting = ahead(self._prepare, rewriter, ready.found.last, self._size)
                try:
                    done = self._commit(rewriter, ready)
                except BusyError:  # another writer is in the way: again, with fewer rows each time
                    tries += 1
                    if tries == _TRIES:
                        raise
                    self._site.clock.sleep(_REST * 2**tries)
                    waiting = ahead(self._prepare, rewriter, after, max(1, self._size >> tries))
                    continue
                if ready.is_whole and not tries:  # the last of a range says little of the next, and one of a retry
                    each = ready.volume // len(ready.found)
                    self._size = self._site.pace.next(ready.size, done.took, each)
                after, tries = done.last, 0
                yield done

    def _prepare(self, rewriter: Rewriter, after: Key | None, size: int) -> _Ready | None:
        with self._site.shop.read() as connection:
            found = rewriter.read(connection, after, size)
        if found is None:
            return None
        is_whole = len(found) == size
        found, volume = _within(found, self._site.pace.size)
        new = self._change(found)
        return _Ready(found, new, self._change.digests, volume, size, is_whole)

    def _commit(self, rewriter: Rewriter, ready: _Ready) -> Done:
        began = self._site.clock.now()
        changed = self._write(rewriter, ready)
        took = self._site.clock.now() - began
        return Done(ready.found.last, changed.rows, len(changed.left), took)

    def _write(self, rewriter: Rewriter, ready: _Ready) -> Changed:
        found = ready.found
        if not ready.new.columns:
            return Changed(found, left=ready.new.left)
        with self._site.shop.begin() as connection:
            changed = rewriter.write(connection, found, ready.new)
            faults.point("fields.batch.written")
            first, last = all_key_bytes((found.first, found.last))
            batch = Batch(first, last, changed.rows, _digest(ready, changed))
            progress.note(self._site.shop, connection, self._bracket, self._number + 1, batch)
            faults.point("fields.batch.noted")
        self._number += 1
        faults.point("fields.batch.committed")
        return changed


def _digest(ready: _Ready, changed: Changed) -> int | None:
    """Return the sum of the digests of what was written; those of rows left alone are 0."""
    if ready.digests is None:
        return None
    return (sum(ready.digests) - sum(ready.digests[place] for place in changed.missed)) % MODULUS


_Prepare = Callable[[Rewriter, Key | None, int], _Ready | None]
_Ahead = Callable[[_Prepare, Rewriter, Key | None, int], Callable[[], _Ready | None]]


@contextlib.contextmanager
def _ahead(shop: Shop) -> Iterator[_Ahead]:
    """Give what prepares a batch in the background, and is then called for it.

    The server works meanwhile; SQLite works in this process, and the two would wait for each other at every row.
    """
    if shop.dialect == "sqlite":
        yield partial
        return
    with ThreadPoolExecutor(1, "guard-ahead") as thread:
        yield lambda work, *args: thread.submit(work, *args).result


def _within(found: Found, size: int) -> tuple[Found, int]:
    """Return as many of the rows as fit into `size` bytes, one at least, and how many bytes they have."""
    values = found.values
    if set(map(type, values)) <= _SIZED and (total := sum(map(len, values))) <= size:
        return found, total
    sizes = [len(value) if type(value) in _SIZED else _NUMBER for value in values]
    if (total := sum(sizes)) <= size:
        return found, total
    rows = total = 0
    for each in sizes:
        if rows and total + each > size:
            break
        rows, total = rows + 1, total + each
    return found.cut(rows), total
