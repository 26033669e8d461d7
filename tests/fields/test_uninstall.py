"""The way out: every value as it was, every type as it was, and nothing of guard left in the schema."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from guard import faults
from guard.config import Catalog, Column, Protect
from guard.errors import InterlockError, TamperedError
from guard.shop.leftovers import leftovers
from tests.fields.conftest import Bench, new_run, read_all

TABLES = {
    "lite": "CREATE TABLE people (id INTEGER PRIMARY KEY, mail VARCHAR(60) UNIQUE, born DATE, note TEXT)",
    "postgres_url": "CREATE TABLE people (id int PRIMARY KEY, mail varchar(60) UNIQUE, born date, note text)",
    "mariadb_url": "CREATE TABLE people (id INT PRIMARY KEY, mail VARCHAR(60) COLLATE utf8mb4_bin UNIQUE, born DATE,"
    " note TEXT)",
}
CATALOG = Catalog(
    column=(
        Column(at="people.mail", id=1, protect=Protect.ENCRYPT, index="email"),
        Column(at="people.born", id=2, protect=Protect.ENCRYPT),
        Column(at="people.note", id=3, protect=Protect.ENCRYPT),
    )
)


@pytest.fixture
def lite(tmp_path: Path) -> str:
    (tmp_path / "town.db").touch()
    return f"sqlite:///{tmp_path}/town.db"


@pytest.fixture(params=["lite", "postgres_url", "mariadb_url"])
def town(request: pytest.FixtureRequest, make: Callable[..., Bench]) -> Bench:
    """Sixty people; nothing is sealed yet."""
    bench = make(request.getfixturevalue(request.param))
    bench = replace(bench, fields=replace(bench.fields, catalog=CATALOG))
    values = ", ".join(
        f"({number}, 'anna{number}@example.org', '19{number % 90 + 10}-03-0{number % 9 + 1}', NULL)"
        for number in range(1, 61)
    )
    bench.sql(TABLES[request.param], f"INSERT INTO people VALUES {values}", "UPDATE people SET note = '' WHERE id < 5")
    bench.fields.shop.tables(fresh=True)
    return bench


def leave(bench: Bench):
    return bench.fields.leaving.run(new_run())


def test_everything_is_as_it_was_before_guard(town: Bench) -> None:
    rows, schema = town.rows(), dict(town.fields.shop.tables(fresh=True))
    town.seal()
    assert town.rows() != rows
    plan = town.fields.leaving.plan()
    assert [(each.at, each.sealed) for each in plan.columns] == [
        ("people.mail", 60),
        ("people.born", 60),
        ("people.note", 4),
    ]
    text = "\n".join(plan.lines)
    assert "put people.mail back into plain text: 60 values are sealed" in text
    assert "drop the table guard_progress" in text
    assert "drop the column mail__guard1 on people" in text
    if town.fields.shop.dialect != "sqlite":
        assert "and give it its type date" in text.lower()
    done = leave(town)
    assert (done.columns, done.values, done.notes) == (("people.mail", "people.born", "people.note"), 124, ())
    assert [each.name for each in done.dropped] == ["guard_progress"], "decrypting takes the rest along"
    assert leftovers(town.fields.shop) == ()
    assert read_all(town.url) == rows
    assert dict(town.fields.shop.tables(fresh=True)) == schema
    assert town.stages() == {"plain"}


def test_it_may_be_done_twice_and_without_anything_sealed(town: Bench) -> None:
    assert town.fields.leaving.plan().columns == ()
    assert leave(town).columns == ()
    town.seal()
    leave(town)
    again = leave(town)
    assert (again.columns, again.values, again.dropped) == ((), 0, ())


def test_what_nobody_remembers_goes_too(town: Bench) -> None:
    """A token column and a trigger that an interrupted run, or a state that was lost, has left."""
    from guard.shop import alter

    table = town.fields.shop.table("people")
    alter.add_token(town.fields.shop, table, "note__guard4")
    alter.index_token(town.fields.shop, town.fields.shop.table("people"), "note__guard4", unique=False)
    alter.follow(town.fields.shop, town.fields.shop.table("people"), "note", ["note__guard4"])
    dropped = {each.kind for each in leave(town).dropped}
    assert {"trigger", "column", "index"} <= dropped
    assert leftovers(town.fields.shop) == ()


def test_half_states_are_refused_with_the_way_on(town: Bench) -> None:
    def stop(what: str, done: int, total: int | None = None) -> None:
        if done:
            raise KeyboardInterrupt

    town.seal("people.mail")
    with pytest.raises(KeyboardInterrupt):
        town.seal("people.born", tell=stop)
    before = town.rows()
    plan = town.fields.leaving.plan()
    assert plan.halves == (
        "people.born is half sealed; guard fields encrypt people.born goes on where it stopped, "
        "guard fields decrypt people.born goes back",
    )
    assert any(line.startswith("refused: people.born is half sealed") for line in plan.lines)
    with pytest.raises(InterlockError, match=r"people\.born is half sealed"):
        leave(town)
    assert town.rows() == before
    town.seal()
    leave(town)
    assert leftovers(town.fields.shop) == ()


def test_renamed_columns_and_changed_keys_are_half_states(town: Bench) -> None:
    town.seal("people.note")
    town.sql("ALTER TABLE people RENAME COLUMN note TO remark")
    [half] = town.fields.leaving.plan().halves
    assert half.endswith("renamed? guard data rename people.note NEW")
    town.sql("ALTER TABLE people RENAME COLUMN remark TO note")
    assert town.fields.leaving.plan().halves == ()


class KilledError(Exception):
    pass


@pytest.mark.parametrize("nth", [2, 7, 12, 20, 28])
def test_it_may_end_anywhere_and_goes_on(town: Bench, nth: int) -> None:
    rows, schema = town.rows(), dict(town.fields.shop.tables(fresh=True))
    town.seal()
    ids = sorted(record.column_id for record in town.fields.records())
    passed: list[str] = []

    def hook(name: str) -> None:
        passed.append(name)
        if len(passed) == nth:
            raise KilledError

    faults.install(hook)
    try:
        with pytest.raises(KilledError):
            leave(town)
    finally:
        faults.install(None)
    assert sorted(record.column_id for record in town.fields.records()) == ids, "the approval stays the same"
    leave(town)
    assert leftovers(town.fields.shop) == ()
    assert read_all(town.url) == rows
    assert dict(town.fields.shop.tables(fresh=True)) == schema


def test_a_value_that_does_not_open_stops_it(town: Bench) -> None:
    town.seal("people.note")
    inner = "SELECT x FROM (SELECT note x FROM people WHERE id = 1) y"
    town.sql(f"UPDATE people SET note = ({inner}) WHERE id = 2")
    with pytest.raises(TamperedError):
        leave(town)
    assert any(each.name == "guard_progress" for each in leftovers(town.fields.shop))


def test_a_type_that_cannot_be_given_back_is_told(postgres_url: str, make: Callable[..., Bench]) -> None:
    bench = make(postgres_url, "people.mail")
    bench.sql("CREATE TABLE people (id int PRIMARY KEY, mail varchar(20))", "INSERT INTO people VALUES (1, 'a@b.de')")
    bench.fields.shop.tables(fresh=True)
    bench.seal()
    write, key = bench.fields.sealer("people.mail"), (2,)
    longer = str(write(key, "somebody-with-a-long-name@example.org"))
    bench.sql(f"INSERT INTO people VALUES (2, '{longer}')")
    done = leave(bench)
    assert done.values == 2
    [note] = done.notes
    assert "people.mail stays text: it holds texts longer than" in note
    assert leftovers(bench.fields.shop) == ()


def test_what_guards_account_may_not_drop_is_told_with_the_statement(
    postgres_url: str, make: Callable[..., Bench]
) -> None:
    owner = make(postgres_url, "people.note")
    owner.sql(
        "CREATE TABLE people (id int PRIMARY KEY, note text)",
        "INSERT INTO people VALUES (1, 'a')",
        "CREATE ROLE leaver LOGIN",
        "GRANT SELECT, UPDATE ON people TO leaver",
    )
    owner.fields.shop.tables(fresh=True)
    try:
        owner.seal()
        owner.sql("GRANT SELECT, INSERT, UPDATE, DELETE ON guard_progress TO leaver")
        bench = make(postgres_url.replace("shop@", "leaver@"), "people.note")
        done = leave(bench)
        assert done.dropped == ()
        assert done.notes == (
            "guard's account may not drop the table guard_progress; whoever owns it can: "
            'DROP TABLE IF EXISTS "public"."guard_progress"',
        )
        assert owner.ask("SELECT note FROM people") == ["a"]
    finally:
        owner.sql("DROP OWNED BY leaver", "DROP ROLE leaver")
