"""MariaDB is read, and its errors are told without quoting a row."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from guard.config import Catalog, load_policy
from guard.config.taxonomy import Taxonomy
from guard.errors import GuardError, UnavailableError
from guard.fields.count import count
from guard.privacy.detect.evidence import Detector, own_patterns
from guard.privacy.discover import Scanner
from guard.shop import Shop
from guard.shop.catalog import Sort
from guard.shop.rows import Scan, batches, key_trouble

POLICIES = Path(__file__).parents[2] / "policies"
TABLES = """
CREATE TABLE customers (id INT AUTO_INCREMENT PRIMARY KEY, email VARCHAR(60) UNIQUE, name TEXT, born DATE, ip INET6,
  kind ENUM('a', 'b'), place POINT, photo LONGBLOB, upper_name VARCHAR(70) AS (UPPER(email)) VIRTUAL,
  CHECK (CHAR_LENGTH(email) > 1));
CREATE TABLE positions (o INT, k VARCHAR(5) COLLATE utf8mb4_bin, customer INT, PRIMARY KEY (o, k),
  FOREIGN KEY (customer) REFERENCES customers (id));
CREATE TABLE folded (k VARCHAR(5) PRIMARY KEY);
CREATE TABLE bare (a INT);
CREATE TRIGGER lower_name BEFORE UPDATE ON customers FOR EACH ROW SET NEW.name = LOWER(NEW.name);
CREATE VIEW mails AS SELECT email FROM customers
"""
CUSTOMERS = [(f"anna{number}@example.org", f"Änna Quillfeather {number}") for number in range(50)]
POSITIONS = [(number % 7, f"{'k' if number % 2 else 'K'}{number}", number % 50 + 1) for number in range(90)]


@pytest.fixture
def shop(mariadb_url: str, sql) -> Iterator[Shop]:
    """A shop in a database of this test's own."""
    opened = Shop.connect(mariadb_url)
    for statement in TABLES.split(";\n"):
        sql(opened, statement)
    with opened.begin() as connection:
        connection.exec_driver_sql("INSERT INTO customers (email, name) VALUES (%s, %s)", CUSTOMERS)
        connection.exec_driver_sql("INSERT INTO positions VALUES (%s, %s, %s)", POSITIONS)
    yield opened
    opened.close()


def test_the_schema_is_read(shop: Shop) -> None:
    tables = shop.tables()
    assert set(tables) == {"bare", "customers", "folded", "positions"}
    customers = tables["customers"]
    assert customers.key == ("id",)
    assert {column.name: column.sort for column in customers.columns} == {
        "id": Sort.INTEGER, "email": Sort.TEXT, "name": Sort.TEXT, "born": Sort.TIME, "ip": Sort.OTHER,
        "kind": Sort.OTHER, "place": Sort.BINARY, "photo": Sort.BINARY, "upper_name": Sort.TEXT,
    }  # fmt: skip
    assert [customers.column(name).type for name in ("ip", "place")] == ["inet6", "point"]
    assert customers.column("email").length == 60
    assert customers.column("upper_name").generated
    assert [index.columns for index in customers.indexes if index.unique] == [("email",)]
    assert [(trigger.name, trigger.on_update) for trigger in customers.triggers] == [("lower_name", True)]
    assert [view.name for view in customers.views] == ["mails"]
    assert len(customers.checks) == 1
    assert [(source, key.columns) for source, key in customers.referred] == [("positions", ("customer",))]
    assert {name: key_trouble(table) is None for name, table in tables.items()} == {
        "bare": False, "customers": True, "folded": False, "positions": True,
    }  # fmt: skip


def test_rows_come_in_batches_in_the_order_of_their_key(shop: Shop) -> None:
    with shop.read() as connection:
        plain = list(batches(shop, connection, Scan(shop.table("customers"), ("email",), 20)))
        double = list(batches(shop, connection, Scan(shop.table("positions"), ("customer",), 20)))
    assert [len(batch) for batch in plain] == [20, 20, 10]
    assert [row.values[0] for batch in plain for row in batch] == [email for email, _ in CUSTOMERS]
    assert [row.key for batch in double for row in batch] == sorted((o, k) for o, k, _ in POSITIONS)


def test_personal_data_is_found(shop: Shop) -> None:
    taxonomy = load_policy(POLICIES, "taxonomy", Taxonomy)
    found = Scanner(shop, taxonomy, Catalog(), (Detector("own patterns", own_patterns),)).scan()
    categories = {finding.at: (finding.category, finding.sample) for finding in found.findings}
    assert categories["customers.email"] == ("email", 50)
    assert categories["customers.name"] == ("name", 50)
    assert categories["customers.place"][1] == 0
    assert "Quillfeather" not in str(found)


def test_what_lies_in_a_column_is_counted(shop: Shop) -> None:
    with shop.read() as connection:
        counts = count(shop, connection, shop.table("customers"), "name")
    assert (counts.rows, counts.plain, counts.sealed, counts.other) == (50, 50, 0, 0)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE customers SET born = name",
        "UPDATE customers SET kind = 'a' WHERE email = 7",
        "INSERT INTO customers (email) VALUES ('anna1@example.org')",
        "INSERT INTO customers (email) VALUES (REPEAT('Quillfeather', 9))",
    ],
)
def test_no_error_quotes_a_row(shop: Shop, statement: str) -> None:
    with pytest.raises(GuardError, match="refused") as caught, shop.begin() as connection:
        connection.exec_driver_sql(statement)
    assert not any(word in f"{caught.value} {caught.value.hint}" for word in ("Quillfeather", "anna"))


def test_what_does_not_answer_is_said(shop: Shop) -> None:
    at = shop.engine.url.set(drivername="mysql")
    for wrong in (at.set(port=1), at.set(database="guard_no_such"), at.set(username="nobody", password="s3cret")):
        with pytest.raises(UnavailableError, match="does not answer") as caught:
            Shop.connect(wrong.render_as_string(hide_password=False))
        assert "s3cret" not in str(caught.value)
