"""A shop that goes on changing: columns and tables get new names, rows new keys, and at last guard is taken out."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from guard.demo.checks import compare

RULE = """
[[rule]]
name = "customers"
table = "Customer"
since = "Invoice.InvoiceDate"
method = "anonymize"
basis = "GDPR Art. 5(1)(e)"
reason = "the account has ended"
"""


def sql(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as shop:
        shop.executescript(script)


@pytest.fixture
def make(make_desk: Callable[..., Any], chinook_file: Path) -> Callable[..., Any]:
    """Set guard up beside the media shop, let its catalog be accepted, make its first backup; then what is asked."""

    def new(*lines: str) -> Any:
        made = make_desk(f"sqlite:///../{chinook_file.name}")
        for line in ("data scan", "--yes data accept", "backup init", "backup run", *lines):
            made.guard(line)
        return made

    return new


@pytest.fixture
def plain(make: Callable[..., Any]) -> Any:
    """The media shop, ready to be sealed."""
    return make()


@pytest.fixture
def desk(make: Callable[..., Any], once: Callable[..., Any]) -> Any:
    """The same, its customers sealed."""
    return once("changing shop", lambda: make("fields encrypt"))


def test_a_small_column_needs_no_second_process(plain: Any, chinook_file: Path) -> None:
    plain.guard("fields encrypt Customer.Email --workers 2")
    with closing(sqlite3.connect(chinook_file)) as shop:
        works = {work for (work,) in shop.execute("SELECT DISTINCT work FROM guard_progress")}
        sealed = shop.execute("SELECT count(*) FROM Customer WHERE Email LIKE 'g1.%'").fetchone()
    assert sealed == (59,)
    assert {work.partition(".")[2] for work in works} <= {"", "1"}, works
    [check] = plain.json("fields verify Customer.Email")
    assert check["same"]
    plain.guard("fields encrypt Customer.Phone --workers 99", expect=2)
    assert "is not in the range 1<=x<=16" in plain.err


def test_the_plan_is_whole_in_words_and_in_json(desk: Any) -> None:
    found = desk.json("fields plan Customer.Email")
    [column] = found["columns"]
    assert {"at", "does", "stops", "refusals", "notes", "takes", "grows", "seal", "sealed"} <= set(column)
    assert (column["at"], column["seal"], column["sealed"]) == ("Customer.Email", 0, 59)
    assert found["space"]["free"] > 0
    assert found["steps"][-1].startswith("then guard fields finalize clears what is left")
    assert isinstance(found["takes"], float)
    assert found["backed_up"].endswith("Z")
    text = desk.guard("fields plan Customer.Email")
    assert "Backup: the newest one of the shop is of 2026-01-05" in text
    assert "In this order:" in text
    assert "estimate" in text
    desk.guard("fields plan Customer.Emial", expect=2)
    assert "did you mean Customer.Email?" in desk.err


def test_names_change_and_everything_opens(desk: Any, chinook_file: Path) -> None:
    path = desk.home / "policies/retention.toml"
    path.write_text(path.read_text() + RULE)
    sql(chinook_file, "ALTER TABLE Customer RENAME COLUMN Email TO Mail; ALTER TABLE Customer RENAME TO Client;")
    desk.guard("fields verify", expect=14)
    assert "guard data rename OLD NEW" in desk.err
    desk.guard("data rename Customer Client", expect=3)
    assert "policies/retention.toml, rule customers: table = Client" in desk.err
    assert "Not in the schema: Client.Email" in desk.err
    desk.guard("data rename Client.Email Client.Email", expect=2)
    done = desk.json("data rename Client.Email Client.Mail")
    assert list(done["columns"].values()) == ["Client.Mail"]
    assert done["missing"] == []
    checks = desk.json("fields verify")
    assert {check["at"] for check in checks} >= {"Client.Mail", "Client.Phone"}
    assert all(check["same"] for check in checks)
    assert not any(each["standing"] == "vanished" for each in desk.json("data catalog"))
    assert [entry["outcome"] for entry in desk.entries() if entry["what"] == "data.rename"] == ["begun", "done"] * 2
    desk.guard("data rename Client.Mail Client.Phone", expect=14)
    assert "still has Client.Mail" in desk.err


def test_rows_get_new_keys_and_are_bound_anew(desk: Any, chinook_file: Path) -> None:
    sql(
        chinook_file,
        "PRAGMA foreign_keys = OFF; ALTER TABLE Customer ADD WasId INTEGER;"
        "UPDATE Customer SET WasId = CustomerId, CustomerId = CustomerId + 5000;",
    )
    desk.guard("fields verify Customer.Email", expect=11)
    desk.guard("fields rebind Customer", expect=2)
    assert "--was COLUMN,COLUMN or --map FILE.csv" in desk.err
    done = desk.json("fields rebind Customer --was WasId")
    assert {each["at"]: (each["rows"], each["broken"]) for each in done}["Customer.Email"] == (59, 0)
    assert all(check["same"] for check in desk.json("fields verify"))
    sql(chinook_file, "UPDATE Customer SET CustomerId = 1 WHERE CustomerId = 5001; UPDATE Customer SET WasId = NULL;")
    desk.guard("fields rebind Customer --was WasId", expect=4)
    assert "values open under neither key, and were left: row 1" in desk.err
    entry = [each for each in desk.entries() if each["what"] == "fields.rebind"][-1]
    assert (entry["outcome"], entry["counts"]["Customer.Email"]) == ("partly", 0)
    keys = desk.home / "keys.csv"
    keys.write_text("old,new\n5001,1\n")
    desk.guard(f"fields rebind Customer --map {keys}")
    assert all(check["same"] for check in desk.json("fields verify"))


def test_guard_goes_and_the_shop_is_as_it_was(shared: Path, tmp_path: Path, chinook_file: Path, desk: Any) -> None:
    original = tmp_path / "original.db"
    shutil.copyfile(shared / "data/chinook/chinook.sqlite", original)
    desk.guard("fields finalize")
    shown = desk.guard("uninstall --plan")
    assert "put Customer.Email back into plain text: 59 values are sealed" in shown
    assert "drop the table guard_progress" in shown
    assert {thing["name"] for thing in desk.json("uninstall --plan")["things"]} == {"guard_progress"}
    desk.one_is_enough()
    desk.guard("uninstall", expect=14)
    assert "waits until" in desk.err
    desk.clock.step(timedelta(hours=25))
    done = desk.json("uninstall")
    assert "Customer.Email" in done["columns"]
    assert [thing["name"] for thing in done["dropped"]] == ["guard_progress"]
    found = compare(original, chinook_file, ignore=())
    assert (found.differences, found.rows) == (0, 15607)
    assert {each["state"] for each in desk.json("fields status", expect=3)} == {"plain"}
    assert desk.run("uninstall", "--plan") == 0
    assert [entry["outcome"] for entry in desk.entries() if entry["what"] == "shop.uninstall"] == [
        "denied",
        "begun",
        "done",
    ]
