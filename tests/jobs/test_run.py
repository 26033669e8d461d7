"""The life of one run, as pure rules."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from guard.config import Span
from guard.config.schedule import JobRule, Retry, Schedule
from guard.jobs.run import Result, Run, RunState, choose, claimed, closed, released, settled, wait

NOW = datetime(2026, 1, 6, 2, tzinfo=UTC)
LEASE = timedelta(minutes=10)
RETRY = Retry(times=2, first=Span.parse("5 minutes"), most=Span.parse("8 minutes"))
SCHEDULE = Schedule(
    job=(
        JobRule(name="backup", daily="02:00", retry=RETRY),
        JobRule(name="prune", after="backup"),
        JobRule(name="heartbeat", every=Span.parse("1 hour")),
    )
)
BACKUP, PRUNE, BEAT = (Run(name, NOW) for name in ("backup", "prune", "heartbeat"))
DOWN = Result(RunState.PARTLY, "store s3: no answer", ("s3",))


def held(run: Run, since: datetime = NOW) -> Run:
    return claimed(run, "a", since, LEASE)


def test_what_is_due_together_runs_in_the_order_of_the_schedule() -> None:
    assert choose([BEAT, PRUNE, BACKUP], SCHEDULE, NOW) is BACKUP


def test_an_older_slot_comes_first() -> None:
    older = replace(BEAT, slot=NOW - timedelta(hours=1))
    assert choose([BACKUP, older], SCHEDULE, NOW) is older


def test_a_job_that_comes_after_another_waits_until_that_one_was_tried() -> None:
    assert choose([held(BACKUP), PRUNE], SCHEDULE, NOW) is None
    tried = settled(held(BACKUP), DOWN, RETRY, NOW)
    assert choose([tried, PRUNE], SCHEDULE, NOW) is PRUNE
    assert choose([PRUNE], SCHEDULE, NOW) is PRUNE


def test_two_runs_of_one_job_never_overlap() -> None:
    next_night = replace(BACKUP, slot=NOW + timedelta(days=1))
    assert choose([held(BACKUP, next_night.slot), next_night], SCHEDULE, next_night.slot) is None


def test_a_job_that_left_the_schedule_is_not_taken() -> None:
    assert choose([Run("verify", NOW)], SCHEDULE, NOW) is None


def test_a_run_that_a_person_asked_for_is_never_taken_by_a_daemon() -> None:
    dead = held(replace(BACKUP, asked=True), NOW - timedelta(hours=1))
    assert choose([dead], SCHEDULE, NOW) is None


def test_a_lease_holds_to_its_last_moment() -> None:
    run = held(BACKUP)
    assert choose([run], SCHEDULE, NOW + LEASE) is None
    assert choose([run], SCHEDULE, NOW + LEASE + timedelta(microseconds=1)) is run


def test_a_failed_run_waits_longer_each_time_up_to_the_cap_and_then_is_over() -> None:
    first = settled(held(BACKUP), DOWN, RETRY, NOW)
    assert (first.state, first.not_before, first.left) == (RunState.DUE, NOW + timedelta(minutes=5), ("s3",))
    second = settled(held(first), DOWN, RETRY, NOW)
    assert second.not_before == NOW + timedelta(minutes=8)
    third = settled(held(second), DOWN, RETRY, NOW)
    assert (third.state, third.attempt, third.ended) == (RunState.PARTLY, 3, NOW)


def test_waits_stay_at_the_cap_however_often_it_failed() -> None:
    assert wait(RETRY, 10_000) == timedelta(minutes=8)


def test_what_trying_again_cannot_help_is_over_at_once() -> None:
    assert settled(held(BACKUP), replace(DOWN, again=False), RETRY, NOW).state is RunState.PARTLY


def test_a_retry_that_works_ends_the_run_well_and_leaves_nothing() -> None:
    again = held(settled(held(BACKUP), DOWN, RETRY, NOW))
    done = settled(again, Result(RunState.OK), RETRY, NOW)
    assert (done.state, done.reason, done.left, done.attempt) == (RunState.OK, None, (), 2)


def test_a_run_given_back_has_lost_no_try() -> None:
    run = released(held(BACKUP))
    assert (run.state, run.attempt, run.owner) == (RunState.DUE, 0, None)
    assert run.ready(NOW)


@pytest.mark.parametrize(
    ("run", "state", "reason"),
    [
        (BACKUP, RunState.MISSED, "overtaken"),
        (settled(held(BACKUP), DOWN, RETRY, NOW), RunState.PARTLY, "store s3: no answer; overtaken"),
        (held(BACKUP), RunState.FAILED, "its process ended without a word"),
    ],
    ids=["never begun", "tried", "left by a dead process"],
)
def test_a_closed_run_says_how_it_ended_and_why(run: Run, state: RunState, reason: str) -> None:
    over = closed(run, "overtaken", NOW)
    assert (over.state, over.reason, over.ended, over.owner) == (state, reason, NOW, None)
