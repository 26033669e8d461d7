"""A forked child has connections of its own, and its parent's go on."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import insert, text

from guard.clock import SteppedClock
from guard.errors import InterlockError
from guard.state import State


def in_child(work: Callable[[], object]) -> int:
    """Fork, run `work` in the child, and return 0 when it went through, 1 when it raised."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture(params=["sqlite", "postgresql"])
def each_state(request: pytest.FixtureRequest, clock: SteppedClock) -> State:
    """A state in each database it may lie in, its connections open."""
    url = request.getfixturevalue("url" if request.param == "sqlite" else "postgres_url")
    made = State.create(url, clock)
    made.attach(lambda tx, events: None)
    with made.read():
        pass
    yield made
    made.close()


def test_parent_and_child_read_and_write_side_by_side(
    each_state: State, notes: object, texts: Callable[[State], list[str]]
) -> None:
    def put(number: int) -> None:
        each_state.write(lambda tx: tx.execute(insert(notes).values(id=number, text=str(number))) and None)

    put(1)
    assert in_child(lambda: (put(2), texts(each_state).index("2"))) == 0
    put(3)
    assert in_child(lambda: put(4)) == 0
    assert texts(each_state) == ["1", "2", "3", "4"]


def test_a_child_of_sqlite_holds_locks_of_its_own(state: State, tmp_path: Path) -> None:
    """Without them the parent, closing last, would remove the write-ahead log under its child."""
    with state.read():
        pass
    out, into = os.pipe()

    def tell() -> None:
        with state.read() as tx:
            tx.execute(text("SELECT * FROM state_meta"))
            os.write(into, Path("/proc/locks").read_bytes())

    if not Path("/proc/locks").exists():
        pytest.skip("only Linux lists its locks")
    pid = os.fork()
    if pid == 0:
        try:
            tell()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(into)
    with os.fdopen(out) as read:
        held = [line.split() for line in read if f" {pid} " in line]
    inodes = {each.stat().st_ino for each in state.path.parent.iterdir()}
    assert {int(line[5].split(":")[2]) for line in held} & inodes


def test_a_thread_that_waited_at_the_fork_is_not_waited_for(state: State, notes: object) -> None:
    """The writer's turn is held by a thread of the parent; the child has no such thread."""
    turn = state._writer._turn  # what a fork must not inherit
    with turn:
        inside = in_child(lambda: state.write(lambda tx: tx.execute(insert(notes).values(id=1, text="child")) and None))
    assert inside == 0


def test_a_sqlite_state_in_use_at_the_fork_is_refused_in_the_child(state: State) -> None:
    held, let_go = threading.Event(), threading.Event()

    def read() -> None:
        with state.read() as tx:
            tx.execute(text("SELECT * FROM state_meta"))
            held.set()
            let_go.wait()

    thread = threading.Thread(target=read)
    thread.start()
    held.wait()

    def refused() -> None:
        for use in (lambda: state.read().__enter__(), lambda: state.write(lambda tx: None)):
            with pytest.raises(InterlockError, match=r"forked while .* was in use") as caught:
                use()
            assert "after the fork" in str(caught.value.hint)

    code = in_child(refused)
    let_go.set()
    thread.join()
    assert code == 0
    with state.read():
        pass
    assert in_child(lambda: state.write(lambda tx: None)) == 0


def test_a_state_that_is_gone_is_not_told(url: str, clock: SteppedClock) -> None:
    State.create(url, clock).close()
    assert in_child(lambda: None) == 0
