"""Columns sealed for each person: along the catalog's path, by one process or several; what becomes of the others."""

import sqlite3
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guard.canon import key_bytes
from guard.clock import SteppedClock
from guard.config import Catalog, Column, Link, Protect, Subject
from guard.crypto.keyring import Keyring
from guard.crypto.mirrors import FolderMirror
from guard.crypto.receipts import Death, Shredder
from guard.crypto.subjects import Person, SubjectKeys
from guard.crypto.vault import Vault
from guard.errors import InterlockError, TamperedError
from guard.fields import Fields, Pace
from guard.shop import Shop
from guard.state import State

RUN, NEXT, LAST = (digit * 32 for digit in "123")
CUSTOMERS, ORDERS = 20, 90


@pytest.fixture
def subjects(state: State, keyring: Keyring, tmp_path: Path) -> SubjectKeys:
    """The keys of people, in a vault of two folders."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir(mode=0o700)
    mirrors = (FolderMirror("one", tmp_path / "one"), FolderMirror("two", tmp_path / "two"))
    return SubjectKeys(state, keyring, Vault(state, keyring, mirrors, nullcontext))


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Customers, their orders (some of nobody), and what was written in the orders."""
    if request.param == "sqlite":
        sqlite3.connect(tmp_path / "shop.db").close()
        url = f"sqlite:///{tmp_path}/shop.db"
    else:
        url = request.getfixturevalue(f"{request.param}_url")
    exact = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" if request.param == "mariadb" else ""
    shop = Shop.connect(url)
    with shop.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE customer (id integer PRIMARY KEY, mail varchar(60){exact})")
        connection.exec_driver_sql(
            "CREATE TABLE orders (id integer PRIMARY KEY, customer integer,"
            " FOREIGN KEY (customer) REFERENCES customer (id))"
        )
        connection.exec_driver_sql(f"CREATE TABLE note (id integer PRIMARY KEY, o integer, text varchar(90){exact})")
        for number in range(1, CUSTOMERS + 1):
            connection.exec_driver_sql(f"INSERT INTO customer VALUES ({number}, 'c{number}@example.org')")
        for number in range(1, ORDERS + 1):
            customer = number % CUSTOMERS + 1
            connection.exec_driver_sql(f"INSERT INTO orders VALUES ({number}, {customer})")
            connection.exec_driver_sql(f"INSERT INTO note VALUES ({number * 2}, {number}, 'for {customer}')")
    yield shop
    shop.close()


CATALOG = Catalog(
    subject={"customer": Subject(table="customer", key="id")},
    column=(
        Column(at="customer.mail", id=1, protect=Protect.ENCRYPT, bind="subject"),
        Column(at="note.text", id=2, protect=Protect.ENCRYPT, bind="subject"),
    ),
    link=(Link(from_="note.o", to="orders.id"),),
)


@pytest.fixture
def fields(shop: Shop, state: State, keyring: Keyring, clock: SteppedClock, subjects: SubjectKeys) -> Fields:
    pace = Pace(start=20, least=20, most=20, share=1)
    return Fields(shop, CATALOG, keyring, state, clock, tuple, pace, subjects=subjects)


def seal(fields: Fields, *names: str, run: str = RUN, workers: int = 1) -> Any:
    """Seal what the catalog says, past the plan: it asks the vault that this test has not wired."""
    from guard.fields.turn import seal_column

    columns = [column for column in fields.catalog.column if not names or column.at in names]
    tools = replace(fields._tools(), workers=workers)
    swept = tuple(seal_column(tools, column, run, lambda *_: None) for column in columns)
    fields.state.write(fields.remember(swept))
    return swept


def rows(shop: Shop, table: str = "note") -> list[Any]:
    with shop.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY id")]


def sql(shop: Shop, *statements: str) -> None:
    with shop.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_each_value_is_sealed_for_its_person_and_comes_back(fields: Fields, shop: Shop, workers: int) -> None:
    before = rows(shop), rows(shop, "customer")
    swept = seal(fields, workers=workers)
    assert [(each.rows, each.left, each.record.key_id) for each in swept] == [(CUSTOMERS, 0, 0), (ORDERS, 0, 0)]
    assert len(fields.subjects.classes(Person("customer", key_bytes((3,))))) == 1
    checks = fields.verify()
    assert [(check.opened, check.same) for check in checks] == [(CUSTOMERS, True), (ORDERS, True)]
    opened = fields.decrypt(["note.text", "customer.mail"], NEXT, workers=workers)
    assert [each.rows for each in opened] == [ORDERS, CUSTOMERS]
    assert (rows(shop), rows(shop, "customer")) == before


def test_single_values_are_read_and_written_for_their_person(fields: Fields, shop: Shop) -> None:
    seal(fields)
    stored = {row[0]: row[2] for row in rows(shop)}
    read, write = fields.opener("note.text"), fields.sealer("note.text")
    assert read((2,), stored[2]) == "for 2"
    with pytest.raises(TamperedError):
        read((4,), stored[2])
    assert read((4,), write((4,), "anonymized")) == "anonymized"
    sql(shop, "UPDATE orders SET customer = NULL WHERE id = 2")
    with pytest.raises(InterlockError, match="a row leads to no person"):
        write((4,), "x")


def test_rows_of_nobody_are_left_in_plain_and_counted(fields: Fields, shop: Shop) -> None:
    sql(shop, "UPDATE orders SET customer = NULL WHERE id IN (1, 50, 90)", "UPDATE note SET o = 999 WHERE id = 60")
    [swept] = seal(fields, "note.text")
    assert (swept.rows, swept.left) == (ORDERS - 4, 4)
    assert swept.note == "note.text: 4 rows lead to no customer, so there is no key to seal them under"
    assert [row[0] for row in rows(shop) if not row[2].startswith("g1.")] == [2, 60, 100, 180]
    assert swept.record.stage.value == "sealing"
    sql(shop, "UPDATE orders SET customer = 7 WHERE customer IS NULL", "UPDATE note SET o = 30 WHERE id = 60")
    [swept] = seal(fields, "note.text", run=NEXT)
    assert (swept.rows, swept.left, swept.record.stage.value) == (4, 0, "sealed")
    assert fields.verify()[0].same


def test_a_value_moved_to_another_persons_row_is_found(fields: Fields, shop: Shop) -> None:
    seal(fields, "note.text")
    sql(shop, "UPDATE note SET o = 5 WHERE id = 2")
    with pytest.raises(TamperedError, match="1 of 90 values were changed or moved: row 1 "):
        fields.verify(["note.text"])
    sql(shop, "UPDATE note SET o = 21 WHERE id = 2")
    assert fields.verify(["note.text"])[0].same, "order 21 is of the same customer as order 1"


def test_shredded_values_are_told_and_do_not_stop_the_others(
    fields: Fields, shop: Shop, state: State, keyring: Keyring, subjects: SubjectKeys
) -> None:
    seal(fields)
    person = Person("customer", key_bytes((3,)))
    gone = [row[0] for row in rows(shop) if (row[1] % CUSTOMERS) + 1 == 3]
    shred(state, keyring, subjects, person)
    mail, note = fields.verify()
    assert (mail.shredded, mail.opened, mail.same, mail.clean) == (1, CUSTOMERS - 1, None, True)
    assert (note.shredded, note.opened) == (len(gone), ORDERS - len(gone))
    stored = {row[0]: row[2] for row in rows(shop)}
    assert fields.opener("note.text")((gone[0],), stored[gone[0]]) is None
    [opened] = fields.decrypt(["note.text"], NEXT)
    assert (opened.rows, opened.left) == (ORDERS, 0)
    assert [row[0] for row in rows(shop) if row[2] is None] == gone


def test_a_path_that_leads_to_several_is_refused(fields: Fields, shop: Shop) -> None:
    sql(shop, "CREATE TABLE tag (id integer PRIMARY KEY, note integer, customer integer)")
    shop.forget()
    catalog = Catalog(
        subject=CATALOG.subject,
        column=(Column(at="note.text", id=2, protect=Protect.ENCRYPT, bind="subject"),),
        link=(Link(from_="note.id", to="tag.note"), Link(from_="tag.customer", to="customer.id")),
    )
    with pytest.raises(InterlockError, match="note refers to tag by note, which is not unique there"):
        seal(replace(fields, catalog=catalog))


def shred(state: State, keyring: Keyring, subjects: SubjectKeys, person: Person) -> None:
    """Wipe the key of a person, as `keys shred` does, and forget what this process has opened."""
    assert Shredder(state, keyring, subjects).shred(Death(person, "account", "run", ("log",))) is not None
    subjects.forget()
