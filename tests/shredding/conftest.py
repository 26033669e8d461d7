"""A shop whose customers' data is sealed under a key for each of them, with a vault of two folders and one store."""

import getpass
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from guard.actions import Caller, perform
from guard.actions.backup import INIT
from guard.actions.setup import Answers, set_up
from guard.app import App
from guard.canon import key_bytes
from guard.clock import SteppedClock
from guard.crypto import random
from guard.crypto.envelope import Binding, Place, from_text, to_text
from guard.crypto.subjects import Person, SubjectOpener, SubjectSealer
from guard.fields import store as fields_store
from guard.fields.store import Filling, IndexRecord, Record, Stage
from tests.journeys._public import Watch, look_over

SHOP = """
CREATE TABLE customer (id INTEGER PRIMARY KEY, email TEXT NOT NULL, note TEXT, email__guard1 BLOB, note__guard1 BLOB);
CREATE TABLE invoice (id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customer, street TEXT, issued TEXT);
INSERT INTO customer VALUES (1, 'ada@example.org', 'first', NULL, NULL), (2, 'bob@example.org', NULL, NULL, NULL),
                            (3, 'cyd@example.org', 'third', NULL, NULL);
INSERT INTO invoice VALUES (10, 1, 'Main Street 1', '2010-03-01'), (11, 1, 'Main Street 2', '2025-06-01'),
                           (12, 2, 'Side Street 1', '2009-01-15');
"""
CATALOG = """
[subject.customer]
table = "customer"
key = "id"
email = "customer.email"

[[column]]
id = 1
at = "customer.email"
category = "email"
protect = "encrypt"
bind = "subject"
class = "account"

[[column]]
id = 2
at = "customer.note"
category = "note"
protect = "encrypt"
bind = "subject"
class = "account"

[[column]]
id = 3
at = "invoice.street"
category = "address"
protect = "encrypt"
anonymize = "null"
bind = "subject"
class = "tax"
"""
PLANTED, ACTOR = "Zarathustra Quillfeather", "anna.admin@shop.example"
"""What tests have the ledger say of people, and who told it."""
VAULT = """
[[vault]]
name = "one"
path = "../vault-one"

[[vault]]
name = "two"
path = "../vault-two"
"""
COLUMNS = {1: ("customer", "email", "account"), 2: ("customer", "note", "account"), 3: ("invoice", "street", "tax")}


@dataclass
class House:
    """The shop, guard's folder beside it, and the owner at the keyboard."""

    app: App
    shop: Path
    phone: Any
    clock: SteppedClock

    @property
    def home(self) -> Path:
        return self.app.home

    @property
    def mirrors(self) -> tuple[Path, Path]:
        return self.home.parent / "vault-one", self.home.parent / "vault-two"

    def caller(self) -> Caller:
        return Caller(self.app.access.person_of(getpass.getuser()), ask=self.phone.code)

    def do(self, action: Any, **args: Any) -> Any:
        return perform(self.app, self.caller(), action, **args)

    def reopen(self) -> App:
        """Open everything anew, as the next command does."""
        self.app.close()
        self.app = App.open(self.home / "guard.toml", self.clock, self.phone.code)
        return self.app

    def one_is_enough(self) -> None:
        """Let the policy ask for one person, who waits a day."""
        path = self.app.policies / "access.toml"
        path.write_text(path.read_text().replace("people = 2", "people = 1"))
        self.reopen()

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.shop)) as shop, shop:
            return shop.execute(query, values).fetchall()

    def place(self, number: int) -> Place:
        return Place(self.app.state.store_id, number, Binding.SUBJECT)

    def opener(self, number: int) -> SubjectOpener:
        return SubjectOpener(self.place(number), self.app.subjects, "customer", COLUMNS[number][2])

    def stored(self, number: int, row: int) -> bytes:
        table, name, _ = COLUMNS[number]
        return from_text(self.sql(f"SELECT {name} FROM {table} WHERE id = ?", row)[0][0])

    def read(self, number: int, row: int, customer: int) -> object:
        return self.opener(number).open(self.stored(number, row), key_bytes((customer,)))

    def objects(self) -> dict[str, bytes]:
        """The keys that lie in the vault, by their path."""
        found = (path for root in self.mirrors for path in root.glob("epochs/**/*"))
        return {str(path): path.read_bytes() for path in found if path.is_file()}

    def months(self) -> list[str]:
        """The epochs whose keys lie in each mirror."""
        return sorted({Path(path).name.rpartition("-")[0] for path in self.objects()})


def person(customer: int) -> Person:
    return Person("customer", key_bytes((customer,)))


def _seal(house: House) -> None:
    """Seal the three columns as the sweep does, and give two of them tokens."""
    app = house.app
    with closing(sqlite3.connect(house.shop)) as shop, shop:
        for number, (table, name, class_) in COLUMNS.items():
            sealer = SubjectSealer(house.place(number), app.subjects, "customer", class_)
            whose = "id" if table == "customer" else "customer_id"
            rows = shop.execute(f"SELECT id, {whose}, {name} FROM {table} WHERE {name} IS NOT NULL").fetchall()
            sealed = sealer.seal_all([text for _, _, text in rows], [key_bytes((customer,)) for _, customer, _ in rows])
            for (row, _, _), value in zip(rows, sealed, strict=True):
                shop.execute(f"UPDATE {table} SET {name} = ? WHERE id = ?", (to_text(value), row))
                if table == "customer":
                    token = random.token(16 if name == "email" else 1)
                    shop.execute(f"UPDATE {table} SET {name}__guard1 = ? WHERE id = ?", (token, row))

    def remember(tx: Any) -> None:
        for number, (table, name, class_) in COLUMNS.items():
            at = f"{table}.{name}"
            fields_store.keep(
                tx,
                Record(
                    number, at, Stage.SEALED, "subject", ("id",), None, 0, app.clock.now(), subject="customer",
                    class_=class_,
                ),
            )  # fmt: skip
            if table == "customer":
                size = 16 if name == "email" else 1
                index = IndexRecord(number, 1, f"{name}__guard1", 1, "exact", size, size == 16, Filling.READY)
                fields_store.keep_index(tx, index)

    app.state.write(remember)


@pytest.fixture(autouse=True)
def nobody_in_public(tmp_path: Path) -> Iterator[None]:
    """At a test's end nothing that is public, in any guard folder of it, holds somebody's data."""
    yield
    with closing(sqlite3.connect(":memory:")) as shop:
        shop.executescript(SHOP)
        values = {
            (f"{table}.{name}", value)
            for table, name, _ in COLUMNS.values()
            for (value,) in shop.execute(f"SELECT {name} FROM {table} WHERE {name} IS NOT NULL")
        }
    watch = Watch()
    watch.add({*values, ("customer.note", PLANTED), ("customer.note", ACTOR)})
    look_over(tmp_path, lambda _: watch)


@pytest.fixture
def open_house(clock: SteppedClock, phone: Any) -> Iterator[Callable[[Path], House]]:
    """Open a house in its folder, as the next command would; it is closed after the test."""
    houses: list[House] = []

    def open_(root: Path) -> House:
        app = App.open(root / "guard/guard.toml", clock, phone.code)
        houses.append(House(app, root / "shop.db", phone, clock))
        return houses[-1]

    yield open_
    for house in houses:
        house.app.close()


@pytest.fixture
def make_house(
    tmp_path: Path, clock: SteppedClock, phone: Any, open_house: Callable[[Path], House]
) -> Callable[..., House]:
    """Set guard up; `vault` is what guard.toml says of it. All paths are relative: the folder can be copied."""

    def make(vault: str = VAULT) -> House:
        root = tmp_path / "house"
        root.mkdir()
        with closing(sqlite3.connect(root / "shop.db")) as made:
            made.executescript(SHOP)
        for name in ("vault-one", "vault-two"):
            (root / name).mkdir(mode=0o700)
        answers = Answers("Shop", "sqlite:///../shop.db", "Ada", getpass.getuser())
        found = set_up(root / "guard", answers, clock, phone.enrol)
        found.app.close()
        found.config.write_text(found.config.read_text() + vault)
        house = open_house(root)
        accept(house)
        clock.step(timedelta(minutes=1))
        house.do(INIT, stores=[])
        return house

    return make


def accept(house: House) -> None:
    """Make the catalog the accepted one, as `guard data accept` does: FORMATS 10."""
    raw = CATALOG.encode()
    (house.app.policies / "catalog.toml").write_bytes(raw)
    app = house.app
    app.state.write(lambda tx: app.state.meta.set(tx, "privacy.catalog", app.digest("catalog", raw)))


@pytest.fixture
def seal() -> Callable[[House], None]:
    """Seal a house's columns past the sweep."""
    return _seal


@pytest.fixture
def house(make_house: Callable[..., House]) -> House:
    """The shop with its customers' data sealed."""
    made = make_house()
    _seal(made)
    return made
