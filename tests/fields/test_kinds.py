"""Values keep their type inside a seal, and come back as exactly what the database held."""

import sqlite3
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.fields.kinds import Form, Spelling, form_of, kind_of, spelling_of
from guard.shop import Shop, ShopColumn
from guard.shop.catalog import Sort

POSTGRES = Spelling("datetime")
KINDS = ["text", "integer", "decimal", "date", "datetime", "boolean"]


@pytest.mark.parametrize(
    ("how", "text", "value"),
    [
        (Spelling("integer"), "-17", -17),
        (Spelling("integer"), "017", "017"),
        (Spelling("integer"), "+17", "+17"),
        (Spelling("integer"), "1_7", "1_7"),
        (Spelling("integer"), "17.0", "17.0"),
        (Spelling("decimal"), "12.50", Decimal("12.50")),
        (Spelling("decimal"), "NaN", "NaN"),
        (Spelling("decimal"), "Infinity", "Infinity"),
        (Spelling("decimal"), "1e3", "1e3"),
        (Spelling("date"), "2026-01-05", date(2026, 1, 5)),
        (Spelling("date"), "0099-01-05", date(99, 1, 5)),
        (Spelling("date"), "infinity", "infinity"),
        (Spelling("date"), "0044-03-15 BC", "0044-03-15 BC"),
        (Spelling("date"), "20260105", "20260105"),
        (Spelling("boolean"), "true", True),
        (Spelling("boolean"), "t", "t"),
        (Spelling("boolean", "1", "0"), "0", False),
        (Spelling("boolean", "1", "0"), "2", "2"),
        (POSTGRES, "2026-01-05 09:00:00", datetime(2026, 1, 5, 9)),
        (POSTGRES, "2026-01-05 09:00:00.25", datetime(2026, 1, 5, 9, 0, 0, 250_000)),
        (POSTGRES, "2026-01-05 09:00:00+00", datetime(2026, 1, 5, 9, tzinfo=UTC)),
        (POSTGRES, "2026-01-05 09:00:00+02", "2026-01-05 09:00:00+02"),
        (POSTGRES, "2026-01-05T09:00:00", "2026-01-05T09:00:00"),
        (POSTGRES, "0001-01-01 00:00:00", datetime(1, 1, 1)),
        (Spelling("datetime", digits=3), "2026-01-05 09:00:00.250", datetime(2026, 1, 5, 9, 0, 0, 250_000)),
        (Spelling("datetime", digits=3), "2026-01-05 09:00:00.25", "2026-01-05 09:00:00.25"),
        (Spelling("datetime", digits=0), "0000-00-00 00:00:00", "0000-00-00 00:00:00"),
        (Spelling("text"), "17", "17"),
    ],
)
def test_a_text_is_taken_for_a_value_only_when_that_is_the_same_text_again(
    how: Spelling, text: str, value: Any
) -> None:
    [found] = how.typed([text])
    assert (type(found), found) == (type(value), value)
    assert list(how.plain([found])) == [text]


@given(st.sampled_from(KINDS), st.text())
def test_no_text_is_changed_on_the_way_there_and_back(kind: str, text: str) -> None:
    how = Spelling(kind)
    assert list(how.plain(how.typed([text]))) == [text]


@given(st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | st.dates() | st.datetimes() | st.booleans())
def test_values_of_the_shops_code_are_written_as_the_database_writes_them(value: Any) -> None:
    kind = {int: "integer", Decimal: "decimal", date: "date", datetime: "datetime", bool: "boolean"}[type(value)]
    for how in (Spelling(kind), spelling_of("mysql", kind, "datetime(6) NOT NULL")):
        [text] = how.plain([value])
        assert how.typed([text]) == [value]


def test_times_elsewhere_are_written_in_utc() -> None:
    there = datetime(2026, 1, 5, 9, tzinfo=timezone(timedelta(hours=2)))
    assert list(Spelling("datetime").plain([there])) == ["2026-01-05 07:00:00+00"]


def test_sqlite_takes_each_value_as_it_is() -> None:
    how = Spelling("any")
    values = ["17", 17, 1.5, b"x"]
    assert list(how.typed(values)) == values
    assert list(how.plain(values)) == values
    of_code = [True, Decimal("1.50"), date(2026, 1, 5), datetime(2026, 1, 5, 9)]
    assert list(how.plain(of_code)) == [1, "1.50", "2026-01-05", "2026-01-05 09:00:00"]


@pytest.mark.parametrize(
    ("dialect", "type_", "sort", "kind", "form"),
    [
        ("sqlite", "DATE", Sort.TIME, "any", Form.MIXED),
        ("postgresql", "bigint", Sort.INTEGER, "integer", Form.TEXT),
        ("postgresql", "numeric(10,2)", Sort.NUMBER, "decimal", Form.TEXT),
        ("postgresql", "double precision", Sort.NUMBER, "text", Form.TEXT),
        ("postgresql", "date", Sort.TIME, "date", Form.TEXT),
        ("postgresql", "timestamp(3) with time zone", Sort.TIME, "datetime", Form.TEXT),
        ("postgresql", "interval", Sort.TIME, "text", Form.TEXT),
        ("postgresql", "time without time zone", Sort.TIME, "text", Form.TEXT),
        ("postgresql", "boolean", Sort.BOOLEAN, "boolean", Form.TEXT),
        ("postgresql", "bytea", Sort.BINARY, "text", Form.BINARY),
        ("postgresql", "uuid", Sort.OTHER, "text", Form.TEXT),
        ("mysql", "tinyint(1)", Sort.INTEGER, "boolean", Form.TEXT),
        ("mysql", "tinyint(4)", Sort.INTEGER, "integer", Form.TEXT),
        ("mysql", "decimal(10,2)", Sort.NUMBER, "decimal", Form.TEXT),
        ("mysql", "float", Sort.NUMBER, "text", Form.TEXT),
        ("mysql", "datetime(6)", Sort.TIME, "datetime", Form.TEXT),
        ("mysql", "time", Sort.TIME, "text", Form.TEXT),
        ("mysql", "varbinary(20)", Sort.BINARY, "text", Form.BINARY),
    ],
)
def test_what_a_column_holds_is_told_by_its_type(dialect: str, type_: str, sort: Sort, kind: str, form: Form) -> None:
    column = ShopColumn("c", type_, sort)
    assert (kind_of(dialect, column), form_of(dialect, column)) == (kind, form)


# On the databases themselves ------------------------------------------------------------------------------------------

NOTE = 'Zoë\'s \\ "note"'
POSTGRES_TABLE = """
CREATE TABLE person (id integer PRIMARY KEY, n bigint, price numeric(9,3), born date, seen timestamp(3), at timestamptz,
  vip boolean, photo bytea, name varchar(40) NOT NULL, code char(6), ratio double precision, token uuid, extra jsonb)
"""
POSTGRES_ROWS = [
    (1, -7, Decimal("12.500"), date(1980, 2, 29), datetime(2026, 1, 5, 9, 0, 0, 120_000),
     datetime(2026, 1, 5, 9, tzinfo=UTC), True, b"\x00\xff", NOTE, "ab", 0.1, "00000000-0000-4000-8000-000000000001",
     '{"a": [1, 2]}'),
    (2, 2**62, Decimal("-0.001"), date(9999, 12, 31), datetime(1, 1, 1), datetime(2026, 7, 5, 9, 30, tzinfo=UTC), False,
     b"", "", "", 1e300, "00000000-0000-4000-8000-000000000002", "[]"),
    (3, *[None] * 7, "only a name", *[None] * 4),
]  # fmt: skip
POSTGRES_TYPES = {
    "n": int, "price": Decimal, "born": date, "seen": datetime, "at": datetime, "vip": bool, "photo": bytes,
    "name": str, "code": str, "ratio": str, "token": str, "extra": str,
}  # fmt: skip
MARIADB_TABLE = """
CREATE TABLE person (id integer PRIMARY KEY, n bigint, price decimal(9,3), born date, seen datetime(3), vip tinyint(1),
  photo varbinary(30), name varchar(40) NOT NULL, code char(6), ratio double, kind enum('a', 'b'), big mediumtext)
"""
MARIADB_ROWS = [
    (1, -7, Decimal("12.500"), date(1980, 2, 29), datetime(2026, 1, 5, 9, 0, 0, 120_000), 1, b"\x00\xff", NOTE, "ab",
     0.1, "a", "x" * 70_000),
    (2, 2**62, Decimal("-0.001"), date(9999, 12, 31), datetime(1, 1, 1), 0, b"", "", "", 1e300, "b", ""),
    (3, *[None] * 6, "only a name", *[None] * 4),
]  # fmt: skip
MARIADB_TYPES = {
    "n": int, "price": Decimal, "born": date, "seen": datetime, "vip": bool, "photo": bytes, "name": str, "code": str,
    "ratio": str, "kind": str, "big": str,
}  # fmt: skip
SQLITE_TABLE = (
    "CREATE TABLE person (id INTEGER PRIMARY KEY, n INTEGER, price REAL, born DATE, photo BLOB, name TEXT, any)"
)
SQLITE_ROWS = [
    (1, -7, 12.5, "1980-02-29", b"\x00\xff", NOTE, 1),
    (2, 2**62, -0.0, "", b"", "", 1.5),
    (3, None, None, None, None, "only a name", b"bytes"),
    (4, "text in a number", 1e300, 17, "text in bytes", "x", "text"),
]
SQLITE_TYPES = {"n": int, "price": float, "born": str, "photo": bytes, "name": str, "any": int}


def _fill(url: str, table: str, rows: list[tuple[Any, ...]]) -> None:
    shop = Shop.connect(url)
    mark = "?" if shop.dialect == "sqlite" else "%s"
    with shop.begin() as connection:
        connection.exec_driver_sql(table)
        for row in rows:
            marks = ", ".join([mark] * len(row))
            connection.exec_driver_sql(f"INSERT INTO person VALUES ({marks})", tuple(row))
    shop.close()


CASES = {
    "sqlite": (SQLITE_TABLE, SQLITE_ROWS, SQLITE_TYPES),
    "postgres": (POSTGRES_TABLE, POSTGRES_ROWS, POSTGRES_TYPES),
    "mariadb": (MARIADB_TABLE, MARIADB_ROWS, MARIADB_TYPES),
}


@pytest.mark.parametrize("name", CASES)
def test_all_types_are_sealed_read_and_given_back(
    make: Callable[..., Any], request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    table, rows, types = CASES[name]
    if name == "sqlite":
        sqlite3.connect(tmp_path / "shop.db").close()
        url = f"sqlite:///{tmp_path}/shop.db"
    else:
        url = request.getfixturevalue(f"{name}_url")
    _fill(url, table, rows)
    bench = make(url, *(f"person.{column}" for column in types))
    before, schema = bench.rows(), bench.fields.shop.table("person")
    swept = bench.seal()
    assert {each.left for each in swept} == {0}
    assert all(check.same and not check.plain for check in bench.fields.verify())
    sealed = bench.fields.shop.table("person")
    told = bench.fields.declared({"person": sealed})["person"].columns
    assert [(column.sort, column.length) for column in told] == [
        (column.sort, column.length) for column in schema.columns
    ], "what the shop declared, not what guard made of it"
    names = [column.name for column in sealed.columns]
    for row in bench.rows()["person"]:
        for at, stored in zip(names, row, strict=True):
            if at not in types or stored is None:
                continue
            assert bytes(stored[:2]) == b"g1" if isinstance(stored, bytes) else stored.startswith("g1."), at
    first = dict(zip(names, bench.rows()["person"][0], strict=True))
    for column, type_ in types.items():
        value = bench.fields.opener(f"person.{column}")((1,), first[column])
        assert type(value) is type_, column
    bench.unseal()
    assert bench.rows() == before
    assert bench.fields.shop.table("person") == schema


@pytest.mark.parametrize("name", ["postgres", "mariadb"])
def test_a_value_written_for_a_typed_column_comes_back_typed(
    make: Callable[..., Any], request: pytest.FixtureRequest, name: str
) -> None:
    """What retention writes: a date cut to its month; and a constant where no value of the type stands."""
    table, rows, _ = CASES[name]
    url = request.getfixturevalue(f"{name}_url")
    _fill(url, table, rows)
    bench = make(url, "person.born")
    before = bench.rows()
    write = bench.fields.sealer("person.born")
    assert write((1,), date(1980, 2, 1)) == date(1980, 2, 1), "it is not sealed yet"
    bench.seal()
    write, read = bench.fields.sealer("person.born"), bench.fields.opener("person.born")
    for value, found in ((date(1980, 2, 1), date(1980, 2, 1)), ("1980-02-01", date(1980, 2, 1)), ("gone", "gone")):
        assert read((1,), write((1,), value)) == found
    assert write((1,), None) is None
    stored = write((1,), date(1980, 2, 1))
    bench.sql(f"UPDATE person SET born = '{stored}' WHERE id = 1")
    bench.unseal()
    changed = bench.rows()["person"][0]
    assert changed[3] == date(1980, 2, 1)
    assert bench.rows()["person"][1:] == before["person"][1:]
