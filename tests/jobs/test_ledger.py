"""The ledger of runs on a real state: nothing lost, nothing accepted twice."""

import itertools
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from guard.clock import SteppedClock
from guard.config import Span
from guard.config.schedule import JobRule, Schedule
from guard.errors import BusyError, ClockError
from guard.events import Ending, Event
from guard.jobs import Claim, Jobs, Result, RunState
from guard.state import State

OK = Result(RunState.OK)
DOWN = Result(RunState.PARTLY, "store s3: no answer", ("s3",))
HEARTBEATS = Schedule(job=(JobRule(name="heartbeat", every=Span.parse("1 hour")),))
NIGHT = datetime(2026, 1, 6, 2, tzinfo=UTC)


def go_to(clock: SteppedClock, at: datetime) -> datetime:
    clock.step(at - clock.now())
    return at


def claim(jobs: Jobs, job: str, now: datetime, owner: str = "a") -> Claim:
    """Take runs, well ended, until one of `job` comes."""
    while (taken := jobs.claim(owner, now)) is not None:
        if taken.run.job == job:
            return taken
        jobs.finish(taken, OK, now)
    pytest.fail(f"no run of {job} to take")


def drained(jobs: Jobs, now: datetime) -> list[str]:
    """Take and end well whatever can be taken; return the names of the jobs."""
    names = []
    while (taken := jobs.claim("b", now)) is not None:
        names.append(jobs.finish(taken, OK, now).job)
    return names


def states(jobs: Jobs, job: str) -> list[tuple[int, str]]:
    return [(run.slot.day, run.state.value) for run in jobs.runs(job)]


def test_a_job_seen_for_the_first_time_waits_for_its_next_slot(jobs: Jobs, clock: SteppedClock) -> None:
    assert jobs.due(clock.now()) == ()
    assert jobs.claim("a", clock.now()) is None


def test_at_its_slot_a_job_can_be_taken_once(jobs: Jobs, clock: SteppedClock) -> None:
    now = go_to(clock, NIGHT)
    jobs.due(now)
    assert claim(jobs, "backup", now).run.slot == NIGHT
    assert "backup" not in {run.job for run in jobs.due(now) if run.state is RunState.DUE}


def test_looking_a_hundred_times_records_a_slot_once(jobs: Jobs, clock: SteppedClock) -> None:
    now = go_to(clock, NIGHT)
    for _ in range(100):
        jobs.due(now)
    assert len(jobs.runs("backup")) == 1


def test_missed_nights_are_caught_up_once_and_the_older_ones_recorded(
    jobs: Jobs, clock: SteppedClock, told: list[Event]
) -> None:
    now = go_to(clock, datetime(2026, 1, 9, 12, tzinfo=UTC))
    jobs.due(now)
    jobs.finish(claim(jobs, "backup", now), OK, now)
    assert states(jobs, "backup") == [(9, "ok"), (8, "missed"), (7, "missed"), (6, "missed")]
    assert {run.reason for run in jobs.runs("backup")[1:]} == {"guard was not running at its time"}
    missed = next(event for event in told if event.objects == ("backup",))
    assert (missed.what, missed.ending, missed.counts) == ("jobs.missed", Ending.FAILED, {"slots": 3})
    assert missed.facts["from"] == "2026-01-06T02:00:00.000000Z"
    assert missed.facts["until"] == "2026-01-08T02:00:00.000000Z"


def test_a_job_without_catch_up_is_missed_when_it_is_late(jobs: Jobs, clock: SteppedClock) -> None:
    now = go_to(clock, NIGHT + timedelta(minutes=30))
    jobs.due(now)
    assert {run.state for run in jobs.runs("heartbeat")} == {RunState.MISSED}


def test_a_job_without_catch_up_may_be_a_little_late(jobs: Jobs, clock: SteppedClock) -> None:
    now = go_to(clock, NIGHT + timedelta(minutes=10))
    jobs.due(now)
    assert jobs.runs("heartbeat")[0].state is RunState.DUE


def test_nothing_missed_tells_the_ledger_nothing(jobs: Jobs, clock: SteppedClock, told: list[Event]) -> None:
    jobs.due(go_to(clock, clock.now() + timedelta(hours=1)))
    assert told == []


def test_a_store_that_is_down_is_tried_again_and_the_night_is_not_lost(jobs: Jobs, clock: SteppedClock) -> None:
    now = go_to(clock, NIGHT)
    jobs.due(now)
    waiting = jobs.finish(claim(jobs, "backup", now), DOWN, now)
    assert (waiting.state, waiting.outcome, waiting.reason) == (RunState.DUE, RunState.PARTLY, "store s3: no answer")
    assert waiting.not_before == now + timedelta(minutes=5)
    assert drained(jobs, now + timedelta(minutes=4, seconds=59)) == ["prune", "heartbeat"]
    again = claim(jobs, "backup", now + timedelta(minutes=5))
    assert again.run.left == ("s3",)
    assert jobs.finish(again, OK, now).state is RunState.OK


def test_retries_end_when_the_next_night_comes(jobs: Jobs, clock: SteppedClock) -> None:
    now = go_to(clock, NIGHT)
    jobs.due(now)
    jobs.finish(claim(jobs, "backup", now), DOWN, now)
    jobs.due(go_to(clock, NIGHT + timedelta(days=1)))
    assert states(jobs, "backup") == [(7, "due"), (6, "partly")]
    assert jobs.runs("backup")[1].reason == "store s3: no answer; the next slot has come"


def test_a_dead_lease_is_taken_over_and_the_stale_result_refused(jobs: Jobs, clock: SteppedClock) -> None:
    now = go_to(clock, NIGHT)
    jobs.due(now)
    stale = claim(jobs, "backup", now, "dead")
    later = go_to(clock, NIGHT + timedelta(minutes=11))
    fresh = claim(jobs, "backup", later, "alive")
    assert fresh.run.fence == stale.run.fence + 1
    with pytest.raises(BusyError, match=r"backup for 2026-01-06T02:00:00.000000Z was taken over"):
        jobs.finish(stale, OK, later)
    with pytest.raises(BusyError):
        jobs.release(stale)
    assert jobs.renew(stale, later) is False
    assert jobs.finish(fresh, OK, later).state is RunState.OK


def test_a_result_is_accepted_once(jobs: Jobs, clock: SteppedClock) -> None:
    now = go_to(clock, NIGHT)
    jobs.due(now)
    mine = claim(jobs, "backup", now)
    jobs.finish(mine, OK, now)
    with pytest.raises(BusyError):
        jobs.finish(mine, DOWN, now)
    assert states(jobs, "backup") == [(6, "ok")]


def test_a_lease_that_is_renewed_is_not_taken_over(jobs: Jobs, clock: SteppedClock) -> None:
    now = go_to(clock, NIGHT)
    jobs.due(now)
    mine = claim(jobs, "backup", now)
    assert jobs.renew(mine, now + timedelta(minutes=8))
    assert drained(jobs, now + timedelta(minutes=17)) == ["heartbeat"]
    assert jobs.finish(mine, OK, now).state is RunState.OK


def test_a_run_whose_lease_ran_out_but_nobody_took_is_still_accepted(jobs: Jobs, clock: SteppedClock) -> None:
    now = go_to(clock, NIGHT)
    jobs.due(now)
    mine = claim(jobs, "backup", now)
    assert jobs.finish(mine, OK, now + timedelta(hours=3)).state is RunState.OK


def test_a_run_whose_process_died_is_failed_when_the_next_slot_comes(jobs: Jobs, clock: SteppedClock) -> None:
    now = go_to(clock, NIGHT)
    jobs.due(now)
    claim(jobs, "backup", now)
    jobs.due(go_to(clock, NIGHT + timedelta(days=1)))
    assert states(jobs, "backup") == [(7, "due"), (6, "failed")]


def test_a_run_given_back_can_be_taken_at_once(jobs: Jobs, clock: SteppedClock) -> None:
    now = go_to(clock, NIGHT)
    jobs.due(now)
    jobs.release(claim(jobs, "backup", now))
    assert claim(jobs, "backup", now, "b").run.attempt == 1


def test_a_person_gets_a_new_run_that_is_not_tried_again(jobs: Jobs, clock: SteppedClock) -> None:
    now = clock.now()
    mine = jobs.start("backup", "me", now)
    with pytest.raises(BusyError, match="the job backup is running"):
        jobs.start("backup", "you", now)
    assert jobs.finish(mine, DOWN, now).state is RunState.PARTLY
    assert jobs.start("backup", "me", now).run.slot == now + timedelta(microseconds=1)


def test_a_person_who_asks_takes_the_run_that_waits_for_its_next_try(jobs: Jobs, clock: SteppedClock) -> None:
    now = go_to(clock, NIGHT)
    jobs.due(now)
    jobs.finish(claim(jobs, "backup", now), DOWN, now)
    mine = jobs.start("backup", "me", now)
    assert (mine.run.slot, mine.run.asked, mine.run.attempt) == (NIGHT, False, 2)


def test_a_person_who_asks_at_the_slot_itself_takes_that_slot(jobs: Jobs, clock: SteppedClock) -> None:
    mine = jobs.start("backup", "me", go_to(clock, NIGHT))
    assert (mine.run.slot, mine.run.asked) == (NIGHT, False)


def test_a_run_of_a_person_whose_process_died_or_was_stopped_is_failed(jobs: Jobs, clock: SteppedClock) -> None:
    now = clock.now()
    assert jobs.release(jobs.start("verify", "me", now)).state is RunState.FAILED
    jobs.start("verify", "me", now)
    jobs.due(go_to(clock, now + timedelta(minutes=11)))
    assert {run.state for run in jobs.runs("verify")} == {RunState.FAILED}


def test_a_job_taken_out_of_the_schedule_is_closed(
    jobs: Jobs, jobs_on: Callable[[Schedule], Jobs], clock: SteppedClock
) -> None:
    now = go_to(clock, NIGHT)
    jobs.due(now)
    jobs_on(HEARTBEATS).due(now)
    assert jobs.runs("prune")[0].reason == "the schedule no longer holds this job"


def test_a_clock_that_went_back_is_an_error_not_silence(jobs: Jobs, clock: SteppedClock) -> None:
    jobs.due(go_to(clock, NIGHT))
    with pytest.raises(ClockError):
        jobs.due(NIGHT - timedelta(hours=1))


def test_every_hour_of_forty_days_has_exactly_one_run(jobs_on: Callable[[Schedule], Jobs], clock: SteppedClock) -> None:
    jobs = jobs_on(HEARTBEATS)
    jobs.due(clock.now())
    for hours in (1, 2, 30, 7, 1, 400, 519):  # 960 = 40 * 24
        now = go_to(clock, clock.now() + timedelta(hours=hours))
        jobs.due(now)
        jobs.finish(claim(jobs, "heartbeat", now), OK, now)
    runs = jobs.runs("heartbeat", limit=2000)
    assert len(runs) == 960
    assert [run.state for run in runs].count(RunState.OK) == 7
    assert {before.slot - after.slot for before, after in itertools.pairwise(runs)} == {timedelta(hours=1)}


def test_daemons_on_one_state_accept_each_slot_once(tmp_path: Path, clock: SteppedClock) -> None:
    """Four processes' worth of state handles, all ticking through the same hours at once."""
    url = f"sqlite:///{tmp_path}/many.db"
    states = [State.create(url, clock), *(State.open(url, clock) for _ in range(3))]
    for state in states:
        state.attach(lambda _, __: None)
    daemons = [Jobs(state, HEARTBEATS, clock) for state in states]
    daemons[0].due(clock.now())
    accepted: list[datetime] = []

    def work(jobs: Jobs, owner: str, now: datetime) -> None:
        jobs.due(now)
        while (mine := jobs.claim(owner, now)) is not None:
            accepted.append(jobs.finish(mine, OK, now).slot)

    for _ in range(10):
        now = go_to(clock, clock.now() + timedelta(hours=1))
        threads = [threading.Thread(target=work, args=(jobs, str(at), now)) for at, jobs in enumerate(daemons)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    runs = daemons[0].runs()
    for state in states:
        state.close()
    assert len(accepted) == len(set(accepted)) == 10
    assert [(run.state, run.attempt) for run in runs] == [(RunState.OK, 1)] * 10
