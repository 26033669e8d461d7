"""State is made once, opened by its URL, and says clearly why it cannot be."""

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Table, insert, inspect, update

from guard.clock import SteppedClock
from guard.errors import ConfigError, GuardError, InterlockError, TamperedError, UnavailableError
from guard.events import Event
from guard.state import State


@contextmanager
def unprivileged() -> Iterator[None]:
    """Be somebody whom file modes hold back, also where the tests run as root."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_new_state_opens_with_the_id_it_was_given(url: str, clock: SteppedClock) -> None:
    made = State.create(url, clock, UUID(int=7))
    made.close()
    opened = State.open(url, clock)
    assert opened.store_id == UUID(int=7)
    opened.close()


def test_two_new_states_have_different_ids(tmp_path: Path, clock: SteppedClock) -> None:
    made = [State.create(f"sqlite:///{tmp_path}/{number}.db", clock) for number in range(2)]
    assert made[0].store_id != made[1].store_id
    for state in made:
        state.close()


def test_file_and_folder_are_the_owners_alone(state: State, event: Callable[..., Event]) -> None:
    assert state.path is not None
    state.write(lambda tx: None, event())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in state.path.parent.iterdir()}
    assert modes == dict.fromkeys(modes, 0o600)
    assert {"state.db", "state.db-wal"} <= modes.keys()
    assert stat.S_IMODE(state.path.parent.stat().st_mode) == 0o700


def test_sqlite_is_set_so_that_a_commit_survives_a_power_cut(state: State) -> None:
    with state.read() as tx:
        found = [
            tx.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert found == ["wal", 2, 1]


def test_a_second_state_is_refused_and_the_first_stays(state: State, url: str, clock: SteppedClock) -> None:
    with pytest.raises(InterlockError, match="already"):
        State.create(url, clock)
    State.open(url, clock).close()


def test_a_missing_file_is_named_with_the_way_to_make_one(url: str, clock: SteppedClock) -> None:
    with pytest.raises(ConfigError, match=r"no state at .*state\.db") as caught:
        State.open(url, clock)
    assert caught.value.hint == "correct state.url in guard.toml, or bring it back with `guard state restore`"


def test_a_file_that_is_no_database_is_tampered(url: str, clock: SteppedClock, tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var/state.db").write_bytes(b"This is not a database. " * 500)
    with pytest.raises(TamperedError, match="malformed"):
        State.open(url, clock)


def test_a_database_of_something_else_is_not_a_state(url: str, clock: SteppedClock, tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var/state.db").write_bytes(b"")
    with pytest.raises(ConfigError, match="not a state of guard"):
        State.open(url, clock)


def test_a_state_without_its_id_is_tampered(state: State, url: str, clock: SteppedClock) -> None:
    state.write(lambda tx: state.meta.remove(tx, "store_id"))
    with pytest.raises(TamperedError, match="store id"):
        State.open(url, clock)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/db", "nonsense", "oracle://x"])
def test_other_urls_are_refused(url: str, clock: SteppedClock) -> None:
    with pytest.raises(ConfigError, match=r"state\.url"):
        State.open(url, clock)


def test_a_folder_that_cannot_be_written_is_unavailable(clock: SteppedClock) -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        with unprivileged(), pytest.raises(UnavailableError, match=r"cannot write .*denied"):
            State.create(f"sqlite:///{name}/state.db", clock)


def test_a_file_that_may_not_be_read_is_unavailable(clock: SteppedClock) -> None:
    with tempfile.TemporaryDirectory() as name:
        url = f"sqlite:///{name}/state.db"
        State.create(url, clock).close()
        Path(name).chmod(0o755)
        Path(name, "state.db").chmod(0o000)
        with unprivileged(), pytest.raises(UnavailableError, match="cannot be opened or written"):
            State.open(url, clock)


def test_a_read_only_folder_with_a_readable_file_is_unavailable(clock: SteppedClock) -> None:
    with tempfile.TemporaryDirectory() as name:
        url = f"sqlite:///{name}/state.db"
        State.create(url, clock).close()
        Path(name, "state.db").chmod(0o444)
        Path(name).chmod(0o555)
        with unprivileged(), pytest.raises(UnavailableError, match="cannot be opened or written"):
            State.open(url, clock)


def test_what_failed_half_way_leaves_no_file(url: str, tmp_path: Path) -> None:
    class NoClock(SteppedClock):
        def now(self) -> None:  # type: ignore[override]  # the failure
            raise UnavailableError("no time")

    with pytest.raises(UnavailableError, match="no time"):
        State.create(url, NoClock.__new__(NoClock))
    assert list((tmp_path / "var").iterdir()) == []


def test_a_server_that_does_not_answer_is_unavailable(tmp_path: Path, clock: SteppedClock) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(UnavailableError, match="does not answer"):
        State.open(f"postgresql://guard:hidden@/state?host={tmp_path}", clock)


def test_a_url_s_password_is_in_no_message(tmp_path: Path, clock: SteppedClock) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(GuardError) as caught:
        State.open(f"postgresql://guard:hidden@/state?host={tmp_path}", clock)
    assert "hidden" not in str(caught.value)


def test_a_remote_server_is_asked_for_a_verified_certificate(clock: SteppedClock) -> None:
    pytest.importorskip("psycopg")
    from sqlalchemy import make_url

    from guard.state.db import tls_of

    assert tls_of(make_url("postgresql://db.example/state"))["sslmode"] == "verify-full"
    assert tls_of(make_url("postgresql://db.example/state?sslmode=require")) == {}
    assert tls_of(make_url("postgresql://localhost/state")) == {}


def test_facts_are_kept_changed_and_removed(state: State) -> None:
    assert state.meta.get("demo") is None
    state.write(lambda tx: state.meta.set(tx, "demo", "yes"))
    state.write(lambda tx: state.meta.set(tx, "demo", "no"))
    assert state.meta.get("demo") == "no"
    state.write(lambda tx: state.meta.remove(tx, "demo"))
    with state.read() as tx:
        assert state.meta.get("demo", tx) is None


def test_a_read_transaction_writes_nothing(state: State, notes: Table) -> None:
    with pytest.raises(GuardError), state.read() as tx:
        tx.execute(insert(notes).values(id=1, text="a"))


def test_a_read_transaction_sees_one_snapshot(state: State, notes: Table) -> None:
    with state.read() as tx:
        before = state.meta.get("x", tx)
        state.write(lambda other: state.meta.set(other, "x", "1"))
        assert (before, state.meta.get("x", tx)) == (None, None)
    assert state.meta.get("x") == "1"


def test_a_newer_schema_is_refused(state: State, url: str, clock: SteppedClock) -> None:
    state.write(lambda tx: state.meta.set(tx, "schema", "2"))
    with pytest.raises(InterlockError, match="schema 2, this guard knows 1"):
        State.open(url, clock)


def test_a_copy_opens_as_the_same_state(state: State, clock: SteppedClock, tmp_path: Path) -> None:
    state.write(lambda tx: state.meta.set(tx, "x", "1"))
    state.copy_to(tmp_path / "copy.db")
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    copy = State.open(f"sqlite:///{tmp_path}/copy.db", clock)
    assert (copy.store_id, copy.meta.get("x")) == (state.store_id, "1")
    copy.close()


def test_the_same_calls_work_on_postgresql(
    postgres_url: str, clock: SteppedClock, event: Callable[..., Event], tmp_path: Path
) -> None:
    made = State.create(postgres_url, clock, UUID(int=9))
    made.attach(lambda tx, events: None)
    with pytest.raises(InterlockError, match="already"):
        State.create(postgres_url, clock)
    made.write(lambda tx: made.meta.set(tx, "x", "1"), event())
    made.close()
    state = State.open(postgres_url, clock)
    assert (state.store_id, state.meta.get("x"), state.path) == (UUID(int=9), "1", None)
    assert [run.what for run in state.open_runs()] == ["test.work"]
    with pytest.raises(GuardError), state.read() as tx:
        tx.execute(update(tables(tx)).values(value="2"))
    state.copy_to(tmp_path / "copy.db")
    copy = State.open(f"sqlite:///{tmp_path}/copy.db", clock)
    assert (copy.store_id, copy.meta.get("x"), copy.open_runs()) == (state.store_id, "1", state.open_runs())
    copy.close()
    state.close()


def tables(tx: object) -> Table:
    assert inspect(tx).has_table("state_meta")
    return State.metadata.tables["state_meta"]


def test_a_path_with_special_characters_is_one_path(tmp_path: Path, clock: SteppedClock) -> None:
    url = f"sqlite:///{tmp_path}/a b#+&ü/state.db"
    State.create(url, clock, UUID(int=3)).close()
    assert [path.name for path in tmp_path.iterdir()] == ["a b#+&ü"]
    Path(tmp_path, "a b#+&ü", "state.db").unlink()
    with pytest.raises(ConfigError):
        State.open(url, clock)
