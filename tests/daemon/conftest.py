"""An app without a shop: real state, real jobs, and a door that lets the service in."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from guard.clock import SteppedClock
from guard.config import Span
from guard.config.schedule import JobRule, Retry, Schedule
from guard.events import Principal, PrincipalId, Role
from guard.jobs import Jobs
from guard.state import State, hold

SCHEDULE = Schedule(
    job=(
        JobRule(name="backup", daily="02:00", retry=Retry(times=3, first=Span.parse("5 minutes"))),
        JobRule(name="prune", after="backup"),
        JobRule(name="heartbeat", every=Span.parse("1 hour")),
    )
)


class Bare:
    """What the daemon uses of an app."""

    def __init__(self, home: Path, state: State, clock: SteppedClock) -> None:
        self.home = self.policies = home
        self.clock = clock
        self.jobs = Jobs(state, SCHEDULE, clock)
        self.access = SimpleNamespace(
            service=lambda name: Principal(PrincipalId(f"s-{name}"), Role.SERVICE, name),
        )
        self.closed = False

    def hold(self, names: tuple[str, ...], wait: timedelta, what: str = "") -> AbstractContextManager[None]:
        return hold(self.home, names, wait, self.clock, what)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def app(tmp_path: Path, state: State, clock: SteppedClock) -> Bare:
    """An app whose calendar has begun."""
    bare = Bare(tmp_path, state, clock)
    bare.jobs.due(clock.now())
    return bare


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every OS user can reach, with a short path."""
    folder = Path(tempfile.mkdtemp(prefix="guard-runs-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
