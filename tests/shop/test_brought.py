"""A token that is named in an UPDATE of SQLAlchemy Core stays, on each database, and in the room that anonymizes."""

import pytest
import sqlalchemy as sa

from guard.privacy.store import update_rows
from guard.shop import Shop, alter
from guard.shop.brought import brought


@pytest.fixture
def people(empty: Shop, sql) -> Shop:
    sql(empty, "CREATE TABLE people (id INTEGER PRIMARY KEY, mail VARCHAR(90), `note%` VARCHAR(9))".replace(
        "`", "`" if empty.dialect == "mysql" else '"'
    ))  # fmt: skip
    table = empty.table("people")
    alter.add_token(empty, table, "mail__guard1")
    alter.follow(empty, table, "mail", ["mail__guard1"])
    token = "x'01'" if empty.dialect != "postgresql" else "'\\x01'"
    for number in (1, 2):
        sql(empty, f"INSERT INTO people (id, mail, mail__guard1) VALUES ({number}, 'g1.A', {token})")
    return empty


def test_what_retention_writes_brings_its_token(people: Shop, sql) -> None:
    rows = [((1,), ("g1.B", b"\x01", "x")), ((2,), ("g1.C", b"\x02", "y"))]
    with people.begin() as connection:
        update_rows(people, connection, people.table("people"), ("mail", "mail__guard1", "note%"), rows)
    query = "SELECT mail, mail__guard1 FROM people ORDER BY id"
    assert sql(people, query) == [("g1.B", b"\x01"), ("g1.C", b"\x02")]


def test_only_a_token_is_told_and_only_in_an_update(people: Shop) -> None:
    clause = people.clause(people.table("people"))
    value = sa.bindparam("v", b"\x01")
    assert brought("mail", value) is value
    made = brought("mail__guard1", value)
    dialect = people.engine.dialect
    insert = str(sa.insert(clause).values({"mail__guard1": made}).compile(dialect=dialect))
    update = str(sa.update(clause).values({"mail__guard1": made}).compile(dialect=dialect))
    assert ":=" not in insert
    assert ("@`mail__guard1` :=" in update) == (people.dialect == "mysql")
