"""The main job on two real shops in SQLite: scan, accept, encrypt, verify, back up, lose the file, restore, decrypt."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from guard import demo


@dataclass(frozen=True)
class Shop:
    """A real shop, columns that must be found and sealed, and a sum that must not change."""

    name: str
    must_seal: frozenset[str]
    total: str


CHINOOK = Shop(
    "chinook",
    frozenset(f"Customer.{name}" for name in ("FirstName", "LastName", "Address", "Phone", "Fax", "Email")),
    "SELECT CustomerId, sum(Total) FROM Invoice GROUP BY 1 ORDER BY 1",
)
NORTHWIND = Shop(
    "northwind",
    frozenset(f"Customers.{name}" for name in ("ContactName", "Address", "Phone", "Fax")),
    'SELECT OrderID, sum(UnitPrice * Quantity) FROM "Order Details" GROUP BY 1 ORDER BY 1',
)


def make(shop: Shop, shared: Path, target: Path) -> None:
    if shop is CHINOOK:
        shutil.copyfile(shared / "data/chinook/chinook.sqlite", target)
    else:
        with closing(sqlite3.connect(target)) as file:
            file.executescript((shared / "data/northwind/northwind_sqlite.sql").read_text())
    target.chmod(0o600)


def totals(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as file:
        return file.execute(query).fetchall()


@pytest.mark.parametrize("shop", [CHINOOK, NORTHWIND], ids=lambda shop: shop.name)
def test_the_main_job(shop: Shop, shared: Path, tmp_path: Path, make_desk: Callable[..., Any]) -> None:
    original, file = tmp_path / "original.db", tmp_path / "shop.db"
    make(shop, shared, original)
    shutil.copyfile(original, file)
    desk = make_desk(f"sqlite:///{file}")
    before = totals(original, shop.total)

    # Find: every column is in the proposal, the customers' own are to be sealed.
    desk.guard("data scan", expect=desk.run("data", "scan"))
    desk.guard("data accept --yes")
    sealed = {column.at for column in desk.app().catalog.encrypted()}
    assert shop.must_seal <= sealed
    planted = demo.values_only_in(original, sealed, per_column=10_000)
    assert len(planted) > 150

    # Without a backup of state there is no sealing: a lost key would be lost data.
    desk.guard("fields encrypt", expect=14)
    assert "backup" in desk.err
    desk.guard("backup init")
    desk.guard("backup run")

    # Seal, prove, finish.
    desk.guard("fields encrypt")
    desk.guard("fields verify")
    desk.guard("fields finalize")
    assert {row["state"] for row in desk.json("fields status")} == {"strict"}
    assert totals(file, shop.total) == before

    # Nothing in clear is left in the shop's file or its WAL; the search finds all of it in the unsealed copy.
    files = sorted(tmp_path.glob("shop.db*"))
    assert {found.value for found in demo.find_values([original], planted)} == set(range(len(planted)))
    assert list(demo.find_values(files, planted)) == []

    # Neither the old nor a new repository holds anything in clear, nor does guard's state or the rest of its folder.
    desk.toml('path = "backups"', 'path = "backups-2"')
    desk.guard("backup init")
    desk.guard("backup run")
    assert list(demo.find_values([desk.home], planted)) == []

    # Lose the shop, bring it back.
    sealed_copy = tmp_path / "sealed.db"
    shutil.copyfile(file, sealed_copy)
    for each in files:
        each.unlink()
    snapshot = desk.json("backup list")["snapshots"][-1]["id"]
    desk.guard(f"backup restore {snapshot} --to {tmp_path / 'restored'} --source shop --yes")
    restored = next((tmp_path / "restored").rglob("shop.db"))
    assert demo.compare(sealed_copy, restored, ignore=()).differences == 0
    shutil.copyfile(restored, file)

    # The way out: decrypting is not done unseen. Whoever is alone waits a day.
    desk.one_is_enough()
    desk.guard("fields decrypt " + " ".join(sorted(sealed)), expect=14)
    desk.clock.step(timedelta(hours=24))
    desk.guard("fields decrypt " + " ".join(sorted(sealed)))
    compared = demo.compare(original, file)
    assert compared.rows > 1000
    assert compared.differences == 0
    assert totals(file, shop.total) == before

    desk.guard("audit anchor")
    desk.guard("audit verify")
    assert {entry["what"] for entry in desk.entries()} >= {
        "data.accept",
        "fields.encrypt",
        "fields.decrypt",
        "backup.run",
    }
