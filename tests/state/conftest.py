"""A state in a temporary folder, a table of the tests' own, and events."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Column, Integer, Table, Text, select

from guard.clock import SteppedClock
from guard.events import GUARD, Ending, Event, RunId
from guard.state import METADATA, State

STORE = UUID("00112233-4455-6677-8899-aabbccddeeff")

NOTE = METADATA.tables.get("test_note")
if NOTE is None:
    NOTE = Table("test_note", METADATA, Column("id", Integer, primary_key=True), Column("text", Text, unique=True))


@pytest.fixture
def notes() -> Table:
    """A table with a unique column, on METADATA as a room's own."""
    return NOTE


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a state that is not there yet."""
    return f"sqlite:///{tmp_path}/var/state.db"


@pytest.fixture
def state(url: str, clock: SteppedClock) -> Iterator[State]:
    """A new state whose ledger takes everything."""
    made = State.create(url, clock, STORE)
    made.attach(lambda tx, events: None)
    yield made
    made.close()


@pytest.fixture
def texts(notes: Table) -> Callable[[State], list[str]]:
    """Read what the tests' own table holds."""

    def read(state: State) -> list[str]:
        with state.read() as tx:
            return list(tx.scalars(select(notes.c.text).order_by(notes.c.text)))

    return read


@pytest.fixture
def event() -> Callable[..., Event]:
    """Make events: `event(run, ending)`."""

    def make(run: int = 1, ending: Ending = Ending.BEGUN) -> Event:
        return Event("test.work", ending, GUARD, RunId(f"{run:032x}"))

    return make
