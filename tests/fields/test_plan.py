"""What the plan refuses, what it warns of, and what it says sealing will do."""

from collections.abc import Callable

import psycopg
import pytest

from guard.config import Catalog, Column, Protect
from guard.crypto.keyring import Keyring
from guard.errors import ConfigError, InterlockError
from guard.fields.plan import Counts, Facts, plan_column, sealed_size
from guard.shop import ShopColumn, Table
from guard.shop.catalog import Sort

ROW = "INSERT INTO t (id, v) VALUES (1, 'one'), (2, 'two');"


PLAIN = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT);"
UNIQUE = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT UNIQUE);"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("CREATE TABLE t (id INTEGER, v TEXT);", "no primary key; guard cannot name its rows"),
        ("CREATE TABLE t (id REAL PRIMARY KEY, v TEXT);", "does not name a row exactly"),
        ("CREATE TABLE t (id TEXT COLLATE NOCASE PRIMARY KEY, v TEXT);", "does not tell upper from lower case"),
        ("CREATE TABLE t (id INTEGER, v TEXT, PRIMARY KEY (id, v));", "part of the primary key"),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT REFERENCES o (k));" + "CREATE TABLE o (k TEXT);", "key to o"),
        (UNIQUE, "needs a blind index"),
        (PLAIN + "CREATE UNIQUE INDEX u ON t (lower(v));", "the unique index u"),
        (UNIQUE + "CREATE TABLE o (r TEXT REFERENCES t (v));", "o refers to it"),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT CHECK (v <> ''));", "would test sealed values"),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, w TEXT AS (lower(v)));", "the generated column w"),
        (
            PLAIN + "CREATE TABLE log (v TEXT);"
            "CREATE TRIGGER keep AFTER UPDATE ON t BEGIN INSERT INTO log VALUES (OLD.v); END;",
            "the trigger keep works with it on update",
        ),
    ],
)
def test_schemas_that_sealing_would_break_are_refused(small: Callable, script: str, says: str) -> None:
    bench = small(script + ROW, "t.v")
    before = bench.rows()
    [plan] = bench.fields.plan().columns
    assert any(says in reason for reason in plan.refusals), plan.refusals
    with pytest.raises(InterlockError, match=r"t\.v: "):
        bench.seal()
    assert bench.rows() == before


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("CREATE INDEX i ON t (v);", "the index i finds nothing any more"),
        ("CREATE VIEW names AS SELECT v FROM t;", "the view names may show sealed values"),
        ("CREATE TRIGGER made AFTER INSERT ON t BEGIN SELECT NEW.v; END;", "the trigger made works with it"),
        ("CREATE TRIGGER seen AFTER UPDATE ON t BEGIN SELECT 1; END;", "the trigger seen runs for each row"),
    ],
)
def test_what_stops_working_is_said_but_not_refused(small: Callable, script: str, says: str) -> None:
    bench = small("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT);" + script + ROW, "t.v")
    [plan] = bench.fields.plan().columns
    assert plan.refusals == ()
    assert any(says in warning for warning in plan.warnings), plan.warnings


def test_values_that_are_no_text_are_counted_and_refused(small: Callable) -> None:
    bench = small(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 5), (2, x'00'), (3, 'a')", "t.v"
    )
    [plan] = bench.fields.plan().columns
    assert "2 of its values are not text; only text can be sealed" in plan.refusals


def test_rows_without_a_key_are_refused(small: Callable) -> None:
    bench = small("CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT); INSERT INTO t VALUES (NULL, 'a'), ('b', 'b')", "t.v")
    [plan] = bench.fields.plan().columns
    assert "1 rows have NULL in their primary key; guard cannot name them" in plan.refusals


def test_values_that_look_sealed_but_are_not_ours_are_refused(small: Callable) -> None:
    bench = small("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'g1.abc')", "t.v")
    [plan] = bench.fields.plan().columns
    assert any("guard did not seal them" in reason for reason in plan.refusals)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("CREATE TABLE t (id int PRIMARY KEY, v integer)", "it is a integer; only text columns"),
        ("CREATE TABLE t (id int PRIMARY KEY, v bytea)", "it is a bytea; only text columns"),
        ("CREATE TABLE t (id int PRIMARY KEY, v varchar(9)); CREATE VIEW w AS SELECT v FROM t", "the view w reads it"),
        ("CREATE TABLE t (id int PRIMARY KEY, v varchar(9) UNIQUE)", "needs a blind index"),
        ("CREATE TABLE t (id int PRIMARY KEY, v text CHECK (v <> ''))", "would test sealed values"),
        ("CREATE TABLE t (id int PRIMARY KEY, v text, w text GENERATED ALWAYS AS (lower(v)) STORED)", "column w is"),
        ("CREATE TABLE t (id int, v text) PARTITION BY LIST (id)", "partitioned or inherits"),
        ("CREATE DOMAIN d AS text; CREATE TABLE t (id int PRIMARY KEY, v d)", "it is a d; only text columns"),
        (
            "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, repeat(md5('x'), 70));"
            "CREATE INDEX i ON t (v)",
            "would not fit into the index i",
        ),
    ],
)  # fmt: skip
def test_postgresql_schemas_that_sealing_would_break_are_refused(
    make: Callable, postgres_url: str, script: str, says: str
) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute(script)
    [plan] = make(postgres_url, "t.v").fields.plan().columns
    assert any(says in reason for reason in plan.refusals), plan.refusals


def test_a_plan_says_what_will_be_done(chinook_pg) -> None:
    plan = chinook_pg.fields.plan(["customer.fax"])
    [column] = plan.columns
    assert (column.rows, column.seal, column.nulls, column.sealed) == (59, 12, 47, 0)
    assert column.widen == "character varying(24)"
    assert column.grows == 12 * (sealed_size(18) - 18) or column.grows > 12 * 60
    assert plan.lines[0] == "customer.fax: seal 12 of 59 rows (47 NULL, 0 sealed already)"
    assert not plan.refused


def test_the_size_of_a_sealed_value_is_known(chinook) -> None:
    chinook.seal("Customer.Email")
    chinook.fields.shop.tables(fresh=True)
    sizes = chinook.ask("SELECT length(Email) FROM Customer ORDER BY CustomerId")
    plain = [len(str(row[11]).encode()) for row in _opened(chinook)]
    assert sizes == [sealed_size(size) for size in plain]


def _opened(bench) -> list[tuple[object, ...]]:
    bench.unseal("Customer.Email")
    return bench.rows()["Customer"]


def test_sealing_waits_for_a_recovery_kit_and_a_backup(make: Callable, chinook_file) -> None:
    bench = make(f"sqlite:///{chinook_file}", "Customer.Email", missing=["a recovery kit", "a backup of state"])
    before = bench.rows()
    plan = bench.fields.plan()
    assert plan.missing == ("a recovery kit", "a backup of state")
    assert plan.lines[-1] == "missing: a backup of state"
    with pytest.raises(InterlockError, match="missing: a recovery kit"):
        bench.seal()
    assert bench.rows() == before


def test_a_key_made_just_now_is_not_in_the_backup(chinook, keyring: Keyring) -> None:
    """What `ready` says is asked again once the column's key exists."""
    asked: list[int] = []

    def ready() -> tuple[str, ...]:
        asked.append(len(keyring.list()))
        return ("a backup of state",) if len(asked) > 1 else ()

    fields = type(chinook.fields)(
        chinook.fields.shop, chinook.fields.catalog, keyring, chinook.fields.state, chinook.fields.clock, ready
    )
    with pytest.raises(InterlockError, match="missing: a backup of state"):
        fields.encrypt(fields.plan(), "0" * 32)
    assert asked[1] == asked[0] + 6
    assert fields.prepare() == ()
    assert chinook.ask("SELECT count(*) FROM Customer WHERE Email LIKE 'g1.%'") == [0]


def test_columns_must_be_known_accepted_and_wanted(chinook) -> None:
    with pytest.raises(ConfigError, match=r"Customer\.City is not in the catalog"):
        chinook.fields.plan(["Customer.City"])
    with pytest.raises(ConfigError, match=r"Customer\.Email is not sealed"):
        chinook.fields.decrypt(["Customer.Email"], "0" * 32)


def test_a_subject_binding_is_refused_in_words(make: Callable, chinook_file) -> None:
    [plan] = make(f"sqlite:///{chinook_file}", "Customer.Email", bind="subject").fields.plan().columns
    assert any("needs the vault of epoch keys" in reason for reason in plan.refusals)


def test_a_catalog_that_was_not_accepted_is_refused() -> None:
    [reason, *_] = plan_column(_facts(Column(at="t.v", protect=Protect.ENCRYPT))).refusals
    assert reason == "it has no id yet; accept the catalog first: guard data accept"


def test_mysql_is_refused_in_words() -> None:
    facts = _facts(Column(at="t.v", id=1, protect=Protect.ENCRYPT), dialect="mysql")
    assert plan_column(facts).refusals == ("sealing on MariaDB and MySQL is not built yet",)


def test_an_empty_catalog_wants_nothing(chinook) -> None:
    fields = chinook.fields
    empty = type(fields)(fields.shop, Catalog(), fields.keyring, fields.state, fields.clock, tuple)
    with pytest.raises(ConfigError, match="no column with protect"):
        empty.plan()
    assert empty.status() == ()


def _facts(column: Column, dialect: str = "sqlite") -> Facts:
    columns = (ShopColumn("id", "INTEGER", Sort.INTEGER), ShopColumn("v", "TEXT", Sort.TEXT))
    return Facts(column, Table("t", columns, ("id",)), dialect, Counts(1, 0, 1, 0, size=5, longest=5))
