"""A ledger in a temporary folder with an anchor beside it, and one with sixty entries to copy."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from guard.audit import FolderAnchor, Ledger
from guard.clock import SteppedClock
from guard.events import GUARD, Activity, Ending, Event, PrincipalId, RunId
from guard.state import State

STORE = UUID("00112233-4455-6677-8899-aabbccddeeff")
SEED = bytes(range(32))
START = datetime(2026, 1, 5, 9, tzinfo=UTC)


def event(number: int = 0) -> Event:
    """Return one of a few different events."""
    ending = (Ending.BEGUN, Ending.DONE, Ending.DENIED)[number % 3]
    return Event(
        f"test.work-{number % 4}",
        ending,
        (GUARD, PrincipalId("p-abcdefghij"))[number % 2],
        RunId(f"{number // 2 * 2 + (number % 3 == 0):032x}"),
        Activity.DATA_ENCRYPT,
        objects=("Customer.Email",) if number % 2 else (),
        counts={"rows": number},
        digests={"action": "ab" * 32},
        facts={"reason": "ü"} if number % 5 == 0 else {},
        subject="cd" * 16 if number % 7 == 0 else None,
    )


@dataclass
class House:
    """A state, its ledger, its anchor and its clock."""

    folder: Path
    state: State
    ledger: Ledger
    anchor: FolderAnchor
    clock: SteppedClock

    def add(self, *events: Event) -> None:
        """Record events in one commit."""
        self.state.write(lambda tx: None, *events)

    def reopened(self) -> "House":
        """Close, and open the same folder again."""
        self.state.close()
        return opened(self.folder, self.clock)

    def close(self) -> None:
        """Close the state."""
        self.state.close()


def opened(folder: Path, clock: SteppedClock) -> House:
    """Open the house in `folder`; make it when it is not there."""
    url, anchor = f"sqlite:///{folder}/state.db", FolderAnchor("here", folder / "anchor")
    if not (folder / "state.db").exists():
        State.create(url, clock, STORE).close()
        anchor.create()
    state = State.open(url, clock)
    ledger = Ledger(state, SEED, [anchor])
    state.attach(ledger.append)
    return House(folder, state, ledger, anchor, clock)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """An empty ledger."""
    made = opened(tmp_path, SteppedClock(START))
    yield made
    made.close()


@pytest.fixture(scope="session")
def sixty_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty entries over seven hours in groups of one to three; anchored at 40 and closed."""
    folder = tmp_path_factory.mktemp("sixty")
    made = opened(folder, SteppedClock(START))
    done = 0
    while done < 60:
        count = min(1 + done % 3, 60 - done)
        made.add(*[event(number) for number in range(done, done + count)])
        done += count
        made.clock.step(timedelta(minutes=13))
        if done == 40:
            made.ledger.anchor()
    made.close()
    return folder


@pytest.fixture
def sixty(sixty_folder: Path, tmp_path: Path) -> Iterator[House]:
    """A copy of the sixty entries, to be tampered with."""
    shutil.copytree(sixty_folder, tmp_path / "sixty")
    made = opened(tmp_path / "sixty", SteppedClock(START + timedelta(hours=14)))
    yield made
    made.close()


@pytest.fixture
def make_event() -> Callable[[int], Event]:
    """Make one of a few different events."""
    return event
