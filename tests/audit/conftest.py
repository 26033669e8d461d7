"""A ledger in a temporary folder with an anchor beside it, and one with sixty entries to copy."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from guard.audit import FolderAnchor, Ledger
from guard.audit.rekey import Rekey, Seeds
from guard.audit.verdict import Verdict
from guard.clock import SteppedClock
from guard.crypto.sign import Signer
from guard.events import GUARD, Activity, Ending, Event, PrincipalId, RunId
from guard.state import State
from tests.audit.people import Open, Room, rooms

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
    """A state, its ledger, its anchor, its clock, and the seeds of its key."""

    folder: Path
    state: State
    ledger: Ledger
    anchor: FolderAnchor
    clock: SteppedClock
    keys: "Keys"

    def add(self, *events: Event) -> None:
        """Record events in one commit."""
        self.state.write(lambda tx: None, *events)

    def sign(self, text: str, seed: bytes = SEED) -> str:
        """Sign a checkpoint's text as who has stolen the key can."""
        return Signer(seed, text.partition("\n")[0]).sign_note(text)

    def rekey(self, *events: Event, seed: bytes | None = None) -> Rekey:
        """Change the key in one commit, as `keys rotate ledger` does; `events` come in the same one."""
        fresh = seed or bytes([self.keys.version + 1]) * 32
        self.keys.waiting = fresh
        found = self.ledger.rekey(fresh, self.keys.version + 1)
        self.state.write(lambda tx: None, found.event(GUARD, RunId("fe" * 16)), *events)
        self.keys.activate()
        return found

    def inspect(self, **more: Any) -> Verdict:
        """Verify as a process does that knows nothing yet."""
        return Ledger(self.state, self.keys, [self.anchor]).inspect(**more)

    def reopened(self, keys: "Keys | None" = None) -> "House":
        """Close, and open the same folder again."""
        self.state.close()
        return opened(self.folder, self.clock, keys or self.keys)

    def close(self) -> None:
        """Close the state."""
        self.state.close()


@dataclass
class Keys:
    """The versions of the ledger's key, as state holds them: called, it gives them."""

    seeds: list[bytes] = field(default_factory=lambda: [SEED])
    waiting: bytes | None = None

    @property
    def version(self) -> int:
        return len(self.seeds)

    def activate(self) -> None:
        """Let the version that waits sign."""
        assert self.waiting is not None
        self.seeds, self.waiting = [*self.seeds, self.waiting], None

    def copy(self) -> "Keys":
        return Keys(list(self.seeds), self.waiting)

    def __call__(self) -> Seeds:
        others = [*self.seeds[:-1], *([self.waiting] if self.waiting else [])]
        return Seeds(self.seeds[-1], tuple(others))


def opened(folder: Path, clock: SteppedClock, keys: Keys | None = None) -> House:
    """Open the house in `folder`; make it when it is not there."""
    keys = keys or Keys()
    url, anchor = f"sqlite:///{folder}/state.db", FolderAnchor("here", folder / "anchor")
    if not (folder / "state.db").exists():
        State.create(url, clock, STORE).close()
        anchor.create()
    state = State.open(url, clock)
    ledger = Ledger(state, keys, [anchor])
    state.attach(ledger.append)
    return House(folder, state, ledger, anchor, clock, keys)


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


@pytest.fixture
def open_room(tmp_path: Path, clock: SteppedClock) -> Iterator[Open]:
    """Open a ledger that names people; again, as another process."""
    with rooms(tmp_path, clock) as opened:
        yield opened


@pytest.fixture
def room(open_room: Open) -> Room:
    """An empty ledger that names people."""
    return open_room()
