"""What is guard's in a schema is found by name, whatever the readers hide, and dropped in an order that works."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from guard.errors import BusyError, GuardError
from guard.shop import Shop, alter, progress, rehang
from guard.shop.connect import Patience
from guard.shop.leftovers import Leftover, drop, leftovers
from guard.shop.names import token_column
from guard.shop.progress import Bracket

TABLE = "CREATE TABLE people (id INT PRIMARY KEY, mail VARCHAR(60), guard_note VARCHAR(60), own__guarded VARCHAR(9))"


@pytest.fixture
def lite(tmp_path: Path) -> str:
    (tmp_path / "shop.db").touch()
    return f"sqlite:///{tmp_path}/shop.db"


@pytest.fixture(params=["lite", "postgres_url", "mariadb_url"])
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    opened = Shop.connect(request.getfixturevalue(request.param))
    with opened.begin() as connection:
        connection.exec_driver_sql(TABLE)
        connection.exec_driver_sql("CREATE INDEX guardian ON people (mail)")
    yield opened
    opened.close()


def dress(shop: Shop) -> None:
    """Put everything there that guard ever puts into a shop."""
    token = token_column("mail", 1)
    with shop.begin() as connection:
        progress.begin(shop, connection, Bracket("0" * 32, "encrypt 1"))
    alter.add_token(shop, shop.table("people"), token)
    alter.index_token(shop, shop.table("people"), token, unique=True)
    alter.follow(shop, shop.table("people"), "mail", [token])
    alter.fence(shop, shop.table("people"), "mail", [token])


def test_a_shop_without_guard_has_nothing_of_it(shop: Shop) -> None:
    assert leftovers(shop) == ()


def test_all_of_it_is_found_and_goes_and_nothing_else_does(shop: Shop) -> None:
    before = dict(shop.tables(fresh=True))
    dress(shop)
    found = leftovers(shop)
    kinds = [each.kind for each in found]
    assert {"trigger", "index", "column", "table"} <= set(kinds)
    assert ("function" in kinds) == (shop.dialect == "postgresql")
    assert Leftover("table", "guard_progress", "guard_progress") in found
    assert Leftover("column", "mail__guard1", "people") in found
    assert not any(each.name in {"guardian", "guard_note", "own__guarded"} for each in found)
    assert "column mail__guard1 on people" in map(str, found)
    assert "table guard_progress" in map(str, found)
    for each in found:
        drop(shop, each)
        drop(shop, each)
    assert leftovers(shop) == ()
    assert dict(shop.tables(fresh=True)) == before


def test_it_may_be_stopped_anywhere(shop: Shop) -> None:
    dress(shop)
    many = len(leftovers(shop))
    drop(shop, leftovers(shop)[0])
    assert len(leftovers(shop)) == many - 1
    while left := leftovers(shop):
        drop(shop, left[0])
    assert leftovers(shop) == ()


@pytest.mark.parametrize("which", ["postgres_url", "mariadb_url"])
def test_a_table_that_others_read_is_waited_for_briefly(request: pytest.FixtureRequest, which: str) -> None:
    """MariaDB's own patience is a day, and everybody else waits behind what waits."""
    shop = Shop.connect(request.getfixturevalue(which))
    shop.patience = Patience(timedelta(seconds=1), 1, timedelta(milliseconds=10))
    with shop.begin() as connection:
        connection.exec_driver_sql(TABLE)
    dress(shop)
    found = leftovers(shop)
    with shop.read() as other:
        other.exec_driver_sql("SELECT * FROM people").all()
        with ThreadPoolExecutor() as pool:
            waiting = [pool.submit(drop, shop, each) for each in found if each.kind in {"trigger", "column"}]
            waiting.append(pool.submit(rehang._token, shop, "people", "mail__guard1", "mail__guard2"))
            for each in waiting:
                with pytest.raises(BusyError):
                    each.result(timeout=8)
    for each in found:
        drop(shop, each)
    assert leftovers(shop) == ()
    shop.close()


def test_a_broken_view_of_an_sqlite_shop_is_named_where_it_is_in_the_way(lite: str) -> None:
    shop = Shop.connect(lite)
    with shop.begin() as connection:
        connection.exec_driver_sql(TABLE)
        connection.exec_driver_sql('CREATE VIEW "broken one" AS SELECT gone FROM people')
    before = dict(shop.tables(fresh=True))
    dress(shop)
    alter.unguard(shop, shop.table("people"), "mail")
    with pytest.raises(GuardError, match="error in view broken one: no such column: gone"):
        alter.drop_token(shop, shop.table("people"), "mail__guard1")
    with shop.begin() as connection:
        connection.exec_driver_sql('DROP VIEW "broken one"')
    for each in leftovers(shop):
        drop(shop, each)
    assert dict(shop.tables(fresh=True)) == {"people": replace(before["people"], views=())}
    shop.close()
