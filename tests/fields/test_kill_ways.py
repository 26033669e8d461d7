"""SIGKILL at every fault point of rebinding, following a rename and uninstalling: the next run finishes, row-exact."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from guard.clock import SteppedClock
from guard.config import Catalog, Column, Protect
from guard.crypto.keyring import Keyring
from guard.fields import Fields, Pace
from guard.fields.rebind_plan import Wanted
from guard.shop import Shop, alter
from guard.shop.leftovers import leftovers
from guard.shop.rename import Rename
from guard.state import State
from tests.fields.conftest import new_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # fork beside SQLAlchemy's idle threads
]

MAILS = [f"anna{number}@example.org" for number in range(1, 61)]


class Town:
    """Sixty people in SQLite, sealed and searchable, with a state of their own; fit to be forked."""

    def __init__(self, folder: Path, clock: SteppedClock) -> None:
        folder.mkdir()
        self.path = folder / "shop.db"
        self.clock = clock
        self.mail = "people.mail"
        values = ", ".join(f"({each}, {each}, '{mail}')" for each, mail in enumerate(MAILS, 1))
        self.sql("CREATE TABLE people (id INTEGER PRIMARY KEY, was INTEGER, mail VARCHAR(60) UNIQUE)")
        self.schema = self.dump()
        self.sql(f"INSERT INTO people VALUES {values}")
        self.state = State.create(f"sqlite:///{folder}/state.db", clock, UUID(int=7))
        self.keyring = Keyring.create(self.state, bytes(range(32)), None)
        self.shop = Shop.connect(f"sqlite:///{self.path}")
        swept = self.fields.encrypt(self.fields.plan(), new_run())
        self.state.write(self.fields.remember(swept))

    @property
    def fields(self) -> Fields:
        catalog = Catalog(column=(Column(at=self.mail, id=1, protect=Protect.ENCRYPT, index="email"),))
        return Fields(self.shop, catalog, self.keyring, self.state, self.clock, tuple, Pace(20, 20, 20))

    def sql(self, script: str) -> None:
        connection = sqlite3.connect(self.path)
        connection.executescript(script)
        connection.close()

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.path)
        found = connection.execute(query).fetchall()
        connection.close()
        return found

    def dump(self) -> list[tuple[Any, ...]]:
        return self.ask("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY 1, 2")

    def forked(self, work: Callable[["Town"], object]) -> Callable[[], object]:
        """Return `work` for a child: nothing stays open that it would share."""
        self.shop.close()
        self.state.close()
        return lambda: work(self)

    def close(self) -> None:
        self.shop.close()
        self.state.close()


def killed_everywhere(
    fault_points: Any,
    towns: Callable[[], Town],
    ready: str,
    work: Callable[[Town], object],
    check: Callable[[Town], None],
) -> None:
    """Kill `work` at each point it passes, each time in a town of its own, do it again, and check."""
    whole = towns()
    whole.sql(ready)
    points = fault_points.passed(whole.forked(work))
    assert len(points) >= 5, points
    for nth, point in enumerate(points, 1):
        town = towns()
        town.sql(ready)
        assert fault_points.killed(town.forked(work), nth), point
        work(town)
        check(town)
        town.close()


@pytest.fixture
def towns(tmp_path: Path, clock: SteppedClock) -> Callable[[], Town]:
    made: list[Town] = []

    def town() -> Town:
        made.append(Town(tmp_path / f"town{len(made)}", clock))
        return made[-1]

    return town


def rebind(town: Town) -> None:
    rebinding = town.fields.rebinding
    done = rebinding.run(rebinding.plan(Wanted("people", ("was",))), new_run())
    town.state.write(rebinding.remember(done))


def follow(town: Town) -> None:
    town.shop.tables(fresh=True)
    town.state.write(town.fields.renamed(Rename.parse("people.mail", "people.address")))


def leave(town: Town) -> None:
    town.fields.leaving.run(new_run())


def whole(town: Town) -> None:
    """Every value opens, and what was counted and summed is what is there."""
    [check] = town.fields.verify()
    assert (check.opened, check.same, check.plain) == (60, True, 0)
    name = town.mail.partition(".")[2]
    assert alter.guards(town.shop, town.shop.tables(fresh=True)["people"], name) == {"follow", "fence"}
    assert town.ask(f"SELECT count(DISTINCT {name}__guard1) FROM people") == [(60,)]


def test_rebinding(fault_points, towns: Callable[[], Town]) -> None:
    killed_everywhere(fault_points, towns, "UPDATE people SET id = id + 1000", rebind, whole)


def test_following_a_rename(fault_points, towns: Callable[[], Town]) -> None:
    def check(town: Town) -> None:
        town.mail = "people.address"
        whole(town)
        [record] = town.fields.records()
        assert record.at == "people.address"
        names = {each.name for each in leftovers(town.shop) if each.kind != "table"}
        assert all("address" in name for name in names), names

    killed_everywhere(fault_points, towns, "ALTER TABLE people RENAME COLUMN mail TO address", follow, check)


def test_uninstalling(fault_points, towns: Callable[[], Town]) -> None:
    def check(town: Town) -> None:
        assert [mail for (mail,) in town.ask("SELECT mail FROM people ORDER BY id")] == MAILS
        assert leftovers(town.shop) == ()
        assert town.dump() == town.schema

    killed_everywhere(fault_points, towns, "", leave, check)
