"""What the schema readers see in real and in awkward schemas."""

import sqlite3
from pathlib import Path

import pytest

from guard.errors import ConfigError
from guard.shop import ForeignKey, Shop
from guard.shop.catalog import Sort, mentions, split

AWKWARD = """
CREATE TABLE person (
  name TEXT COLLATE NOCASE PRIMARY KEY, "full ""name" TEXT CHECK (length("full ""name") < 99), -- CHECK (no)
  shout TEXT AS (upper("full ""name")) STORED, born DATE, score REAL, photo BLOB, active BOOLEAN DEFAULT 1, odd
);
CREATE UNIQUE INDEX one_name ON person (lower("full ""name"));
CREATE TABLE note (id INTEGER PRIMARY KEY, who TEXT REFERENCES PERSON, body TEXT);
CREATE TRIGGER touch AFTER UPDATE OF body ON note BEGIN SELECT 1; END;
CREATE TRIGGER born AFTER INSERT ON note BEGIN UPDATE note SET body = body; END;
CREATE VIEW seen AS SELECT who, body FROM note;
CREATE VIRTUAL TABLE words USING fts5(body);
"""

AWKWARD_PG = """
CREATE DOMAIN mail AS text CHECK (VALUE LIKE '%@%');
CREATE TABLE person (
  id bigint PRIMARY KEY, name varchar(40) COLLATE "C" NOT NULL DEFAULT 'n/a', code char(5), "Mixed Case" text,
  shout text GENERATED ALWAYS AS (upper("Mixed Case")) STORED, mail mail, born date, score double precision,
  amount numeric(8, 2), photo bytea, active boolean, CONSTRAINT short CHECK (char_length(name) < 99)
);
CREATE UNIQUE INDEX one_name ON person (lower(name));
CREATE TABLE note (id integer PRIMARY KEY, who bigint REFERENCES person, body text);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.body := trim(NEW.body); RETURN NEW; END';
CREATE TRIGGER touching BEFORE UPDATE ON note FOR EACH ROW EXECUTE FUNCTION touch();
CREATE VIEW seen AS SELECT who, body FROM note;
CREATE TABLE parted (id integer, day date) PARTITION BY RANGE (day);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
"""


@pytest.fixture
def awkward(tmp_path: Path) -> Shop:
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.executescript(AWKWARD)
    connection.close()
    return Shop.connect(f"sqlite:///{tmp_path}/shop.db")


def test_chinook_has_its_tables_keys_and_references(chinook: Shop) -> None:
    tables = chinook.tables()
    assert len(tables) == 11
    assert tables["PlaylistTrack"].key == ("PlaylistId", "TrackId")
    customer = tables["Customer"]
    assert customer.key == ("CustomerId",)
    assert customer.foreign_keys == (ForeignKey(("SupportRepId",), "Employee", ("EmployeeId",)),)
    assert customer.referred == (("Invoice", ForeignKey(("CustomerId",), "Customer", ("CustomerId",))),)
    assert customer.column("Email").sort is Sort.TEXT
    assert not customer.column("Email").nullable
    assert tables["Invoice"].column("InvoiceDate").sort is Sort.TIME


def test_names_with_blanks_are_kept(northwind: Shop) -> None:
    details = northwind.table("Order Details")
    assert details.key == ("OrderID", "ProductID")
    assert [check.sql for check in details.checks] == [
        "[Discount] > = ( 0 ) AND [Discount] < = ( 1 )", "[Quantity] > ( 0 )", "[UnitPrice] > = ( 0 )",
    ]  # fmt: skip
    assert "Order Subtotals" in {view.name for view in details.views}


def test_the_same_shop_reads_alike_in_postgresql(chinook_pg: Shop) -> None:
    tables = chinook_pg.tables()
    assert len(tables) == 11
    email = tables["customer"].column("email")
    assert (email.type, email.length, email.sort, email.nullable) == ("character varying(60)", 60, Sort.TEXT, False)
    assert tables["playlist_track"].key == ("playlist_id", "track_id")
    assert tables["customer"].referred[0][0] == "invoice"
    assert tables["invoice"].column("total").sort is Sort.NUMBER


def test_sqlite_tells_what_is_awkward(awkward: Shop) -> None:
    tables = awkward.tables()
    person, note = tables["person"], tables["note"]
    assert person.column("name").folded
    assert [check.sql for check in person.checks] == ['length ( "full ""name" ) < 99']
    assert "upper" in (person.column("shout").generated or "")
    assert [person.column(name).sort for name in ("born", "score", "photo", "active", "odd")] == [
        Sort.TIME, Sort.NUMBER, Sort.BINARY, Sort.BOOLEAN, Sort.OTHER,
    ]  # fmt: skip
    unique = next(index for index in person.indexes if index.name == "one_name")
    assert unique.unique
    assert unique.columns == ()
    assert "lower" in unique.definition
    assert note.foreign_keys == (ForeignKey(("who",), "person", ("name",)),)
    assert {trigger.name: trigger.on_update for trigger in note.triggers} == {"touch": True, "born": False}
    assert [view.name for view in note.views] == ["seen"]
    assert tables["words"].trouble == "it is a virtual table"
    assert "words_data" not in tables


def test_postgresql_tells_what_is_awkward(empty_pg: Shop) -> None:
    with empty_pg.begin() as connection:
        connection.exec_driver_sql(AWKWARD_PG.replace("%", "%%"))
    tables = empty_pg.tables()
    person, note = tables["person"], tables["note"]
    assert person.column("name").collation == 'pg_catalog."C"'
    assert person.column("name").default == "'n/a'::character varying"
    assert person.column("code").type == "character(5)"
    assert person.column("mail").sort is Sort.OTHER
    assert person.column("shout").generated == 'upper("Mixed Case")'
    assert [person.column(name).sort for name in ("born", "score", "amount", "photo", "active", "id")] == [
        Sort.TIME, Sort.NUMBER, Sort.NUMBER, Sort.BINARY, Sort.BOOLEAN, Sort.INTEGER,
    ]  # fmt: skip
    assert [check.name for check in person.checks] == ["short"]
    assert [(index.name, index.unique, index.columns) for index in person.indexes] == [("one_name", True, ())]
    assert note.triggers[0].on_update
    assert "trim(NEW.body)" in note.triggers[0].sql
    assert note.views[0].columns == ("body", "who")
    assert tables["parted"].trouble == "it is partitioned or inherits"


def test_row_security_is_told(empty_pg: Shop, postgres_url: str) -> None:
    with empty_pg.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE person (id integer PRIMARY KEY)")
        connection.exec_driver_sql("ALTER TABLE person ENABLE ROW LEVEL SECURITY")
        connection.exec_driver_sql("CREATE ROLE clerk LOGIN")
    clerk = Shop.connect(postgres_url.replace("shop@", "clerk@"))
    assert clerk.table("person").trouble == "row security hides some of its rows from guard"
    clerk.close()
    with empty_pg.begin() as connection:
        connection.exec_driver_sql("DROP ROLE clerk")


def test_a_column_that_is_not_there_is_named(chinook: Shop) -> None:
    with pytest.raises(ConfigError, match=r"no column Customer\.Mail"):
        chinook.table("Customer").column("Mail")
    with pytest.raises(ConfigError, match="no table Customers"):
        chinook.table("Customers")


def test_a_place_is_split_at_its_first_dot() -> None:
    assert split("Order Details.Quantity") == ("Order Details", "Quantity")
    with pytest.raises(ConfigError, match="does not name a column"):
        split("Customer")


def test_a_name_is_mentioned_only_as_a_word_of_its_own() -> None:
    assert mentions('CHECK ("Email" LIKE ...)', "email")
    assert not mentions("CHECK (email_ok)", "email")
