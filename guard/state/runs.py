"""Which runs have begun and not ended. A run whose process is gone was killed; `resolve` finds out how far it came."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Column, Integer, Table, Text, bindparam, delete, insert, select, update

from guard.clock import parse, stamp
from guard.events import Ending, Event, PrincipalId, RunId
from guard.state.db import Tx
from guard.state.schema import METADATA

RUN_OPEN = Table(
    "run_open",
    METADATA,
    Column("run", Text, primary_key=True),
    Column("what", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("since", Text, nullable=False),
)


_END = delete(RUN_OPEN).where(RUN_OPEN.c.run == bindparam("ended"))


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that has begun and not ended, and the process that runs it."""

    run: RunId
    what: str
    who: PrincipalId
    pid: int
    started: str
    """Boot id and start time in clock ticks since boot: with the pid, one process for all time."""
    host: str
    since: datetime


def note(tx: Tx, events: Sequence[Event], at: datetime) -> None:
    """Open the runs that `events` begin at `at`, close those they end."""
    begun = [event for event in events if event.ending is Ending.BEGUN]
    ended = {event.run for event in events if event.ending is not Ending.BEGUN}
    if begun:
        pid = os.getpid()
        mine = {"pid": pid, "started": started(pid) or "", "host": platform.node(), "since": stamp(at)}
        tx.execute(insert(RUN_OPEN), [{"run": each.run, "what": each.what, "who": each.who, **mine} for each in begun])
    if ended:
        tx.execute(_END, [{"ended": run} for run in ended])


def open_runs(tx: Tx) -> tuple[OpenRun, ...]:
    """Return the runs that have begun and not ended, oldest first."""
    rows = tx.execute(select(RUN_OPEN).order_by(RUN_OPEN.c.since, RUN_OPEN.c.run))
    return tuple(
        OpenRun(RunId(row.run), row.what, PrincipalId(row.who), row.pid, row.started, row.host, parse(row.since))
        for row in rows
    )


def orphan(tx: Tx) -> int:
    """Make every open run one of this host whose process is gone, and return how many: their state was restored."""
    return tx.execute(update(RUN_OPEN).values(host=platform.node(), pid=0, started="restored")).rowcount


def is_gone(run: OpenRun) -> bool:
    """Tell whether the run's process is known to be gone. A process on another host never is."""
    return run.host == platform.node() and run.started != started(run.pid)


def started(pid: int, proc: Path = Path("/proc")) -> str | None:
    """Return "boot id:ticks" of a living process; None when there is none. Source: proc(5), stat field 22."""
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
        # The name in field 2 may hold spaces and brackets: the fields are counted behind its last bracket.
        fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in {"Z", "X"} else f"{boot}:{fields[19]}"
