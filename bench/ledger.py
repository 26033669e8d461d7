"""The ledger: 32 writers that each wait for their entry to be safe, against one commit an entry through the same code.

The folder is on a real file system (GUARD_BENCH_FOLDER; default: the folder of benchmarks), synchronous FULL; how fast
it syncs is measured beside it, in the same run. Verifying and proving are on a log of GUARD_BENCH_ENTRIES (1,000,000).
"""

import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.harness import OUT, Bar, Row, finish, wall
from guard.app import declare_tables
from guard.audit import Ledger
from guard.audit.proof import prove
from guard.clock import SystemClock
from guard.events import GUARD, Activity, Ending, Event, RunId
from guard.state import State

WRITERS, EACH, ROUNDS = 32, 100, 5
ENTRIES = int(os.environ.get("GUARD_BENCH_ENTRIES", "1000000"))
COMMIT = 5_000
SYNCS = 300


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of writers took."""

    rate: float
    """Entries a second."""
    p99: float
    """Seconds from the call until the entry was safe."""


def event(number: int) -> Event:
    """Return an event whose entry has 267 bytes, give or take the digits of its number."""
    where = ("Customer.Email", "Invoice.Address")
    run = RunId(f"{number:032x}")
    return Event("fields.seal", Ending.DONE, GUARD, run, Activity.DATA_ENCRYPT, where[number % 2 :][:1], {"rows": 1})


@contextmanager
def house() -> Iterator[tuple[State, Ledger]]:
    """A new state with its ledger, on the file system that is measured."""
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=os.environ.get("GUARD_BENCH_FOLDER", OUT)) as folder:
        declare_tables()
        url = f"sqlite:///{folder}/state.db"
        State.create(url, SystemClock()).close()
        state = State.open(url, SystemClock())
        ledger = Ledger(state, bytes(32))
        state.attach(ledger.append)
        try:
            yield state, ledger
        finally:
            state.close()


def syncs() -> float:
    """Return the median seconds of an append of one page and its fdatasync."""
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=os.environ.get("GUARD_BENCH_FOLDER", OUT)) as file:
        return statistics.median(_timed(lambda: _sync(file.fileno())) for _ in range(SYNCS))


def _sync(file: int) -> None:
    os.write(file, bytes(4096))
    os.fdatasync(file)


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _spent(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def write(writers: int, each: int) -> Round:
    """Let `writers` threads record `each` entries, every one with a change of state, and wait for each."""
    taken: list[float] = []
    with house() as (state, ledger):

        def work(writer: int) -> None:
            for number in range(each):
                noted = event(writer * each + number)
                change = lambda tx: state.meta.set(tx, f"writer {writer}", str(number))  # noqa: B023, E731  # run at once
                taken.append(_timed(lambda: state.write(change, noted)))  # noqa: B023  # run at once

        threads = [threading.Thread(target=work, args=(writer,)) for writer in range(writers)]
        begun = wall()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lasted = wall() - begun
        assert ledger.inspect().size == writers * each  # every acknowledged entry is there
    return Round(len(taken) / lasted, statistics.quantiles(taken, n=100)[98])


def writing() -> list[Row]:
    """Race both ways of writing."""
    ours, alone, synced = [], [], []
    for _ in range(ROUNDS):
        ours.append(write(WRITERS, EACH))
        alone.append(write(1, EACH * 3))
        synced.append(syncs())
    rate, single = (statistics.median(each.rate for each in found) for found in (ours, alone))
    p99, sync = statistics.median(each.p99 for each in ours), statistics.median(synced)
    return [
        Row("fdatasync of a page", sync * 1000, None, "ms"),
        Row("fdatasyncs", 1 / sync, None, "/s"),
        Row("32 writers, each waits; peer: one commit an entry", rate, single, "/s", _least(single)),
        Row("until an entry is safe, p99 of 32 writers", p99 * 1000, None, "ms", Bar("ours", "<=", 12_000 * sync + 20)),
    ]


def _least(single: float) -> Bar:
    """Eight times one commit an entry, or 3,000 a second, whichever is lower."""
    return Bar("ours", ">=", round(min(8 * single, 3000)))


def reading() -> list[Row]:
    """Verify and prove on one large log."""
    with house() as (state, ledger):
        for first in range(0, ENTRIES, COMMIT):
            state.write(lambda _: None, *map(event, range(first, min(first + COMMIT, ENTRIES))))
        size = ledger.inspect().size
        rate = size / statistics.median(_spent(ledger.inspect) for _ in range(ROUNDS))
        wanted = [number * 7919 % size for number in range(500)]
        proving = [_timed(lambda: _prove(state, each)) for each in wanted]  # noqa: B023  # run at once
    return [
        Row(f"verify {size:,} entries, CPU", rate, None, "/s", Bar("ours", ">=", 100_000)),
        Row(f"prove one of {size:,}, median", statistics.median(proving) * 1000, None, "ms", Bar("ours", "<=", 5)),
        Row(f"prove one of {size:,}, slowest of 500", max(proving) * 1000, None, "ms"),
    ]


def _prove(state: State, number: int) -> None:
    with state.read() as tx:
        prove(tx, number)


def main() -> int:
    """Measure, and say whether the bars are met."""
    return finish("ledger", [*writing(), *reading()])


if __name__ == "__main__":
    sys.exit(main())
