"""What each job does, and the one way a job is run: by the daemon's tick, by `guard run --due`, by `guard run JOB`.

The effect of a job goes through `perform` like everything else: by the clock as the service `s-daemon`, which has no
code and acts under standing approvals; for a person who asks, as that person.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from guard.actions import audit, backup, epoch, retention
from guard.actions._perform import Caller, perform
from guard.errors import BusyError, ConfigError, DeniedError, Exit, GuardError, InterlockError, TamperedError
from guard.events import Progress
from guard.jobs import Claim, Result, Run, RunState

if TYPE_CHECKING:
    from guard.app import App

SERVICE = "daemon"
_log = logging.getLogger(__name__)

CODES = {RunState.OK: Exit.DONE, RunState.PARTLY: Exit.PARTLY, RunState.FAILED: Exit.FAILED}
HOPELESS = (ConfigError, DeniedError, InterlockError, TamperedError)
"""What trying again cannot help: a person has to do something first."""


Work = Callable[["App", Caller, tuple[str, ...]], Result]
"""Does a job. The third argument: what an earlier attempt of the same run left undone; empty: everything."""


def _backup(app: App, caller: Caller, left: tuple[str, ...]) -> Result:
    """Back up into every store, or into those that are left."""
    found = perform(app, caller, backup.RUN, stores=left)
    gaps = [f"store {name}: {gap}" for name, made in found.done.items() for gap in made.problems]
    partial = tuple(name for name, made in found.done.items() if any(each.may_do_better for each in made.sources))
    return _in_stores(found.failed, gaps, partial)


def _prune(app: App, caller: Caller, left: tuple[str, ...]) -> Result:
    """Let go of what the policy no longer keeps."""
    return _in_stores(perform(app, caller, backup.PRUNE, stores=left).failed)


def _verify(app: App, caller: Caller, left: tuple[str, ...]) -> Result:
    """Check the structure of every store; damage is a failure that trying again does not mend."""
    failed: dict[str, GuardError] = {}
    for name in left or app.backups.stores:
        try:
            found = perform(app, caller, backup.VERIFY, store=name).findings
            if found:
                failed[name] = TamperedError(f"{len(found)} findings, the first: {found[0].object}: {found[0].what}")
        except GuardError as error:
            failed[name] = error
    return _in_stores(failed, some=len(failed) < len(app.backups.stores))


def _retention(app: App, caller: Caller, _: tuple[str, ...]) -> Result:
    """Carry out what is due today, if a standing approval covers it."""
    perform(app, caller, retention.RUN, plan=app.retention.plan().digest)
    return Result(RunState.OK)


def _epoch(app: App, caller: Caller, _: tuple[str, ...]) -> Result:
    """End the epoch of people's keys when its month is over, and finish what shredding left; mostly it only looks."""
    if not epoch.is_due(app):
        return Result(RunState.OK)
    failed = perform(app, caller, epoch.TURN).failed
    if not failed:
        return Result(RunState.OK)
    again = any(not isinstance(error, HOPELESS) for error in failed.values())
    return Result(RunState.PARTLY, "; ".join(f"{what}: {_words(error)}" for what, error in failed.items()), (), again)


def _ledger(app: App, caller: Caller, _: tuple[str, ...]) -> Result:
    """Remove entries of the ledger that retention no longer keeps; mostly it only looks."""
    if not audit.is_prune_due(app):
        return Result(RunState.OK)
    if incidents := app.incidents():
        return Result(RunState.OK, f"no entry is removed while an incident is on record: {', '.join(incidents)}")
    perform(app, caller, audit.PRUNE)
    return Result(RunState.OK)


def _heartbeat(app: App, caller: Caller, _: tuple[str, ...]) -> Result:
    """Anchor the ledger. The entries of that are the heartbeat itself."""
    failed = perform(app, caller, audit.ANCHOR).failed
    return Result(RunState.PARTLY, "; ".join(failed)) if failed else Result(RunState.OK)


def _in_stores(
    failed: Mapping[str, GuardError], gaps: Sequence[str] = (), partial: tuple[str, ...] = (), *, some: bool = True
) -> Result:
    """Return how work in several stores ended. `partial`: another try may fill them; `some`: whether any succeeded."""
    problems = [*(f"store {name}: {_words(error)}" for name, error in failed.items()), *gaps]
    if not problems:
        return Result(RunState.OK)
    again = bool(partial) or any(not isinstance(error, HOPELESS) for error in failed.values())
    return Result(RunState.PARTLY if some else RunState.FAILED, "; ".join(problems), (*failed, *partial), again)


JOBS: Mapping[str, Work] = {
    "backup": _backup,
    "prune": _prune,
    "verify": _verify,
    "retention": _retention,
    "epoch": _epoch,
    "ledger": _ledger,
    "heartbeat": _heartbeat,
}
"""Every job there is. `policies/schedule.toml` says when they run."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How one run of a job went, for whoever watches."""

    job: str
    slot: datetime
    state: RunState
    reason: str | None
    again_at: datetime | None
    """When it is tried again, if it is."""
    code: Exit


def _never() -> bool:
    return False


def _deaf(_: Ran) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Who looks on while jobs run: may ask for a stop, is told of each run, hears signs of life from long work."""

    stopping: Callable[[], bool] = _never
    tell: Callable[[Ran], None] = _deaf
    alive: Callable[[], None] = lambda: None


NOBODY = Watch()


def tick(app: App, now: datetime, watch: Watch = NOBODY, jobs: Mapping[str, Work] = JOBS) -> tuple[Ran, ...]:
    """Record every slot up to `now`, run all that may run, and return how each went. A job that fails raises nothing.

    Raises what state raises (BusyError, UnavailableError, ClockError), and DeniedError when the service may not enter.
    """
    if not app.jobs.due(now):
        return ()
    caller = Caller(app.access.service(SERVICE))
    done: list[Ran] = []
    while not watch.stopping() and (claim := app.jobs.claim(_owner(), app.clock.now())) is not None:
        done.append(_carry_out(app, caller, claim, jobs[claim.run.job], watch))
        watch.tell(done[-1])
    return tuple(done)


def run_job(app: App, caller: Caller, job: str) -> Ran:
    """Run `job` now because `caller` asks. Raises ConfigError for a job there is not, BusyError when it is running."""
    if job not in JOBS:
        raise ConfigError(f"there is no job {job}", hint=f"there are {', '.join(JOBS)}")
    return _carry_out(app, caller, app.jobs.start(job, _owner(), app.clock.now()), JOBS[job], NOBODY)


def _owner() -> str:
    return f"{platform.node()}:{os.getpid()}"


def _carry_out(app: App, caller: Caller, claim: Claim, work: Work, watch: Watch) -> Ran:
    """Do the work of a claimed run and record how it ended."""
    pulse = _Pulse(app, claim, watch, caller.progress)
    try:
        result, code = _attempt(app, replace(caller, progress=pulse), claim.run, work)
    except KeyboardInterrupt:
        if pulse.lost:
            return _ran(replace(claim.run, state=RunState.FAILED, reason="taken over by another process"), Exit.BUSY)
        run = app.jobs.release(claim)
        if not watch.stopping():
            raise
        return _ran(run, Exit.INTERRUPTED)
    try:
        return _ran(app.jobs.finish(claim, result), code)
    except BusyError as error:  # somebody else has the run now, and tells how it ends
        return _ran(replace(claim.run, state=RunState.FAILED, reason=_words(error)), error.exit_code)


def _ran(run: Run, code: Exit) -> Ran:
    return Ran(run.job, run.slot, run.state, run.reason, run.not_before, code)


def _attempt(app: App, caller: Caller, run: Run, work: Work) -> tuple[Result, Exit]:
    """Call the job's work. Whatever it raises becomes a result; only an interrupt goes through."""
    try:
        result = work(app, caller, run.left)
    except GuardError as error:
        again = not isinstance(error, HOPELESS)
        return Result(RunState.FAILED, _words(error), run.left, again), error.exit_code
    except Exception as error:  # noqa: BLE001  # one broken job must not keep the others from running
        _log.debug("job %s", run.job, exc_info=True)
        return Result(RunState.FAILED, f"unexpected {type(error).__name__}", run.left), Exit.FAILED
    return result, CODES[result.state]


def _words(error: GuardError) -> str:
    return f"{error} ({error.hint})" if error.hint else str(error)


class _Pulse:
    """The progress of a job: each sign of life renews the lease, and passes a wish to stop on to the work.

    Work is stopped as Ctrl-C stops it: what it began is kept, recorded as interrupted, and found by the next run.
    """

    def __init__(self, app: App, claim: Claim, watch: Watch, show: Progress) -> None:
        self._app = app
        self._claim = claim
        self._watch = watch
        self._show = show
        self.lost = False
        """Whether another process has taken the run over."""
        self._every = app.jobs.schedule.lease.rest / 4
        self._renew_at = app.clock.now() + self._every

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        self._show(what, done, total)
        self._watch.alive()
        if self._watch.stopping():
            raise KeyboardInterrupt
        if (now := self._app.clock.now()) >= self._renew_at:
            self._renew_at = now + self._every
            self.lost = not self._app.jobs.renew(self._claim, now)
        if self.lost:
            raise KeyboardInterrupt
