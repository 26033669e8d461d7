"""A jobs room on a real state in SQLite, with a ledger that only remembers its events."""

from collections.abc import Callable

import pytest

from guard.clock import SteppedClock
from guard.config import Span
from guard.config.schedule import JobRule, Retry, Schedule
from guard.jobs import Jobs
from guard.state import State

NIGHTLY = JobRule(
    name="backup",
    daily="02:00",
    retry=Retry(times=2, first=Span.parse("5 minutes"), most=Span.parse("8 minutes")),
)
SCHEDULE = Schedule(
    job=(
        NIGHTLY,
        JobRule(name="prune", after="backup"),
        JobRule(name="heartbeat", every=Span.parse("1 hour"), catch_up="none"),
    )
)


@pytest.fixture
def jobs_on(state: State, clock: SteppedClock) -> Callable[[Schedule], Jobs]:
    """Open the room with another schedule."""
    return lambda schedule: Jobs(state, schedule, clock)


@pytest.fixture
def jobs(jobs_on: Callable[[Schedule], Jobs]) -> Jobs:
    """The room with a nightly backup, a prune after it and an hourly heartbeat; the calendar has begun."""
    room = jobs_on(SCHEDULE)
    room.due(room._clock.now())
    return room
