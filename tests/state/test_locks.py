"""Two runs never hold one lock; who waits is told for whom."""

import os
import signal
import stat
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from guard.clock import SteppedClock
from guard.errors import BusyError, UnavailableError
from guard.state import hold

NOW = timedelta()


def test_a_held_lock_is_busy_and_names_its_holder(tmp_path: Path, clock: SteppedClock) -> None:
    with hold(tmp_path / "locks", ("shop",), NOW, clock, "fields.encrypt"):
        told = f"shop is busy: process {os.getpid()} holds it for fields.encrypt"
        with pytest.raises(BusyError, match=told) as caught, hold(tmp_path / "locks", ("shop",), NOW, clock):
            pass
        assert caught.value.hint == "wait for it with --wait SECONDS"
    with hold(tmp_path / "locks", ("shop",), NOW, clock):
        pass


def test_different_locks_do_not_meet(tmp_path: Path, clock: SteppedClock) -> None:
    with hold(tmp_path, ("shop",), NOW, clock), hold(tmp_path, ("state",), NOW, clock):
        pass


def test_no_names_hold_nothing(tmp_path: Path, clock: SteppedClock) -> None:
    with hold(tmp_path, (), NOW, clock), hold(tmp_path, (), NOW, clock):
        assert list(tmp_path.iterdir()) == []


def test_what_was_taken_before_a_busy_one_is_let_go(tmp_path: Path, clock: SteppedClock) -> None:
    with hold(tmp_path, ("b",), NOW, clock), pytest.raises(BusyError), hold(tmp_path, ("a", "b"), NOW, clock):
        pass
    with hold(tmp_path, ("a", "b", "a"), NOW, clock):
        pass


def test_it_waits_as_long_as_it_was_told(tmp_path: Path, clock: SteppedClock) -> None:
    began = clock.now()
    two = timedelta(seconds=2)
    with hold(tmp_path, ("shop",), NOW, clock), pytest.raises(BusyError), hold(tmp_path, ("shop",), two, clock):
        pass
    assert clock.now() - began == timedelta(seconds=2)


def test_a_waiting_run_gets_it_when_it_is_let_go(tmp_path: Path, clock: SteppedClock) -> None:
    class Letting(SteppedClock):
        def sleep(self, span: timedelta) -> None:
            release.set()
            holder.join()

    release, taken = threading.Event(), threading.Event()

    def keep() -> None:
        with hold(tmp_path, ("shop",), NOW, clock):
            taken.set()
            release.wait()

    holder = threading.Thread(target=keep)
    holder.start()
    taken.wait()
    with hold(tmp_path, ("shop",), timedelta(seconds=1), Letting(clock.now())):
        pass


def test_the_kernel_lets_go_of_what_a_killed_process_held(tmp_path: Path, clock: SteppedClock) -> None:
    ready, told = os.pipe()
    child = os.fork()
    if not child:
        with hold(tmp_path, ("shop",), NOW, clock):
            os.write(told, b"1")
            signal.pause()
        os._exit(1)
    os.read(ready, 1)
    with pytest.raises(BusyError, match=f"process {child} holds it"), hold(tmp_path, ("shop",), NOW, clock):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with hold(tmp_path, ("shop",), NOW, clock):
        pass
    os.close(ready)
    os.close(told)


def test_lock_files_are_the_owners_alone(tmp_path: Path, clock: SteppedClock) -> None:
    with hold(tmp_path / "locks", ("shop",), NOW, clock):
        assert stat.S_IMODE((tmp_path / "locks/shop.lock").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "locks").stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path, clock: SteppedClock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="cannot lock"), hold(tmp_path / "file", ("shop",), NOW, clock):
        pass
