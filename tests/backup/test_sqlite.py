"""A database is saved as it is at one moment, while others write to it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from guard.backup.sources import Found, Ready
from guard.backup.sources.sqlite import SqliteSource, remove_copies
from guard.backup.sources.state import state_source
from guard.errors import UnavailableError


def content(ready: Ready) -> bytes:
    (found,) = list(ready.walk(lambda *_: None))
    assert isinstance(found, Found)
    assert found.read is not None
    with found.read() as file:
        return file.read()


def rows(raw: bytes, path: Path) -> int:
    path.write_bytes(raw)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(database.execute("SELECT count(*) FROM customer").fetchone()[0])


def test_it_counts_the_rows_of_every_table(shop_file: Path, temp: Path) -> None:
    with SqliteSource("shop", shop_file).ready(temp) as ready:
        assert ready.rows == {"customer": 5000, 'odd "table': 0}


def test_the_copy_is_private_and_goes_away(shop_file: Path, temp: Path) -> None:
    with SqliteSource("shop", shop_file).ready(temp):
        (copy,) = list(temp.iterdir())
        assert copy.stat().st_mode & 0o777 == 0o600
    assert not list(temp.iterdir())


def test_what_is_committed_only_to_the_journal_is_in_it_and_nothing_later(
    shop_file: Path, temp: Path, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(shop_file, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("INSERT INTO customer (name) VALUES ('in the WAL')")
        with SqliteSource("shop", shop_file).ready(temp) as ready:
            writer.execute("INSERT INTO customer (name) VALUES ('too late')")
            writer.execute("BEGIN")
            writer.execute("DELETE FROM customer WHERE id % 2")
            assert ready.rows["customer"] == 5001
            assert rows(content(ready), tmp_path / "copy.db") == 5001
            writer.execute("ROLLBACK")


def test_an_open_transaction_is_not_in_it(shop_file: Path, temp: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(shop_file, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("BEGIN")
        writer.execute("DELETE FROM customer")
        with SqliteSource("shop", shop_file).ready(temp) as ready:
            assert rows(content(ready), tmp_path / "copy.db") == 5000


def test_its_name_and_mode_are_those_of_the_database(shop_file: Path, temp: Path) -> None:
    shop_file.chmod(0o640)
    with SqliteSource("shop", shop_file).ready(temp) as ready:
        (found,) = list(ready.walk(lambda *_: None))
    assert (found.path, found.meta.mode) == (b"shop.db", 0o640)


def test_a_database_that_is_gone_is_not_covered(tmp_path: Path, temp: Path) -> None:
    with SqliteSource("shop", tmp_path / "none.db").ready(temp) as ready:
        assert ready.why == f"{tmp_path / 'none.db'} does not exist"


def test_what_is_no_database_is_said_so_without_its_content(tmp_path: Path, temp: Path) -> None:
    (tmp_path / "shop.db").write_bytes(b"Jane Doe, jane@example.org" * 100)
    source = SqliteSource("shop", tmp_path / "shop.db")
    with pytest.raises(UnavailableError, match="not a sound SQLite database") as told, source.ready(temp):
        pass
    assert "jane" not in str(told.value)
    assert not list(temp.iterdir())


def test_a_database_that_stays_locked_is_given_up(shop_file: Path, temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guard.backup.sources.sqlite._BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(shop_file, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UnavailableError, match="stayed locked"), SqliteSource("shop", shop_file).ready(temp):
            pass
    assert not list(temp.iterdir())


def test_copies_of_a_killed_run_are_removed(temp: Path) -> None:
    (temp / "tmpabc.copy").write_bytes(b"x")
    (temp / "tmpabc.copy-journal").write_bytes(b"x")
    (temp / "other").write_bytes(b"x")
    remove_copies(temp)
    assert [each.name for each in temp.iterdir()] == ["other"]


def test_a_state_elsewhere_is_written_to_a_file_first(temp: Path, shop_file: Path) -> None:
    with state_source(lambda path: path.write_bytes(shop_file.read_bytes())).ready(temp) as ready:
        assert (ready.kind, ready.rows["customer"]) == ("state", 5000)
        (found,) = list(ready.walk(lambda *_: None))
        assert found.path == b"state.db"
    assert not list(temp.iterdir())
    with state_source(shop_file).ready(temp) as ready:
        assert ready.kind == "state"
