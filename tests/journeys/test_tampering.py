"""Somebody changes what guard stored: it is found, named, and exits 11."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def desk(shared: Path, tmp_path: Path, make_desk: Callable[..., Any], once: Callable[..., Any]) -> Any:
    """Chinook, sealed, with a ledger of some length."""

    def make() -> Any:
        shutil.copyfile(shared / "data/chinook/chinook.sqlite", tmp_path / "shop.db")
        (tmp_path / "shop.db").chmod(0o600)
        desk = make_desk("sqlite:///../shop.db")
        desk.run("data", "scan")
        for line in ("data accept --yes", "backup init", "backup run", "fields encrypt Customer.Email Customer.Phone"):
            desk.guard(line)
        desk.guard("audit anchor")
        desk.guard("audit verify")
        return desk

    return once("tampering", make)


def change(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute(statement, values)
        file.commit()


@pytest.mark.parametrize("column", ["at", "who", "what", "outcome", "run", "hash", "leaf"])
def test_a_changed_column_of_an_entry_is_named(desk: Any, column: str) -> None:
    state = desk.home / "var/state.db"
    with closing(sqlite3.connect(state)) as file:
        value = file.execute(f"SELECT {column} FROM ledger_entry WHERE n = 3").fetchone()[0]
    raw = bytearray(value if isinstance(value, bytes) else value.encode())
    raw[len(raw) // 2] ^= 1
    change(
        state,
        f"UPDATE ledger_entry SET {column} = ? WHERE n = 3",
        bytes(raw) if isinstance(value, bytes) else raw.decode(),
    )
    desk.guard("audit verify", expect=11)
    assert "entry 3" in desk.err


def test_a_removed_entry_is_named(desk: Any) -> None:
    change(desk.home / "var/state.db", "DELETE FROM ledger_entry WHERE n = 2")
    desk.guard("audit verify", expect=11)
    assert "entry 2" in desk.err


def test_a_rolled_back_state_is_found(desk: Any, tmp_path: Path) -> None:
    state = desk.home / "var/state.db"
    with closing(sqlite3.connect(state)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(state, tmp_path / "old.db")
    desk.guard("fields verify")
    desk.guard("audit anchor")
    for name in ("state.db-wal", "state.db-shm"):
        (desk.home / "var" / name).unlink(missing_ok=True)
    shutil.copyfile(tmp_path / "old.db", state)
    desk.guard("audit verify", expect=11)
    assert "gone" in desk.err


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE Customer SET Email = (SELECT Email FROM Customer WHERE CustomerId = 2) WHERE CustomerId = 1",
        "UPDATE Customer SET Email = Phone WHERE CustomerId = 1",
        "UPDATE Customer SET Email = substr(Email, 1, 40) || CASE substr(Email, 41, 1) WHEN 'A' THEN 'B' ELSE 'A' END"
        " || substr(Email, 42) WHERE CustomerId = 1",
    ],
    ids=["another row's value", "another column's value", "a changed value"],
)
def test_a_moved_or_changed_value_does_not_open(desk: Any, tmp_path: Path, statement: str) -> None:
    change(tmp_path / "shop.db", statement)
    desk.guard("fields verify", expect=11)
    assert "Customer.Email" in desk.err
    assert "@" not in desk.err
    assert desk.entries()[-1]["outcome"] == "failed"
