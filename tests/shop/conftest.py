"""The real shops, opened, and empty databases of all three kinds."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from guard.shop import Shop
from guard.shop.connect import Patience


@pytest.fixture
def chinook(chinook_file: Path) -> Iterator[Shop]:
    """The media shop, SQLite."""
    shop = Shop.connect(f"sqlite:///{chinook_file}")
    yield shop
    shop.close()


@pytest.fixture
def northwind(northwind_file: Path) -> Iterator[Shop]:
    """The trading shop, SQLite."""
    shop = Shop.connect(f"sqlite:///{northwind_file}")
    yield shop
    shop.close()


@pytest.fixture
def chinook_pg(chinook_postgres: str) -> Iterator[Shop]:
    """The media shop, PostgreSQL."""
    shop = Shop.connect(chinook_postgres)
    yield shop
    shop.close()


@pytest.fixture
def empty_pg(postgres_url: str) -> Iterator[Shop]:
    """An empty PostgreSQL database."""
    shop = Shop.connect(postgres_url)
    yield shop
    shop.close()


@pytest.fixture
def empty_mariadb(mariadb_url: str) -> Iterator[Shop]:
    """An empty MariaDB database."""
    shop = Shop.connect(mariadb_url)
    yield shop
    shop.close()


@pytest.fixture
def empty_sqlite(tmp_path: Path) -> Iterator[Shop]:
    """An empty SQLite database."""
    (tmp_path / "empty.db").touch()
    shop = Shop.connect(f"sqlite:///{tmp_path}/empty.db")
    yield shop
    shop.close()


Sql = Callable[..., list[tuple[object, ...]]]


@pytest.fixture(params=["empty_sqlite", "empty_pg", "empty_mariadb"])
def empty(request: pytest.FixtureRequest) -> Shop:
    """An empty database of each kind, impatient."""
    shop: Shop = request.getfixturevalue(request.param)
    shop.patience = Patience(timedelta(milliseconds=300), 2, timedelta(milliseconds=50))
    return shop


@pytest.fixture
def sql() -> Callable[[Shop, str], list[tuple[object, ...]]]:
    """Run one statement past guard, in a transaction of its own; return its rows."""

    def run(shop: Shop, statement: str) -> list[tuple[object, ...]]:
        with shop.begin() as connection:
            done = connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
            return [tuple(row) for row in done] if done.returns_rows else []

    return run
