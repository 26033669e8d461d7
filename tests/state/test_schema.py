"""An older state is copied, then brought up to date in one transaction; a newer one is refused."""

from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from guard.clock import SteppedClock
from guard.errors import ConfigError, InterlockError
from guard.state import Migration, State, migrate
from guard.state.schema import due


def add_table(tx: Connection) -> None:
    tx.exec_driver_sql("CREATE TABLE test_new (a INTEGER)")


def fill_table(tx: Connection) -> None:
    tx.exec_driver_sql("INSERT INTO test_new VALUES (7)")


def fail(tx: Connection) -> None:
    tx.exec_driver_sql("DELETE FROM test_new")
    raise ZeroDivisionError


ADD = Migration(2, "a new table", add_table)
FILL = Migration(3, "a first row", fill_table)
FAIL = Migration(3, "fails", fail)


@pytest.fixture
def copied(state: State, url: str, clock: SteppedClock) -> Path:
    """Close the state; its folder, to look for copies."""
    state.close()
    assert state.path is not None
    return state.path.parent


def test_steps_are_taken_in_order_after_a_copy(copied: Path, url: str, clock: SteppedClock) -> None:
    assert migrate(url, clock, [FILL, ADD], target=3) == (ADD, FILL)
    (copy,) = copied.glob("state.db.before_3_from_1_*")
    assert State.open(f"sqlite:///{copy}", clock).meta.get("schema") == "1"
    with pytest.raises(InterlockError, match="schema 3, this guard knows 1"):
        State.open(url, clock)
    assert migrate(url, clock, [ADD, FILL], target=3) == ()


def test_a_failing_step_undoes_those_before_it(copied: Path, url: str, clock: SteppedClock) -> None:
    with pytest.raises(ZeroDivisionError):
        migrate(url, clock, [ADD, FAIL], target=3)
    state = State.open(url, clock)
    with state.read() as tx:
        assert not tx.scalar(text("SELECT count(*) FROM sqlite_master WHERE name = 'test_new'"))
    assert len(list(copied.glob("*before*"))) == 1
    state.close()


def test_nothing_is_copied_when_nothing_is_due(copied: Path, url: str, clock: SteppedClock) -> None:
    assert migrate(url, clock) == ()
    assert not list(copied.glob("*before*"))


def test_a_missing_step_is_refused() -> None:
    with pytest.raises(InterlockError, match="from schema 1 to 2"):
        due(1, 3, [FILL])


def test_a_newer_state_is_refused() -> None:
    with pytest.raises(InterlockError, match="schema 4"):
        due(4, 3, [ADD, FILL])


def test_an_older_state_is_not_opened_but_says_what_to_do(state: State, url: str, clock: SteppedClock) -> None:
    state.write(lambda tx: state.meta.set(tx, "schema", "0"))
    with pytest.raises(InterlockError, match="cannot bring state from schema 0 to 1"):
        State.open(url, clock)


def test_a_schema_that_is_no_number_is_no_state(state: State, url: str, clock: SteppedClock) -> None:
    state.write(lambda tx: state.meta.set(tx, "schema", "one"))
    with pytest.raises(ConfigError, match="not a state"):
        State.open(url, clock)


def test_postgresql_is_copied_to_a_schema_beside_its_own(postgres_url: str, clock: SteppedClock) -> None:
    State.create(postgres_url, clock).close()
    migrate(postgres_url, clock, [ADD, FILL], target=3)
    with pytest.raises(InterlockError, match="schema 3"):
        State.open(postgres_url, clock)
    import psycopg

    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        name = f"guard_before_3_from_1_{clock.now():%Y%m%d%H%M%S}"
        (found,) = connection.execute(f"SELECT value FROM {name}.state_meta WHERE name = 'schema'").fetchall()
        assert found == ("1",)
        assert connection.execute("SELECT a FROM test_new").fetchall() == [(7,)]
