"""SIGKILL at any point of the writer: what was acknowledged is there, nothing is half there, the next one goes on."""

import os
import random
import signal
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote

import pytest
from sqlalchemy import event

from guard.audit import FolderAnchor, Ledger
from guard.audit.checkpoint import FIRST
from guard.clock import SystemClock
from guard.events import GUARD, Ending, Event, RunId
from guard.state import State, Tx

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SEED = bytes(range(32))
THREADS = 4
HITS = 5


class Countdown:
    """Kills this process at the call it was set to."""

    def __init__(self, calls: int) -> None:
        self._left = calls
        self._lock = threading.Lock()

    def __call__(self, *_: object) -> None:
        with self._lock:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


def in_a_work(house: "House", kill: Countdown) -> None:
    house.in_work = kill


def after_the_entries(house: "House", kill: Countdown) -> None:
    def append(tx: Tx, events: Sequence[Event]) -> None:
        house.ledger.append(tx, events)
        kill()

    house.state.attach(append)


def before_the_entries(house: "House", kill: Countdown) -> None:
    def append(tx: Tx, events: Sequence[Event]) -> None:
        kill()
        house.ledger.append(tx, events)

    house.state.attach(append)


def before_the_commit(house: "House", kill: Countdown) -> None:
    event.listen(house.state.database.writer, "commit", kill)


def after_the_commit(house: "House", kill: Countdown) -> None:
    class Killing(sqlite3.Connection):
        def commit(self) -> None:
            super().commit()
            kill()

    @event.listens_for(house.state.database.writer, "do_connect")
    def connect(_dialect: object, _record: object, args: list[str], options: dict[str, object]) -> sqlite3.Connection:
        return sqlite3.connect(unquote(args[0]), factory=Killing, **options)


def while_anchoring(house: "House", kill: Countdown) -> None:
    class Half(FolderAnchor):
        def put(self, size: int, note: str, log: str = FIRST) -> None:
            super().put(size, note, log)
            kill()

    house.ledger = Ledger(house.state, SEED, [Half("here", house.folder / "anchor")])
    house.state.attach(house.ledger.append)
    house.anchors = True


POINTS = (in_a_work, before_the_entries, after_the_entries, before_the_commit, after_the_commit, while_anchoring)


class House:
    """One state and ledger of a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = State.open(f"sqlite:///{folder}/state.db", SystemClock())
        self.ledger = Ledger(self.state, SEED, [FolderAnchor("here", folder / "anchor")])
        self.state.attach(self.ledger.append)
        self.in_work: Callable[[], None] = lambda: None
        self.anchors = False


def write_for_ever(folder: Path, told: int, prepare: Callable[[House], None], first: int) -> None:
    """Write from several threads; tell the number of each write once it is acknowledged."""
    house = House(folder)
    prepare(house)

    def work(tx: Tx, number: int) -> None:
        house.state.meta.set(tx, f"work {number}", "done")
        house.in_work()

    def run(which: int) -> None:
        for number in range(first + which, first + 10**6, THREADS):
            done = Event("test.kill", Ending.BEGUN, GUARD, RunId(f"{number:032x}"))
            house.state.write(lambda tx, number=number: work(tx, number), done)
            os.write(told, number.to_bytes(8, "big"))
            if house.anchors and number % 16 == 0:
                house.ledger.anchor()

    for which in range(THREADS):
        threading.Thread(target=run, args=(which,)).start()


def killed(folder: Path, prepare: Callable[[House], None], first: int, after: int | None) -> set[int]:
    """Fork a writer, kill it (by itself, or when `after` writes are acknowledged); return what it acknowledged."""
    heard, told = os.pipe()
    child = os.fork()
    if not child:
        os.close(heard)
        write_for_ever(folder, told, prepare, first)
        signal.pause()
    os.close(told)
    acknowledged: set[int] = set()
    with os.fdopen(heard, "rb") as pipe:
        while len(raw := pipe.read(8)) == 8:
            acknowledged.add(int.from_bytes(raw, "big"))
            if len(acknowledged) == after:
                os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    return acknowledged


def settle(folder: Path, acknowledged: set[int]) -> None:
    """Everything acknowledged is there with its entry; what was not is there whole or not at all; all is consistent."""
    house = House(folder)
    verdict = house.ledger.inspect()
    recorded = {int(entry.run, 16) for entry in house.ledger.entries()}
    assert acknowledged <= recorded
    assert verdict.size == len(recorded)
    assert all(house.state.meta.get(f"work {number}") == "done" for number in recorded if number)
    assert {int(run.run, 16) for run in house.state.stale_runs()} == recorded
    house.state.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    state = State.create(f"sqlite:///{tmp_path}/state.db", SystemClock())
    FolderAnchor("here", tmp_path / "anchor").create()
    state.close()
    return tmp_path


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.__name__)
def test_a_kill_at_a_named_point_loses_nothing_acknowledged(folder: Path, point: Callable) -> None:
    dice = random.Random(point.__name__)
    acknowledged: set[int] = set()
    for hit in range(HITS):
        calls = dice.randint(1, 3) if point is while_anchoring else dice.randint(1, 30)
        acknowledged |= killed(folder, lambda house, calls=calls: point(house, Countdown(calls)), 1 + hit * 10**6, None)
        settle(folder, acknowledged)
    assert acknowledged


def test_kills_at_random_lose_nothing_acknowledged(folder: Path) -> None:
    dice = random.Random(11)
    acknowledged: set[int] = set()
    for hit in range(20):
        acknowledged |= killed(
            folder, lambda house: setattr(house, "anchors", True), 1 + hit * 10**6, dice.randint(1, 150)
        )
        settle(folder, acknowledged)
    assert len(acknowledged) > 300
