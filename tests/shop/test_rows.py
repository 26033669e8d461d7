"""Rows come once each, in the order of their keys, in batches of any size."""

import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guard.errors import InterlockError
from guard.shop import Shop
from guard.shop.rows import Scan, batches, count, key_trouble, one_batch

PARTS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\x00"), max_size=4),
    st.binary(max_size=4),
)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A table whose composite key takes anything, as SQLite allows."""
    path = tmp_path_factory.mktemp("rows") / "shop.db"
    connection = sqlite3.connect(path)
    connection.execute('CREATE TABLE "odd %s table" (a, "b:c", v, PRIMARY KEY (a, "b:c"))')
    connection.close()
    shop = Shop.connect(f"sqlite:///{path}")
    yield shop
    shop.close()


@given(keys=st.lists(st.tuples(PARTS, PARTS), unique=True, max_size=25), size=st.integers(1, 7))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_row_comes_once_in_order(mixed: Shop, keys: list[tuple[object, object]], size: int) -> None:
    table = mixed.table("odd %s table")
    clause = mixed.clause(table)
    with mixed.begin() as connection:
        connection.execute(clause.delete())
        for number, (a, b) in enumerate(keys):
            connection.execute(clause.insert().values({"a": a, "b:c": b, "v": number}))
    with mixed.read() as connection:
        got = [row for batch in batches(mixed, connection, Scan(table, ("v",), size)) for row in batch]
        want = connection.exec_driver_sql('SELECT a, "b:c", v FROM "odd %s table" ORDER BY a, "b:c"').all()
    assert [(*row.key, *row.values) for row in got] == [tuple(row) for row in want]


def test_every_type_of_key_pages_in_postgresql(empty_pg: Shop) -> None:
    with empty_pg.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE keys (i bigint, t text, u uuid, n numeric, b bytea, s smallint, v varchar(9), x integer,"
            " PRIMARY KEY (i, t, u, n, b, s, v))"
        )
        connection.exec_driver_sql(
            "INSERT INTO keys SELECT g * 5000000000, 't' || g, md5(g::text)::uuid, g / 4.0, ('x' || g)::bytea, g %% 3,"
            " 'v', g FROM generate_series(1, 57) g"
        )
    table = empty_pg.table("keys")
    with empty_pg.read() as connection:
        got = [row for batch in batches(empty_pg, connection, Scan(table, ("x",), 10)) for row in batch]
    assert [row.values[0] for row in got] == list(range(1, 58))
    assert [type(part) for part in got[0].key] == [int, str, UUID, Decimal, bytes, int, str]


def test_a_scan_goes_on_behind_a_key_and_stops_at_one(northwind: Shop) -> None:
    table = northwind.table("Order Details")
    with northwind.read() as connection:
        everything = one_batch(northwind, connection, Scan(table, (), 5000), None)
        after, upto = everything[99].key, everything[199].key
        part = list(batches(northwind, connection, Scan(table, (), 30, after=after, upto=upto)))
        assert count(northwind, connection, table) == len(everything)
    assert [row for batch in part for row in batch] == everything[100:200]


def test_floats_are_no_keys(mixed: Shop) -> None:
    table = mixed.table("odd %s table")
    with mixed.begin() as connection:
        connection.execute(mixed.clause(table).insert().values({"a": 1.5, "b:c": 1, "v": 0}))
    with pytest.raises(InterlockError, match="float in its primary key"), mixed.read() as connection:
        list(batches(mixed, connection, Scan(table, ())))
    with mixed.begin() as connection:
        connection.execute(mixed.clause(table).delete())


def test_keys_that_name_no_row_exactly_are_told(empty_pg: Shop) -> None:
    with empty_pg.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE none (a integer)")
        connection.exec_driver_sql("CREATE TABLE moment (a timestamptz PRIMARY KEY)")
        connection.exec_driver_sql("CREATE TABLE half (a double precision PRIMARY KEY)")
        connection.exec_driver_sql("CREATE TABLE blanks (a char(5) PRIMARY KEY)")
        connection.exec_driver_sql("CREATE TABLE good (a integer PRIMARY KEY)")
    tables = empty_pg.tables()
    assert key_trouble(tables["none"]) == "it has no primary key"
    assert "does not name a row exactly" in str(key_trouble(tables["moment"]))
    assert "does not name a row exactly" in str(key_trouble(tables["half"]))
    assert "does not name a row exactly" in str(key_trouble(tables["blanks"]))
    assert key_trouble(tables["good"]) is None
