"""A renamed table or column: sealed values open as before, unique stays unique, and what guard hung there follows."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from guard import faults
from guard.config import Catalog, Column, Protect
from guard.errors import GuardError
from guard.shop import alter
from guard.shop.leftovers import leftovers
from guard.shop.rename import Rename
from tests.fields.conftest import Bench

TABLES = {
    "lite": "CREATE TABLE people (id INTEGER PRIMARY KEY, mail VARCHAR(60) UNIQUE, note TEXT)",
    "postgres_url": "CREATE TABLE people (id int PRIMARY KEY, mail varchar(60) UNIQUE, note text)",
    "mariadb_url": "CREATE TABLE people (id INT PRIMARY KEY, mail VARCHAR(60) COLLATE utf8mb4_bin UNIQUE, note TEXT)",
}
MAILS = [f"anna{number}@example.org" for number in range(1, 31)]


def catalog(mail: str, note: str) -> Catalog:
    return Catalog(
        column=(
            Column(at=mail, id=1, protect=Protect.ENCRYPT, index="email"),
            Column(at=note, id=2, protect=Protect.ENCRYPT),
        )
    )


@dataclass
class Town:
    """Thirty people with unique addresses, sealed and searchable."""

    bench: Bench
    mail: str = "people.mail"
    note: str = "people.note"

    def rename(self, old: str, new: str, statement: str) -> None:
        """Rename in the shop, and let guard follow."""
        self.bench.sql(statement)
        self.follow(old, new)

    def follow(self, old: str, new: str) -> None:
        rename = Rename.parse(old, new)
        fields = self.bench.fields
        rename.require(fields.shop.tables(fresh=True))
        fields.state.write(fields.renamed(rename))
        self.mail, self.note = rename.at(self.mail), rename.at(self.note)
        self.bench = replace(self.bench, fields=replace(fields, catalog=catalog(self.mail, self.note)))

    def opened(self) -> list[object]:
        fields, (table, _, name) = self.bench.fields, self.mail.partition(".")
        read, key = fields.opener(self.mail), fields.key_columns(self.mail)
        with fields.shop.read() as connection:
            rows = connection.exec_driver_sql(f"SELECT {name}, {', '.join(key)} FROM {table} ORDER BY 2")
            return [read(tuple(row[1:]), row[0]) for row in rows]

    def require_whole(self) -> None:
        """Everything opens, is verified, is guarded, and carries the names of now."""
        fields, (table, _, name) = self.bench.fields, self.mail.partition(".")
        assert self.opened() == MAILS
        assert [check.same for check in fields.verify()] == [True, True]
        shop = fields.shop
        assert alter.guards(shop, shop.table(table), name) == {"follow", "fence"}
        for value in ("plain@example.org", MAILS[0]):
            with pytest.raises(GuardError):
                self.bench.sql(f"INSERT INTO {table} VALUES (900, '{value}', NULL)")
        [token] = shop.table(table).tokens
        with pytest.raises(GuardError):
            self.bench.sql(f"UPDATE {table} SET {token} = (SELECT x FROM (SELECT MIN({token}) x FROM {table}) y)")
        things = [
            f"{each.kind} {each.name}" for each in leftovers(shop) if each.kind in {"trigger", "function", "index"}
        ]
        assert len(things) == {"sqlite": 5, "postgresql": 7, "mysql": 4}[shop.dialect], things
        assert all(table in thing for thing in things)


@pytest.fixture
def lite(tmp_path: Path) -> str:
    (tmp_path / "town.db").touch()
    return f"sqlite:///{tmp_path}/town.db"


@pytest.fixture(params=["lite", "postgres_url", "mariadb_url"])
def town(request: pytest.FixtureRequest, make: Callable[..., Bench]) -> Town:
    bench = make(request.getfixturevalue(request.param), "people.mail", "people.note")
    bench = replace(bench, fields=replace(bench.fields, catalog=catalog("people.mail", "people.note")))
    values = ", ".join(f"({number}, '{mail}', 'note {number}')" for number, mail in enumerate(MAILS, 1))
    bench.sql(TABLES[request.param], f"INSERT INTO people VALUES {values}")
    bench.fields.shop.tables(fresh=True)
    bench.seal()
    return Town(bench)


def test_a_column_with_another_name_opens_and_stays_unique(town: Town) -> None:
    town.require_whole()
    before = town.bench.ask("SELECT mail FROM people ORDER BY id")
    town.rename("people.mail", "people.address", "ALTER TABLE people RENAME COLUMN mail TO address")
    town.require_whole()
    assert town.bench.ask("SELECT address FROM people ORDER BY id") == before, "no value was touched"


def test_a_table_with_another_name_takes_everything_along(town: Town) -> None:
    town.rename("people", "customers", "ALTER TABLE people RENAME TO customers")
    town.require_whole()
    assert [record.at for record in town.bench.fields.records()] == ["customers.mail", "customers.note"]


def test_a_key_column_with_another_name_still_names_rows(town: Town) -> None:
    town.rename("people.id", "people.number", "ALTER TABLE people RENAME COLUMN id TO number")
    assert town.bench.fields.key_columns("people.mail") == ("number",)
    town.require_whole()


def test_what_was_renamed_comes_back_whole(town: Town) -> None:
    town.rename("people", "customers", "ALTER TABLE people RENAME TO customers")
    town.rename("customers.mail", "customers.address", "ALTER TABLE customers RENAME COLUMN mail TO address")
    town.bench.unseal("customers.address", "customers.note")
    assert town.bench.ask("SELECT address FROM customers ORDER BY id") == MAILS
    assert [each for each in leftovers(town.bench.fields.shop) if each.kind != "table"] == []
    assert "60" in town.bench.fields.shop.table("customers").column("address").type


def test_a_decryption_that_was_interrupted_follows_too(town: Town) -> None:
    def stop(what: str, done: int, total: int | None = None) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        town.bench.unseal("people.mail", tell=stop)
    assert "opening" in town.bench.stages()
    town.rename("people.mail", "people.address", "ALTER TABLE people RENAME COLUMN mail TO address")
    town.bench.unseal("people.address", "people.note")
    assert town.bench.ask("SELECT address FROM people ORDER BY id") == MAILS
    assert [each for each in leftovers(town.bench.fields.shop) if each.kind != "table"] == []


class KilledError(Exception):
    pass


@pytest.mark.parametrize("nth", [1, 2, 4, 6])
def test_following_may_end_anywhere_and_is_done_again(town: Town, nth: int) -> None:
    town.bench.sql("ALTER TABLE people RENAME TO customers")
    passed: list[str] = []

    def hook(name: str) -> None:
        passed.append(name)
        if len(passed) == nth:
            raise KilledError

    faults.install(hook)
    try:
        with pytest.raises(KilledError):
            town.follow("people", "customers")
    finally:
        faults.install(None)
    town.follow("people", "customers")
    town.require_whole()
