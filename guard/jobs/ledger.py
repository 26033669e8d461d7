"""The ledger of runs: every slot from the last known one on, who holds it, how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from guard.clock import Clock, stamp
from guard.config.schedule import JobRule, Retry, Schedule
from guard.crypto.random import hex_token
from guard.errors import BusyError
from guard.events import GUARD, Activity, Ending, Event, RunId
from guard.jobs import store
from guard.jobs.run import Claim, Result, Run, RunState, choose, claimed, closed, released, settled
from guard.jobs.slots import Daily, Every, Spec, due_slots
from guard.state import onward

if TYPE_CHECKING:
    from guard.state import State, Tx

LATE = timedelta(minutes=10)  # a run without catch-up may still begin this long after its slot
NOT_RUNNING = "guard was not running at its time"
OVERTAKEN = "the next slot has come"
NOT_SCHEDULED = "the schedule no longer holds this job"


class _MovedError(Exception):
    """Another process changed what this one had read; read again."""


@dataclass(frozen=True, slots=True)
class _News:
    """What has come for one job since its last known slot."""

    rule: JobRule
    seen: datetime
    slots: tuple[datetime, ...]


class Jobs:
    """What is due and what was done. Several processes may share one state; each slot is accepted once."""

    def __init__(self, state: State, schedule: Schedule, clock: Clock) -> None:
        self.schedule = schedule
        self._state = state
        self._clock = clock

    def due(self, now: datetime) -> tuple[Run, ...]:
        """Record every slot up to `now` and return the open runs, oldest slot first.

        Of the slots that were missed the newest is due (unless its rule has catch_up = "none"); the others are recorded
        as missed, in state and as an entry of the ledger. A job seen for the first time has its first slot after `now`.
        Raises ClockError when the clock is behind a slot that was already recorded.
        """
        while True:
            try:
                return self._record(now)
            except _MovedError:
                continue

    def claim(self, owner: str, now: datetime) -> Claim | None:
        """Take the next run for `owner` (a name unique among processes), or return None when nothing may be taken."""
        with self._state.read() as tx:
            if choose(store.open_runs(tx), self.schedule, now) is None:
                return None
        return self._state.write(lambda tx: self._take(tx, choose(store.open_runs(tx), self.schedule, now), owner, now))

    def start(self, job: str, owner: str, now: datetime) -> Claim:
        """Take a run of `job` because a person asked: the one that waits for its next try, or a new one.

        Raises BusyError when it is running already.
        """
        self.due(now)
        claim = self._state.write(lambda tx: self._take(tx, _asked(tx, job, now), owner, now))
        if claim is None:
            raise BusyError(f"the job {job} was taken by another process", hint="guard status shows what is running")
        return claim

    def renew(self, claim: Claim, now: datetime) -> bool:
        """Prolong the lease; False when another process has taken the run over."""
        longer = replace(claim.run, lease_until=now + self.schedule.lease.rest)
        return self._state.write(lambda tx: store.swap(tx, claim.run, longer))

    def finish(self, claim: Claim, result: Result, now: datetime | None = None) -> Run:
        """Record how the claimed run ended and return it. Raises BusyError when another process has taken it over."""
        rule = self.schedule.find(claim.run.job)
        retry = rule.retry if rule else Retry()
        return self._end(claim, settled(claim.run, result, retry, now or self._clock.now()))

    def release(self, claim: Claim) -> Run:
        """Give the run back as if it had not been begun; a run that a person asked for ends as failed instead."""
        if claim.run.asked:
            return self.finish(claim, Result(RunState.FAILED, "stopped before its end"))
        return self._end(claim, released(claim.run))

    def runs(self, job: str | None = None, limit: int = 100) -> tuple[Run, ...]:
        """Return the newest runs of one job or of all, newest slot first."""
        with self._state.read() as tx:
            return store.newest(tx, job, limit)

    def _end(self, claim: Claim, run: Run) -> Run:
        if not self._state.write(lambda tx: store.swap(tx, claim.run, run)):
            raise BusyError(
                f"the run of {run.job} for {stamp(run.slot)} was taken over; this result is not accepted",
                hint="the process that took it over does the work again",
            )
        return run

    def _take(self, tx: Tx, run: Run | None, owner: str, now: datetime) -> Claim | None:
        if run is None:
            return None
        mine = claimed(run, owner, now, self.schedule.lease.rest)
        return Claim(mine, owner) if store.swap(tx, run, mine) else None

    def _record(self, now: datetime) -> tuple[Run, ...]:
        with self._state.read() as tx:
            last, opened = store.last_slots(tx), store.open_runs(tx)
        onward(now, max(last.values(), default=now))  # a clock that went back would keep every job waiting in silence
        new = [rule.name for rule in self.schedule.job if rule.name not in last]
        news = [item for item in self._news(last, now) if item.slots]
        over = self._over(opened, {item.rule.name for item in news}, now)
        if not (new or news or over):
            return opened

        def work(tx: Tx) -> tuple[Run, ...]:
            for name in new:
                _must(store.begin_job(tx, name, now))
            for before, after in over:
                _must(store.swap(tx, before, after))
            for item in news:
                _must(store.advance(tx, item.rule.name, item.seen, item.slots[-1]))
                store.add(tx, _runs(item, now))
            return store.open_runs(tx)

        return self._state.write(work, *[event for item in news for event in _missed(item, now)])

    def _news(self, last: dict[str, datetime], now: datetime) -> list[_News]:
        return [
            _News(rule, last[rule.name], tuple(due_slots(_spec(self.schedule.timed(rule)), last[rule.name], now)))
            for rule in self.schedule.job
            if rule.name in last
        ]

    def _over(self, opened: Sequence[Run], newer: set[str], now: datetime) -> list[tuple[Run, Run]]:
        """Return (run, the same closed) for what nobody will work at again."""
        out = []
        for run in opened:
            if run.alive(now):
                continue
            if run.asked or run.job in newer:
                out.append((run, closed(run, OVERTAKEN, now)))
            elif self.schedule.find(run.job) is None:
                out.append((run, closed(run, NOT_SCHEDULED, now)))
        return out


def _asked(tx: Tx, job: str, now: datetime) -> Run:
    """Return the run to take when a person asks for `job`: the waiting one, or a new one at `now`."""
    mine = [run for run in store.open_runs(tx) if run.job == job]
    if any(run.alive(now) for run in mine):
        raise BusyError(f"the job {job} is running", hint="guard status shows what is running")
    if waiting := next((run for run in mine if not run.asked), None):
        return waiting
    slot = now
    while store.find(tx, job, slot) is not None:
        slot += timedelta(microseconds=1)
    run = Run(job, slot, asked=True)
    store.add(tx, [run])
    return run


def _spec(rule: JobRule) -> Spec:
    return Every(rule.every.rest) if rule.every is not None else Daily(rule.at, rule.tz)


def _runs(item: _News, now: datetime) -> list[Run]:
    """Return the runs of new slots: the newest is due, the others are missed."""
    runs = [closed(Run(item.rule.name, slot), NOT_RUNNING, now) for slot in item.slots]
    if not _too_late(item, now):
        runs[-1] = Run(item.rule.name, item.slots[-1])
    return runs


def _too_late(item: _News, now: datetime) -> bool:
    return item.rule.catch_up == "none" and now - item.slots[-1] > LATE


def _missed(item: _News, now: datetime) -> list[Event]:
    """Return the entry that says how many slots of a job were missed, if any were."""
    gone = item.slots if _too_late(item, now) else item.slots[:-1]
    if not gone:
        return []
    facts = {"reason": NOT_RUNNING, "from": stamp(gone[0]), "until": stamp(gone[-1])}
    run = RunId(hex_token(16))
    event = Event("jobs.missed", Ending.FAILED, GUARD, run, Activity.API_UPDATE, (item.rule.name,), facts=facts)
    return [replace(event, counts={"slots": len(gone)})]


def _must(done: bool) -> None:
    if not done:
        raise _MovedError
