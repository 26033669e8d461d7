"""Opening a shop: what is refused, what is said, and that a server is proven to be itself."""

import sqlite3
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from guard.errors import BusyError, ConfigError, GuardError, UnavailableError
from guard.shop import Shop
from guard.shop.connect import _mysql_args, _postgres_args, is_local


def test_a_missing_file_is_named_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "no.db"
    with pytest.raises(UnavailableError, match=str(path)):
        Shop.connect(f"sqlite:///{path}")
    assert not path.exists()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("not a database, but long enough to look at: " * 40)
    with pytest.raises(UnavailableError, match="is not a readable SQLite database"):
        Shop.connect(f"sqlite:///{path}")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://", "needs a file"),
        ("oracle://scott@host/db", "does not know oracle"),
        ("shop.db", "not a database URL"),
    ],
)
def test_a_wrong_url_is_explained(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Shop.connect(url)


@pytest.mark.parametrize("scheme", ["postgresql", "mariadb"])
def test_an_unreachable_server_is_told_without_the_password(scheme: str) -> None:
    with pytest.raises(UnavailableError) as caught:
        Shop.connect(f"{scheme}://shop:hunter2@127.0.0.1:1/shop")
    assert "127.0.0.1:1/shop" in str(caught.value)
    assert "hunter2" not in str(caught.value) + str(caught.value.hint)


@pytest.mark.parametrize(("driver", "extra"), [("psycopg", "postgres"), ("pymysql", "mysql")])
def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch, driver: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, driver, None)
    scheme = {"psycopg": "postgresql", "pymysql": "mariadb"}[driver]
    with pytest.raises(ConfigError) as caught:
        Shop.connect(f"{scheme}://shop@localhost/shop")
    assert caught.value.hint == f"pip install 'guard-toolkit[{extra}]'"


def test_servers_elsewhere_must_prove_themselves() -> None:
    args = _postgres_args(make_url("postgresql://shop@db.example/shop"), "verify")
    assert (args["sslmode"], args["sslrootcert"]) == ("verify-full", "system")
    own = _postgres_args(make_url("postgresql://shop@db.example/shop?sslrootcert=/ca.pem"), "verify")
    assert "sslrootcert" not in own
    assert "ssl" in _mysql_args(make_url("mysql://shop@db.example/shop"), "verify")
    assert "sslmode" not in _postgres_args(make_url("postgresql://shop@db.example/shop"), "off")


def test_a_url_that_weakens_tls_is_refused() -> None:
    with pytest.raises(ConfigError, match="sslmode=require"):
        _postgres_args(make_url("postgresql://shop@db.example/shop?sslmode=require"), "verify")


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("postgresql://shop@localhost/shop", True),
        ("postgresql://shop@/shop?host=/run/pg", True),
        ("postgresql://shop@[::1]/shop", True),
        ("postgresql://shop@localhost.example/shop", False),
        ("postgresql://shop@/shop?host=db.example", False),
    ],
)
def test_local_is_a_socket_or_the_loopback(url: str, local: bool) -> None:
    assert is_local(make_url(url)) is local


def test_the_journal_mode_is_kept_as_found(chinook: Shop) -> None:
    with chinook.begin() as connection:
        connection.exec_driver_sql("UPDATE Customer SET City = City")
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "delete"


def test_a_locked_shop_is_busy(chinook: Shop, chinook_file: Path) -> None:
    with chinook.bare() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(chinook_file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BusyError, match="locked by somebody else"), chinook.begin() as connection:
        connection.exec_driver_sql("UPDATE Customer SET City = City")
    other.close()


def test_reading_writes_nothing(chinook_pg: Shop) -> None:
    with pytest.raises(UnavailableError, match="cannot be written"), chinook_pg.read() as connection:
        connection.exec_driver_sql("UPDATE customer SET city = city")


def test_errors_hold_no_values(chinook: Shop, chinook_pg: Shop) -> None:
    for shop, name in ((chinook, "Customer"), (chinook_pg, "customer")):
        table = shop.clause(shop.table(name))
        with shop.read() as connection:
            [first, *_] = connection.exec_driver_sql(f"SELECT * FROM {name}").all()
        again = table.insert().values(dict(zip(table.c.keys(), first, strict=True)))
        with pytest.raises(GuardError, match="refused") as caught, shop.begin() as connection:
            connection.execute(again)
        assert "gon" not in str(caught.value)
        assert "constraint" in str(caught.value).lower() or "Unique" in str(caught.value)


def test_an_error_rolls_back(chinook: Shop) -> None:
    def fail() -> None:
        with chinook.begin() as connection:
            connection.exec_driver_sql("DELETE FROM InvoiceLine")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with chinook.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM InvoiceLine").scalar() == 2240


def test_a_text_that_is_not_utf8_is_said_but_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (name TEXT)")
        connection.execute("INSERT INTO t VALUES (CAST(? AS TEXT))", ("Müller".encode("latin-1"),))
    connection.close()
    shop = Shop.connect(f"sqlite:///{path}")
    with pytest.raises(GuardError, match="a text in it is not UTF-8") as caught, shop.read() as connection:
        connection.exec_driver_sql("SELECT name FROM t").all()
    assert "ller" not in str(caught.value)
    shop.close()


def test_a_missing_module_of_sqlite_is_named(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "PRAGMA writable_schema = ON; INSERT INTO sqlite_master (type, name, tbl_name, rootpage, sql)"
            " VALUES ('table', 'geo', 'geo', 0, 'CREATE VIRTUAL TABLE geo USING nosuch(x)')"
        )
    connection.close()
    shop = Shop.connect(f"sqlite:///{path}")
    with pytest.raises(GuardError, match="no such module: nosuch"):
        shop.tables()
    shop.close()
