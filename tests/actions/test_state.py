"""`guard state migrate`: an older state is copied, brought up to date and recorded; a newer one is refused."""

import getpass
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from guard.actions.setup import Answers, set_up
from guard.actions.state import bring_up
from guard.app import App
from guard.audit import Query
from guard.clock import SteppedClock
from guard.errors import BusyError, InterlockError
from guard.events import Ending
from guard.state import Migration, State, migrate

STEP = Migration(1, "give everybody a hat", lambda tx: tx.execute(text("CREATE TABLE hat (id INTEGER)")))


@pytest.fixture
def home(tmp_path: Path, clock: SteppedClock, phone: Any) -> Path:
    """A guard folder whose state is of the schema before."""
    folder = tmp_path / "home"
    set_up(folder, Answers("Shop", "sqlite:///shop.db", "Ada", getpass.getuser()), clock, phone.enrol).app.close()
    schema(folder, clock, "0")
    return folder


def schema(folder: Path, clock: SteppedClock, number: str) -> None:
    state = State.open(f"sqlite:///{folder}/var/state.db", clock)
    state.write(lambda tx: state.meta.set(tx, "schema", number))
    state.close()


@pytest.fixture
def app(home: Path, clock: SteppedClock) -> Iterator[App]:
    opened = App.open(home / "guard.toml", clock)
    yield opened
    opened.close()


def test_it_is_copied_brought_up_and_recorded(app: App) -> None:
    with pytest.raises(InterlockError, match="schema 0 to 1"):
        _ = app.state
    done = bring_up(
        app, lambda: app.access.person_of(getpass.getuser()), by=partial(migrate, migrations=[STEP], target=1)
    )
    assert done == ("1: give everybody a hat",)
    (copy,) = (app.home / "var").glob("state.db.before_1_from_0_*")
    assert copy.stat().st_mode & 0o777 == 0o600
    (told,) = app.ledger.list(Query(what="state.migrate"), 5)
    assert (told.outcome, told.counts) == (Ending.DONE, {"schema": 1, "steps": 1})
    assert told.who.startswith("p-")
    assert bring_up(app, lambda: app.access.person_of(getpass.getuser())) == ()
    assert len(app.ledger.list(Query(what="state.migrate"), 5)) == 1


def test_a_newer_one_is_refused_and_nothing_is_copied(home: Path, app: App, clock: SteppedClock) -> None:
    migrate(f"sqlite:///{home}/var/state.db", clock, [STEP], 1)
    schema(home, clock, "7")
    copies = len(list((home / "var").glob("*before*")))
    with pytest.raises(InterlockError, match="schema 7, this guard knows 1"):
        bring_up(app, lambda: pytest.fail("nobody is asked for"))
    assert len(list((home / "var").glob("*before*"))) == copies


def test_it_waits_for_nobody_who_works_on_state(app: App) -> None:
    with app.hold(("state",), timedelta(), "keys.rotate"), pytest.raises(BusyError, match=r"keys\.rotate"):
        bring_up(app, lambda: pytest.fail("nobody is asked for"))
