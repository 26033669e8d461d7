"""What a database says is told in guard's words; what guard does not know stays as it is."""

import sqlite3
import sys

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError, ProgrammingError

from guard.errors import BusyError, ConfigError, TamperedError, UnavailableError
from guard.state.db import Database


class SaidError(Exception):
    """What a PostgreSQL driver raises."""

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("said")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("state", "kind", "told"),
    [
        ("55P03", OperationalError, BusyError),
        ("40P01", OperationalError, BusyError),
        ("XX001", DBAPIError, TamperedError),
        ("25006", DBAPIError, UnavailableError),
        ("08006", OperationalError, UnavailableError),
        ("28P01", OperationalError, UnavailableError),
        ("3D000", OperationalError, UnavailableError),
        ("53100", OperationalError, UnavailableError),
        (None, OperationalError, UnavailableError),
        (None, InterfaceError, UnavailableError),
        ("23505", IntegrityError, IntegrityError),
        ("42P01", ProgrammingError, ProgrammingError),
        (None, ProgrammingError, ProgrammingError),
    ],
)
def test_postgresql(state: str | None, kind: type[DBAPIError], told: type[Exception]) -> None:
    database = Database("postgresql://guard:hidden@localhost/state")
    found = database.explain(kind("SELECT", {}, SaidError(state)))
    assert type(found) is told
    assert "hidden" not in str(found)
    assert database.where == "postgresql+psycopg://guard:***@localhost/state"
    database.close()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("SQLITE_CORRUPT_VTAB", TamperedError),
        ("SQLITE_NOTADB", TamperedError),
        ("SQLITE_BUSY_SNAPSHOT", BusyError),
        ("SQLITE_LOCKED", BusyError),
        ("SQLITE_FULL", UnavailableError),
        ("SQLITE_READONLY_DIRECTORY", UnavailableError),
        ("SQLITE_CANTOPEN", UnavailableError),
        ("SQLITE_IOERR_FSYNC", UnavailableError),
        ("SQLITE_ERROR", sqlite3.OperationalError),
        ("", sqlite3.OperationalError),
    ],
)
def test_sqlite(name: str, told: type[Exception]) -> None:
    said = sqlite3.OperationalError("said")
    said.sqlite_errorname = name
    database = Database("sqlite:////nowhere/state.db")
    assert type(database.explain(said)) is told
    wrapped = OperationalError("SELECT", {}, said)
    assert type(database.explain(wrapped)) is (OperationalError if told is sqlite3.OperationalError else told)
    assert isinstance(database.explain(ZeroDivisionError()), ZeroDivisionError)
    database.close()


def test_postgresql_without_its_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match="needs psycopg"):
        Database("postgresql://localhost/state")
