"""Processes that write to one SQLite state wait in line: none starves, none is told that it is busy."""

import fcntl
import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from guard.clock import SystemClock
from guard.errors import BusyError, UnavailableError
from guard.state import State
from guard.state.turn import Turn
from tests.conftest import Faults


@pytest.fixture
def turn(tmp_path: Path) -> Turn:
    return Turn(tmp_path / "state.db", 30)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[int]:
    """Another process's turn, as the kernel sees it."""
    file = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(file, fcntl.LOCK_EX)
    yield file
    os.close(file)


def test_one_after_the_other(turn: Turn) -> None:
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(50):
            with turn.taken():
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert most == [1]


def test_who_waits_too_long_is_told(tmp_path: Path, elsewhere: int) -> None:
    hasty = Turn(tmp_path / "state.db", 0.1)
    with pytest.raises(BusyError, match=r"written by another process for more than 0\.1 s"), hasty.taken():
        raise AssertionError("it is the other's turn")
    fcntl.flock(elsewhere, fcntl.LOCK_UN)
    for _ in range(3):  # the wait that was given up keeps nothing
        with Turn(tmp_path / "state.db", 30).taken():
            pass


def test_it_comes_when_the_other_has_done(turn: Turn, elsewhere: int) -> None:
    timer = threading.Timer(0.1, lambda: fcntl.flock(elsewhere, fcntl.LOCK_UN))
    timer.start()
    with turn.taken():
        timer.join()


def test_it_is_let_go_after_an_error(turn: Turn) -> None:
    with pytest.raises(ZeroDivisionError), turn.taken():
        raise ZeroDivisionError
    with turn.taken():
        pass


def test_it_ends_with_its_process(turn: Turn, fault_points: Faults) -> None:
    def die() -> None:
        with turn.taken():
            os.kill(os.getpid(), signal.SIGKILL)

    assert fault_points.killed(die, 1)
    with turn.taken():
        pass


def test_a_child_that_is_forked_meanwhile_keeps_nothing(turn: Turn, tmp_path: Path) -> None:
    """The parent dies within its turn, and a child of it lives on: the turn is free all the same."""
    alive, told = os.pipe()
    over, let_go = os.pipe()
    parent = os.fork()
    if not parent:
        os.close(let_go)
        with turn.taken():
            if not os.fork():
                os.write(told, b"1")
                os.read(over, 1)
                os._exit(0)
            os.read(alive, 1)
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(parent, 0)
    with Turn(tmp_path / "state.db", 30).taken():
        pass
    os.close(let_go)


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot lock"), Turn(tmp_path / "gone/state.db", 1).taken():
        pass


def test_nothing_is_left_beside_the_state(state: State) -> None:
    state.write(lambda _: None)
    assert state.path is not None
    assert {each.name for each in state.path.parent.iterdir()} == {"state.db", "state.db-wal", "state.db-shm"}


@pytest.mark.slow
def test_eight_processes_that_write_without_a_pause_share_the_turns(tmp_path: Path) -> None:
    """Each gets its share: the least of them at least half as many turns as the most, and nobody is told it is busy."""
    url = f"sqlite:///{tmp_path}/state.db"
    State.create(url, SystemClock()).close()
    heard, told = os.pipe()
    go, start = os.pipe()
    children = []
    for which in range(8):
        child = os.fork()
        if not child:
            os.close(start)
            state = State.open(url, SystemClock())
            os.read(go, 1)
            while True:
                state.write(lambda tx: state.meta.set(tx, f"process {which}", "here"))  # noqa: B023
                os.write(told, bytes([which]))
        children.append(child)
    os.close(told)
    os.close(start)
    counts = [0] * 8
    while sum(counts) < 2000:
        for which in os.read(heard, 1000):
            counts[which] += 1
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    os.close(heard)
    os.close(go)
    assert min(counts) * 2 > max(counts), counts
    with closing(sqlite3.connect(tmp_path / "state.db")) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
