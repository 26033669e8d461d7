"""What falls together under a normaliser is told of a moment: a value that moves while it is counted is one value."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import Connection

from guard.config import Column, Protect
from guard.fields import collisions
from guard.fields.collisions import Source, spread
from guard.shop import Shop

ROWS = collisions._BATCH + 100
TABLES = {
    "sqlite": "CREATE TABLE people (id INTEGER PRIMARY KEY, mail VARCHAR(60) UNIQUE)",
    "postgres": "CREATE TABLE people (id int PRIMARY KEY, mail varchar(60) UNIQUE)",
    "mariadb": "CREATE TABLE people (id INT PRIMARY KEY, mail VARCHAR(60) COLLATE utf8mb4_bin UNIQUE)",
}
MOVE = ("UPDATE people SET mail = 'gone' WHERE id = 7", f"UPDATE people SET mail = 'm7' WHERE id = {ROWS}")


class Hot(Shop):
    """A shop that is written to after each transaction that read it."""

    after_read: Callable[[int], object] = staticmethod(lambda _: None)
    reads = 0

    @contextlib.contextmanager
    def read(self, *, moment: bool = False) -> Iterator[Connection]:
        with super().read(moment=moment) as connection:
            yield connection
        self.reads += 1
        self.after_read(self.reads)

    def sql(self, *statements: str) -> None:
        with self.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)


@pytest.fixture(params=list(TABLES))
def hot(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hot]:
    """People in more rows than one batch has, each with an address of their own."""
    if request.param == "sqlite":
        (tmp_path / "hot.db").touch()
    url = (
        f"sqlite:///{tmp_path}/hot.db" if request.param == "sqlite" else request.getfixturevalue(f"{request.param}_url")
    )
    shop = Hot.connect(url)
    assert isinstance(shop, Hot)
    values = ", ".join(f"({number}, 'm{number}')" for number in range(1, ROWS + 1))
    shop.sql(TABLES[request.param], f"INSERT INTO people VALUES {values}")
    shop.tables(fresh=True)
    yield shop
    shop.close()


def source(shop: Shop) -> Source:
    column = Column(at="people.mail", id=1, protect=Protect.ENCRYPT, index="email")
    return Source(shop, shop.table("people"), column)


def test_a_value_that_moves_ahead_is_counted_once(hot: Hot) -> None:
    hot.reads = 0
    hot.after_read = lambda number: hot.sql(*MOVE) if number == 1 else None
    found = spread(source(hot))
    assert found.values == ROWS
    assert found.falling == 0


def test_what_really_falls_together_is_told_though_the_shop_writes(hot: Hot) -> None:
    hot.sql("UPDATE people SET mail = 'M9' WHERE id = 5000", "UPDATE people SET mail = ' m9' WHERE id = 12")
    hot.reads = 0
    hot.after_read = lambda number: hot.sql(*MOVE) if number == 1 else None
    assert spread(source(hot)).falling == 2


def test_what_stops_to_fall_together_before_the_second_look_is_not_told(hot: Hot) -> None:
    hot.sql("UPDATE people SET mail = 'M9' WHERE id = 5000")
    assert spread(source(hot)).falling == 1
    hot.reads = 0
    hot.after_read = lambda number: hot.sql("UPDATE people SET mail = 'other' WHERE id = 5000") if number == 2 else None
    assert spread(source(hot)).falling == 0


def test_more_than_could_have_moved_is_told_at_once(hot: Hot) -> None:
    count = collisions._FORMS + 1
    values = ", ".join(f"({ROWS + number}, ' M{number}')" for number in range(1, count + 1))
    hot.sql(f"INSERT INTO people VALUES {values}")
    hot.reads = 0
    assert spread(source(hot)).falling == count
    assert hot.reads == 3, "two batches, and the end; no second look"


@pytest.mark.parametrize("hot", ["postgres", "mariadb"], indirect=True)
def test_a_second_look_is_one_moment(hot: Hot) -> None:
    """Two statements of it see one state, though the shop writes between them."""
    query = "SELECT COUNT(*) FROM people"
    with hot.read(moment=True) as connection:
        before = connection.exec_driver_sql(query).scalar_one()
        writer = threading.Thread(target=hot.sql, args=("DELETE FROM people WHERE id < 10",))
        writer.start()
        writer.join()
        assert connection.exec_driver_sql(query).scalar_one() == before
