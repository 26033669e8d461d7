"""`guard fields search` at the command line: keys on stdout, and the value nowhere that lasts."""

import io
import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

EMAIL = "ftremblay@gmail.com"


@pytest.fixture
def desk(chinook_file: Path, make_desk: Callable[..., Any]) -> Any:
    """The media shop, sealed; its customers' e-mail addresses are searchable."""
    with closing(sqlite3.connect(chinook_file)) as shop:
        shop.execute("CREATE UNIQUE INDEX one_each ON Customer (Email)")
    made = make_desk(f"sqlite:///{chinook_file}")
    made.run("data", "scan")
    made.run("data", "accept", "--yes")
    made.guard("backup init")
    made.guard("backup run")
    made.guard("fields encrypt")
    return made


def test_keys_are_shown_and_the_value_stays_nowhere(desk: Any) -> None:
    out = desk.guard(f"fields search Customer.Email {EMAIL.upper()}")
    assert out.split() == ["CustomerId", "3"]
    found = desk.json(f"fields search Customer.Email {EMAIL}")
    assert (found["at"], found["key"], found["rows"]) == ("Customer.Email", ["CustomerId"], [[3]])
    assert desk.guard("fields search Customer.Email nobody@example.org") == ""
    assert "no row of Customer.Email holds it" in desk.err
    entries = [entry for entry in desk.entries() if entry["what"] == "fields.search"]
    assert [entry["counts"] for entry in entries if entry["outcome"] == "done"] == [
        {"passed": 0, "rows": 1}, {"passed": 0, "rows": 1}, {"passed": 0, "rows": 0},
    ]  # fmt: skip
    assert {name for entry in entries for name in entry["objects"]} == {"Customer.Email"}
    assert "tremblay" not in json.dumps(desk.entries()).lower()
    kept = b"".join(path.read_bytes() for path in (desk.home / "var").rglob("*") if path.is_file())
    assert b"tremblay" not in kept.lower()


def test_the_value_may_come_from_standard_input(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{EMAIL}\n"))
    assert desk.guard("fields search Customer.Email -").split() == ["CustomerId", "3"]


def test_what_is_not_searchable_says_why(desk: Any) -> None:
    desk.guard("fields search Customer.LastName Tremblay", expect=2)
    assert "Customer.LastName is not searchable: the catalog gives it no index" in desk.err
    assert 'index = "email"' in desk.err
    desk.guard("fields search Customer.Country Canada", expect=2)
    assert "Customer.Country is not sealed" in desk.err
