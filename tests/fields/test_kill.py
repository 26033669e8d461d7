"""SIGKILL at every fault point of sealing, re-keying and opening: the next run finishes it, and no row is lost.

A run's bracket says afterwards exactly how many rows it had changed.
"""

import itertools
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from guard.fields.count import heads
from guard.shop import Shop, progress
from guard.shop.progress import Resolution

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # fork beside SQLAlchemy's idle threads
]

ROWS = 47
POINTS = {
    "fields.batch.written", "fields.batch.noted", "fields.batch.committed", "fields.sweep.begun",
    "fields.sweep.through", "fields.column.remembered", "fields.column.widened", "fields.column.sealing",
    "fields.column.swept", "fields.column.ended", "fields.column.narrowed",
}  # fmt: skip


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A shop whose customers' birthdays have to change their type to be sealed."""
    if request.param == "sqlite":
        sqlite3.connect(tmp_path / "shop.db").close()
        url = f"sqlite:///{tmp_path}/shop.db"
    else:
        url = request.getfixturevalue(f"{request.param}_url")
    shop = Shop.connect(url)
    with shop.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE customer (id integer PRIMARY KEY, born date, city varchar(20))")
        values = ", ".join(f"({number}, '19{number:02}-02-03', 'c{number}')" for number in range(10, 10 + ROWS))
        connection.exec_driver_sql(f"INSERT INTO customer VALUES {values}")
    shop.close()
    return url


class Killed:
    """One column, killed at the nth point of each of its turns, and finished each time."""

    def __init__(self, bench: Any, faults: Any, rotate: Callable[[str], int]) -> None:
        self.bench = bench
        self.faults = faults
        self.rotate = rotate
        self.before = bench.rows()
        self.kills = 0
        self._runs = itertools.count(1)

    def turns(self, nth: int) -> int:
        """Seal, re-key and open, each killed at its nth point; return how many kills landed."""
        fields = self.bench.fields
        landed = self._kill(lambda run: self._end(fields.encrypt(fields.plan(), run)), nth)
        [check] = fields.verify()
        assert (check.opened, check.same) == (ROWS, True)
        fresh = self.rotate("column/1")
        landed += self._kill(lambda run: self._end((fields.rekey("customer.born", run),)), nth)
        with fields.shop.read() as connection:
            assert heads(fields.shop, connection, fields.shop.table("customer"), "born") == {fresh: ROWS}
        assert fields.verify()[0].same
        landed += self._kill(lambda run: self._end(fields.decrypt(["customer.born"], run)), nth)
        assert self.bench.rows() == self.before
        return landed

    def _kill(self, work: Callable[[str], None], nth: int) -> int:
        """Kill `work`, look what became of it, then do it; return whether it was killed."""
        run, again = f"{next(self._runs):032x}", f"{next(self._runs):032x}"
        sealed = self._sealed()
        self._close()
        landed = self.faults.killed(lambda: work(run), nth)
        if landed:
            found = progress.resolve(self.bench.fields.shop, run)
            assert found.state in {Resolution.PARTLY, Resolution.ROLLED_BACK, Resolution.DONE}
            if found.state is not Resolution.DONE and not self._rekeying(run):
                assert found.rows == abs(self._sealed() - sealed)
            work(again)
        assert progress.resolve(self.bench.fields.shop, again if landed else run).state is Resolution.DONE
        return landed

    def points(self) -> set[str]:
        """Return the points that one round passes."""
        fields = self.bench.fields
        seen: list[str] = []
        for work in (
            lambda run: self._end(fields.encrypt(fields.plan(), run)),
            lambda run: self._end((fields.rekey("customer.born", run),)),
            lambda run: self._end(fields.decrypt(["customer.born"], run)),
        ):
            run = f"{next(self._runs):032x}"
            self._close()
            seen += self.faults.passed(lambda work=work, run=run: work(run))
            self._close()
            if len(seen) and fields.records()[0].stage.value != "plain":
                self.rotate("column/1")
        return set(seen)

    def _end(self, swept: Any) -> None:
        self.bench.fields.state.write(self.bench.fields.remember(swept))

    def _rekeying(self, run: str) -> bool:
        with self.bench.fields.shop.read() as connection:
            if not sa.inspect(connection).has_table(progress.NAME):  # killed before anything was begun in the shop
                return False
        return bool(self.bench.ask(f"SELECT 1 FROM guard_progress WHERE bracket = '{run}' AND work LIKE 'rekey%%'"))

    def _sealed(self) -> int:
        self.bench.fields.shop.forget()
        text = "CAST(born AS CHAR)" if self.bench.fields.shop.dialect == "mysql" else "CAST(born AS TEXT)"
        [count] = self.bench.ask(f"SELECT count(*) FROM customer WHERE {text} LIKE 'g1.%%'")
        return int(str(count))

    def _close(self) -> None:
        """Close what a forked child must not share."""
        self.bench.fields.shop.close()
        self.bench.fields.state.close()


@pytest.fixture
def killed(make, url: str, fault_points: Any, rotate: Callable[[str], int]) -> Killed:
    return Killed(make(url, "customer.born", size=20), fault_points, rotate)


def test_every_point_is_passed(killed: Killed) -> None:
    expected = POINTS if killed.bench.fields.shop.dialect != "sqlite" else POINTS - {"fields.column.narrowed"}
    assert killed.points() >= expected


@pytest.mark.parametrize("part", range(3))
def test_a_kill_at_each_point_is_gone_on_with(killed: Killed, part: int) -> None:
    """Each point in turn, of all three turns, until none is left to be killed at."""
    done = 0
    for nth in range(1 + part, 60, 3):
        landed = killed.turns(nth)
        done += landed
        if not landed:
            break
    assert done >= 12
