"""The real shops, opened."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from guard.shop import Shop


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
