"""SIGKILL at any point of the writer: what was acknowledged is there, nothing is half there, the next one goes on."""

import os
import random
import signal
import threading
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import event

from guard.audit import FolderAnchor, Ledger, merkle, store
from guard.audit.anchors import FIRST, NOTHING, Known
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
    dialect = house.state.database.writer.dialect
    commit = dialect.do_commit

    def killing(connection: object) -> None:
        commit(connection)
        kill()

    dialect.do_commit = killing


def while_anchoring(house: "House", kill: Countdown) -> None:
    class Half(FolderAnchor):
        def put(self, size: int, note: str, log: str = FIRST, known: Known = NOTHING) -> None:
            super().put(size, note, log, known)
            kill()

    house.ledger = Ledger(house.state, SEED, [Half("here", house.place.anchor)])
    house.state.attach(house.ledger.append)
    house.anchors = True


POINTS = (in_a_work, before_the_entries, after_the_entries, before_the_commit, after_the_commit, while_anchoring)


@dataclass(frozen=True)
class Place:
    """Where a state lies, and its anchor."""

    url: str
    anchor: Path


class House:
    """One state and ledger of a process."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.state = State.open(place.url, SystemClock())
        self.ledger = Ledger(self.state, SEED, [FolderAnchor("here", place.anchor)])
        self.state.attach(self.ledger.append)
        self.in_work: Callable[[], None] = lambda: None
        self.anchors = False


def write_for_ever(place: Place, told: int, prepare: Callable[[House], None], first: int) -> None:
    """Write from several threads; tell the number of each write once it is acknowledged, and a checkpoint seen then."""
    house = House(place)
    prepare(house)

    def work(tx: Tx, number: int) -> None:
        house.state.meta.set(tx, f"work {number}", "done")
        house.in_work()

    def run(which: int) -> None:
        for number in range(first + which, first + 10**6, THREADS):
            done = Event("test.kill", Ending.BEGUN, GUARD, RunId(f"{number:032x}"))
            house.state.write(lambda tx, number=number: work(tx, number), done)
            _, size, root = house.ledger.checkpoint().split("\n")[:3]
            os.write(told, number.to_bytes(8, "big") + int(size).to_bytes(8, "big") + b64decode(root))
            if house.anchors and number % 16 == 0:
                house.ledger.anchor()

    for which in range(THREADS):
        threading.Thread(target=run, args=(which,)).start()


class Watch:
    """What was acknowledged over all kills, and the roots that anybody has seen."""

    def __init__(self) -> None:
        self.acknowledged: set[int] = set()
        self.roots: dict[int, bytes] = {}

    def hear(self, raw: bytes) -> None:
        number, size, root = int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:16], "big"), raw[16:]
        self.acknowledged.add(number)
        assert self.roots.setdefault(size, root) == root, f"two roots of size {size}"


def killed(place: Place, watch: Watch, prepare: Callable[[House], None], first: int, after: int | None) -> None:
    """Fork a writer, and kill it: by itself, or when `after` writes are acknowledged."""
    heard, told = os.pipe()
    child = os.fork()
    if not child:
        os.close(heard)
        write_for_ever(place, told, prepare, first)
        signal.pause()
    os.close(told)
    heard_now = 0
    with os.fdopen(heard, "rb") as pipe:
        while len(raw := pipe.read(48)) == 48:
            watch.hear(raw)
            heard_now += 1
            if heard_now == after:
                os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def settle(place: Place, watch: Watch) -> None:
    """Everything acknowledged is there with its entry; what was not is there whole or not at all; all is consistent."""
    house = House(place)
    verdict = house.ledger.inspect()
    recorded = [int(entry.run, 16) for entry in house.ledger.entries()]
    assert watch.acknowledged <= set(recorded)
    assert verdict.size == len(recorded) == len(set(recorded))
    assert watch.roots.setdefault(verdict.size, bytes.fromhex(verdict.root)).hex() == verdict.root
    with house.state.read() as tx:
        for size, root in watch.roots.items():  # what anybody has seen is the root of what is there now
            assert merkle.fold([store.subtree(tx, level, at) for level, at in merkle.cover(size)]) == root
    assert all(house.state.meta.get(f"work {number}") == "done" for number in recorded if number)
    assert {int(run.run, 16) for run in house.state.stale_runs()} == set(recorded)
    house.state.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    url = f"sqlite:///{tmp_path}/state.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    State.create(url, SystemClock()).close()
    FolderAnchor("here", tmp_path / "anchor").create()
    return Place(url, tmp_path / "anchor")


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.__name__)
def test_a_kill_at_a_named_point_loses_nothing_acknowledged(place: Place, point: Callable) -> None:
    dice = random.Random(point.__name__)
    watch = Watch()
    for hit in range(HITS):
        calls = dice.randint(1, 3) if point is while_anchoring else dice.randint(1, 30)
        killed(place, watch, lambda house, calls=calls: point(house, Countdown(calls)), 1 + hit * 10**6, None)
        settle(place, watch)
    assert watch.acknowledged


def test_kills_at_random_lose_nothing_acknowledged(place: Place) -> None:
    dice = random.Random(11)
    watch = Watch()
    for hit in range(20):
        killed(place, watch, lambda house: setattr(house, "anchors", True), 1 + hit * 10**6, dice.randint(1, 150))
        settle(place, watch)
    assert len(watch.acknowledged) > 300
