"""State is lost: from the repository, two shares of the recovery kit or its passphrase, all of it comes back."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

SEALED = "SELECT CustomerId, Email, Phone FROM Customer ORDER BY CustomerId"
VAULT = """
[[vault]]
name = "one"
path = "{0}/vault-one"

[[vault]]
name = "two"
path = "{0}/vault-two"
"""
PASSPHRASE = "six random words open this repository"


class House:
    """A sealed shop under guard, what its people keep elsewhere, and the new machine after the fire."""

    def __init__(self, desk: Any, shop: Path) -> None:
        self.desk = desk
        self.shop = shop
        self.old = desk.home
        with closing(sqlite3.connect(shop)) as file:
            self.plain = file.execute(SEALED).fetchall()
        shares = [path.rename(self.old.parent / path.name) for path in sorted((self.old / "recovery-kit").iterdir())]
        self.with_shares = " ".join(f"--share-file {path}" for path in shares[:2])
        self.settings = self.old / "guard.toml"
        for name in ("vault-one", "vault-two"):
            (self.old.parent / name).mkdir(mode=0o700)
        self.settings.write_text(self.settings.read_text() + VAULT.format(self.old.parent))

    def accept(self) -> None:
        """Accept a catalog that binds e-mail addresses to their rows, phone numbers to the person."""
        self.desk.run("data", "scan")
        catalog = self.old / "policies/catalog.proposed.toml"
        head, at, rest = catalog.read_text().partition('at = "Customer.Phone"')
        catalog.write_text(head + at + rest.replace('bind = "row"', 'bind = "subject"', 1))
        self.desk.guard("data accept --yes")

    def seal(self) -> None:
        self.accept()
        self.desk.guard("backup init")
        self.desk.guard("backup run")
        self.seal_columns()

    def seal_columns(self) -> None:
        if self.desk.run("fields", "encrypt", "Customer.Email", "Customer.Phone"):
            self.desk.guard("state backup")
            self.desk.guard("fields encrypt Customer.Email Customer.Phone")
        assert not {row[1:] for row in self.rows() if all(row)} & {row[1:] for row in self.plain}

    def new_machine(self) -> None:
        """A new folder with guard.toml only; stores, anchors, vault and shop are where they were."""
        home = self.old.parent / "new"
        home.mkdir()
        text = self.settings.read_text()
        for name in ("backups", "anchors"):
            text = text.replace(f'path = "{name}"', f'path = "{self.old / name}"')
        (home / "guard.toml").write_text(text)
        self.desk.home = home

    def rows(self) -> list[Any]:
        with closing(sqlite3.connect(self.shop)) as file:
            return file.execute(SEALED).fetchall()

    def go_on(self, count: int) -> None:
        """Go on for a while after the last backup, and anchor it."""
        for _ in range(count):
            self.desk.guard("fields verify")
            self.desk.clock.step(timedelta(minutes=5))
        self.desk.guard("audit anchor")

    def decrypt(self) -> None:
        self.desk.clock.step(timedelta(minutes=1))  # codes up to the restore are spent
        self.desk.one_is_enough()
        self.desk.guard("fields decrypt Customer.Email Customer.Phone --yes", expect=14)  # waits a day
        self.desk.clock.step(timedelta(hours=24))
        self.desk.guard("fields decrypt Customer.Email Customer.Phone --yes")
        assert self.rows() == self.plain


@pytest.fixture
def house(shared: Path, tmp_path: Path, make_desk: Callable[..., Any]) -> House:
    shop = tmp_path / "shop.db"
    shutil.copyfile(shared / "data/chinook/chinook.sqlite", shop)
    return House(make_desk(f"sqlite:///{shop}"), shop)


def test_nothing_is_sealed_before_kit_and_a_place_for_backups_exist(house: House) -> None:
    desk = house.desk
    house.accept()
    desk.guard("fields encrypt Customer.Email", expect=14)
    assert "guard backup init" in desk.err
    desk.guard("backup init")
    app = desk.app()
    app.state.write(lambda tx: tx.exec_driver_sql("UPDATE key SET recovery = NULL WHERE purpose = 'digest'"))
    app.close()
    desk.guard("fields encrypt Customer.Email", expect=14)
    assert "guard keys recovery make" in desk.err
    assert house.rows() == house.plain


def test_state_and_root_key_are_lost_and_the_shop_is_readable_again(house: House) -> None:
    desk = house.desk
    house.seal()
    desk.guard("state backup")
    before = len(desk.entries())
    house.go_on(3)
    house.new_machine()
    desk.guard("fields verify", expect=2)
    assert "guard state restore" in desk.err
    desk.guard(f"state restore {house.with_shares}")
    assert "all one-time codes of this minute" in desk.err
    desk.guard(f"keys recovery use {house.with_shares}")
    checks = desk.json("fields verify")
    assert {each["at"]: each["opened"] for each in checks} == {"Customer.Email": 59, "Customer.Phone": 58}
    desk.guard("audit verify")
    house.decrypt()
    entries = desk.entries()
    begun = next(each for each in entries if each["what"] == "audit.restart")
    assert 0 < begun["n"] <= before
    assert begun["counts"]["lost"] > 6
    restored = entries[begun["n"] + 1]
    assert (restored["what"], restored["outcome"]) == ("state.restore", "done")
    assert restored["facts"]["gate"].startswith("kit ")
    assert [each["n"] for each in entries] == list(range(len(entries)))
    desk.guard("report build", expect=3)


def test_the_passphrase_of_the_repository_is_enough_beside_the_root_key(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = house.desk
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda *_, **__: PASSPHRASE)
    house.accept()
    desk.guard("backup init --passphrase")
    for slot in (house.old / "backups/keys").glob("recovery-*"):
        slot.unlink()
    desk.guard("backup run")
    for slot in (house.old / "backups/keys").glob("recovery-*"):
        slot.unlink()
    house.seal_columns()
    desk.guard("state backup")
    house.new_machine()
    shutil.copytree(house.old / "keys", desk.home / "keys")
    for slot in (house.old / "backups/keys").glob("recovery-*"):
        slot.unlink()
    desk.guard(f"state restore {house.with_shares}", expect=2)
    assert "no recovery slot" in desk.err
    assert "state" in desk.json("backup list --passphrase")["snapshots"][-1]["sources"]
    desk.guard(f"backup restore --passphrase --to {house.old.parent}/restored --source shop")
    desk.guard("state restore --passphrase")
    assert "2 entries were taken into the ledger" in desk.err
    house.decrypt()


def test_what_is_wrong_is_said_and_leaves_the_place_as_it_was(house: House, tmp_path: Path) -> None:
    desk = house.desk
    house.seal()
    desk.guard(f"state restore {house.with_shares}", expect=14)
    assert "is here and opens" in desk.err
    house.new_machine()
    share = house.with_shares.split()[1]
    for line, code, said in (
        (f"state restore --share-file {share}", 2, "two different shares"),
        (f"state restore --share-file {share} --share-file {house.settings}", 2, "does not hold one recovery share"),
        ("state restore", 2, "nothing opens the repository"),
        ("state restore --passphrase", 2, "no terminal"),
        (f"state restore --store far {house.with_shares}", 2, "no store far"),
        (f"state restore --store {tmp_path} {house.with_shares}", 2, "no recovery slot"),
        (f"state restore 0123456789ab {house.with_shares}", 2, "0 snapshots"),
    ):
        desk.guard(line, expect=code)
        assert said in desk.err
        assert not (desk.home / "var/state.db").exists()
        assert not (desk.home / "policies").exists()
    shown = desk.json(f"state restore --store {house.old / 'backups'} {house.with_shares}")
    assert shown["vkey"].startswith(shown["restart"]["origin"])
    desk.guard("state migrate")
    assert "Nothing to do" in desk.err
