"""Programs in the shop's database that use a table: found by their text, and those that guard may not see counted."""

import os
from collections.abc import Callable, Iterator

import pytest

from guard.shop import Shop
from guard.shop.catalog import Table
from guard.shop.uses import Program, Programs, programs

BLIND = [
    "INSERT INTO people VALUES (1)",
    "insert  into\npeople values(1)",
    'INSERT OR REPLACE INTO "people"VALUES (1)',
    "REPLACE INTO main.people SELECT * FROM x",
    "INSERT INTO [people] AS p SELECT 1",
    "BEGIN INSERT INTO people WITH a AS (SELECT 1) SELECT * FROM a; END",
]
NAMED = [
    "INSERT INTO people (id) VALUES (1)",
    "INSERT INTO people(id) SELECT 1",
    "INSERT INTO peoples VALUES (1)",
    "INSERT INTO old_people VALUES (1)",
    "INSERT INTO people DEFAULT VALUES",
    "SELECT 'INSERT', * FROM people",
]
COPIES = [
    "INSERT INTO old SELECT * FROM people",
    "INSERT INTO old SELECT now(), p.* FROM people p",
    'INSERT INTO old SELECT "people" . * FROM x JOIN people ON true',
]
WITHOUT = [
    "INSERT INTO old SELECT count(*) FROM people",
    "INSERT INTO old SELECT id * 2 FROM people",
    "SELECT * INTO r FROM people; INSERT INTO old VALUES (r.id)",
    "INSERT INTO old SELECT * FROM peoples",
]


def of(body: str, table: str | None = None) -> Programs:
    return Programs((Program("function", "f", table, body),))


def test_inserts_without_names_and_copies_of_whole_rows_are_told_by_their_text() -> None:
    people = Table("people", ())
    for body in BLIND:
        assert of(body).positional(people) == ("function f",), body
    for body in NAMED:
        assert of(body).positional(people) == (), body
    for body in COPIES:
        assert of(body).copying(people) == ("function f",), body
    for body in [*WITHOUT, *NAMED]:
        assert of(body).copying(people) == (), body
    assert of("INSERT INTO old VALUES (OLD.*)", "people").copying(people) == ("function f on people",)
    assert of("INSERT INTO old VALUES (OLD.*)", "other").copying(people) == ()


MADE = {
    "sqlite": [
        "CREATE TRIGGER joins AFTER INSERT ON orders BEGIN INSERT INTO people VALUES (NEW.id, 'x'); END",
        "CREATE VIEW names AS SELECT mail FROM people",
        "CREATE TRIGGER through INSTEAD OF INSERT ON names BEGIN INSERT INTO people VALUES (9, NEW.mail); END",
        "CREATE TRIGGER keeps AFTER DELETE ON people BEGIN INSERT INTO old SELECT * FROM people; END",
    ],
    "postgresql": [
        "CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO old VALUES (OLD.*); RETURN OLD; END'",
        "CREATE TRIGGER keeps AFTER DELETE ON people FOR EACH ROW EXECUTE FUNCTION keeps()",
        "CREATE FUNCTION joins() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN UPDATE people SET mail = NULL; RETURN NEW; END'",
        "CREATE TRIGGER joins AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION joins()",
        "CREATE FUNCTION report() RETURNS bigint LANGUAGE sql AS 'SELECT count(mail) FROM people'",
    ],
    "mysql": [
        "CREATE TRIGGER joins AFTER INSERT ON orders FOR EACH ROW INSERT INTO people VALUES (NEW.id, 'x')",
        "CREATE PROCEDURE report() SELECT mail FROM people",
        "CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM people WHERE mail IS NULL",
    ],
}


@pytest.fixture
def town(empty: Shop, sql) -> Shop:
    sql(empty, "CREATE TABLE people (id INTEGER PRIMARY KEY, mail VARCHAR(60))")
    for name in ("orders", "old"):
        sql(empty, f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, mail VARCHAR(60))")
    for statement in MADE[empty.dialect]:
        sql(empty, statement)
    return empty


def test_programs_of_each_database_are_found(town: Shop) -> None:
    found, people = programs(town), town.table("people")
    naming = {
        "sqlite": ("trigger through on names",),
        "postgresql": ("function report", "trigger joins on orders"),
        "mysql": ("event nightly", "procedure report"),
    }
    assert found.naming(people, "mail") == naming[town.dialect]
    positional = {"sqlite": ("trigger joins on orders", "trigger through on names"), "postgresql": (),
                  "mysql": ("trigger joins on orders",)}  # fmt: skip
    assert found.positional(people) == positional[town.dialect]
    assert found.copying(people) == (() if town.dialect == "mysql" else ("trigger keeps on people",))
    assert found.unseen == ()


@pytest.fixture
def stranger(town: Shop, sql) -> Iterator[tuple[Shop, Callable[[str], object]]]:
    """An account that may read tables and triggers of MariaDB, and what gives it more."""
    if town.dialect != "mysql":
        pytest.skip("PostgreSQL and SQLite show everybody the text of every program")
    name, base = f"uses{os.getpid()}", str(town.engine.url.database)
    sql(town, f"CREATE USER {name}@'%'")
    sql(town, f"GRANT SELECT, SHOW VIEW, TRIGGER ON {base}.* TO {name}@'%'")
    shop = Shop.connect(town.engine.url.set(username=name).render_as_string(hide_password=False))
    yield shop, lambda grant: sql(town, f"GRANT {grant.replace('shop', base)} TO {name}@'%'")
    shop.close()
    sql(town, f"DROP USER {name}@'%'")


@pytest.mark.parametrize("empty", ["empty_mariadb"], indirect=True)
def test_what_mariadb_hides_is_said_with_its_grant(stranger: tuple[Shop, Callable[[str], object]]) -> None:
    shop, give = stranger
    base = shop.engine.url.database
    routines, events = "functions and procedures", f"events (GRANT EVENT ON {base}.*)"
    assert programs(shop).unseen == (f"{routines} (GRANT SELECT ON mysql.proc)", events)
    give("EXECUTE ON PROCEDURE shop.report")
    shop.close()
    assert programs(shop).unseen[0] == f"1 {routines}, and those it is not told of (GRANT SELECT ON mysql.proc)"
    give("EVENT ON shop.*")
    give("SELECT ON mysql.proc")
    shop.close()
    found = programs(shop)
    assert found.unseen == ()
    assert found.naming(shop.table("people"), "mail") == ("event nightly", "procedure report")
