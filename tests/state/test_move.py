"""A finished file becomes the state in one step, over nothing that is there; a state in PostgreSQL becomes a file."""

import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import inspect

from guard.clock import SteppedClock
from guard.errors import GuardError, InterlockError, UnavailableError
from guard.events import Event
from guard.state import METADATA, State, file_of, file_url, orphan, place, require_free, settle


@pytest.fixture
def staged(tmp_path: Path, clock: SteppedClock, event: Callable[..., Event]) -> Path:
    """A state with an open run, closed, in a file whose name means something in URLs."""
    path = tmp_path / "on the %20 way?" / "state.db"
    made = State.create(file_url(path), clock)
    made.attach(lambda tx, events: None)
    made.write(lambda tx: made.meta.set(tx, "mark", "it"), event())
    made.close()
    return path


def mark(url: str, clock: SteppedClock) -> str | None:
    state = State.open(url, clock)
    try:
        return state.meta.get("mark")
    finally:
        state.close()


def test_a_settled_state_is_one_private_file(staged: Path) -> None:
    staged.chmod(0o644)
    settle(staged)
    assert [path.name for path in staged.parent.iterdir()] == ["state.db"]
    assert staged.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(staged)) as file:
        assert file.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_state_somebody_has_open_does_not_settle(staged: Path, clock: SteppedClock) -> None:
    state = State.open(file_url(staged), clock)
    with state.read(), pytest.raises(GuardError, match=r"locked|open"):
        settle(staged)
    state.close()


def test_it_takes_its_place_in_one_step(staged: Path, url: str, clock: SteppedClock) -> None:
    settle(staged)
    inode = staged.stat().st_ino
    place(staged, url)
    assert not staged.exists()
    path = file_of(url)
    assert path is not None
    assert path.stat().st_ino == inode
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert mark(url, clock) == "it"


@pytest.mark.parametrize("end", ["", "-wal", "-shm", "-journal"])
def test_what_lies_there_stays(staged: Path, url: str, end: str) -> None:
    settle(staged)
    path = file_of(url)
    assert path is not None
    path.parent.mkdir()
    left = Path(f"{path}{end}")
    left.write_bytes(b"mine")
    with pytest.raises(InterlockError, match="in the way") as caught:
        place(staged, url)
    assert str(left) in str(caught.value.hint)
    assert left.read_bytes() == b"mine"
    assert staged.exists()


def test_even_a_link_to_nowhere_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "state.db").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InterlockError, match="in the way"):
        require_free(tmp_path / "state.db")


def test_who_takes_the_name_meanwhile_keeps_it(staged: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(staged)
    path = file_of(url)
    assert path is not None
    real = os.link

    def taken(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"faster")
        real(source, target)

    monkeypatch.setattr(os, "link", taken)
    with pytest.raises(InterlockError, match="exists already"):
        place(staged, url)
    assert path.read_bytes() == b"faster"
    assert staged.exists()


def test_a_file_system_without_links_renames(
    staged: Path, url: str, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    settle(staged)
    monkeypatch.setattr(os, "link", refuse)
    place(staged, url)
    assert not staged.exists()
    assert mark(url, clock) == "it"


def test_a_disk_that_fails_is_told(staged: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    settle(staged)
    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(UnavailableError, match="No space left"):
        place(staged, url)
    assert staged.exists()


def test_runs_of_another_life_are_gone(staged: Path, clock: SteppedClock) -> None:
    state = State.open(file_url(staged), clock)
    assert state.stale_runs() == ()
    assert state.write(orphan) == 1
    assert [run.what for run in state.stale_runs()] == ["test.work"]
    state.close()


def test_there_and_back_through_postgresql_every_row_is_the_same(
    staged: Path, postgres_url: str, tmp_path: Path, clock: SteppedClock
) -> None:
    settle(staged)
    before = rows(staged)
    place(staged, postgres_url)
    assert not staged.exists()
    assert file_of(postgres_url) is None
    state = State.open(postgres_url, clock)
    with state.read() as tx:
        assert set(inspect(tx).get_table_names()) == set(METADATA.tables)
    state.copy_to(tmp_path / "copy.db")
    with pytest.raises(InterlockError, match="exists already"):
        state.copy_to(tmp_path / "copy.db")
    state.close()
    assert rows(tmp_path / "copy.db") == before
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    with pytest.raises(InterlockError, match="there is a state at"):
        place(tmp_path / "copy.db", postgres_url)
    assert (tmp_path / "copy.db").exists()


def rows(path: Path) -> dict[str, list[object]]:
    with closing(sqlite3.connect(path)) as file:
        names = [name for (name,) in file.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: sorted(file.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr) for name in names}
