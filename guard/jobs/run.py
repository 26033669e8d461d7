"""One run of one job, and the rules of its life. Pure.

due -> running -> ok, or back to due until its retries are spent, then partly or failed. A run that was never begun, as
guard was not running or a newer slot overtook it, is missed and says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from guard.config.schedule import Retry, Schedule


class RunState(StrEnum):
    """How a run stands."""

    DUE = "due"
    RUNNING = "running"
    OK = "ok"
    FAILED = "failed"
    PARTLY = "partly"
    MISSED = "missed"


OPEN = (RunState.DUE, RunState.RUNNING)


@dataclass(frozen=True, slots=True)
class Run:
    """One slot of one job. All times are UTC."""

    job: str
    slot: datetime
    state: RunState = RunState.DUE
    asked: bool = False
    """Whether a person asked for it with `guard run JOB`; such a run is never tried again by itself."""
    attempt: int = 0
    fence: int = 0
    """Grows with each claim; a result with an older number is refused."""
    owner: str | None = None
    lease_until: datetime | None = None
    not_before: datetime | None = None
    """When a run that is due again may be claimed."""
    outcome: RunState | None = None
    """How the last attempt ended, if one did."""
    reason: str | None = None
    left: tuple[str, ...] = ()
    """What the last attempt left undone, e.g. the stores that did not answer."""
    began: datetime | None = None
    ended: datetime | None = None

    def alive(self, now: datetime) -> bool:
        """Whether a process holds this run and its lease has not run out."""
        return self.state is RunState.RUNNING and self.lease_until is not None and now <= self.lease_until

    def ready(self, now: datetime) -> bool:
        """Whether a daemon may take this run: due and not told to wait, or held by a process that shows no life."""
        if self.asked:
            return False
        if self.state is RunState.DUE:
            return self.not_before is None or self.not_before <= now
        return self.state is RunState.RUNNING and not self.alive(now)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work at a run and to say how it ended, while nobody else has taken it over."""

    run: Run
    owner: str


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended: OK, PARTLY or FAILED. `again`: whether trying again could help."""

    state: RunState
    reason: str | None = None
    left: tuple[str, ...] = ()
    again: bool = True


def choose(runs: Sequence[Run], schedule: Schedule, now: datetime) -> Run | None:
    """Return the open run to take next: the oldest slot, then the schedule's order; None when all must wait.

    Two runs of one job never overlap, and a job that comes after another waits until that one was tried.
    """
    place: dict[str, int] = {rule.name: number for number, rule in enumerate(schedule.job)}
    ready = [run for run in runs if run.job in place and run.ready(now) and not _blocked(run, runs, schedule, now)]
    return min(ready, key=lambda run: (run.slot, place[run.job]), default=None)


def _blocked(run: Run, runs: Sequence[Run], schedule: Schedule, now: datetime) -> bool:
    rule = schedule.find(run.job)
    first = rule.after if rule else None
    return any(
        (other.job == run.job and other.alive(now))
        or (other.job == first and other.slot <= run.slot and (other.attempt == 0 or other.alive(now)))
        for other in runs
        if other is not run
    )


def claimed(run: Run, owner: str, now: datetime, lease: timedelta) -> Run:
    """Return `run` in the hands of `owner`, with the next fence."""
    return replace(
        run,
        state=RunState.RUNNING,
        attempt=run.attempt + 1,
        fence=run.fence + 1,
        owner=owner,
        lease_until=now + lease,
        not_before=None,
        began=now,
    )


def released(run: Run) -> Run:
    """Return `run` as if this attempt had not been: its process was told to stop."""
    return replace(
        run, state=RunState.DUE, attempt=run.attempt - 1, owner=None, lease_until=None, reason="stopped before its end"
    )


def settled(run: Run, result: Result, retry: Retry, now: datetime) -> Run:
    """Return `run` after an attempt: over, or due again after a wait that doubles each time."""
    told = replace(
        run, owner=None, lease_until=None, outcome=result.state, reason=result.reason, left=result.left, ended=now
    )
    if result.state is RunState.OK or not result.again or run.asked or run.attempt > retry.times:
        return replace(told, state=result.state)
    return replace(told, state=RunState.DUE, not_before=now + wait(retry, run.attempt), ended=None)


def wait(retry: Retry, attempt: int) -> timedelta:
    """Return how long to wait after failed attempt number `attempt` (from 1)."""
    doubled: int = 2 ** min(attempt - 1, 30)  # 30: beyond any cap, and no overflow
    return min(retry.first.rest * doubled, retry.most.rest)


def closed(run: Run, reason: str, now: datetime) -> Run:
    """Return an open run as over without another attempt: missed if it never began, else as its last attempt ended."""
    if run.state is RunState.RUNNING:
        state, reason = RunState.FAILED, "its process ended without a word"
    elif run.outcome is not None:
        state, reason = run.outcome, f"{run.reason or run.outcome}; {reason}"
    else:
        state = RunState.MISSED
    return replace(run, state=state, reason=reason, owner=None, lease_until=None, not_before=None, ended=now)
