"""A client that guesses, starts anew for each guess and is killed wherever it likes: it gets the configured tries."""

import os
import random
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from guard import faults
from guard.access import Access
from guard.access.factor import locked_for
from guard.config.access import CodeRule
from guard.crypto.keyring import Keyring
from guard.errors import DeniedError
from guard.events import Level
from guard.state import State
from tests.access.conftest import House, Phone, Words, wrong

RULE = CodeRule()
POINTS = ("access.code.charged", "access.code.compared", "access.code.spent")


@dataclass
class Client:
    """Guesses at somebody's code, each time in a new process that opens the store itself."""

    house: House
    phone: Phone
    tried: list[datetime] = field(default_factory=list)
    """When a guess was counted and went on to be compared."""

    def guess(self, code: str, die_at: str | None = None) -> str:
        """Return how a guess ended: "passed", the reason of a refusal, or "killed"."""
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(out)
            _come(self.house, self.phone, code, lambda word: _tell(into, word, die_at))
        os.close(into)
        with os.fdopen(out) as told:
            words = told.read().splitlines()
        _, status = os.waitpid(child, 0)
        self.tried += [self.house.clock.now()] * words.count(POINTS[0])
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            return "killed"
        assert os.WEXITSTATUS(status) == 0
        return words[-1]

    def count(self) -> int:
        """Return the tries that state has counted, read from its file."""
        with closing(sqlite3.connect(self.house.state.path or "")) as db:
            return int(
                db.execute("SELECT tries FROM access_factor WHERE person = ?", (self.phone.who.id,)).fetchone()[0]
            )


def _come(house: House, phone: Phone, code: str, tell: Callable[[str], None]) -> None:
    """Come to the door as a new process does, and end."""
    try:
        state = State.open(house.url, house.clock)
        access = Access(state, Keyring.open(state, house.root), house.policy, house.clock)
        faults.install(tell)
        access.allow(phone.at_door(code), "fields.encrypt", Level.PRIVILEGED, "d" * 64, Words(), None)
        tell("passed")
    except DeniedError as error:
        tell(str(error.reason))
    except BaseException:  # noqa: BLE001  # the child must end here, whatever it was
        os._exit(1)
    os._exit(0)


def _tell(into: int, word: str, die_at: str | None) -> None:
    os.write(into, f"{word}\n".encode())
    if word == die_at:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def client(house: House, ada: Phone) -> Client:
    """A client in front of Ada's second factor; this process keeps no connection."""
    house.state.close()
    return Client(house, ada)


@pytest.mark.parametrize("die_at", [None, *POINTS])
def test_a_client_that_dies_at_will_gets_the_configured_tries(client: Client, die_at: str | None) -> None:
    for nth in range(1, RULE.tries + 4):
        before = client.count()
        ended = client.guess(wrong(client.phone), die_at)
        assert ended == ("locked" if nth > RULE.tries else "killed" if die_at else "wrong code")
        assert client.count() == min(nth, RULE.tries) >= before
    assert len(client.tried) == RULE.tries
    assert client.guess(client.phone.code()) == "locked", "the right one comes too late"


@pytest.mark.parametrize("die_at", POINTS[:2])
def test_a_right_code_that_dies_before_it_is_taken_is_a_try_and_stays_good(client: Client, die_at: str) -> None:
    code = client.phone.code()
    assert client.guess(code, die_at) == "killed"
    assert client.count() == 1
    assert client.guess(code) == "passed"
    assert client.count() == 0
    assert client.guess(code) == "used code"


def test_a_right_code_that_dies_after_it_was_taken_is_used(client: Client) -> None:
    code = client.phone.code()
    assert client.guess(code, "access.code.spent") == "killed"
    assert client.guess(code) == "used code"


@pytest.mark.parametrize(
    ("seed", "kills"),
    [(1, 8), pytest.param(2, 20, marks=pytest.mark.slow), pytest.param(3, 100, marks=pytest.mark.soak)],
)
def test_however_it_dies_no_guess_comes_before_its_time_and_the_count_never_goes_back(
    client: Client, seed: int, kills: int
) -> None:
    """Guesses at random times, each killed at a random point or not at all, against the rule worked out anew."""
    chance, killed = random.Random(seed), 0
    while killed < kills:
        before = client.count()
        killed += client.guess(wrong(client.phone), chance.choice([None, *POINTS])) == "killed"
        assert before <= client.count() == len(client.tried)
        wait = locked_for(client.count(), RULE)
        client.house.clock.step(chance.choice([timedelta(), wait * 0.5, wait, timedelta(seconds=20)]))
    for nth, (one, other) in enumerate(zip(client.tried, client.tried[1:], strict=False), 1):
        over = nth - RULE.tries
        least = timedelta() if over < 0 else min(timedelta(minutes=1) * 2 ** min(over, 12), timedelta(days=1))
        assert other - one >= least
    assert client.guess(client.phone.recovery[0]) in {"passed", "locked"}
