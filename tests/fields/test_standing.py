"""Triggers of the shop that came after sealing, and guard's own that went: verify and status name them."""

from dataclasses import replace

import pytest

from guard.config import Catalog, Column, Protect
from guard.errors import TamperedError
from guard.fields.standing import assigns, meddling
from tests.fields.conftest import Bench

TABLES = {
    "lite": "CREATE TABLE people (id INTEGER PRIMARY KEY, mail VARCHAR(60) UNIQUE, note TEXT)",
    "postgres_url": "CREATE TABLE people (id int PRIMARY KEY, mail varchar(60) UNIQUE, note text)",
    "mariadb_url": "CREATE TABLE people (id INT PRIMARY KEY, mail VARCHAR(60) COLLATE utf8mb4_bin UNIQUE, note TEXT)",
}
FOLDS = {
    "sqlite": "CREATE TRIGGER small AFTER UPDATE ON people WHEN NEW.note = 'fold'"
    " BEGIN UPDATE people SET mail = lower(mail) WHERE id = NEW.id; END",
    "postgresql": "CREATE FUNCTION small() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.mail := lower(NEW.mail);"
    " RETURN NEW; END'; CREATE TRIGGER small BEFORE UPDATE ON people FOR EACH ROW WHEN (NEW.note = 'fold')"
    " EXECUTE FUNCTION small()",
    "mysql": "CREATE TRIGGER small BEFORE UPDATE ON people FOR EACH ROW"
    " IF NEW.note = 'fold' THEN SET NEW.mail = LOWER(NEW.mail); END IF",
}
ON_INSERT = {
    "sqlite": "CREATE TRIGGER {name} AFTER INSERT ON people BEGIN UPDATE people SET {set} WHERE id = NEW.id; END",
    "postgresql": "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.{set}; RETURN NEW; END';"
    " CREATE TRIGGER {name} BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION {name}()",
    "mysql": "CREATE TRIGGER {name} BEFORE INSERT ON people FOR EACH ROW SET NEW.{set}",
}
COLUMNS = (
    Column(at="people.mail", id=1, protect=Protect.ENCRYPT, index="email"),
    Column(at="people.note", id=2, protect=Protect.ENCRYPT),
)


@pytest.fixture(params=list(TABLES))
def people(request: pytest.FixtureRequest, make, tmp_path) -> Bench:
    """Ten people with unique addresses, sealed and searchable."""
    if request.param == "lite":
        (tmp_path / "people.db").touch()
        url = f"sqlite:///{tmp_path}/people.db"
    else:
        url = request.getfixturevalue(request.param)
    bench: Bench = make(url, "people.mail")
    values = ", ".join(f"({number}, 'a{number}@example.org', 'n')" for number in range(1, 11))
    bench.sql(TABLES[request.param], f"INSERT INTO people VALUES {values}")
    bench = replace(bench, fields=replace(bench.fields, catalog=Catalog(column=COLUMNS[:1])))
    bench.seal()
    return bench


def said(bench: Bench) -> tuple[str, ...]:
    """Return what verify says; status says the same."""
    [check] = bench.fields.verify()
    assert check.clean == (not check.amiss)
    [status] = bench.fields.status()
    assert (status.trouble or "") == "; ".join(check.amiss)
    assert status.done == check.clean
    return check.amiss


def test_a_trigger_that_came_after_sealing_is_named_before_and_after_it_did_harm(people: Bench) -> None:
    assert said(people) == ()
    people.sql(FOLDS[people.fields.shop.dialect])
    [what] = said(people)
    assert what.startswith("the shop's trigger small works with it and could change or copy it; drop it, or let")
    dialect = people.fields.shop.dialect
    # where a trigger of its own writes the value, guard's refuses that; else the value that was changed is spoilt
    harm = "UPDATE people SET note = 'fold' WHERE id = 4"
    if dialect == "mysql":
        people.sql("DROP TRIGGER guard__people_mail_fence_update")
    if dialect == "postgresql":
        people.sql("ALTER TABLE people DISABLE TRIGGER guard__people_mail_fence")
    if dialect != "sqlite":
        people.sql(harm)
        with pytest.raises(TamperedError, match="row 4 ") as caught:
            people.fields.verify()
        assert str(caught.value.hint).startswith("the shop's trigger small works with it")
        assert "restore these rows" in str(caught.value.hint)


def test_only_what_could_change_it_is_named(people: Bench) -> None:
    made = ON_INSERT[people.fields.shop.dialect]
    word = ":=" if people.fields.shop.dialect == "postgresql" else "="
    people.sql(made.format(name="harmless", set=f"note {word} concat(''from '', NEW.mail)".replace("''", "'") if
        people.fields.shop.dialect != "postgresql" else f"note {word} ''from '' || NEW.mail"))  # fmt: skip
    assert said(people) == ()
    people.sql(made.format(name="spoils", set=f"mail {word} lower(NEW.mail)"))
    [what] = said(people)
    assert "trigger spoils works with it" in what
    [column] = people.fields.plan().columns
    assert [reason for reason in column.refusals if "spoils" in reason] == [
        "the trigger spoils works with it on insert and could copy or change it; drop it first"
    ]


@pytest.mark.parametrize("kind", ["follow", "fence"])
def test_a_trigger_of_guards_that_is_gone_is_named_and_comes_back(people: Bench, kind: str) -> None:
    name, dialect = f"guard__people_mail_{kind}", people.fields.shop.dialect
    on = " ON people" if dialect == "postgresql" else ""
    people.sql(f"DROP TRIGGER {name}{on}")
    [what] = said(people)
    assert what.startswith("guard's trigger that ")
    assert what.endswith("is gone or disabled; guard fields encrypt makes it anew")
    people.seal()
    assert said(people) == ()
    if dialect == "postgresql":
        people.sql(f"ALTER TABLE people DISABLE TRIGGER {name}")
        assert len(said(people)) == 1
        people.seal()
        assert said(people) == ()


@pytest.mark.parametrize(
    "sql",
    [
        "BEGIN NEW.mail := lower(NEW.mail); RETURN NEW; END",
        'BEGIN IF true THEN NEW."mail" = 1; END IF; END',
        "SET NEW.mail = LOWER(NEW.mail)",
        "BEGIN SET NEW.a = 1, NEW . `mail` = 2; END",
        "BEGIN SELECT a, b INTO NEW.x, NEW.mail FROM t; END",
        "SELECT lower(x) INTO STRICT NEW.mail FROM t",
        "BEGIN UPDATE people SET note = 1, mail = 'x'; END",
        "BEGIN UPDATE people SET [mail]=lower(mail); END",
        "UPDATE people SET (note, mail) = (1, 2)",
    ],
)
def test_what_sets_a_column(sql: str) -> None:
    assert assigns(sql, "mail")
    assert not assigns(sql, "mai")
    assert not assigns(sql, "email")


@pytest.mark.parametrize(
    "sql",
    [
        "BEGIN IF NEW.mail = OLD.mail THEN RETURN NULL; END IF; END",
        "INSERT INTO log VALUES (NEW.mail)",
        "INSERT INTO log (mail) SELECT NEW.mail",
        "UPDATE people SET note = NEW.mail WHERE mail = 'x'",
        "UPDATE people SET mailing = 1; SELECT mail FROM people",
    ],
)
def test_what_only_reads_it(sql: str) -> None:
    assert not assigns(sql, "mail")


def test_a_trigger_on_update_is_named_for_the_column_it_works_with(people: Bench) -> None:
    people.sql(FOLDS[people.fields.shop.dialect])
    table = people.fields.shop.tables(fresh=True)["people"]
    assert [each.name for each in meddling(table, "mail")] == ["small"]
    assert [each.name for each in meddling(table, "id")] == (["small"] if people.fields.shop.path else [])
