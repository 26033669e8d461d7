"""One tick: all that is due is run, whatever happens is recorded, nothing is raised."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from guard.actions.jobs import JOBS, Ran, Watch, tick
from guard.clock import SteppedClock
from guard.config.schedule import JobName
from guard.errors import DeniedError, Exit, UnavailableError
from guard.jobs import Result, RunState

OK = Result(RunState.OK)
NIGHT = datetime(2026, 1, 6, 2, tzinfo=UTC)


class Works:
    """Jobs that do nothing but count, unless told otherwise."""

    def __init__(self, **special: Any) -> None:
        self.special = special
        self.calls: list[tuple[str, tuple[str, ...]]] = []

    def __getitem__(self, name: str) -> Any:
        def work(app: Any, caller: Any, left: tuple[str, ...]) -> Result:
            self.calls.append((name, left))
            self.who = caller.who.id
            found = self.special.get(name, OK)
            return found(app, caller, left) if callable(found) else found

        return work


def night(app: Any, works: Works, watch: Watch | None = None) -> dict[str, Ran]:
    app.clock.step(NIGHT - app.clock.now())
    done = tick(app, NIGHT, watch or Watch(), works)  # type: ignore[arg-type]  # has what a tick asks for
    return {ran.job: ran for ran in done}


def failing(error: BaseException) -> Any:
    def work(*_: Any) -> Result:
        raise error

    return work


def test_nothing_due_runs_nothing(app: Any) -> None:
    works = Works()
    assert tick(app, app.clock.now(), Watch(), works) == ()  # type: ignore[arg-type]
    assert works.calls == []


def test_what_is_due_runs_in_order_as_the_service(app: Any) -> None:
    works = Works()
    done = night(app, works)
    assert [name for name, _ in works.calls] == ["backup", "prune", "heartbeat"]
    assert {ran.code for ran in done.values()} == {Exit.DONE}
    assert works.who == "s-daemon"


def test_a_tick_again_at_the_same_moment_runs_nothing(app: Any) -> None:
    works = Works()
    night(app, works)
    assert night(app, works) == {}


def test_a_store_that_is_down_fails_the_backup_and_not_what_comes_after(app: Any) -> None:
    down = UnavailableError("store s3 does not answer", hint="check its endpoint")
    done = night(app, Works(backup=failing(down)))
    assert done["backup"].state is RunState.DUE
    assert done["backup"].reason == "store s3 does not answer (check its endpoint)"
    assert (done["backup"].code, done["backup"].again_at) == (Exit.UNAVAILABLE, NIGHT + timedelta(minutes=5))
    assert done["prune"].state is done["heartbeat"].state is RunState.OK


def test_the_next_try_is_told_what_was_left(app: Any, clock: SteppedClock) -> None:
    works = Works(backup=lambda _, __, left: OK if left else Result(RunState.PARTLY, "s3 is down", ("s3",)))
    assert night(app, works)["backup"].code is Exit.PARTLY
    clock.step(timedelta(minutes=5))
    (again,) = tick(app, clock.now(), Watch(), works)  # type: ignore[arg-type]
    assert (again.job, again.slot, again.state) == ("backup", NIGHT, RunState.OK)
    assert [left for name, left in works.calls if name == "backup"] == [(), ("s3",)]


def test_a_denied_job_is_failed_with_the_hint_and_not_tried_again_that_night(app: Any, clock: SteppedClock) -> None:
    denied = DeniedError("no standing approval", hint="give one")
    done = night(app, Works(backup=failing(denied)))
    assert (done["backup"].state, done["backup"].code) == (RunState.FAILED, Exit.DENIED)
    assert app.jobs.runs("backup")[0].reason == "no standing approval (give one)"


def test_an_unexpected_error_names_its_type_and_nothing_of_its_text(app: Any) -> None:
    ran = night(app, Works(backup=failing(ValueError("ada@example.com"))))["backup"]
    assert ran.reason == "unexpected ValueError"


def test_whoever_watches_is_told_of_each_run(app: Any) -> None:
    heard: list[str] = []
    night(app, Works(), Watch(tell=lambda ran: heard.append(ran.job)))
    assert heard == ["backup", "prune", "heartbeat"]


def test_a_stop_between_jobs_leaves_the_others_due(app: Any) -> None:
    works = Works()
    done = night(app, works, Watch(stopping=lambda: bool(works.calls)))
    assert list(done) == ["backup"]
    assert {run.job for run in app.jobs.due(NIGHT)} == {"prune", "heartbeat"}


def test_a_stop_within_a_job_gives_its_run_back_and_the_next_daemon_does_it(app: Any) -> None:
    works = Works(backup=lambda _, caller, __: caller.progress("pages", 1, 10) or OK)
    done = night(app, works, Watch(stopping=lambda: bool(works.calls)))
    assert (done["backup"].state, done["backup"].code) == (RunState.DUE, Exit.INTERRUPTED)
    assert night(app, Works())["backup"].state is RunState.OK
    assert app.jobs.runs("backup")[0].attempt == 1


def test_ctrl_c_without_a_wish_to_stop_goes_through_and_gives_the_run_back(app: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        night(app, Works(backup=failing(KeyboardInterrupt())))
    assert app.jobs.runs("backup")[0].state is RunState.DUE


def test_long_work_that_shows_life_keeps_its_lease(app: Any, clock: SteppedClock) -> None:
    def slow(_: Any, caller: Any, __: Any) -> Result:
        for done in range(12):
            clock.step(timedelta(minutes=5))
            caller.progress("pages", done, 12)
            taken = app.jobs.claim("another", clock.now())
            assert taken is None or taken.run.job != "backup"
        return OK

    works = Works(backup=slow)
    assert night(app, works)["backup"].state is RunState.OK


def test_work_that_lost_its_lease_is_stopped_and_its_result_not_accepted(app: Any, clock: SteppedClock) -> None:
    def hanging(_: Any, caller: Any, __: Any) -> Result:
        clock.step(timedelta(minutes=11))
        taken = app.jobs.claim("another", clock.now())
        app.jobs.finish(taken, OK)
        caller.progress("pages", 1, 2)
        pytest.fail("went on without its lease")

    done = night(app, Works(backup=hanging))
    assert (done["backup"].state, done["backup"].code) == (RunState.FAILED, Exit.BUSY)
    run = app.jobs.runs("backup")[0]
    assert (run.state, run.attempt) == (RunState.OK, 2)


def test_three_days_of_hourly_ticks_run_every_slot_once(app: Any, clock: SteppedClock) -> None:
    works = Works()
    for _ in range(3 * 24):
        clock.step(timedelta(hours=1))
        tick(app, clock.now(), Watch(), works)  # type: ignore[arg-type]
    assert Counter(name for name, _ in works.calls) == {"heartbeat": 72, "backup": 3, "prune": 3}
    assert {run.state for run in app.jobs.runs(limit=5000)} == {RunState.OK}


def test_every_job_of_the_schedule_has_its_work() -> None:
    assert set(JOBS) == set(JobName.__args__)  # type: ignore[attr-defined]  # typing.Literal
