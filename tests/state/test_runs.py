"""A run is open from its BEGUN to its end; one whose process is gone is stale."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import update

from guard.clock import SteppedClock
from guard.events import Ending, Event
from guard.state import State
from guard.state.runs import RUN_OPEN, started


def test_a_begun_run_is_open_with_its_process(state: State, event: Callable[..., Event], clock: SteppedClock) -> None:
    state.write(lambda tx: None, event())
    (run,) = state.open_runs()
    assert (run.run, run.what, run.who, run.pid) == (f"{1:032x}", "test.work", "guard", os.getpid())
    assert run.since == clock.now()
    assert state.stale_runs() == ()


@pytest.mark.parametrize("ending", [ending for ending in Ending if ending is not Ending.BEGUN])
def test_every_ending_closes_it(state: State, event: Callable[..., Event], ending: Ending) -> None:
    state.write(lambda tx: None, event(1), event(2))
    state.write(lambda tx: None, event(1).ended(ending))
    assert [run.run for run in state.open_runs()] == [f"{2:032x}"]


def test_a_run_is_opened_with_its_work_or_not_at_all(state: State, event: Callable[..., Event]) -> None:
    def fail(tx: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        state.write(fail, event())
    assert state.open_runs() == ()


def test_a_killed_process_leaves_a_stale_run(url: str, clock: SteppedClock, event: Callable[..., Event]) -> None:
    State.create(url, clock).close()
    ready, told = os.pipe()
    child = os.fork()
    if not child:
        state = State.open(url, clock)
        state.attach(lambda tx, events: None)
        state.write(lambda tx: None, event())
        os.write(told, b"1")
        signal.pause()
        os._exit(1)
    os.read(ready, 1)
    state = State.open(url, clock)
    assert [run.pid for run in state.open_runs()] == [child]
    assert state.stale_runs() == ()
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # dead, and a zombie still
    assert [run.pid for run in state.stale_runs()] == [child]
    os.waitpid(child, 0)
    assert [run.pid for run in state.stale_runs()] == [child]
    state.close()
    os.close(ready)
    os.close(told)


def test_a_process_with_a_reused_number_does_not_keep_a_run_alive(state: State, event: Callable[..., Event]) -> None:
    state.write(lambda tx: None, event())
    state.write(lambda tx: tx.execute(update(RUN_OPEN).values(started="another boot:1")) and None)
    assert len(state.stale_runs()) == 1


def test_a_run_of_another_host_is_never_known_to_be_gone(state: State, event: Callable[..., Event]) -> None:
    state.write(lambda tx: None, event())
    state.write(lambda tx: tx.execute(update(RUN_OPEN).values(host="elsewhere", started="x")) and None)
    assert len(state.open_runs()) == 1
    assert state.stale_runs() == ()


def test_a_process_name_with_spaces_and_brackets_is_no_trap(tmp_path: Path) -> None:
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("boot\n")
    (tmp_path / "7").mkdir()
    fields = " ".join(str(number) for number in range(4, 53))
    (tmp_path / "7/stat").write_text(f"7 (a ) Z 1 (b) S {fields}")
    assert started(7, tmp_path) == "boot:22"
    assert started(8, tmp_path) is None
