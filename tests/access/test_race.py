"""Many processes at the door at once: one code passes once, and guessers share the configured tries."""

import multiprocessing
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from guard.access import Access
from guard.clock import SteppedClock
from guard.config.access import CodeRule
from guard.errors import DeniedError
from guard.events import Level
from tests.access.conftest import At, House, Phone, Words, make_house, wrong

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


def _compete(access: Access, at: At, start: Barrier, out: "multiprocessing.Queue[str]") -> None:
    start.wait()
    try:
        access.allow(at, "fields.encrypt", Level.PRIVILEGED, "d" * 64, Words(), None)
        out.put("passed")
    except DeniedError as error:
        out.put(str(error.reason))


def race(house: House, phone: Phone, codes: list[str]) -> Counter[str]:
    """Let one process for each code come to the door at once, and return how they fared."""
    fork = multiprocessing.get_context("fork")
    start, out = fork.Barrier(len(codes)), fork.Queue()
    house.state.close()  # no connection may live in two processes
    racers = [fork.Process(target=_compete, args=(house.access, phone.at_door(code), start, out)) for code in codes]
    for racer in racers:
        racer.start()
    fared = Counter(out.get(timeout=60) for _ in racers)
    for racer in racers:
        racer.join()
    return fared


@pytest.mark.parametrize("rounds", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_one_code_used_by_eight_processes_at_once_passes_once(house: House, ada: Phone, rounds: int) -> None:
    for _ in range(rounds):
        fared = race(house, ada, [ada.code()] * 8)
        assert fared["passed"] == 1
        assert fared.keys() <= {"passed", "used code", "locked"}
        house.clock.step(timedelta(minutes=20))


def test_one_recovery_code_used_by_eight_processes_at_once_passes_once(house: House, ada: Phone) -> None:
    for code in ada.recovery[:3]:
        assert race(house, ada, [code] * 8)["passed"] == 1
        house.clock.step(timedelta(minutes=20))


def test_eight_processes_that_guess_at_once_get_the_configured_tries_together(house: House, ada: Phone) -> None:
    assert race(house, ada, [wrong(ada)] * 8) == {"wrong code": TRIES, "locked": 8 - TRIES}


def test_what_is_read_back_is_what_was_written(house: House, ada: Phone) -> None:
    """Seals are over values, not over what a database makes of them: each table is written and believed again."""
    assert house.why(ada.at_door(ada.recovery[0])) == ""
    assert house.why(ada.at_door(wrong(ada))) == "wrong code"
    assert house.why(ada.at_door(), "fields.decrypt", Level.DUAL) == "waits"
    digest = house.access.policy_digest("retention.run", b"policy")
    house.state.write(lambda tx: house.access.give_standing(tx, "retention.run", digest, ada.who.id))
    again = house.again()
    assert [each.kind for each in again.requests()] == ["waits", "standing"]
    assert again.people()[0].recovery_codes == 9
    for each in again.requests():
        house.state.write(lambda tx, id_=each.id: again.refuse(tx, id_, ada.who.id))
    assert again.requests() == ()
