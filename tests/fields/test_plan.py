"""What the plan refuses, what it says stops working, and what it says sealing will do, on each database."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from guard.clock import SystemClock
from guard.config import Catalog, Column, Link, Protect, Subject
from guard.crypto.keyring import Keyring
from guard.errors import ConfigError, InterlockError
from guard.fields.choice import chosen
from guard.fields.facts import Around, Change, Facts, Outside
from guard.fields.gather import Sight, look, seal_plan
from guard.fields.lack import Lack
from guard.fields.measure import about, amount
from guard.fields.plan import ColumnPlan, SealPlan, plan_column, plan_of, sealed_size
from guard.fields.store import Record, Stage
from guard.shop import Shop, Size, alter
from guard.shop.disk import Disk, disk, file_size
from guard.shop.remains import Kind
from guard.shop.uses import Programs

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
COLUMN = Column(at="t.v", id=1, protect=Protect.ENCRYPT)
ROWS = "INSERT INTO t (id, v) VALUES (1, 'one'), (2, 'two');"
PLAIN = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT);"
UNIQUE = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT UNIQUE);"

KIT = Lack("a recovery kit", "guard keys recovery make")
BACKUP = Lack("a backup of state", "guard state backup", by_backup=True)

Look = Callable[..., Facts]


def run_sqlite(url: str, script: str) -> None:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    connection.executescript(script)
    connection.close()


def run_postgres(url: str, script: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(script)


def run_mariadb(url: str, script: str) -> None:
    at = make_url(url)
    where = {"host": at.host, "port": at.port or 3306, "user": at.username, "password": at.password or ""}
    connection = pymysql.connect(**where, database=at.database, autocommit=True)
    with connection, connection.cursor() as cursor:
        for statement in filter(None, map(str.strip, script.split(";;" if ";;" in script else ";"))):
            cursor.execute(statement)


@pytest.fixture
def sight() -> Iterator[Callable[..., Sight]]:
    """Look at the shop at a URL."""
    shops: list[Shop] = []

    def make(url: str, catalog: Catalog, **known: object) -> Sight:
        shops.append(Shop.connect(url))
        return Sight(shops[-1], catalog, {}, SystemClock(), **known)

    yield make
    for shop in shops:
        shop.close()


@pytest.fixture
def lite(tmp_path: Path, sight: Callable[..., Sight]) -> Look:
    """Look at `t.v` of an SQLite shop made by a script."""

    def facts(script: str, column: Column = COLUMN, catalog: Catalog | None = None, **known: object) -> Facts:
        url = f"sqlite:///{tmp_path}/small.db"
        Path(tmp_path / "small.db").unlink(missing_ok=True)
        run_sqlite(url, script)
        return look(sight(url, catalog or Catalog(column=(column,)), **known), column)

    return facts


@pytest.fixture
def postgres(postgres_url: str, sight: Callable[..., Sight]) -> Look:
    """The same in PostgreSQL."""

    def facts(script: str, column: Column = COLUMN) -> Facts:
        run_postgres(postgres_url, script)
        return look(sight(postgres_url, Catalog(column=(column,))), column)

    return facts


@pytest.fixture
def mariadb(mariadb_url: str, sight: Callable[..., Sight]) -> Look:
    """The same in MariaDB."""

    def facts(script: str, column: Column = COLUMN) -> Facts:
        run_mariadb(mariadb_url, script)
        return look(sight(mariadb_url, Catalog(column=(column,))), column)

    return facts


def has(texts: tuple[str, ...], part: str) -> bool:
    return any(part in text for text in texts)


# Refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("CREATE TABLE t (id INTEGER, v TEXT);", "no primary key; guard cannot name its rows"),
        ("CREATE TABLE t (id REAL PRIMARY KEY, v TEXT);", "does not name a row exactly"),
        ("CREATE TABLE t (id TEXT COLLATE NOCASE PRIMARY KEY, v TEXT);", "does not tell upper from lower case"),
        ("CREATE TABLE t (id INTEGER, v TEXT, PRIMARY KEY (id, v));", "part of the primary key"),
        ("CREATE TABLE o (k TEXT); CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT REFERENCES o (k));", "key to o"),
        (UNIQUE, 'needs a blind index: write index = "exact"'),
        (PLAIN + "CREATE UNIQUE INDEX u ON t (lower(v));", "the unique index u is on an expression"),
        (PLAIN + "CREATE UNIQUE INDEX u ON t (v) WHERE v <> 'x';", "the unique index u is on an expression or on some"),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, w TEXT, UNIQUE (w, v));", "is on w, v together"),
        (UNIQUE + "CREATE TABLE o (r TEXT REFERENCES t (v));", "o refers to it"),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT CHECK (v <> ''));", "would test sealed values"),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, w TEXT AS (lower(v)));", "the generated column w"),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, w TEXT, v TEXT AS (lower(w)));", "it is a generated column"),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER) STRICT;", "its table is STRICT"),
        (
            "CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT); INSERT INTO t VALUES (NULL, 'a');",
            "1 rows have NULL in their",
        ),
        (PLAIN + "INSERT INTO t VALUES (7, 'g1.abc');", 'begin with "g1." as sealed ones do, but guard did not seal'),
        (
            PLAIN + "CREATE TABLE log (v TEXT);"
            "CREATE TRIGGER keep AFTER UPDATE ON t BEGIN INSERT INTO log VALUES (OLD.v); END;",
            "the trigger keep works with it on update",
        ),
    ],
)
def test_schemas_that_sealing_would_break_are_refused(lite: Look, script: str, says: str) -> None:
    rows = "" if "AS (lower(w))" in script or "STRICT" in script else ROWS
    plan = plan_column(lite(script + rows))
    assert has(plan.refusals, says), plan.refusals


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("CREATE TABLE t (id int PRIMARY KEY, v varchar(9)); CREATE VIEW w AS SELECT v FROM t", "the view w reads it"),
        ("CREATE TABLE t (id int PRIMARY KEY, v varchar(9) UNIQUE)", "needs a blind index"),
        ("CREATE TABLE t (id int PRIMARY KEY, v text CHECK (v <> ''))", "would test sealed values"),
        ("CREATE TABLE t (id int PRIMARY KEY, v text, w text GENERATED ALWAYS AS (lower(v)) STORED)", "column w is"),
        ("CREATE TABLE t (id int, v text) PARTITION BY LIST (id)", "partitioned or inherits"),
        ("CREATE TABLE t (id int PRIMARY KEY, v int GENERATED ALWAYS AS IDENTITY)", "the database numbers it"),
        ("CREATE TABLE t (id int PRIMARY KEY, v serial)", "the database numbers it by a sequence"),
        ("CREATE TABLE t (id int PRIMARY KEY, v jsonb); CREATE INDEX i ON t USING gin (v)", "index i cannot be kept"),
        ("CREATE TABLE t (id int PRIMARY KEY, v int); CREATE INDEX i ON t ((v + 1))", "index i cannot be kept"),
        (
            "CREATE TABLE t (id int PRIMARY KEY, v date); ALTER TABLE t ENABLE ROW LEVEL SECURITY;"
            "CREATE POLICY old ON t USING (v < '2020-01-01')",
            "the policy old on table t uses it",
        ),
        (
            "CREATE TABLE t (id int PRIMARY KEY, v date); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN RETURN NEW; END'; CREATE TRIGGER seen BEFORE UPDATE OF v ON t FOR EACH ROW EXECUTE FUNCTION f()",
            "the trigger seen",
        ),
        (
            "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, repeat(md5('x'), 70));"
            "CREATE INDEX i ON t (v)",
            "would not fit into the index i",
        ),
    ],
)  # fmt: skip
def test_postgresql_schemas_that_sealing_would_break_are_refused(postgres: Look, script: str, says: str) -> None:
    plan = plan_column(postgres(script))
    assert has(plan.refusals, says), plan.refusals


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9) UNIQUE)", "needs a blind index"),
        ("CREATE TABLE t (id INT PRIMARY KEY, v TEXT) ENGINE = MyISAM", "MyISAM"),
        ("CREATE TABLE t (id INT PRIMARY KEY, v POINT)", "does not write one as text"),
        ("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9), CHECK (CHAR_LENGTH(v) > 1))", "would test sealed values"),
        ("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9), w VARCHAR(9) AS (UPPER(v)) VIRTUAL)", "column w is made"),
        ("CREATE TABLE t (id VARCHAR(9) PRIMARY KEY, v VARCHAR(9))", "does not tell upper from lower case"),
        ("CREATE TABLE t (id INT PRIMARY KEY, w INT, v VARCHAR(255), KEY i (w, v))", "do not fit into the index i"),
        ("CREATE TABLE t (v VARCHAR(9))", "no primary key"),
        (
            "CREATE TABLE t (id INT PRIMARY KEY, v TEXT);"
            "CREATE TRIGGER small BEFORE UPDATE ON t FOR EACH ROW SET NEW.v = LOWER(NEW.v)",
            "the trigger small works with it on update",
        ),
    ],
)
def test_mariadb_schemas_that_sealing_would_break_are_refused(mariadb: Look, script: str, says: str) -> None:
    plan = plan_column(mariadb(script))
    assert has(plan.refusals, says), plan.refusals


def test_only_an_index_that_mariadb_refuses_is_refused(make: Callable, mariadb_url: str) -> None:
    bench = make(mariadb_url, "t.v")
    bench.sql(
        "CREATE TABLE t (id INT PRIMARY KEY, w INT, v VARCHAR(255), KEY i (v), KEY j (w, v), KEY k (w, v(40)))",
        "INSERT INTO t VALUES (1, 1, 'a')",
    )
    before = bench.fields.shop.tables(fresh=True)["t"]
    [reason] = bench.fields.plan().columns[0].refusals
    assert reason.startswith("sealed values of up to 1426 characters do not fit into the index j")
    with pytest.raises(InterlockError, match="does not fit into its row or its index"):
        alter.widen(bench.fields.shop, before, "v", 1426)
    bench.sql("ALTER TABLE t DROP KEY j")
    before = bench.fields.shop.tables(fresh=True)["t"]
    bench.seal()
    bench.unseal()
    assert bench.fields.shop.tables(fresh=True)["t"] == before


def test_what_guard_cannot_see_or_seal_is_refused(lite: Look) -> None:
    facts = lite(PLAIN)
    reasons = plan_column(
        replace(
            facts,
            table=replace(facts.table, unseen=("triggers (grant TRIGGER)",)),
            unsealable="guard seals on MariaDB, not on MySQL",
            counts=replace(facts.counts, other=2),
        )
    ).refusals
    assert reasons == (
        "guard's account may not see its triggers (grant TRIGGER); what it does not see it cannot judge",
        "guard seals on MariaDB, not on MySQL",
        "2 of its values have a type that guard does not seal",
    )


# Unique columns and search --------------------------------------------------------------------------------------------


def test_a_unique_column_with_an_index_in_the_catalog_is_allowed(lite: Look) -> None:
    plan = plan_column(lite(UNIQUE + ROWS, indexed("exact")))
    assert plan.refusals == ()
    assert has(plan.does, "a token column with a unique index is added and filled first")
    assert has(plan.does, "refuses values without seal or token")
    assert has(plan.stops, "what is equal is found by its token")
    assert not has(plan.stops, "comparisons")


@pytest.mark.parametrize("database", ["lite", "postgres", "mariadb"])
def test_values_that_fall_together_under_the_normaliser_are_counted_and_refused(
    request: pytest.FixtureRequest, database: str
) -> None:
    facts: Facts = request.getfixturevalue(database)(
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(60) UNIQUE"
        + (" COLLATE utf8mb4_bin)" if database == "mariadb" else ")")
        + "; INSERT INTO t VALUES (1, 'Ada@example.org'), (2, 'ada@example.org'), (3, 'ADA@EXAMPLE.ORG '), (4, 'b@b')",
        indexed("email"),
    )
    assert facts.spread is not None
    assert (facts.spread.values, facts.spread.falling) == (4, 2)
    plan = plan_column(facts)
    assert has(plan.refusals, '2 of its values are equal to another one as index = "email" reads them')
    assert not any("ada" in str(part).lower() for part in (plan, facts.spread))
    exact = plan_column(replace(facts, column=indexed("exact"), spread=None))
    assert not has(exact.refusals, "equal to another")


def test_uniqueness_that_knows_no_case_needs_a_normaliser_that_knows_none(mariadb: Look) -> None:
    script = "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(60) UNIQUE); INSERT INTO t VALUES (1, 'a@b.de')"
    facts = mariadb(script, indexed("exact"))
    assert facts.shop.folded
    assert has(plan_column(facts).refusals, 'takes upper and lower case for equal, but index = "exact" does not')
    folding = replace(facts, column=indexed("email"), folds=True)
    assert plan_column(folding).refusals == ()


def test_unique_values_without_a_normal_form_are_refused(lite: Look) -> None:
    facts = lite(UNIQUE + "INSERT INTO t VALUES (1, '+49 30 1'), (2, 'none'), (3, 'unknown')", indexed("phone"))
    assert has(plan_column(facts).refusals, '2 of its values have nothing that index = "phone" reads')
    plain = lite(PLAIN + "INSERT INTO t VALUES (1, '+49 30 1'), (2, 'none')", indexed("phone"))
    assert plan_column(plain).refusals == ()
    assert has(plan_column(plain).notes, "1 of its values have nothing")


def test_an_index_on_few_different_values_is_refused(lite: Look) -> None:
    rows = ",".join(f"({number}, '{('DE', 'FR', 'US')[number % 3]}')" for number in range(60))
    facts = lite(PLAIN + f"INSERT INTO t VALUES {rows}", indexed("exact"))
    [reason] = plan_column(facts).refusals
    assert reason.startswith("it has 3 different values in 60 rows: an index would give them away")
    assert plan_column(replace(facts, column=COLUMN, spread=None)).refusals == ()


def indexed(normaliser: str) -> Column:
    return Column(at="t.v", id=1, protect=Protect.ENCRYPT, index=normaliser)


# What it does, what stops, what to know -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("CREATE INDEX i ON t (v);", "the index i finds nothing any more"),
        ("CREATE VIEW names AS SELECT v FROM t;", "the view names may show sealed values"),
        ("CREATE VIEW names AS SELECT * FROM t;", "the view names may show sealed values"),
        ("CREATE TRIGGER made AFTER INSERT ON t BEGIN SELECT NEW.v; END;", "the trigger made works with it"),
        ("CREATE TABLE o (r INTEGER REFERENCES t (id) ON UPDATE CASCADE);", "o follows its key (ON UPDATE CASCADE)"),
        ("", "LIKE, ORDER BY, comparisons and joins by it find nothing any more"),
    ],
)
def test_what_stops_working_is_said_but_not_refused(lite: Look, script: str, says: str) -> None:
    plan = plan_column(lite(PLAIN + script + ROWS))
    assert plan.refusals == ()
    assert has(plan.stops, says), plan.stops


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (PLAIN + "CREATE TRIGGER seen AFTER UPDATE ON t BEGIN SELECT 1; END;", "the trigger seen runs for each row"),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT DEFAULT 'none');", "it has a default in plain text"),
    ],
)
def test_what_somebody_should_know_is_noted(lite: Look, script: str, says: str) -> None:
    plan = plan_column(lite(script + ROWS))
    assert plan.refusals == ()
    assert has(plan.notes, says), plan.notes


def test_a_key_that_can_change_is_named_for_values_bound_to_it(lite: Look) -> None:
    script = (
        "CREATE TABLE o (k INTEGER PRIMARY KEY); CREATE TABLE t (o INTEGER REFERENCES o (k) ON UPDATE CASCADE"
        " ON DELETE CASCADE, id TEXT, v TEXT, PRIMARY KEY (o, id));"
    )
    facts = lite(script)
    stops = plan_column(facts).stops
    assert has(
        stops, "its key o follows o (ON UPDATE CASCADE); a row so moved is unreadable until guard fields rebind t"
    )
    assert has(stops, "its key id is a text; a row where the shop changes it is unreadable until guard fields rebind t")
    assert not has(stops, "DELETE"), "a row that goes takes its values along"
    alone = Column(at="t.v", id=1, protect=Protect.ENCRYPT, bind="column")
    assert not has(plan_column(replace(facts, column=alone)).stops, "unreadable")


def test_a_key_set_to_a_default_is_named(postgres: Look) -> None:
    facts = postgres(
        "CREATE TABLE o (k int PRIMARY KEY); CREATE TABLE t (o int DEFAULT 1 REFERENCES o (k) ON DELETE SET DEFAULT,"
        " id int, v text, PRIMARY KEY (o, id))"
    )
    assert has(plan_column(facts).stops, "its key o follows o (ON DELETE SET DEFAULT)")


def test_postgresql_tells_what_reads_the_column(postgres: Look) -> None:
    facts = postgres(
        "CREATE TABLE t (id int PRIMARY KEY, v text);"
        "CREATE VIEW w AS SELECT v FROM t; CREATE VIEW x AS SELECT id FROM t;"
        "CREATE MATERIALIZED VIEW m AS SELECT v FROM t;"
        "CREATE FUNCTION report() RETURNS int LANGUAGE sql AS 'SELECT 1 FROM t WHERE v IS NULL';"
        "CREATE FUNCTION other() RETURNS int LANGUAGE sql AS 'SELECT 2'"
    )
    stops = plan_column(facts).stops
    assert has(stops, "the view w may show sealed values, and so do reports")
    assert has(stops, "the materialized view m keeps its own copy in clear until it is refreshed")
    assert has(stops, "the function report names it")
    assert not has(stops, "view x")
    assert not has(stops, "other")


def test_mariadb_tells_what_reads_the_column(mariadb: Look) -> None:
    facts = mariadb(
        "CREATE TABLE t (id INT PRIMARY KEY, v TEXT);CREATE VIEW w AS SELECT v FROM t;"
        "CREATE PROCEDURE report() SELECT v FROM t"
    )
    stops = plan_column(facts).stops
    assert has(stops, "the view w may show sealed values")
    assert has(stops, "the procedure report names it")


def test_what_counts_columns_is_told_where_a_token_column_is_added(lite: Look, mariadb: Look) -> None:
    facts = lite(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); CREATE TABLE o (id INTEGER PRIMARY KEY);"
        "CREATE TRIGGER adds AFTER INSERT ON o BEGIN INSERT INTO t VALUES (NEW.id, 'x'); END;"
        "CREATE TRIGGER keeps AFTER DELETE ON o BEGIN INSERT INTO o SELECT * FROM t; END;"
    )
    assert not has(plan_column(facts).stops, "INSERT without"), "without an index nothing is added"
    indexed = Column(at="t.v", id=1, protect=Protect.ENCRYPT, index="exact")
    stops = plan_column(replace(facts, column=indexed)).stops
    assert has(stops, "INSERT without the names of the columns of t fails from then on: name them")
    assert has(stops, "the trigger adds on o inserts into t so, and will fail with whatever fires it; name the columns")
    assert has(stops, "the trigger keeps on o inserts whole rows of t elsewhere, and will fail")
    assert has(stops, "SELECT * of t gives a token column more")
    facts = mariadb("CREATE TABLE t (id INT PRIMARY KEY, v TEXT)")
    stops = plan_column(replace(facts, column=indexed)).stops
    assert not has(stops, "INSERT without"), "the token column is invisible there"


def test_a_binlog_of_statements_is_told(mariadb: Look) -> None:
    facts = mariadb("CREATE TABLE t (id INT PRIMARY KEY, v TEXT)")
    assert not has(plan_column(facts).notes, "binlog_format")
    notes = plan_column(replace(facts, locks_gaps=True)).notes
    assert has(notes, "binlog_format = STATEMENT lets guard write at REPEATABLE READ only")


def test_what_cannot_be_looked_at_is_in_the_plan(mariadb: Look) -> None:
    facts = mariadb("CREATE TABLE t (id INT PRIMARY KEY, v TEXT)")
    hidden = "3 functions and procedures, and those it is not told of (GRANT SELECT ON mysql.proc)"
    plan = plan_column(replace(facts, programs=Programs((), (hidden,))))
    assert plan.unseen == (hidden,)
    assert f"  unseen:  could not look at {hidden}" in SealPlan((plan,)).lines


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("varchar(60)", "its type character varying(60) becomes text: the schema alone, under an exclusive lock"),
        ("char(9)", "its type character(9) becomes text: the whole table"),
        ("date", "its type date becomes text: the whole table"),
        ("numeric(9,2)", "its type numeric(9,2) becomes text: the whole table"),
    ],
)
def test_what_becomes_of_a_type_in_postgresql(postgres: Look, kind: str, says: str) -> None:
    plan = plan_column(postgres(f"CREATE TABLE t (id int PRIMARY KEY, v {kind})"))
    assert plan.refusals == ()
    assert has(plan.does, says), plan.does
    assert plan.widen
    assert has(plan.does, "nobody reads or writes it") == (kind != "varchar(60)")


@pytest.mark.parametrize("kind", ["text", "bytea", "varchar"])
def test_types_that_take_sealed_values_stay(postgres: Look, kind: str) -> None:
    plan = plan_column(postgres(f"CREATE TABLE t (id int PRIMARY KEY, v {kind} NOT NULL)"))
    assert (plan.refusals, plan.widen) == ((), None)
    assert has(plan.does, "NOT NULL stays")


def test_what_becomes_of_a_type_in_mariadb(mariadb: Look) -> None:
    facts = mariadb("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(60), d DATE, b LONGTEXT COLLATE utf8mb4_bin)")
    plan = plan_column(facts)
    assert plan.refusals == ()
    assert plan.widen is not None
    assert plan.widen.startswith("varchar(60)")
    assert has(
        plan.does, "one for sealed values of up to 386 characters, compared byte by byte: the whole table (16.0 KiB)"
    )


def test_numbers_and_dates_are_no_longer_calculated_with(lite: Look) -> None:
    facts = lite("CREATE TABLE t (id INTEGER PRIMARY KEY, v NUMERIC(9,2)); INSERT INTO t VALUES (1, 12.5)")
    plan = plan_column(facts)
    assert has(plan.stops, "the database does not calculate with it any more")
    assert has(plan.does, "it is declared NUMERIC(9,2); each value keeps its own type within the seal")
    assert has(plan.does, "is not enforced by SQLite")


# Whose data ----------------------------------------------------------------------------------------------------------

PEOPLE = """
CREATE TABLE c (id INTEGER PRIMARY KEY); INSERT INTO c VALUES (1), (2);
CREATE TABLE t (id INTEGER PRIMARY KEY, c INTEGER REFERENCES c (id) ON DELETE SET NULL, v TEXT);
INSERT INTO t VALUES (1, 1, 'a'), (2, NULL, 'b'), (3, 9, 'c');
"""
OWNED = Column(at="t.v", id=1, protect=Protect.ENCRYPT, bind="subject", class_="account")
WHOSE = Catalog(subject={"customer": Subject(table="c", key="id")}, column=(OWNED,))


def test_rows_without_a_person_are_counted_and_refused(lite: Look) -> None:
    facts = lite(PEOPLE, OWNED, WHOSE)
    assert facts.person is not None
    assert (facts.person.kind, facts.person.missing) == ("customer", 2)
    plan = plan_column(facts)
    assert has(plan.refusals, "2 of its rows lead to no customer, so there is no key to seal them under")
    assert has(plan.stops, "when its c goes, c becomes another (SET NULL): the value does not open any more")
    whole = plan_column(replace(facts, person=replace(facts.person, missing=0)))
    assert whole.refusals == ()
    assert has(whole.does, "under the key of its customer and the class account")


def test_without_a_way_to_a_person_or_a_vault_it_is_refused(lite: Look) -> None:
    nobody = lite(PEOPLE, OWNED, Catalog(column=(OWNED,)), outside=Outside(lambda: ("two mirrors are needed",)))
    reasons = plan_column(nobody).refusals
    assert has(reasons, "nothing leads from t to a person of the catalog")
    assert has(reasons, "needs the vault of epoch keys: two mirrors are needed")


def test_what_the_catalog_finds_people_by_stays_in_clear(lite: Look) -> None:
    catalog = Catalog(link=(Link(from_="t.v", to="c.id"),), column=(COLUMN,))
    assert has(plan_column(lite(PEOPLE, COLUMN, catalog)).refusals, "the catalog finds people by it (link[1])")


def test_a_tight_column_is_weighed_against_its_keys_budget(lite: Look) -> None:
    tight = Column(at="t.v", id=1, protect=Protect.ENCRYPT, tight=True)
    facts = lite(PLAIN + ROWS, tight, budget=lambda _: 2)
    plan = plan_column(facts)
    assert plan.refusals == ()
    assert has(plan.notes, "its key may seal 2 more values")
    assert has(plan.does, "AES-256-GCM, each value bound to its row")
    assert plan.grows < plan_column(lite(PLAIN + ROWS)).grows
    assert has(plan_column(replace(facts, budget=1)).refusals, "its key may seal only 1 more values; guard keys rotate")


def test_a_tight_column_is_not_sealed_under_keys_of_persons(lite: Look) -> None:
    facts = lite(PEOPLE, msgspec.structs.replace(OWNED, tight=True), WHOSE)
    whole = plan_column(replace(facts, person=replace(facts.person, missing=0)))
    assert has(whole.refusals, "it is tight, but keys of persons seal with XAES only")


# What was begun -------------------------------------------------------------------------------------------------------


def test_what_was_begun_otherwise_is_refused_with_the_way_on(lite: Look) -> None:
    facts = lite(PLAIN + ROWS)
    record = Record(1, "t.v", Stage.SEALED, "row", ("id",), None, 7, NOW)

    def reasons(**changes: object) -> tuple[str, ...]:
        return plan_column(replace(facts, record=replace(record, **changes))).refusals

    assert reasons() == ()
    assert has(reasons(stage=Stage.OPENING), "run guard fields decrypt again to finish that first")
    assert has(reasons(binding="column"), "it was sealed with bind = column; decrypt it before changing that")
    assert has(reasons(key_columns=("number",)), "guard fields rebind t binds them to the one it has")
    assert reasons(stage=Stage.PLAIN, binding="column", key_columns=("number",)) == ()


def test_a_catalog_that_was_not_accepted_is_refused(lite: Look) -> None:
    [reason] = plan_column(lite(PLAIN, Column(at="t.v", protect=Protect.ENCRYPT))).refusals
    assert reason == "it has no id yet; accept the catalog first: guard data accept"


# The whole -----------------------------------------------------------------------------------------------------------


def facts_of(lite: Look, **changes: object) -> Facts:
    return replace(lite(PLAIN + ROWS), **changes)


def test_a_plan_says_what_is_done_in_order_and_about_how_long(lite: Look) -> None:
    facts = facts_of(lite, seals=timedelta(microseconds=4), size=Size(300_000_000, 50_000_000, 9), dialect="postgresql")
    facts = replace(facts, counts=replace(facts.counts, plain=2_000_000, size=40_000_000, longest=40))
    plan = plan_of([facts], Around(disk=Disk(Path("/data"), 10**12)), NOW)
    assert plan.takes == 2_000_000 * timedelta(microseconds=42)
    assert [step.split()[0] for step in plan.steps] == ["seal", "look", "then", "then"]
    assert plan.steps[0].startswith("seal 2000000 values column by column")
    assert "about 84 s with one worker" in plan.steps[0]
    assert "VACUUM FULL" in plan.steps[-1]
    assert plan.space is not None
    assert plan.space.grows == 2_000_000 * (sealed_size(20) - 20)
    assert plan.space.finalize == 350_000_000 + plan.space.grows
    assert "Takes about 84 s: an estimate" in "\n".join(plan.lines)
    assert not plan.refused


def test_filling_in_tokens_has_its_place_its_time_and_its_room(lite: Look) -> None:
    column = indexed("email")
    facts = facts_of(lite, column=column, seals=timedelta(microseconds=4), dialect="postgresql")
    facts = replace(facts, size=Size(300_000_000, 50_000_000, 9))
    added = replace(
        facts,
        record=Record(1, "t.v", Stage.STRICT, "row", ("id",), None, 1, NOW),
        counts=replace(facts.counts, rows=1_000_000, plain=0, sealed=1_000_000),
    )
    plan = plan_of([added], Around(disk=Disk(Path("/data"), 10**12)), NOW)
    assert [step.split()[0] for step in plan.steps] == ["add", "then"]
    assert "fill in those of 1000000 values: about 42 s with one worker" in plan.steps[0]
    assert plan.lines[0] == "t.v: seal 0 of 1000000 rows (0 NULL, 1000000 sealed already); fill in tokens of 1000000"
    assert plan.takes == 1_000_000 * timedelta(microseconds=42)
    assert plan.space is not None
    assert (plan.space.grows, plan.space.meanwhile) == (40_000_000, 300_000_000)

    filled = plan_of([replace(added, filled=True)], Around(), NOW)
    assert [step.split()[0] for step in filled.steps] == ["seal", "look", "then", "then"]
    assert (filled.takes, filled.columns[0].grows, filled.columns[0].fill) == (timedelta(), 0, 0)

    change = Change("character varying(60)", "text", copies=False)
    fresh = replace(facts, change=change, counts=replace(facts.counts, plain=2_000_000, size=40_000_000, longest=40))
    both = plan_of([fresh], Around(), NOW, [BACKUP])
    assert [step.split()[0] for step in both.steps] == ["back", "add", "change", "seal", "look", "then", "then"]
    assert both.missing == ()
    assert "about 84 s with one worker; then index them" in both.steps[1]
    assert "about 84 s with one worker" in both.steps[3]


def test_a_disk_that_is_too_small_is_refused_and_one_too_small_to_finish_is_noted(lite: Look) -> None:
    facts = facts_of(lite, size=Size(300_000, 50_000, 9), dialect="postgresql")
    small = plan_of([facts], Around(disk=Disk(Path("/data"), 1000)), NOW)
    assert small.refused
    assert small.reasons == (
        f"sealing takes about {amount(300_000 + small.columns[0].grows)} on /data, where 1000 B are free",
    )
    with pytest.raises(InterlockError, match="where 1000 B are free"):
        small.require()
    tight = plan_of([facts], Around(disk=Disk(Path("/data"), 320_000)), NOW)
    assert not tight.refused
    assert "  note:    that is too little for guard fields finalize" in tight.lines
    unknown = plan_of([facts], Around(), NOW)
    assert not unknown.refused
    assert any("what is free is unknown" in line for line in unknown.lines)


def test_sqlite_needs_twice_its_file_to_finish(lite: Look) -> None:
    facts = facts_of(lite)
    plan = plan_of([facts], Around(database=5_000_000, disk=Disk(Path("/srv"), 10**9)), NOW)
    assert plan.space is not None
    assert plan.space.finalize == 2 * (5_000_000 + plan.columns[0].grows)
    assert "VACUUM" in plan.steps[-1]


@pytest.mark.parametrize(
    ("age", "says"),
    [(timedelta(hours=3), "3 h 0 min old"), (timedelta(days=9), "9 days old"), (timedelta(minutes=5), "5 min old")],
)
def test_the_age_of_the_last_backup_is_said(lite: Look, age: timedelta, says: str) -> None:
    plan = plan_of([facts_of(lite)], Around(backed_up=NOW - age), NOW)
    assert plan.backed_up == NOW - age
    assert any(line.startswith("Backup: the newest one") and line.endswith(says) for line in plan.lines)
    none = plan_of([facts_of(lite)], Around(backup="there is none"), NOW)
    assert "Backup: there is none" in none.lines


def test_each_column_is_one_block_in_one_order() -> None:
    plan = ColumnPlan("t.v", 1, 3, 2, 0, 1, 9, None, timedelta(), ("seals",), ("LIKE",), ("why",), ("a note",))
    whole = SealPlan((plan,), ("a recovery kit",))
    assert whole.lines == (
        "t.v: seal 2 of 3 rows (1 NULL, 0 sealed already)",
        "  does:    seals",
        "  stops:   LIKE",
        "  refused: why",
        "  note:    a note",
        "missing: a recovery kit",
    )
    with pytest.raises(InterlockError, match=r"t\.v: why"):
        whole.require()


def test_what_is_missing_stands_last_and_is_required() -> None:
    with pytest.raises(InterlockError, match="missing: a recovery kit"):
        SealPlan((), ("a recovery kit",)).require()


def test_wrong_names_get_the_nearest() -> None:
    catalog = Catalog(
        column=(Column(at="Customer.Email", id=1, protect=Protect.ENCRYPT), Column(at="Customer.City", id=2))
    )
    assert [column.at for column in chosen(catalog, ())] == ["Customer.Email"]
    for wrong, hint in (
        ("Customer.Emial", "did you mean Customer.Email?"),
        ("customer.email", "did you mean Customer.Email?"),
        ("Customer", "its columns to be sealed: Customer.Email"),
        ("Nowhere.Atall", "guard data catalog"),
        ("Customer.City", "write it in policies/catalog.toml"),
    ):
        with pytest.raises(ConfigError) as refused:
            chosen(catalog, (wrong,))
        assert hint in str(refused.value.hint)
    with pytest.raises(ConfigError, match="no column with protect"):
        chosen(Catalog(), ())


def test_sizes_and_durations_are_said_for_people() -> None:
    said = [about(timedelta(seconds=each)) for each in (0.2, 40, 700, 12_000, 200_000)]
    assert said == ["less than a second", "about 40 s", "about 12 min", "about 3 h 20 min", "about 56 h"]
    assert [amount(each) for each in (7, 5000, 3 << 30)] == ["7 B", "4.9 KiB", "3.0 GiB"]
    assert sealed_size(5, binary=True) == 54
    assert sealed_size(5, tight=True) == 3 + 54


# Through the facade ---------------------------------------------------------------------------------------------------


def test_the_facade_plans_what_it_is_asked_for(chinook_pg) -> None:
    plan = chinook_pg.fields.plan(["customer.fax"])
    [column] = plan.columns
    assert (column.rows, column.seal, column.nulls, column.sealed) == (59, 12, 47, 0)
    assert column.widen == "character varying(24)"
    assert column.grows == 12 * (sealed_size(18) - 18) or column.grows > 12 * 60
    assert plan.lines[0] == "customer.fax: seal 12 of 59 rows (47 NULL, 0 sealed already)"
    assert not plan.refused
    with pytest.raises(ConfigError, match=r"customer\.fxa is not in the catalog"):
        chinook_pg.fields.plan(["customer.fxa"])


def test_what_is_refused_is_not_begun(small: Callable) -> None:
    bench = small(UNIQUE + ROWS, "t.v")
    before = bench.rows()
    with pytest.raises(InterlockError, match=r"t\.v: the unique index"):
        bench.seal()
    assert bench.rows() == before


def test_the_size_of_a_sealed_value_is_known(chinook) -> None:
    plain = [len(str(row[11]).encode()) for row in chinook.rows()["Customer"]]
    chinook.seal("Customer.Email")
    sizes = chinook.ask("SELECT length(Email) FROM Customer ORDER BY CustomerId")
    assert sizes == [sealed_size(size) for size in plain]


def test_sealing_waits_for_a_recovery_kit_and_a_backup(make: Callable, chinook_file: Path) -> None:
    bench = make(f"sqlite:///{chinook_file}", "Customer.Email", missing=[KIT, BACKUP])
    before = bench.rows()
    plan = bench.fields.plan()
    assert plan.missing == ("a recovery kit: guard keys recovery make",)
    assert plan.lines[-1] == "missing: a recovery kit: guard keys recovery make"
    with pytest.raises(InterlockError, match="missing: a recovery kit"):
        bench.seal()
    assert bench.rows() == before


def test_a_key_made_just_now_is_not_in_the_backup(chinook, keyring: Keyring) -> None:
    """What is missing is asked again once the column's key exists."""
    asked: list[int] = []

    def lacks() -> tuple[Lack, ...]:
        asked.append(len(keyring.list()))
        return (BACKUP,) if len(asked) > 1 else ()

    fields = replace(chinook.fields, lacks=lacks)
    with pytest.raises(InterlockError, match="missing: a backup of state"):
        fields.encrypt(fields.plan(), "0" * 32)
    assert asked[1] == asked[0] + 6
    assert fields.prepare() == ()
    assert chinook.ask("SELECT count(*) FROM Customer WHERE Email LIKE 'g1.%'") == [0]


def test_what_is_sealed_already_is_opened_to_be_counted(small: Callable) -> None:
    bench = small(PLAIN + "INSERT INTO t VALUES (1, 'a@b.de'), (2, 'A@B.de'), (3, 'c@d.de'), (4, NULL)", "t.v")
    bench.seal()
    with_index = replace(bench.fields, catalog=Catalog(column=(indexed("email"),)))
    [record] = bench.fields.records()
    sight = Sight(
        bench.fields.shop, with_index.catalog, {1: record}, SystemClock(), cell=bench.fields._tools().keys.cell
    )
    spread = look(sight, indexed("email")).spread
    assert spread is not None
    assert (spread.values, spread.falling) == (3, 1)
    assert with_index.plan().columns[0].refusals == ()
    other = look(replace(sight, searched={1: "email"}), indexed("name"))
    assert has(plan_column(other).refusals, 'it is searched by index = "email" now; decrypt it before that changes')


def test_a_way_that_may_lead_to_several_people_is_refused(lite: Look) -> None:
    script = (
        "CREATE TABLE c (id INTEGER PRIMARY KEY, code TEXT); CREATE TABLE t (id INTEGER PRIMARY KEY, who TEXT, v TEXT)"
    )
    catalog = Catalog(
        subject={"customer": Subject(table="c", key="id")}, link=(Link(from_="t.who", to="c.code"),), column=(OWNED,)
    )
    says = "c by code may lead to several rows, but a value is sealed for one person"
    assert has(plan_column(lite(script, OWNED, catalog)).refusals, says)
    unique = script.replace("code TEXT", "code TEXT UNIQUE")
    assert plan_column(lite(unique, OWNED, catalog)).refusals == ()


def test_where_else_old_values_lie_is_named(postgres_url: str, sight: Callable[..., Sight]) -> None:
    run_postgres(postgres_url, "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')")
    run_postgres(postgres_url, "SELECT pg_create_physical_replication_slot('guard_test_copy', true)")
    try:
        plan = seal_plan(sight(postgres_url, Catalog(column=(COLUMN,))), (), ())
    finally:
        run_postgres(postgres_url, "SELECT pg_drop_replication_slot('guard_test_copy')")
    assert any(each.kind is Kind.SLOT and "guard_test_copy" in each.place for each in plan.remains)
    assert any(line.startswith("  replication slot: guard_test_copy") for line in plan.lines)
    assert plan.space is not None
    assert plan.space.free
    assert not plan.refused


@pytest.mark.parametrize("database", ["postgres_url", "mariadb_url"])
def test_the_disk_of_a_server_on_this_host_is_looked_at(request: pytest.FixtureRequest, database: str) -> None:
    url = request.getfixturevalue(database)
    shop = Shop.connect(url)
    found = disk(shop)
    assert found is not None
    assert found.free > 0
    assert file_size(shop) is None
    shop.close()


def test_a_server_elsewhere_tells_no_disk(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"")
    shop = Shop.connect(f"sqlite:///{tmp_path}/a.db")
    found = disk(shop)
    assert found is not None
    assert found.folder == tmp_path
    assert file_size(shop) == 0
    away = Shop(shop.engine.execution_options(), "postgresql", "public", "db.example.org/shop")
    away.engine = sa.create_engine("postgresql+psycopg://db.example.org/shop")
    assert disk(away) is None
    shop.close()
