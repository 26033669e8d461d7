"""The beat: it waits out what may pass, follows a changed configuration, and ends when told to."""

import os
import signal
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from guard.actions.jobs import Watch
from guard.clock import SteppedClock
from guard.daemon import Stop, on_signals, serve
from guard.daemon.current import Current
from guard.daemon.loop import PATIENCE, Beat
from guard.errors import BusyError, ConfigError, TamperedError, UnavailableError


class Counted(SteppedClock):
    """A clock whose `sleep` asks for a stop after some rests."""

    def __init__(self, start: datetime, stop: Stop, rests: int) -> None:
        super().__init__(start)
        self.stop = stop
        self.rests = rests

    def sleep(self, span: timedelta) -> None:
        super().sleep(span)
        self.rests -= 1
        if not self.rests:
            self.stop.ask()


class Failing:
    """Jobs that raise."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def due(self, _: datetime) -> tuple[()]:
        raise self.error


class Idle:
    """Jobs that are never due."""

    def __init__(self) -> None:
        self.asked: list[datetime] = []

    def due(self, now: datetime) -> tuple[()]:
        self.asked.append(now)
        return ()


def deaf(_: Any) -> None:
    """Tell nobody."""


def test_the_first_beat_comes_at_once_and_a_stop_ends_the_loop(app: Any, clock: SteppedClock) -> None:
    stop = Stop()
    app.clock = Counted(clock.now(), stop, 3)
    app.jobs = Idle()
    serve(app, stop, deaf)
    assert app.jobs.asked[0] == clock.now()
    assert app.clock.rests == 0


def test_a_second_daemon_in_the_same_folder_is_refused(app: Any) -> None:
    with app.hold(("daemon",), timedelta(), "guard daemon"), pytest.raises(BusyError, match="daemon is busy"):
        serve(app, Stop(), deaf)


def test_when_it_has_ended_another_may_begin(app: Any, clock: SteppedClock) -> None:
    for _ in range(2):
        stop = Stop()
        app.clock = Counted(clock.now(), stop, 1)
        serve(app, stop, deaf)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_for_a_stop_and_the_old_handler_comes_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    stop = Stop()
    with on_signals(stop):
        os.kill(os.getpid(), number)
        assert stop.asked
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("error", [UnavailableError("state is away"), BusyError("locked"), ValueError("odd")])
def test_what_may_pass_is_waited_out_for_a_minute(app: Any, error: Exception) -> None:
    app.jobs = Failing(error)
    beat = Beat(Current(app), Watch(), None)
    for _ in range(PATIENCE - 1):
        beat()
    with pytest.raises(type(error)):
        beat()


def test_a_good_beat_gives_the_whole_patience_back(app: Any) -> None:
    good, app.jobs = app.jobs, Failing(UnavailableError("state is away"))
    beat = Beat(Current(app), Watch(), None)
    for _ in range(PATIENCE - 1):
        beat()
    bad, app.jobs = app.jobs, good
    beat()
    app.jobs = bad
    beat()


def test_what_will_not_pass_ends_the_daemon_at_once(app: Any) -> None:
    app.jobs = Failing(TamperedError("state is malformed"))
    with pytest.raises(TamperedError):
        Beat(Current(app), Watch(), None)()


def changed(home: Path) -> None:
    (home / "schedule.toml").write_text("# new\n")


def test_a_changed_policy_opens_the_app_anew(app: Any, tmp_path: Path) -> None:
    fresh = type(app)(tmp_path, app.jobs._state, app.clock)
    current = Current(app)
    beat = Beat(current, Watch(), lambda: fresh)
    beat()
    assert beat.app is app
    changed(tmp_path)
    beat()
    assert beat.app is fresh
    current.close()
    assert fresh.closed
    assert not app.closed


def test_a_wrong_configuration_is_not_used(app: Any, tmp_path: Path) -> None:
    def wrong() -> Any:
        raise ConfigError("schedule.toml: job[1].name: unknown")

    beat = Beat(Current(app), Watch(), wrong)
    changed(tmp_path)
    beat()
    assert beat.app is app


def test_signs_of_life_reach_the_supervisor(app: Any) -> None:
    alive: list[bool] = []
    Beat(Current(app), Watch(alive=lambda: alive.append(True)), None)()
    assert alive == [True]
