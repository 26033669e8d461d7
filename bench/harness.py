"""How we measure: ours and the peer's in turns, medians, CPU time where that is what counts, a bar that can be missed.

A benchmark prints one table and writes `bench/out/NAME.json`; it exits 3 when a bar is missed. Rounds are interleaved
(ours, peer, ours, peer, ...), so that a machine that slows down slows both.
"""

import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TextIO

OUT = Path(__file__).with_name("out")
MISSED = 3

Timer = Callable[[], float]


def cpu() -> float:
    """Seconds of CPU that this process and its ended children have used; does not count waiting for others."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def wall() -> float:
    """Seconds on the clock; for what a person waits for."""
    return time.perf_counter()


@dataclass(frozen=True, slots=True)
class Bar:
    """What has to hold: our value, or its ratio to the peer's, is at most or at least `value`."""

    of: Literal["ours", "ratio"]
    sense: Literal["<=", ">="]
    value: float

    def met(self, row: "Row") -> bool:
        """Whether `row` holds it. A ratio that could not be taken is never met."""
        measured = row.ours if self.of == "ours" else row.ratio
        if measured is None:
            return False
        return measured <= self.value if self.sense == "<=" else measured >= self.value

    def __str__(self) -> str:
        return f"{self.of} {self.sense} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `what` names the peer and its version, where there is one."""

    what: str
    ours: float
    peer: float | None
    unit: str
    bar: Bar | None = None

    @property
    def ratio(self) -> float | None:
        """Ours divided by the peer's; None without a peer."""
        return None if not self.peer else self.ours / self.peer

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without a bar."""
        return None if self.bar is None else self.bar.met(self)

    def as_json(self) -> dict[str, object]:
        """The row as `bench/out/NAME.json` has it."""
        plain = {name: value for name, value in asdict(self).items() if name != "bar"}
        return {**plain, "ratio": self.ratio, "bar": None if self.bar is None else str(self.bar), "met": self.met}


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and by which clock. `scale` turns seconds into the row's unit, e.g. 1000 for ms."""

    rounds: int = 7
    timer: Timer = cpu
    unit: str = "s"
    scale: float = 1.0
    warm_up: bool = True


def race(pace: Pace, *runners: Callable[[], object]) -> tuple[float, ...]:
    """Run all of `runners` in turns and return the median time of each, in the pace's unit."""
    for run in runners if pace.warm_up else ():
        run()
    times: list[list[float]] = [[] for _ in runners]
    for _ in range(pace.rounds):
        for run, taken in zip(runners, times, strict=True):
            begun = pace.timer()
            run()
            taken.append((pace.timer() - begun) * pace.scale)
    return tuple(statistics.median(taken) for taken in times)


def finish(name: str, rows: list[Row], *, out: Path = OUT, to: TextIO | None = None) -> int:
    """Print the table, write the JSON, and return the exit code: 0, or 3 when a bar is missed."""
    file = to or sys.stdout
    print(table(rows), file=file)
    print(machine(), file=file)
    out.mkdir(parents=True, exist_ok=True)
    told = {"name": name, "machine": machine(), "rows": [row.as_json() for row in rows]}
    (out / f"{name}.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return MISSED if any(row.met is False for row in rows) else 0


def table(rows: list[Row]) -> str:
    """Return the rows as one table for a terminal."""
    lines = [("what", "ours", "peer", "unit", "ratio", "bar", "met")]
    lines += [
        (
            row.what,
            f"{row.ours:.3g}" if row.ours < 1000 else f"{row.ours:,.0f}",
            "-" if row.peer is None else f"{row.peer:.3g}" if row.peer < 1000 else f"{row.peer:,.0f}",
            row.unit,
            "-" if row.ratio is None else f"{row.ratio:.3f}",
            "-" if row.bar is None else str(row.bar),
            {None: "-", True: "yes", False: "MISSED"}[row.met],
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def machine() -> str:
    """Return what the figures were taken on, the load of the last minute included."""
    system = f"{platform.system()} {platform.machine()}, {_processor()}, {os.cpu_count()} cores"
    return f"{system}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or "unknown processor"
