"""How values cross to each database: sealed as the sweep seals them, plain as both types take them, and back."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import Dialect

from guard.errors import ConfigError
from guard.fields.codec import Codec


class Size(Enum):
    SMALL = "s"


class Upper(sa.TypeDecorator[str]):
    """A type of the shop's own."""

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else value.upper()

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else value.lower()


def dialects() -> list[Dialect]:
    made: list[Dialect] = [SQLiteDialect_pysqlite(), PGDialect_psycopg(), MySQLDialect_pymysql()]
    for each in made:
        each.dbapi = each.import_dbapi()  # type: ignore[attr-defined]  # each has one
    return made


DIALECTS = dialects()
WHEN = datetime.fromisoformat("2026-01-05 09:30:01.5")
CASES: list[tuple[Any, Any]] = [
    (sa.String(9), "Größe"),
    (sa.Text(), ""),
    (sa.Integer(), -5),
    (sa.BigInteger(), 2**60),
    (sa.Numeric(10, 2), Decimal("12.50")),
    (sa.Double(), 2.0),
    (sa.Double(), 1e300),
    (sa.Date(), date(1980, 2, 3)),
    (sa.DateTime(), WHEN),
    (sa.Time(), time(8, 30, 5)),
    (sa.Boolean(), True),
    (sa.Boolean(), False),
    (sa.LargeBinary(), b"\x00\xff"),
    (sa.Uuid(), UUID(int=5)),
    (sa.Uuid(as_uuid=False), str(UUID(int=5))),
    (sa.Enum(Size), Size.SMALL),
    (sa.JSON(), {"a": [1, None]}),
    (Upper(), "words"),
]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda each: each.name)
@pytest.mark.parametrize(("type_", "value"), CASES, ids=repr)
def test_what_is_sealed_comes_back(dialect: Dialect, type_: Any, value: Any) -> None:
    codec = Codec(type_, dialect)
    sealed = codec.sealable(value)
    assert isinstance(sealed, str | bytes | int | float | Decimal | date)
    assert codec.load(sealed) == value
    assert type(codec.load(sealed)) is type(value)


@pytest.mark.parametrize("dialect", DIALECTS[1:], ids=lambda each: each.name)
@pytest.mark.parametrize(("type_", "value"), CASES, ids=repr)
def test_the_text_of_a_widened_column_is_understood(dialect: Dialect, type_: Any, value: Any) -> None:
    """A column that became a text holds the database's spelling of what was there."""
    codec = Codec(type_, dialect)
    plain = codec.plain(value)
    if isinstance(plain, bool):
        plain = int(plain)
    text = plain if isinstance(plain, str | bytes) else plain.isoformat() if hasattr(plain, "isoformat") else str(plain)
    assert codec.load(text) == value


def test_postgresql_is_given_texts_without_a_type() -> None:
    plain = {type(Codec(type_, DIALECTS[1]).plain(value)) for type_, value in CASES}
    assert plain == {str, bytes}


def test_times_with_a_zone_come_back_in_utc() -> None:
    codec = Codec(sa.DateTime(timezone=True), DIALECTS[1])
    aware = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
    assert codec.load(codec.sealable(aware)) == aware
    assert codec.load("2026-01-05 10:30:00+01") == aware
    assert codec.plain(aware) == "2026-01-05T09:30:00+00:00"


@pytest.mark.parametrize("type_", [sa.Interval(), sa.ARRAY(sa.Text), sa.PickleType(), sa.types.NullType()])
def test_other_types_are_refused_by_name(type_: Any) -> None:
    if isinstance(type_, sa.PickleType):
        assert Codec(type_, DIALECTS[0]).load(Codec(type_, DIALECTS[0]).sealable({"a": 1})) == {"a": 1}
        return
    with pytest.raises(ConfigError, match=f"SQLAlchemy's {type(type_).__name__} cannot be sealed"):
        Codec(type_, DIALECTS[1])


def test_spans_of_mariadb_times() -> None:
    codec = Codec(sa.Time(), DIALECTS[2])
    assert codec.load(timedelta(hours=8, minutes=30)) == time(8, 30)
    assert codec.load("08:30:00") == time(8, 30)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_sealed_as_their_shortest_text(value: float) -> None:
    for dialect in DIALECTS[1:]:
        codec = Codec(sa.Double(), dialect)
        assert isinstance(codec.sealable(value), str)
        assert codec.load(codec.sealable(value)) == value
