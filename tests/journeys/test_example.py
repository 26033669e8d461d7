"""The shop of docs/example adopts guard as its README says: before, while and after its data is sealed, everywhere."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from guard.canon import key_bytes
from guard.clock import SteppedClock, SystemClock
from guard.crypto.subjects import Person
from guard.errors import ConfigError, TamperedError

EXAMPLE = Path(__file__).parents[2] / "docs/example"
DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}

GUARD = """
import sys
from pathlib import Path
from guard.app import App

app = App.open(Path(sys.argv[1]))
fields = app.fields
if sys.argv[2] == "encrypt":
    for _ in range(20):
        swept = fields.encrypt(fields.plan(), app.new_run())
        app.state.write(fields.remember(swept))
        if not any(each.left for each in swept):
            break
    print(*sorted(each.record.stage.value for each in swept))
elif sys.argv[2] == "finalize":
    app.state.write(fields.finished(fields.finalize()))
else:
    print(*(row[0] for row in fields.search("customer.email", sys.argv[3]).rows))
"""
"""What `guard fields ...` does behind its door, on the real clock, in a process of its own."""


@pytest.fixture
def clock() -> SteppedClock:
    """A clock that is set an hour back: what guard sets up lies in the past of the shop's real clock."""
    return SteppedClock(SystemClock().now() - timedelta(hours=1))


@pytest.fixture(params=["sqlite", *(pytest.param(name, marks=pytest.mark.slow) for name in ("postgresql", "mysql"))])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        (tmp_path / "shop.db").touch()
        url = make_url(f"sqlite:///{tmp_path}/shop.db")
    else:
        url = make_url(request.getfixturevalue({"postgresql": "postgres_url", "mysql": "mariadb_url"}[request.param]))
    made = sa.create_engine(url.set(drivername=DRIVERS[request.param]))
    yield made
    made.dispose()


def load(config: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Load the shop's program anew."""
    monkeypatch.setenv("GUARD_CONFIG", str(config))
    spec = importlib.util.spec_from_file_location("example_shop", EXAMPLE / "shop.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "example_shop", module)
    spec.loader.exec_module(module)
    return module


def guard(config: Path, *words: str) -> subprocess.Popen[str]:
    """Start guard in a process of its own."""
    command = [sys.executable, "-c", GUARD, str(config), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})


def done(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=110)
    assert process.returncode == 0
    return out.strip()


def patiently(session: Session, work: Callable[..., Any], *args: object) -> Any:
    """Do what a shop on MariaDB does: try again what the database chose as the victim of a deadlock."""
    for _ in range(20):
        try:
            return work(session, *args)
        except OperationalError as error:
            if not any(word in str(error.orig) for word in ("Deadlock", "database is locked")):
                raise
            session.rollback()
    raise AssertionError("a deadlock that never ends")


class Customers:
    """People who register, log in, move to other addresses and order, again and again."""

    def __init__(self, shop: Any, engine: Engine) -> None:
        self.shop, self.engine = shop, engine
        self.numbers = count(1)
        self.known: dict[str, int] = {}

    def visit(self) -> None:
        """Do once everything a customer does, and look that it is so."""
        shop, number = self.shop, next(self.numbers)
        email = f"Person{number}@example.org"
        with Session(self.engine) as session:
            customer = patiently(session, shop.register, email, f"Person {number} Ünger", f"secret {number}")
            assert (customer.email, customer.name) == (email, f"Person {number} Ünger")
            placed = patiently(session, shop.order, customer, f"Hauptstraße {number}", 100 * number).id
            with pytest.raises(shop.TakenError):
                patiently(session, shop.register, email, "Impostor", "x")
        with Session(self.engine) as session:
            assert shop.login(session, email, "wrong") is None
            customer = shop.login(session, email, f"secret {number}")
            assert customer is not None
            if number % 2:
                email = f"moved{number}@example.org"
                patiently(session, shop.change_email, customer, email)
            if self.known:
                with pytest.raises(shop.TakenError):
                    patiently(session, shop.change_email, customer, next(iter(self.known)))
            assert shop.orders_of(session, email) == [(placed, f"Hauptstraße {number}", 100 * number)]
            self.known[email] = customer.id

    def all_there(self) -> None:
        with Session(self.engine) as session:
            for email, number in self.known.items():
                assert session.get(self.shop.Customer, number).email == email


def stored(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        query = "SELECT email FROM customer UNION ALL SELECT name FROM customer UNION ALL SELECT street FROM purchase"
        return [str(value) for value in connection.exec_driver_sql(query).scalars()]


def test_the_shop_adopts_guard(
    engine: Engine, make_desk: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "guard/guard.toml"
    shop: Any = load(config, monkeypatch)
    shop.Base.metadata.create_all(engine)
    with engine.begin() as connection:  # the shop as it was, years before guard
        insert = sa.text("INSERT INTO customer (email, name, password, newsletter) VALUES (:e, :n, 'x', :b)")
        connection.execute(
            insert, [{"e": f"old{n}@example.org", "n": f"Old {n}", "b": n % 50 == 0} for n in range(1500)]
        )
    url = engine.url.set(drivername=engine.url.get_backend_name()).render_as_string(hide_password=False)

    desk = make_desk(url)
    desk.run("data", "scan")
    desk.guard("data accept --yes")
    wanted = {column.at: column.index for column in desk.app().catalog.encrypted()}
    assert wanted == {"customer.email": "email", "customer.name": None, "purchase.street": None}
    desk.guard("backup init")
    desk.run("backup", "run")

    customers = Customers(shop, engine)
    shop.keys.check(*wanted)
    for _ in range(3):
        customers.visit()
    assert not any(value.startswith("g1.") for value in stored(engine))

    encrypting = guard(config, "encrypt")
    visits = 0
    while encrypting.poll() is None:  # a fault of the shop while the sweep runs would end the test here
        customers.visit()
        visits += 1
    assert done(encrypting) == "sealed sealed sealed"
    assert visits > 3
    customers.visit()
    customers.all_there()
    assert all(value.startswith("g1.") for value in stored(engine))

    done(guard(config, "finalize"))
    for _ in range(3):
        customers.visit()
    customers.all_there()
    with Session(engine) as session:
        rows = [{"id": 10**6 + n, "email": f"new{n}@example.org", "name": "N", "password": "x"} for n in range(5)]
        shop.import_customers(session, rows)
        assert len(shop.mailing_list(session)) == 30
        assert shop.mailing_list(session)[0] == "old0@example.org"
        assert shop.orders_of(session, "OLD7@EXAMPLE.ORG") == []
    assert done(guard(config, "search", "NEW3@example.org")) == "1000003"
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE customer SET name = 'plain' WHERE id = 1000001"))
    with Session(engine) as session, pytest.raises(TamperedError, match="finished"):
        session.get(shop.Customer, 1000001)
    desk.clock.step(timedelta(hours=2))
    assert {entry["who"] for entry in desk.entries() if entry["what"] == "fields.lease"} == {"s-shop"}


def test_its_staff_is_on_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_desk: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    config = tmp_path / "guard/guard.toml"
    shop: Any = load(config, monkeypatch)
    engine = sa.create_engine(url)
    shop.Base.metadata.create_all(engine)
    desk = make_desk(url)
    for name in ("one", "two"):
        (tmp_path / name).mkdir(mode=0o700)
        with config.open("a") as settings:
            settings.write(f'\n[[vault]]\nname = "{name}"\npath = "../{name}"\n')
    with engine.begin() as connection:  # there has to be something to find
        connection.exec_driver_sql(
            "INSERT INTO customer (email, name, password, newsletter) VALUES ('a@b.org', 'A B', 'x', 0)"
        )
    desk.run("data", "scan")
    desk.run("data", "accept", "--yes")
    with Session(engine) as session:
        customer = shop.register(session, "anna@example.org", "Anna Muster", "secret")
        placed = shop.order(session, customer, "Hauptstraße 1", 1250).id
    with Session(engine) as session:
        assert shop.show_order(session, "bea@shop.example", placed) == ("Anna Muster", "Hauptstraße 1", 1250)
    shop.main(url, ["show", "bea@shop.example", str(placed)])
    assert "Hauptstraße 1" in capsys.readouterr().out
    shop.record.close()
    engine.dispose()
    told = [entry for entry in desk.entries() if entry["what"] == "shop.order.read"]
    assert len(told) == 2
    assert {entry["who"] for entry in told} == {told[0]["who"]}
    assert told[0]["who"].startswith("x-")
    assert told[0]["objects"] == ["customer.name", "purchase.street"]
    assert (told[0]["facts"]["via"], told[0]["facts"]["purpose"]) == ("s-shop", "support")
    app = desk.app()
    assert told[0]["subject"] == app.persons.pseudonym_of(Person("customer", key_bytes((2,))))
    app.close()
    raw = b"".join(path.read_bytes() for path in (tmp_path / "guard/var").glob("state.db*"))
    assert b"shop.order.read" in raw
    assert not any(word in raw for word in (b"bea@shop.example", b"anna@example.org", "Hauptstraße".encode()))


def test_its_command_line_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_desk: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    config = tmp_path / "guard/guard.toml"
    shop: Any = load(config, monkeypatch)
    engine = sa.create_engine(url)
    shop.Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO customer (email, name, password, newsletter) VALUES ('a@b.org', 'A B', 'x', 0)"
        )
        connection.exec_driver_sql(
            "CREATE TABLE parcel (id INTEGER PRIMARY KEY, purchase_id INT REFERENCES purchase, note TEXT)"
        )
    engine.dispose()
    desk = make_desk(url)
    desk.run("data", "scan")
    desk.run("data", "accept", "--yes")
    shop.keys.check()
    person = shop.keys._given.person  # whose a row is, as far as the shop's code can follow
    assert (person("customer.email"), person("purchase.street")) == (("id",), ("customer_id",))
    with pytest.raises(ConfigError, match=r"parcel\.note: its person is 2 tables away"):
        person("parcel.note")
    with pytest.raises(ConfigError, match="not in the catalog"):
        person("parcel.weight")
    monkeypatch.setattr("builtins.input", lambda _: "secret")
    shop.main(url, ["register", "anna@example.org", "Anna"])
    shop.main(url, ["orders", "anna@example.org"])
    assert capsys.readouterr().out.split() == ["2"]
    with pytest.raises(SystemExit, match="register"):
        shop.main(url, [])
