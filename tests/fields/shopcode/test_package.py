"""What the shop's code stands on: what is public, and where the ORM is."""

import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from guard.fields import column

GUARD = Path(column.__file__).parents[1]


def test_a_shop_imports_it_all_from_one_place() -> None:
    assert set(column.__all__) == {"Encrypted", "FieldKeys", "SealedColumnError", "Stored", "protect", "seal"}
    assert all(getattr(column, name).__doc__ for name in column.__all__)


def test_the_orm_lives_in_one_module() -> None:
    found = re.compile(r"^\s*(from|import) sqlalchemy\.orm|from sqlalchemy import .*\borm\b", re.MULTILINE)
    users = {path.relative_to(GUARD).as_posix() for path in GUARD.rglob("*.py") if found.search(path.read_text())}
    assert users == {"fields/flush.py"}


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "mysql"])
def test_what_is_relied_on_in_sqlalchemy_holds(dialect: str) -> None:
    """Token columns are written when they are named, and stand in no SELECT of the whole table: a private promise."""
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", sa.Integer))
    table.append_column(sa.Column("a__guard1", sa.LargeBinary, system=True, _omit_from_statements=True))
    drivers = {"sqlite": "sqlite://", "postgresql": "postgresql+psycopg://", "mysql": "mysql+pymysql://"}
    kind = sa.create_mock_engine(drivers[dialect], lambda *_: None).dialect
    assert "a__guard1" not in str(sa.select(table).compile(dialect=kind))
    assert "a__guard1" not in str(sa.schema.CreateTable(table).compile(dialect=kind))
    assert "a__guard1" not in str(sa.insert(table).compile(dialect=kind))
    assert "a__guard1" in str(sa.insert(table).compile(dialect=kind, column_keys=["id", "a", "a__guard1"]))
    assert "a__guard1" in str(sa.update(table).compile(dialect=kind, column_keys=["a", "a__guard1"]))
