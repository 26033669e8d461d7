"""Whose data a column holds, which rows are about one person, and tokens that lead to nobody: on every database."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from guard.canon import key_bytes
from guard.config import Catalog, Column, Link, Protect, Subject
from guard.errors import ConfigError
from guard.fields.person import make_keys, owner, parsed, persons, rows_of, ways
from guard.fields.store import Filling, IndexRecord, Record, Stage
from guard.fields.unlink import linked, unlink
from guard.shop import Shop, progress

TABLES = (
    "CREATE TABLE staff (id INT PRIMARY KEY, name VARCHAR(50))",
    "CREATE TABLE customer (id INT PRIMARY KEY, email VARCHAR(50), helper INT, "
    "FOREIGN KEY (helper) REFERENCES staff (id))",
    "CREATE TABLE orders (shop VARCHAR(5), number INT, customer INT, PRIMARY KEY (shop, number), "
    "FOREIGN KEY (customer) REFERENCES customer (id))",
    "CREATE TABLE line (id INT PRIMARY KEY, shop VARCHAR(5), number INT, text VARCHAR(50), "
    "FOREIGN KEY (shop, number) REFERENCES orders (shop, number))",
    "CREATE TABLE message (id INT PRIMARY KEY, about INT, body VARCHAR(50))",
    "CREATE TABLE stranger (id INT PRIMARY KEY, body VARCHAR(50))",
)
ROWS = (
    "INSERT INTO staff VALUES (1, 'Sam'), (2, 'Kim')",
    "INSERT INTO customer VALUES (1, 'ada', 1), (2, 'bob', 2), (3, 'cyd', NULL)",
    "INSERT INTO orders VALUES ('de', 1, 1), ('de', 2, 2), ('fr', 1, 1), ('fr', 2, NULL)",
    "INSERT INTO line VALUES (1, 'de', 1, 'a'), (2, 'de', 2, 'b'), (3, 'fr', 1, 'c'), (4, 'fr', 2, 'd')",
    "INSERT INTO message VALUES (1, 1, 'x'), (2, 2, 'y'), (3, NULL, 'z')",
)
CATALOG = Catalog(
    subject={"customer": Subject(table="customer", key="id"), "staff": Subject(table="staff", key="id")},
    link=(Link(from_="message.about", to="customer.id"),),
)


def column(at: str, number: int = 1) -> Column:
    return Column(at=at, id=number, protect=Protect.ENCRYPT, bind="subject")


def record(at: str, number: int = 1, **more: Any) -> Record:
    found = {"subject": "customer", "class_": "account", **more}
    return Record(
        number,
        at,
        found.pop("stage", Stage.SEALED),
        "subject",
        ("id",),
        None,
        0,
        datetime(2026, 1, 1, tzinfo=UTC),
        **found,
    )


def filled(shop: Shop) -> Shop:
    with shop.begin() as connection:
        for statement in (*TABLES, *ROWS):
            connection.exec_driver_sql(statement)
    shop.tables(fresh=True)
    return shop


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    if request.param == "sqlite":
        with closing(sqlite3.connect(tmp_path / "shop.db")):
            pass
        opened = Shop.connect(f"sqlite:///{tmp_path}/shop.db")
    else:
        name = {"postgresql": "postgres_url", "mysql": "mariadb_url"}[request.param]
        opened = Shop.connect(request.getfixturevalue(name))
    yield filled(opened)
    opened.close()


@pytest.fixture
def file_shop(tmp_path: Path) -> Iterator[Shop]:
    with closing(sqlite3.connect(tmp_path / "shop.db")):
        pass
    opened = filled(Shop.connect(f"sqlite:///{tmp_path}/shop.db"))
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("at", "kind", "steps"),
    [
        ("customer.email", "customer", 0),
        ("line.text", "customer", 2),
        ("message.body", "customer", 1),
        ("staff.name", "staff", 0),
    ],
)
def test_the_nearest_person_owns_a_column(file_shop: Shop, at: str, kind: str, steps: int) -> None:
    found = owner(file_shop.tables(), CATALOG, column(at))
    assert (found.kind, len(found.path)) == (kind, steps)


def test_what_leads_to_nobody_is_named(file_shop: Shop) -> None:
    with pytest.raises(ConfigError, match=r"stranger\.body: nothing leads from stranger to a person"):
        owner(file_shop.tables(), CATALOG, column("stranger.body"))
    with pytest.raises(ConfigError, match="nothing leads from message there any more"):
        ways(file_shop.tables(), Catalog(subject=CATALOG.subject), [record("message.body")])
    with pytest.raises(ConfigError):
        ways(file_shop.tables(), CATALOG, [record("message.body", subject="gone")])


def test_only_columns_sealed_for_people_have_ways(file_shop: Shop) -> None:
    records = [
        record("customer.email", 1), record("line.text", 2, subject=None), record("message.body", 3, stage=Stage.PLAIN),
        record("customer.id", 4, subject="staff"),
    ]  # fmt: skip
    found = ways(file_shop.tables(), CATALOG, records)
    assert {number: (way.kind, len(way.path)) for number, way in found.items()} == {1: ("customer", 0), 4: ("staff", 1)}


@pytest.mark.parametrize(
    ("at", "rows"),
    [
        ("customer.email", [(1,)]),
        ("orders.shop", [("de", 1), ("fr", 1)]),
        ("line.text", [(1,), (3,)]),
        ("message.body", [(1,)]),
    ],
)
def test_the_rows_about_one_person_are_found(shop: Shop, at: str, rows: list[tuple[object, ...]]) -> None:
    way = owner(shop.tables(), CATALOG, column(at))
    table = shop.tables()[at.partition(".")[0]]
    with shop.read() as connection:
        assert rows_of(shop, connection, table, way, 1) == rows
        assert rows_of(shop, connection, table, way, 99) == []


def test_every_person_is_listed(shop: Shop) -> None:
    with shop.read() as connection:
        found = [key for batch in persons(shop, connection, CATALOG.subject["customer"]) for key in batch]
    assert found == [key_bytes((number,)) for number in (1, 2, 3)]


def test_keys_are_made_for_everybody_before_anything_is_sealed(file_shop: Shop) -> None:
    class Keys:
        def __init__(self) -> None:
            self.made: list[tuple[str, str, int]] = []

        def all_for_writing(self, people: Any, class_: str) -> None:
            self.made += [(person.kind, class_, person.key[-1]) for person in people]

    keys: Any = Keys()
    columns = [column("line.text"), column("message.body", 2), column("staff.name", 3)]
    assert make_keys(file_shop, CATALOG, keys, columns) == 5
    assert keys.made == [("customer", "account", n) for n in (1, 2, 3)] + [("staff", "account", n) for n in (1, 2)]


def tokens(shop: Shop, query: str) -> list[tuple[Any, ...]]:
    with shop.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def test_tokens_of_one_person_become_other_bytes(shop: Shop) -> None:
    """In two tables, by two ways; what has no token gets none, and other people's stay."""
    kind = {"postgresql": "BYTEA", "mysql": "VARBINARY(16)"}.get(shop.dialect, "BLOB")
    with shop.begin() as connection:
        for table in ("customer", "line"):
            connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN t__guard1 {kind}")
            clause = sa.table(table, sa.column("id"), sa.column("t__guard1"))
            connection.execute(sa.update(clause).values(t__guard1=b"0123456789abcdef"))
            connection.execute(sa.update(clause).where(clause.c.id == 3).values(t__guard1=None))
    records = [record("customer.email", 1), record("line.text", 2)]
    indexes = [IndexRecord(n, 1, "t__guard1", 1, "exact", size, False, Filling.READY) for n, size in ((1, 16), (2, 2))]
    places = linked(records, indexes, ways(shop.tables(fresh=True), CATALOG, records))
    assert [(place.table, len(place.tokens)) for place in places] == [("customer", 1), ("line", 1)]
    run = progress.Bracket("0" * 32, "shred k-1")
    assert unlink(shop, run, places, 1) == 3
    own = bytes(tokens(shop, "SELECT t__guard1 FROM customer WHERE id = 1")[0][0])
    assert len(own) == 16
    assert own != b"0123456789abcdef"
    assert [len(bytes(row[0])) for row in tokens(shop, "SELECT t__guard1 FROM line WHERE id = 1")] == [2]
    for query in ("SELECT t__guard1 FROM customer WHERE id = 2", "SELECT t__guard1 FROM line WHERE id IN (2, 4)"):
        assert {bytes(row[0]) for row in tokens(shop, query)} == {b"0123456789abcdef"}
    assert tokens(shop, "SELECT t__guard1 FROM line WHERE id = 3") == [(None,)]
    assert progress.resolve(shop, run.run).state is progress.Resolution.DONE


def test_without_tokens_the_shop_is_not_touched(file_shop: Shop) -> None:
    assert linked([record("customer.email")], [], {}) == []
    assert unlink(file_shop, progress.Bracket("0" * 32, "shred k-1"), [], 1) == 0
    assert tokens(file_shop, "SELECT count(*) FROM sqlite_schema WHERE name = 'guard_progress'") == [(0,)]


def test_what_an_operator_types_becomes_a_key(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as made:
        made.execute("CREATE TABLE t (i INTEGER, s TEXT, n NUMERIC, b BLOB, d DATE, u UUID)")
    shop = Shop.connect(f"sqlite:///{tmp_path}/shop.db")
    table = shop.table("t")
    shop.close()
    assert parsed(table, "i", "-4711") == -4711
    assert parsed(table, "s", "4711") == "4711"
    assert parsed(table, "n", "1.50") == Decimal("1.50")
    assert parsed(table, "b", "00ff") == b"\x00\xff"
    assert parsed(table, "u", "0f0e0d0c-0b0a-0908-0706-050403020100") == UUID(int=0x0F0E0D0C0B0A09080706050403020100)
    for name, text in (("i", "planted"), ("n", "planted"), ("b", "xyz"), ("u", "planted"), ("d", "2026-01-01")):
        with pytest.raises(ConfigError) as told:
            parsed(table, name, text)
        assert "planted" not in str(told.value)
