"""Sealed values follow their rows to another primary key, whatever interrupts; what does not open stays as it is."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from guard import faults
from guard.errors import ConfigError, InterlockError, TamperedError
from guard.events import RunId
from guard.fields import Stage
from guard.fields.former import Former, read_map
from guard.fields.rebind import Rebound
from guard.fields.rebind_plan import RebindPlan, Wanted
from tests.fields.conftest import Bench, new_run

ROWS = 90
TABLES = {
    "lite": "CREATE TABLE people (id INTEGER PRIMARY KEY, was INTEGER, mail TEXT, note TEXT)",
    "postgres_url": "CREATE TABLE people (id int PRIMARY KEY, was int, mail varchar(60), note text)",
    "mariadb_url": "CREATE TABLE people (id INT PRIMARY KEY, was INT, mail VARCHAR(60), note TEXT)",
}


@dataclass
class Town:
    """A table of people, sealed, on one of the databases."""

    bench: Bench

    def plan(self, was: str = "", map_: Path | None = None, table: str = "people") -> RebindPlan:
        return self.bench.fields.rebinding.plan(Wanted(table, tuple(filter(None, was.split(","))), map_))

    def rebind(self, was: str = "", map_: Path | None = None, run: RunId | None = None) -> tuple[Rebound, ...]:
        rebinding = self.bench.fields.rebinding
        done = rebinding.run(
            rebinding.plan(Wanted("people", tuple(filter(None, was.split(","))), map_)), run or new_run()
        )
        self.bench.fields.state.write(rebinding.remember(done))
        return done

    def opened(self) -> list[object]:
        """Return every address, in the order of `was`, as the shop reads it."""
        fields = self.bench.fields
        read, key = fields.opener("people.mail"), fields.key_columns("people.mail")
        with fields.shop.read() as connection:
            rows = connection.exec_driver_sql(f"SELECT mail, {', '.join(key)} FROM people ORDER BY was")
            return [read(tuple(row[1:]), row[0]) for row in rows]

    def raw(self) -> list[object]:
        return self.bench.ask("SELECT mail FROM people ORDER BY was")


MAILS = [None if number % 9 == 0 else f"anna{number}@example.org" for number in range(1, ROWS + 1)]


@pytest.fixture
def lite(tmp_path: Path) -> str:
    (tmp_path / "town.db").touch()
    return f"sqlite:///{tmp_path}/town.db"


@pytest.fixture(params=["lite", "postgres_url", "mariadb_url"])
def town(request: pytest.FixtureRequest, make: Callable[..., Bench]) -> Town:
    """Ninety people, eighty of whom have an address; `was` holds a copy of the key they are sealed under."""
    bench = make(request.getfixturevalue(request.param), "people.mail", "people.note")
    values = ", ".join(
        f"({number}, {number}, {'NULL' if mail is None else repr(mail)}, 'note {number}')"
        for number, mail in enumerate(MAILS, 1)
    )
    bench.sql(TABLES[request.param], f"INSERT INTO people VALUES {values}")
    bench.fields.shop.tables(fresh=True)
    bench.seal()
    return Town(bench)


def test_values_follow_a_key_whose_numbers_changed(town: Town) -> None:
    town.bench.sql("UPDATE people SET id = id + 1000")
    with pytest.raises(TamperedError, match="80 of 90 values were changed or moved"):
        town.bench.fields.verify(["people.mail"])
    before = town.raw()
    assert [(each.at, each.rows, each.done, each.broken) for each in town.rebind("was")] == [
        ("people.mail", 80, 0, 0), ("people.note", 90, 0, 0),
    ]  # fmt: skip
    assert town.opened() == MAILS
    assert [check.same for check in town.bench.fields.verify()] == [True, True]
    after = town.raw()
    assert [value is None for value in after] == [value is None for value in before]
    assert not set(filter(None, after)) & set(filter(None, before))
    assert [(each.rows, each.done) for each in town.rebind("was")] == [(0, 80), (0, 90)]
    assert town.raw() == after, "what is bound already is left alone"


def test_a_new_row_and_a_straggler_are_counted_as_after_sealing(town: Town) -> None:
    town.bench.sql("UPDATE people SET id = id + 1000")
    town.rebind("was")
    town.bench.sql("INSERT INTO people VALUES (5000, 5000, 'new@example.org', NULL)")
    town.bench.seal()
    assert {check.same for check in town.bench.fields.verify()} == {True}
    assert town.opened() == [*MAILS, "new@example.org"]


def test_a_key_of_more_columns_in_another_order(town: Town) -> None:
    """The table gets a tenant, and the key becomes (tenant, id)."""
    many = "VARCHAR(9) COLLATE utf8mb4_bin" if town.bench.fields.shop.dialect == "mysql" else "varchar(9)"
    _rekey(town, f"tenant {many}", "'t' || (id % 7)", "tenant, id")
    with pytest.raises(InterlockError, match="guard fields rebind people"):
        town.bench.seal()
    assert town.bench.fields.key_columns("people.mail") == ("id",)
    assert [each.rows for each in town.rebind("id")] == [80, 90]
    assert town.bench.fields.key_columns("people.mail") == ("tenant", "id")
    assert town.opened() == MAILS
    assert {check.same for check in town.bench.fields.verify()} == {True}
    town.bench.seal()
    assert {status.state for status in town.bench.fields.status()} == {"sealed"}


def _rekey(town: Town, column: str, value: str, key: str) -> None:
    """Give the table another primary key, as a migration of the shop does."""
    name = column.split(maxsplit=1)[0]
    dialect = town.bench.fields.shop.dialect
    if dialect == "sqlite":
        town.bench.sql(
            f"CREATE TABLE next ({column}, id INTEGER, was INTEGER, mail TEXT, note TEXT, PRIMARY KEY ({key}))",
            f"INSERT INTO next SELECT {value}, id, was, mail, note FROM people",
            "DROP TABLE people",
            "ALTER TABLE next RENAME TO people",
        )
    else:
        value = "CONCAT('t', id %% 7)" if dialect == "mysql" and "||" in value else value.replace("%", "%%")
        town.bench.sql(f"ALTER TABLE people ADD {column}", f"UPDATE people SET {name} = {value}")
        drop = "DROP PRIMARY KEY" if dialect == "mysql" else "DROP CONSTRAINT people_pkey"
        town.bench.sql(f"ALTER TABLE people {drop}", f"ALTER TABLE people ADD PRIMARY KEY ({key})")
    town.bench.fields.shop.tables(fresh=True)


def test_a_file_tells_the_former_key(town: Town, tmp_path: Path) -> None:
    town.bench.sql("UPDATE people SET id = id + 1000")
    file = tmp_path / "keys.csv"
    file.write_text("old id,new id\n" + "".join(f"{number},{number + 1000}\n" for number in range(1, ROWS)))
    done = town.rebind(map_=file)
    assert [(each.rows, each.broken, each.places) for each in done] == [(80, 0, ()), (89, 1, (ROWS,))]
    assert town.opened()[:89] == MAILS[:89]
    with pytest.raises(TamperedError, match="1 of 90 values were changed or moved: row 90 in the order of id"):
        town.bench.fields.verify(["people.note"])
    file.write_text(f"{ROWS},{ROWS + 1000}\n")
    assert [(each.rows, each.done, each.broken) for each in town.rebind(map_=file)] == [(0, 80, 0), (1, 89, 0)]
    assert {check.same for check in town.bench.fields.verify()} == {True}


def test_what_opens_under_neither_key_is_named_by_place_and_left(town: Town) -> None:
    town.bench.sql("UPDATE people SET id = id + 1000", "UPDATE people SET was = 7 WHERE was IN (3, 4)")
    before = dict(zip(town.bench.ask("SELECT id FROM people ORDER BY id"), _by_id(town), strict=True))
    [mail, note] = town.rebind("was")
    assert (mail.rows, mail.broken, mail.places) == (78, 2, (3, 4))
    assert (note.broken, note.places) == (2, (3, 4))
    after = dict(zip(town.bench.ask("SELECT id FROM people ORDER BY id"), _by_id(town), strict=True))
    assert [number for number in before if before[number] == after[number] and before[number]] == [1003, 1004]
    town.bench.sql("UPDATE people SET was = id - 1000")
    assert [(each.rows, each.broken) for each in town.rebind("was")] == [(2, 0), (2, 0)]
    assert town.opened() == MAILS


def _by_id(town: Town) -> list[object]:
    return town.bench.ask("SELECT mail FROM people ORDER BY id")


class KilledError(Exception):
    pass


@pytest.mark.parametrize("nth", [1, 3, 8, 9, 20])
def test_a_run_that_ends_anywhere_is_gone_on_with(town: Town, nth: int) -> None:
    town.bench.sql("UPDATE people SET id = id + 1000")
    passed: list[str] = []

    def hook(name: str) -> None:
        if name.startswith("fields.rebind"):
            passed.append(name)
            if len(passed) == nth:
                raise KilledError

    faults.install(hook)
    try:
        with pytest.raises(KilledError):
            town.rebind("was")
    finally:
        faults.install(None)
    done = town.rebind("was")
    assert [each.rows + each.done for each in done] == [80, 90]
    assert {check.same for check in town.bench.fields.verify()} == {True}
    assert town.opened() == MAILS


def test_an_interrupted_encryption_is_gone_on_with_under_the_new_key(town: Town) -> None:
    """What earlier ranges said in former keys must not make the next run pass rows by."""
    bench = town.bench
    bench.unseal("people.mail", "people.note")

    def stop(what: str, done: int, total: int | None = None) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.seal(tell=stop)
    assert "sealing" in bench.stages()
    bench.sql("UPDATE people SET id = 2000 - id")
    [mail] = town.rebind("was")
    assert (mail.at, mail.rows) == ("people.mail", 20)
    bench.seal()
    assert {check.same for check in bench.fields.verify()} == {True}
    assert all(status.plain == 0 for status in bench.fields.status())
    assert town.opened() == MAILS


class Meddler:
    """A clock that writes into the shop when it is first asked for the time: between reading a batch and writing it."""

    def __init__(self, clock: Any, write: Callable[[], None]) -> None:
        self._clock = clock
        self._writes = [write]

    def now(self) -> datetime:
        while self._writes:
            self._writes.pop()()
        return self._clock.now()

    def sleep(self, span: timedelta) -> None:
        self._clock.sleep(span)


def test_what_somebody_writes_meanwhile_is_left_and_looked_at_again(town: Town) -> None:
    fields = town.bench.fields
    town.bench.sql("UPDATE people SET id = id + 1000")
    new = fields.sealer("people.mail")((1005,), "moved@example.org")
    clock = Meddler(fields.clock, lambda: town.bench.sql(f"UPDATE people SET mail = '{new}' WHERE id = 1005"))
    town.bench = replace(town.bench, fields=replace(fields, clock=clock))
    [mail, _] = town.rebind("was")
    assert (mail.rows, mail.done, mail.broken) == (79, 1, 0)
    assert {check.same for check in town.bench.fields.verify()} == {True}
    assert town.opened() == [*MAILS[:4], "moved@example.org", *MAILS[5:]]


def test_wrong_former_keys_are_refused_before_anything_is_written(town: Town) -> None:
    town.bench.sql("UPDATE people SET id = id + 1000, was = was + 1")
    before = town.raw()
    with pytest.raises(InterlockError, match="none of the first 80 sealed values opens under that key"):
        town.plan("was")
    assert town.raw() == before


@pytest.mark.parametrize(
    ("was", "says"),
    [
        ("", "say where the former key stands"),
        ("waas", "people has no column waas; did you mean was?"),
        ("was,id", "the former key has 1 parts, in this order: id; not 2"),
        ("note", "people.note is sealed itself"),
    ],
)
def test_what_cannot_be_meant_is_said(town: Town, was: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        town.plan(was)
    assert says in str(refused.value)


def test_tables_without_seals_and_unknown_ones_are_named(town: Town) -> None:
    with pytest.raises(ConfigError, match="the shop has no table peopel") as refused:
        town.plan("was", table="peopel")
    assert refused.value.hint == "did you mean people?"
    town.bench.unseal("people.mail", "people.note")
    with pytest.raises(ConfigError, match="nothing in people is sealed for its rows"):
        town.plan("was")
    assert town.bench.stages() == {Stage.PLAIN.value}


def test_the_plan_says_how_the_first_values_open(town: Town) -> None:
    town.bench.sql("UPDATE people SET id = id + 1000 WHERE id > 45")
    plan = town.plan("was")
    each = plan.samples["people.mail"]
    assert (each.new, each.former, each.neither) == (40, 40, 0)
    text = "\n".join(plan.lines)
    assert (
        "bind the values of people.mail to the key id of their rows; the former key (id) is taken from columns was"
        in text
    )
    assert (
        "of the first 80 sealed values of people.mail 40 open under the former key, 40 under the one they have now"
        in text
    )
    assert "decides which value belongs to which row" in text


# The former key -------------------------------------------------------------------------------------------------------


def test_a_text_is_read_in_every_way_a_key_can_be_written() -> None:
    from guard.canon import key_bytes

    some = UUID(int=5)
    former = Former(("a", "b"))
    assert set(former.of((1,), ("007", str(some)))) >= {
        key_bytes((7, some)), key_bytes(("007", str(some))), key_bytes(("007", some)),
    }  # fmt: skip
    assert former.of((1,), (7, None)) == ()
    assert Former(by_key={("5",): ("9",)}).of((5,), ()) != ()
    assert Former(by_key={("5",): ("9",)}).of((6,), ()) == ()


def test_files_of_keys_are_read_with_care(tmp_path: Path) -> None:
    file = tmp_path / "keys.csv"

    def read(text: str, parts: int = 1, former: int = 1):
        file.write_text(text)
        return read_map(file, parts, former)[1]

    assert read("Old,new\n1,a\n\n2,b\n") == {("a",): ("1",), ("b",): ("2",)}
    upper = str(UUID(int=0xABC)).upper()
    assert read(f"1,{upper}\n") == {(upper,): ("1",), (upper.lower(),): ("1",)}
    assert read("1,2,x,y\n", 2, 2) == {("x", "y"): ("1", "2")}
    for text, says in (
        ("1,2,3\n", "line 1 has 3 fields, not 2"),
        ("1,a\n2,a\n", "line 2 gives a second former key"),
        ("old,new\n", "holds no keys"),
    ):
        with pytest.raises(ConfigError, match=says):
            read(text)
    with pytest.raises(ConfigError, match="cannot read"):
        read_map(tmp_path / "none.csv", 1, 1)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="it is not UTF-8"):
        read_map(file, 1, 1)
