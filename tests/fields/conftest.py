"""A store with keys, and the real shops ready to be sealed."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import UUID

import pytest

from guard.clock import SteppedClock
from guard.config import Catalog, Column, Protect
from guard.crypto.keyring import Keyring
from guard.crypto.random import hex_token
from guard.events import Progress, RunId, silent
from guard.fields import Fields, Pace, Swept
from guard.fields.lack import Lack
from guard.shop import Shop
from guard.shop.remains import Remains
from guard.state import State

Bind = Literal["row", "subject", "column"]
Rows = dict[str, list[tuple[object, ...]]]


@dataclass(frozen=True)
class Bench:
    """A shop, its fields, and the steps of the main job as an action would do them."""

    url: str
    fields: Fields
    names: tuple[str, ...]

    def seal(self, *names: str, tell: Progress = silent) -> tuple[Swept, ...]:
        swept = self.fields.encrypt(self.fields.plan(names), new_run(), tell)
        self.fields.state.write(self.fields.remember(swept))
        return swept

    def unseal(self, *names: str, tell: Progress = silent) -> tuple[Swept, ...]:
        swept = self.fields.decrypt(names or self.names, new_run(), tell)
        self.fields.state.write(self.fields.remember(swept))
        return swept

    def finish(self, *names: str) -> tuple[Remains, ...]:
        done = self.fields.finalize(names)
        self.fields.state.write(self.fields.finished(done))
        return done.remains

    def sql(self, *statements: str) -> None:
        """Write into the shop past guard."""
        with self.fields.shop.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def ask(self, query: str) -> list[object]:
        """Return the first column of a query past guard."""
        with self.fields.shop.read() as connection:
            return list(connection.exec_driver_sql(query).scalars())

    def stages(self) -> set[str]:
        return {status.state for status in self.fields.status()}

    def rows(self) -> Rows:
        return read_all(self.url)


Make = Callable[..., Bench]


def new_run() -> RunId:
    return RunId(hex_token(16))


def catalog_of(names: Sequence[str], bind: Bind = "row") -> Catalog:
    """Return an accepted catalog that wants `names` sealed."""
    columns = (Column(at=at, id=number, protect=Protect.ENCRYPT, bind=bind) for number, at in enumerate(names, 1))
    return Catalog(column=tuple(columns))


def read_all(url: str) -> Rows:
    """Return every row of every table but guard's own."""
    shop = Shop.connect(url)
    out: Rows = {}
    with shop.read() as connection:
        quote = connection.dialect.identifier_preparer.quote
        for name, table in shop.tables().items():
            order = ", ".join(quote(column) for column in table.key or [column.name for column in table.columns])
            rows = connection.exec_driver_sql(f"SELECT * FROM {quote(name)} ORDER BY {order}")
            out[name] = [tuple(row) for row in rows]
    shop.close()
    return out


@pytest.fixture
def state(tmp_path: Path, clock: SteppedClock) -> Iterator[State]:
    made = State.create(f"sqlite:///{tmp_path}/state.db", clock, UUID(int=7))
    yield made
    made.close()


@pytest.fixture
def keyring(state: State) -> Keyring:
    return Keyring.create(state, bytes(range(32)), None)


@pytest.fixture
def make(state: State, keyring: Keyring, clock: SteppedClock) -> Iterator[Make]:
    """Open the shop at a URL with fields for `names`; small batches, so that there are several."""
    shops: list[Shop] = []

    def bench(url: str, *names: str, bind: Bind = "row", missing: Sequence[Lack] = (), size: int = 20) -> Bench:
        shop = Shop.connect(url)
        shops.append(shop)
        pace = Pace(start=size, least=size, most=size, share=1)
        return Bench(
            url, Fields(shop, catalog_of(names, bind), keyring, state, clock, lambda: tuple(missing), pace), names
        )

    yield bench
    for shop in shops:
        shop.close()


@pytest.fixture
def chinook(make: Make, chinook_file: Path) -> Bench:
    """The media shop, SQLite, with what identifies its customers to be sealed."""
    names = ("FirstName", "LastName", "Address", "Phone", "Fax", "Email")
    return make(f"sqlite:///{chinook_file}", *(f"Customer.{name}" for name in names))


@pytest.fixture
def chinook_pg(make: Make, chinook_postgres: str) -> Bench:
    """The media shop, PostgreSQL, with the same to be sealed."""
    names = ("first_name", "last_name", "address", "phone", "fax", "email")
    return make(chinook_postgres, *(f"customer.{name}" for name in names))


@pytest.fixture
def northwind(make: Make, northwind_file: Path) -> Bench:
    """The trading shop, SQLite; its keys are texts."""
    names = ("ContactName", "Address", "Phone", "Fax")
    return make(
        f"sqlite:///{northwind_file}",
        *(f"Customers.{name}" for name in names),
        "Employees.HomePhone",
        "Orders.ShipAddress",
    )


@pytest.fixture(params=["chinook", "chinook_pg"])
def shop(request: pytest.FixtureRequest) -> Bench:
    """The media shop in each database."""
    found: Bench = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def small(make: Make, tmp_path: Path) -> Callable[..., Bench]:
    """Make an SQLite shop from a script."""

    def bench(script: str, *names: str, **options: object) -> Bench:
        path = tmp_path / "small.db"
        connection = sqlite3.connect(path)
        connection.executescript(script)
        connection.close()
        return make(f"sqlite:///{path}", *names, **options)

    return bench


@pytest.fixture
def rotate(state: State, keyring: Keyring, clock: SteppedClock) -> Callable[[str], int]:
    """Give a purpose a new key that seals from now on, as `keys rotate` does once a backup holds it; return its id."""

    def work(purpose: str) -> int:
        key = keyring.rotate(purpose)
        state.write(lambda tx: keyring.activate(tx, key.id, clock.now()))
        return key.id

    return work
