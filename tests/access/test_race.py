"""Many processes at the door at once: one code passes once, and guessers share the configured tries."""

import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from guard.access import Access, Approves
from guard.clock import SteppedClock
from guard.config.access import CodeRule
from guard.errors import ClockError, DeniedError
from guard.events import Level, Principal
from tests.access.conftest import STEP, At, House, Phone, Words, make_house, wrong

TRIES = CodeRule().tries


@pytest.fixture(params=["sqlite", "postgresql"])
def house(request: pytest.FixtureRequest, tmp_path: Path, clock: SteppedClock) -> Iterator[House]:
    """A store in each database that state may lie in."""
    url = f"sqlite:///{tmp_path}/state.db"
    if request.param == "postgresql":
        pytest.importorskip("psycopg")
        url = request.getfixturevalue("postgres_url")
    made = make_house(url, clock)
    yield made
    made.state.close()


def _compete(access: Access, clock: SteppedClock, who: Principal, start: Barrier, told: Connection) -> None:
    """Come to the door with each code that is told, when the others do."""
    while word := told.recv():
        code, span = word
        clock.step(span)
        start.wait(60)
        try:
            access.allow(
                At(who, lambda _, code=code: code), "fields.encrypt", Level.PRIVILEGED, "d" * 64, Words(), None
            )
            told.send("passed")
        except DeniedError as error:
            told.send(str(error.reason))
        except ClockError:
            told.send("clock")


@dataclass
class Racers:
    """Eight processes at the door of a person, each with connections and a clock of its own."""

    house: House
    pipes: list[Connection]
    since: datetime

    def race(self, codes: Sequence[str]) -> list[str]:
        """Let each process come with a code at once, and return how they fared."""
        now = self.house.clock.now()
        for pipe, code in zip(self.pipes, codes, strict=True):
            pipe.send((code, now - self.since))
        self.since = now
        return [pipe.recv() for pipe in self.pipes]


@contextmanager
def racers(house: House, phone: Phone, count: int = 8) -> Iterator[Racers]:
    """Start the processes; they end with the block."""
    fork = multiprocessing.get_context("fork")
    start, pipes, started = fork.Barrier(count), [], []
    house.state.close()  # no connection may live in two processes
    for _ in range(count):
        ours, theirs = fork.Pipe()
        one = fork.Process(target=_compete, args=(house.access, house.clock, phone.who, start, theirs), daemon=True)
        one.start()
        pipes.append(ours)
        started.append(one)
    try:
        yield Racers(house, pipes, house.clock.now())
    finally:
        for pipe, one in zip(pipes, started, strict=True):
            with suppress(OSError):
                pipe.send(None)
            one.join(60)


SLOW, SOAK = pytest.mark.slow, pytest.mark.soak


@pytest.mark.parametrize(
    ("house", "rounds"),
    [
        ("sqlite", 3),
        ("postgresql", 3),
        pytest.param("sqlite", 10, marks=SLOW),
        pytest.param("postgresql", 20, marks=SLOW),
        pytest.param("sqlite", 1000, marks=SOAK),
    ],
    indirect=["house"],
)
def test_one_code_used_by_eight_processes_at_once_passes_once(house: House, ada: Phone, rounds: int) -> None:
    with racers(house, ada) as eight:
        for _ in range(rounds):
            fared = Counter(eight.race([ada.code()] * 8))
            assert fared["passed"] == 1
            assert fared.keys() <= {"passed", "used code", "locked"}
            house.clock.step(timedelta(minutes=20))


def test_no_code_passes_again_after_the_clock_was_set_back(house: House, ada: Phone) -> None:
    with racers(house, ada) as eight:
        code = ada.code()
        assert eight.race([code] * 8).count("passed") == 1
        house.clock.step(-timedelta(seconds=4))  # as much as guard bears
        assert set(eight.race([code] * 8)) <= {"used code", "locked"}
        house.clock.step(-timedelta(minutes=10))
        assert set(eight.race([ada.code()] * 8)) == {"clock"}


def test_of_codes_of_three_steps_at_once_each_passes_once_at_the_most(house: House, ada: Phone) -> None:
    """A clock that is off is followed meanwhile: it opens no step a second time."""
    with racers(house, ada) as eight:
        for off in (0, 1, 1, 2, 0):
            codes = [ada.code(off + each) for each in (-1, 0, 1)]
            typed = [codes[each % 3] for each in range(8)]
            fared = [code for code, how in zip(typed, eight.race(typed), strict=True) if how == "passed"]
            again = eight.race(typed)
            assert len(set(fared)) == len(fared)
            assert not {code for code, how in zip(typed, again, strict=True) if how == "passed"} & set(fared)
            house.clock.step(timedelta(minutes=20))


def test_one_recovery_code_used_by_eight_processes_at_once_passes_once(house: House, ada: Phone) -> None:
    with racers(house, ada) as eight:
        for code in ada.recovery[:3]:
            assert eight.race([code] * 8).count("passed") == 1
            house.clock.step(timedelta(minutes=20))


def test_two_codes_of_one_person_at_once_do_not_let_a_dual_action_pass(house: House, ada: Phone) -> None:
    """The second finds what the first has asked for, which waits for somebody else."""
    dual = ("fields.decrypt", Level.DUAL, "d" * 64)
    at, other = ada.at_door(), ada.at_door()

    def slow(_: str) -> str:
        assert house.why(other, *dual) == "waits"
        house.clock.step(STEP)
        return ada.code()

    at.ask = slow
    assert house.why(at, *dual) == "waits"
    assert len(house.access.requests()) == 1


def test_eight_processes_that_guess_at_once_get_the_configured_tries_together(house: House, ada: Phone) -> None:
    with racers(house, ada) as eight:
        assert Counter(eight.race([wrong(ada)] * 8)) == {"wrong code": TRIES, "locked": 8 - TRIES}


def test_what_is_read_back_is_what_was_written(house: House, ada: Phone) -> None:
    """Seals are over values, not over what a database makes of them: each table is written and believed again."""
    assert house.why(ada.at_door(ada.recovery[0])) == ""
    assert house.why(ada.at_door(wrong(ada))) == "wrong code"
    bob = house.phone("bob")
    assert house.why(ada.at_door(), "fields.decrypt", Level.DUAL) == "waits"
    digest = house.access.policy_digest("retention.run", b"policy")
    house.state.write(lambda tx: house.access.give_standing(tx, "retention.run", digest, ada.who.id))
    again = house.again()
    assert [each.kind for each in again.requests()] == ["waits for a person", "standing"]
    approves = Approves(again.requests()[0].id, "fields.decrypt", "d" * 64)
    house.state.write(lambda tx: again.approve(tx, approves, bob.who.id, None))
    assert (again.requests()[0].kind, again.requests()[0].approved) == ("ready", (bob.who.id,))
    assert {each.id: each.recovery_codes for each in again.people()}[ada.who.id] == 9
    for each in again.requests():
        house.state.write(lambda tx, id_=each.id: again.refuse(tx, id_, ada.who.id))
    assert again.requests() == ()
