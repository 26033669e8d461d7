"""The tables of the jobs room. A change names the run it saw; when another process was faster it changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Integer, String, Table, Text, insert, select, update

from guard.clock import parse, stamp
from guard.jobs.run import OPEN, Run, RunState
from guard.state import METADATA, Tx

# One row for each job: the newest slot that lies in jobs_run, where the calendar goes on from.
JOB = Table(
    "jobs_job",
    METADATA,
    Column("name", String(40), primary_key=True),
    Column("last_slot", String(27), nullable=False),
)

# One row for each slot. Times are texts of `clock.stamp`: they sort as they are.
RUN = Table(
    "jobs_run",
    METADATA,
    Column("job", String(40), primary_key=True),
    Column("slot", String(27), primary_key=True),
    Column("state", String(10), nullable=False, index=True),
    Column("asked", Boolean, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("owner", String(200)),
    Column("lease_until", String(27)),
    Column("not_before", String(27)),
    Column("outcome", String(10)),
    Column("reason", Text),
    Column("left", Text, nullable=False),
    Column("began", String(27)),
    Column("ended", String(27)),
)

_TIMES = ("slot", "lease_until", "not_before", "began", "ended")


def last_slots(tx: Tx) -> dict[str, datetime]:
    """Return the newest known slot of each job that was ever seen."""
    return {row.name: parse(row.last_slot) for row in tx.execute(select(JOB))}


def begin_job(tx: Tx, name: str, at: datetime) -> bool:
    """Take a job into the calendar, its first slot being the next after `at`; False when it is there already."""
    if name in last_slots(tx):
        return False
    tx.execute(insert(JOB).values(name=name, last_slot=stamp(at)))
    return True


def advance(tx: Tx, name: str, seen: datetime, newest: datetime) -> bool:
    """Move a job's last slot from `seen` to `newest`; False when it was no longer `seen`."""
    change = update(JOB).where(JOB.c.name == name, JOB.c.last_slot == stamp(seen)).values(last_slot=stamp(newest))
    return tx.execute(change).rowcount == 1


def add(tx: Tx, runs: Sequence[Run]) -> None:
    """Write new runs."""
    if runs:
        tx.execute(insert(RUN), [_row(run) for run in runs])


def swap(tx: Tx, seen: Run, new: Run) -> bool:
    """Write `new` over `seen`; False when the run is no longer as it was seen."""
    change = (
        update(RUN)
        .where(
            RUN.c.job == seen.job,
            RUN.c.slot == stamp(seen.slot),
            RUN.c.fence == seen.fence,
            RUN.c.state == seen.state.value,
        )
        .values(_row(new))
    )
    return tx.execute(change).rowcount == 1


def find(tx: Tx, job: str, slot: datetime) -> Run | None:
    """Return one run, or None."""
    row = tx.execute(select(RUN).where(RUN.c.job == job, RUN.c.slot == stamp(slot))).mappings().first()
    return _run(row) if row else None


def open_runs(tx: Tx) -> tuple[Run, ...]:
    """Return the runs that are due or running, oldest first."""
    rows = select(RUN).where(RUN.c.state.in_([state.value for state in OPEN])).order_by(RUN.c.slot, RUN.c.job)
    return tuple(_run(row) for row in tx.execute(rows).mappings())


def newest(tx: Tx, job: str | None, limit: int) -> tuple[Run, ...]:
    """Return up to `limit` runs of one job or of all, newest first."""
    rows = select(RUN).order_by(RUN.c.slot.desc(), RUN.c.job).limit(limit)
    if job is not None:
        rows = rows.where(RUN.c.job == job)
    return tuple(_run(row) for row in tx.execute(rows).mappings())


def _row(run: Run) -> dict[str, object]:
    row: dict[str, Any] = {name: getattr(run, name) for name in Run.__slots__}
    times = {name: stamp(row[name]) if row[name] else None for name in _TIMES}
    states = {"state": run.state.value, "outcome": run.outcome.value if run.outcome else None}
    return {**row, **times, **states, "left": json.dumps(run.left)}


def _run(row: Mapping[Any, Any]) -> Run:
    times = {name: parse(row[name]) if row[name] else None for name in _TIMES}
    outcome = RunState(row["outcome"]) if row["outcome"] else None
    states = {"state": RunState(row["state"]), "outcome": outcome, "left": tuple(json.loads(row["left"]))}
    return Run(**{**row, **times, **states})
