"""Agent and clients are killed while the shop tells: what was acknowledged is there, once; nothing is half there."""

import json
import os
import random
import select
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest

from guard import faults
from guard.actions.tell import Desk
from guard.app import App
from guard.audit import Emitter, UnrecordedError
from guard.audit.told import shaped
from guard.clock import SteppedClock, SystemClock
from guard.daemon import Stop, listener, serve
from guard.errors import BusyError
from guard.state import place, settle
from tests.telling.shop import House, become, line

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CALLER = "www-data" if os.geteuid() == 0 else None
CLIENTS = 3
POINTS = (
    "agent.asked",
    "audit.persons.keys",
    "audit.emit.recorded",
    "agent.done",
    "agent.told",
)
"""Where the agent dies: before it has begun, with keys of people made and nothing recorded, recorded and not told."""


def told(client: int, number: int) -> dict[str, Any]:
    """What a client tells as its `number`th: an event of one entry, or of two, about the people of now and new ones."""
    people = [{"kind": "customer", "key": number % 50}, {"kind": "member", "key": f"m{client}-{number // 20}"}]
    return line(
        what=f"event{'' if number % 2 else '.both'}",
        at=SystemClock().now().isoformat(),
        subject=people if not number % 2 else people[1],
        details={"number": number},
        id=f"{client} {number}",
    )


def entries_of(number: int) -> int:
    return 1 if number % 2 else 2


class Siege:
    """One house, its agent that dies and is started again, and clients that go on telling."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.socket = house.app.agent_socket
        house.app.close()
        "".encode("utf-16be")
        self.heard, self._tell = os.pipe()
        self.acknowledged: set[tuple[int, int]] = set()
        self.clients: dict[int, int] = {}
        self.numbers = iter(range(1, 10**6))

    # In the children -------------------------------------------------------------------------------------------------

    def _agent(self, point: str | None, nth: int) -> NoReturn:
        left, lock = [nth], threading.Lock()

        def hook(name: str) -> None:
            with lock:
                left[0] -= name == point
                if name == point and not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)

        faults.install(hook)
        stop = Stop()
        signal.signal(signal.SIGTERM, lambda *_: stop.ask())
        app = App.open(self.house.config, SystemClock())
        while True:
            with suppress(BusyError):  # the one before is not gone yet
                serve(app, stop, lambda _: None, None, listener)
                break
        app.close()
        os._exit(0)

    def _client(self, which: int) -> NoReturn:
        if CALLER:
            become(CALLER)
        log = Emitter.open("/nowhere/guard.toml", socket=self.socket, patience=1.0)
        number = 0
        while True:
            number += 1
            events = [told(which, number)]
            while True:
                try:
                    log.emit_many(events)
                    break
                except UnrecordedError as error:
                    events = [json.loads(each) for each in error.lines.splitlines()]
            os.write(self._tell, which.to_bytes(4, "big") + number.to_bytes(4, "big"))

    # In the test -----------------------------------------------------------------------------------------------------

    def start_agent(self, point: str | None = None, nth: int = 1) -> int:
        child = os.fork()
        if not child:
            self._run(lambda: self._agent(point, nth))
        return child

    def start_client(self) -> None:
        which = next(self.numbers)
        child = os.fork()
        if not child:
            self._run(lambda: self._client(which))
        self.clients[which] = child

    def kill_client(self, which: int) -> None:
        child = self.clients.pop(which)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    def listen(self, agent: int, after: int | None = None) -> bool:
        """Hear what is acknowledged until the agent is dead (True), or `after` more were (False)."""
        while True:
            if os.waitpid(agent, os.WNOHANG) != (0, 0):
                return True
            if select.select([self.heard], [], [], 0.02)[0]:
                raw = os.read(self.heard, 8)
                self.acknowledged.add((int.from_bytes(raw[:4], "big"), int.from_bytes(raw[4:], "big")))
                if after is not None and (after := after - 1) <= 0:
                    return False

    def settle(self) -> None:
        """Everything acknowledged is there, each event whole, none twice, and the ledger is what was signed."""
        app = App.open(self.house.config, SystemClock())
        desk = Desk(app)
        runs = {str(desk.run_of(shaped(told(*each)))): each for each in self.acknowledged}
        found = Counter(entry.run for entry in app.ledger.entries() if entry.what.startswith("shop."))
        numbers = {entry.run: entry.what for entry in app.ledger.entries() if entry.what.startswith("shop.")}
        assert not runs.keys() - found.keys()
        assert all(count == (2 if numbers[run] == "shop.event.both" else 1) for run, count in found.items())
        app.ledger.inspect()
        app.close()

    def end(self) -> None:
        for which in list(self.clients):
            self.kill_client(which)
        os.close(self.heard)
        os.close(self._tell)

    @staticmethod
    def _run(work: Callable[[], NoReturn]) -> NoReturn:
        try:
            work()
        except BaseException:  # noqa: BLE001  # the child ends here, whatever it was
            import traceback

            traceback.print_exc()
        os._exit(1)


@pytest.fixture(params=["sqlite", "postgresql"])
def siege(request: pytest.FixtureRequest, make_house: Callable[..., House], open_folder: Path) -> Iterator[Siege]:
    past = SteppedClock(SystemClock().now() - timedelta(hours=1))
    house = make_house(past, more=f'\n[agent]\nsocket = "{open_folder}/agent/guard.sock"\n')
    if CALLER:
        house.edit('# os_user = "shop"', f'os_user = "{CALLER}"', "policies/access.toml")
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
        house.app.close()
        settle(house.home / "var/state.db")
        place(house.home / "var/state.db", url)
        house.edit("sqlite:///var/state.db", url)
    house.reopen(SystemClock())
    made = Siege(house)
    yield made
    made.end()


def besiege(siege: Siege, kills: int, seed: int) -> Counter[str]:
    """Kill the agent at each point in turn, and at random; a client now and then; return how often at what."""
    dice, hits = random.Random(seed), Counter[str]()
    for _ in range(CLIENTS):
        siege.start_client()
    for kill in range(kills):
        point = (*POINTS, "at random")[kill % (len(POINTS) + 1)]
        agent = siege.start_agent(point, dice.randint(1, 12))
        if point == "at random":
            assert not siege.listen(agent, dice.randint(1, 40))
            os.kill(agent, signal.SIGKILL)
        assert siege.listen(agent) if point != "at random" else os.waitpid(agent, 0)
        hits[point] += 1
        if kill % 4 == 3:
            siege.kill_client(dice.choice(list(siege.clients)))
            siege.start_client()
    return hits


def test_kills_lose_nothing_acknowledged_and_double_nothing(siege: Siege) -> None:
    hits = besiege(siege, 12, 7)
    assert set(hits) == {*POINTS, "at random"}
    agent = siege.start_agent()
    assert not siege.listen(agent, 30)  # every client goes on
    os.kill(agent, signal.SIGTERM)
    assert siege.listen(agent)
    siege.settle()
    assert len(siege.acknowledged) > 30


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_hundred_kills(siege: Siege) -> None:
    hits = besiege(siege, 102, 11)
    assert min(hits.values()) >= 5
    siege.settle()
    assert len(siege.acknowledged) > 200
