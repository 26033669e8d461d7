"""How large a batch is, how many processes share a column, and how long transactions took. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Pace:
    """How many rows a batch has: as many as keep its transaction between `low` and `high`, and within `size` bytes.

    The shop waits for rows of a batch while it is written: 99 of 100 batches are to take no longer than 250 ms, also
    on a machine that is four times as slow for a moment.
    """

    start: int = 1000
    least: int = 100
    most: int = 8000
    low: timedelta = timedelta(milliseconds=30)
    high: timedelta = timedelta(milliseconds=60)
    size: int = 2 << 20
    """Bytes of values: sealed, in JSON and in hexadecimal they still fit a packet of MariaDB (16 MiB by default)."""
    share: int = 100_000
    """Rows for which a process more is started: in the second that takes it, one process seals about as many."""

    def next(self, rows: int, took: timedelta, each: int = 0) -> int:
        """Return the rows of the batch after one of `rows` rows, of `each` bytes on average, that took `took`."""
        if took > self.high:
            rows = max(self.least, rows // 2)
        elif took < self.low:
            rows = min(self.most, rows * 2)
        return max(1, min(rows, self.size // each)) if each else rows

    def workers(self, due: int, asked: int) -> int:
        """Return how many processes share a column with `due` values to be changed where `asked` may."""
        return max(1, min(asked, due // self.share))


@dataclass(frozen=True, slots=True)
class Times:
    """How long the transactions of a sweep took."""

    batches: int = 0
    median: timedelta = timedelta()
    p99: timedelta = timedelta()
    longest: timedelta = timedelta()

    @classmethod
    def of(cls, took: Sequence[timedelta]) -> Times:
        """Return what the single transactions add up to."""
        if not took:
            return cls()
        order = sorted(took)
        return cls(len(order), order[len(order) // 2], order[len(order) * 99 // 100], order[-1])
