"""Types make room for sealed values, and come back word for word with every value, default, comment and index."""

import itertools
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pymysql
import pytest
from sqlalchemy import event
from sqlalchemy.engine import make_url

from guard.errors import BusyError, GuardError, InterlockError
from guard.shop import Shop, alter
from guard.shop.catalog import Sort
from guard.shop.connect import Patience

ODD = 'We"ird `T` 100%'

PG_TYPES = {
    "varchar(60) NOT NULL DEFAULT 'it''s'": ["'Änna'", "''"],
    'varchar(60) COLLATE "C"': ["'b'", "NULL"],
    "char(5)": ["'ab'", "'abcde'"],
    "integer DEFAULT 7": ["-5", "2147483647", "NULL"],
    "bigint": ["9223372036854775807"],
    "numeric(12, 4) DEFAULT 1.50": ["12.5", "-0.0001", "'NaN'"],
    "numeric": ["12.50", "1e-20", "123456789012345678901234567890.5"],
    "real": ["0.1", "3.4e38"],
    "double precision": ["0.1::float8 + 0.2", "'-Infinity'"],
    "boolean DEFAULT false": ["true", "false"],
    "date": ["'2024-02-29'", "'0044-03-15 BC'", "'infinity'"],
    "timestamp(3)": ["'2026-11-22 20:39:00.125'"],
    "timestamp with time zone DEFAULT now()": ["'2026-11-22 20:39:00.125+05'"],
    "time": ["'23:59:59.999999'"],
    "interval": ["'1 year 2 mons 3 days 04:05:06.7'"],
    "uuid": ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"],
    "json": ['\'{"b": 1,  "a": [1,2]}\''],
    "jsonb DEFAULT '{}'": ['\'{"b": 1, "a": [1, 2]}\''],
    "inet": ["'192.168.0.1/24'"],
    "text[]": ["ARRAY['a', 'b,c', NULL, '\"']"],
    "mood": ["'so so'", "'it''s'"],
    "mail DEFAULT 'x@y'": ["'anna@example.org'"],
    '"Odd Type"': ["'b'"],
}
PG_SETUP = """
CREATE TYPE mood AS ENUM ('so so', 'it''s');
CREATE TYPE "Odd Type" AS ENUM ('a', 'b');
CREATE DOMAIN mail AS varchar(40) CHECK (VALUE LIKE '%@%')
"""

MARIADB_TYPES = {
    "VARCHAR(60) NOT NULL DEFAULT 'it''s, (x)' COMMENT 'a, ''b'' \n `c`'": ["'Änna'", "'ANNA '"],
    "VARCHAR(255) CHARACTER SET latin1 COLLATE latin1_german1_ci": ["'Ä'", "NULL"],
    "CHAR(5) COLLATE utf8mb4_unicode_ci": ["'ab'", "'abcde'"],
    "TINYTEXT": ["'x'"],
    "TEXT NOT NULL DEFAULT 'x'": ["'y'"],
    "MEDIUMTEXT COLLATE utf8mb4_bin COMMENT 'kept'": ["'y'"],
    "VARCHAR(100) COMPRESSED INVISIBLE": ["'y'"],
    "INT UNSIGNED DEFAULT 7": ["4294967295", "NULL"],
    "INT(6) ZEROFILL": ["42"],
    "TINYINT(1) DEFAULT 1": ["0", "1"],
    "DECIMAL(12,4) DEFAULT 1.5": ["12.5", "-0.0001"],
    "DOUBLE": ["0.1e0 + 0.2e0", "1.7976931348623157e308", "5e-324"],
    "DATE": ["'2024-02-29'", "'0000-00-00'"],
    "DATETIME(6) DEFAULT '2020-01-02 03:04:05'": ["'2026-11-22 20:39:00.000125'"],
    "TIMESTAMP NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp()": ["'2026-11-22 20:39:00'"],
    "TIMESTAMP(3) NULL": ["'2026-11-22 20:39:00.125'", "NULL"],
    "TIME": ["'-12:30:00'"],
    "YEAR DEFAULT 2020": ["1999"],
    "ENUM('a,b', 'c''d (e)', 'ü') DEFAULT 'ü'": ["'ü'", "'c''d (e)'"],
    "SET('a', 'b', 'c')": ["'a,c'", "''"],
    "JSON": ["'{\"b\": 1}'"],
    "UUID": ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"],
    "INET6": ["'2001:db8::1'"],
    "BINARY(5)": ["'ab'", "x'0102030405'"],
    "VARBINARY(20) NOT NULL DEFAULT 'x'": ["x'00ff'"],
    "BLOB": ["x'00ff'"],
}


@pytest.fixture
def pg(empty_pg: Shop, sql) -> Shop:
    for statement in PG_SETUP.strip().split(";\n"):
        sql(empty_pg, statement)
    return empty_pg


def described(shop: Shop) -> object:
    """Return the column x as the database itself describes it, its values, and the table's indexes."""
    with shop.read() as connection:
        if shop.dialect == "mysql":
            create = tuple(connection.exec_driver_sql('SHOW CREATE TABLE `We"ird ``T`` 100%%`').one())[1]
            connection.exec_driver_sql("SET time_zone = '+00:00'")
            rows = connection.exec_driver_sql('SELECT x FROM `We"ird ``T`` 100%%` ORDER BY id').all()
            return create, [tuple(row) for row in rows]
        column = connection.exec_driver_sql(
            "SELECT format_type(atttypid, atttypmod), attnotnull, attcollation, pg_get_expr(adbin, adrelid)"
            " FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
            " WHERE attrelid = '\"We\"\"ird `T` 100%%\"'::regclass AND attname = 'x'"
        ).one()
        rows = connection.exec_driver_sql('SELECT x::text FROM "We""ird `T` 100%%" ORDER BY id').all()
        indexes = connection.exec_driver_sql("SELECT indexdef FROM pg_indexes WHERE tablename = 'We\"ird `T` 100%%'")
        return tuple(column), [tuple(row) for row in rows], sorted(indexes.scalars())


@pytest.mark.parametrize("kind", PG_TYPES)
def test_postgresql_there_and_back(pg: Shop, sql, kind: str) -> None:
    sql(pg, f'CREATE TABLE "We""ird `T` 100%" (id integer PRIMARY KEY, x {kind}, y text)')
    if kind != "json":
        sql(pg, 'CREATE INDEX "an index" ON "We""ird `T` 100%" (x, y)')
    for number, value in enumerate(PG_TYPES[kind]):
        sql(pg, f'INSERT INTO "We""ird `T` 100%" (id, x) VALUES ({number}, {value})')
    before = described(pg)
    table = pg.table(ODD)
    original = alter.original(pg, table, "x")
    assert original is not None
    for _ in range(2):
        alter.widen(pg, table, "x", 5000)
    wide = pg.tables(fresh=True)[ODD].column("x")
    assert (wide.type, wide.sort, wide.folded) == ("text", Sort.TEXT, False)
    assert wide.nullable == table.column("x").nullable
    assert alter.original(pg, table, "x") is None
    [(texts,)] = sql(pg, 'SELECT array_agg(x::text ORDER BY id) FROM "We""ird `T` 100%"')
    assert texts == [text for (text,) in before[1]]
    for _ in range(2):
        assert alter.narrow(pg, pg.table(ODD), "x", original) is None
    assert described(pg) == before


@pytest.mark.parametrize("kind", ["text", "varchar", "bytea"])
def test_postgresql_leaves_what_has_room(pg: Shop, sql, kind: str) -> None:
    sql(pg, f'CREATE TABLE "We""ird `T` 100%" (id integer PRIMARY KEY, x {kind})')
    assert alter.original(pg, pg.table(ODD), "x") is None
    before = described(pg)
    alter.widen(pg, pg.table(ODD), "x", 5000)
    assert described(pg) == before


@pytest.mark.parametrize("kind", MARIADB_TYPES)
def test_mariadb_there_and_back(empty_mariadb: Shop, sql, kind: str) -> None:
    shop = empty_mariadb
    index = "" if re.search("TEXT|JSON|BLOB|COMPRESSED", kind) else ", KEY `an index` (x, y), UNIQUE (x)"
    sql(
        shop,
        f'CREATE TABLE `We"ird ``T`` 100%` (id INT PRIMARY KEY, x {kind}, y INT{index}) COLLATE utf8mb4_swedish_ci',
    )
    sql(shop, "SET sql_mode = ''")
    for number, value in enumerate(MARIADB_TYPES[kind]):
        with shop.begin() as connection:
            connection.exec_driver_sql("SET sql_mode = '', time_zone = '+00:00'")
            connection.exec_driver_sql(f'INSERT INTO `We"ird ``T`` 100%%` (id, x) VALUES ({number}, {value})')
    before = described(shop)
    table = shop.table(ODD)
    original = alter.original(shop, table, "x")
    assert original is not None
    for _ in range(2):
        alter.widen(shop, table, "x", 400)
    wide = shop.tables(fresh=True)[ODD].column("x")
    assert wide.sort in {Sort.TEXT, Sort.BINARY}
    assert not wide.folded
    sql(shop, f"INSERT INTO `We\"ird ``T`` 100%` (id, x) VALUES (99, '{'g1.' + 'A' * 397}')")
    if alter.original(shop, shop.table(ODD), "x") != original:
        assert alter.narrow(shop, shop.table(ODD), "x", original) == "1 of its values are still sealed"
    sql(shop, 'DELETE FROM `We"ird ``T`` 100%` WHERE id = 99')
    for _ in range(2):
        assert alter.narrow(shop, shop.table(ODD), "x", original) is None
    assert described(shop) == before


def test_what_does_not_go_back_is_said_in_words(pg: Shop, sql) -> None:
    sql(
        pg,
        'CREATE TABLE "We""ird `T` 100%" (id int PRIMARY KEY, x varchar(5), n integer, m mail, u varchar(5) UNIQUE)',
    )
    table = pg.table(ODD)
    originals = {name: alter.original(pg, table, name) for name in "xnmu"}
    for name in "xnmu":
        alter.widen(pg, table, name, 500)
    sql(pg, "INSERT INTO \"We\"\"ird `T` 100%\" VALUES (1, 'longer than five', '12x', 'nomail', 'g1.AAAA')")
    table = pg.tables(fresh=True)[ODD]
    said = {name: alter.narrow(pg, table, name, originals[name]) for name in "xnmu"}
    assert said == {
        "x": "it holds texts longer than character varying(5)",
        "n": "it holds values that are no integer",
        "m": "it holds values that are no public.mail",
        "u": "1 of its values are still sealed",
    }
    sql(pg, "UPDATE \"We\"\"ird `T` 100%\" SET x = 'five', n = '12', m = 'a@b', u = 'u'")
    sql(pg, 'CREATE VIEW v AS SELECT x FROM "We""ird `T` 100%"')
    assert alter.narrow(pg, table, "x", originals["x"]) == (
        "a view, rule, policy or function of the shop reads it; drop that first"
    )
    sql(pg, "DROP VIEW v")
    sql(pg, "UPDATE \"We\"\"ird `T` 100%\" SET m = 'a@' || repeat('b', 60)")
    assert alter.narrow(pg, table, "m", originals["m"]) == "it holds texts longer than public.mail"
    assert alter.narrow(pg, table, "x", originals["x"]) is None


def test_what_does_not_go_back_on_mariadb_is_said_in_words(empty_mariadb: Shop, sql) -> None:
    shop = empty_mariadb
    sql(shop, 'CREATE TABLE `We"ird ``T`` 100%` (id INT PRIMARY KEY, x VARCHAR(5), n INT, d DATE, u VARCHAR(5) UNIQUE)')
    originals = {name: alter.original(shop, shop.table(ODD), name) for name in "xndu"}
    for name in "xndu":
        alter.widen(shop, shop.table(ODD), name, 500)
    sql(
        shop,
        "INSERT INTO `We\"ird ``T`` 100%` VALUES (1, 'ab        ', '12x', 'never', 'a'), (2, 'g1.A', '', NULL, 'A')",
    )
    said = {name: alter.narrow(shop, shop.table(ODD), name, originals[name]) for name in "xndu"}
    assert said == {
        "x": "1 of its values are still sealed",
        "n": "it holds values that are no int(11)",
        "d": "it holds values that are no date",
        "u": "two of its values are the same as varchar(5), and it is unique",
    }
    sql(shop, 'DELETE FROM `We"ird ``T`` 100%` WHERE id = 2')
    assert "longer than varchar(5)" in alter.narrow(shop, shop.table(ODD), "x", originals["x"])


def test_mariadb_takes_text_types_where_a_row_is_full(empty_mariadb: Shop, sql) -> None:
    shop = empty_mariadb
    columns = "a VARCHAR(9000), b VARCHAR(5000), c VARCHAR(200), d VARCHAR(9)"
    sql(shop, f"CREATE TABLE t (id INT PRIMARY KEY, {columns}, KEY (c), KEY (d, a(9)))")
    before = sql(shop, "SHOW CREATE TABLE t")
    originals = {name: alter.original(shop, shop.table("t"), name) for name in "abcd"}
    alter.widen(shop, shop.table("t"), "b", 6900)
    alter.widen(shop, shop.table("t"), "a", 13000)
    assert [shop.table("t").column(name).type for name in "ab"] == ["text", "varchar(6900)"]
    alter.widen(shop, shop.table("t"), "a", 70000)
    assert shop.table("t").column("a").type == "mediumtext"
    with pytest.raises(InterlockError, match="does not fit into its row or its index") as caught:
        alter.widen(shop, shop.table("t"), "d", 800)
    assert caught.value.hint == "drop the index on it, or shorten what it holds"
    alter.widen(shop, shop.table("t"), "c", 20000)
    assert [alter.narrow(shop, shop.table("t"), name, originals[name]) for name in "bac"] == [None] * 3
    assert sql(shop, "SHOW CREATE TABLE t") == before


def test_what_cannot_be_made_a_text_is_told_before(
    empty_mariadb: Shop, empty_pg: Shop, empty_sqlite: Shop, sql
) -> None:
    sql(
        empty_mariadb,
        "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, f FLOAT, b BIT(4), p POINT, g INT AS (id) VIRTUAL, x INT)",
    )
    sql(empty_pg, "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY, g int GENERATED ALWAYS AS (id) STORED, x int)")
    sql(empty_sqlite, "CREATE TABLE t (id INTEGER PRIMARY KEY, f REAL, x TEXT, b BLOB, a ANY) STRICT")
    assert {
        name: alter.why_not("mysql", empty_mariadb.table("t"), name) for name in ("f", "b", "p", "g", "id", "x")
    } == {
        "f": "it is a float: MariaDB loses digits when it writes one as text; make it a double first",
        "b": "it is a bit(4): MariaDB does not write one as text",
        "p": "it is a point: MariaDB does not write one as text",
        "g": "it is a generated column",
        "id": "the database numbers it itself",
        "x": None,
    }
    assert alter.why_not("postgresql", empty_pg.table("t"), "id") == "the database numbers it itself"
    assert alter.why_not("postgresql", empty_pg.table("t"), "g") == "it is a generated column"
    assert alter.why_not("postgresql", empty_pg.table("t"), "x") is None
    assert [alter.why_not("sqlite", empty_sqlite.table("t"), name) is None for name in "fxba"] == [
        False,
        True,
        True,
        True,
    ]


def test_the_sort_a_column_had_is_told_by_its_original(pg: Shop, empty_mariadb: Shop, sql) -> None:
    wanted = {"integer": Sort.INTEGER, "numeric(8, 2)": Sort.NUMBER, "double precision": Sort.NUMBER,
              "date": Sort.TIME, "timestamp with time zone": Sort.TIME, "boolean DEFAULT true": Sort.BOOLEAN,
              "varchar(5)": Sort.TEXT, "char(3)": Sort.TEXT, "uuid": Sort.OTHER}  # fmt: skip
    for number, (kind, sort) in enumerate(wanted.items()):
        sql(pg, f"CREATE TABLE t{number} (x {kind})")
        assert pg.tables(fresh=True)[f"t{number}"].column("x").sort is sort
        assert alter.sort_of("postgresql", alter.original(pg, pg.table(f"t{number}"), "x")) is sort
    for number, kind in enumerate(
        ["INT UNSIGNED", "DECIMAL(8,2)", "DOUBLE", "DATETIME(6)", "VARCHAR(5)", "UUID", "YEAR"]
    ):
        sql(empty_mariadb, f"CREATE TABLE t{number} (x {kind})")
        sort = empty_mariadb.tables(fresh=True)[f"t{number}"].column("x").sort
        assert alter.sort_of("mysql", alter.original(empty_mariadb, empty_mariadb.table(f"t{number}"), "x")) is sort


@contextmanager
def holding(shop: Shop, url: str) -> Iterator[None]:
    """Hold a lock on the table t from another connection."""
    if shop.dialect == "postgresql":
        with psycopg.connect(url) as other:
            other.execute("SELECT * FROM t")
            yield
    else:
        at = make_url(url)
        with pymysql.connect(host=at.host, port=at.port or 3306, user=at.username, database=at.database) as other:
            other.cursor().execute("UPDATE t SET y = 1")
            yield
            other.rollback()


@pytest.mark.parametrize("which", ["postgres", "mariadb"])
def test_a_lock_of_others_is_waited_for_briefly_and_told(request: pytest.FixtureRequest, sql, which: str) -> None:
    url = request.getfixturevalue(f"{which}_url")
    shop = Shop.connect(url)
    shop.patience = Patience(timedelta(seconds=1), 2, timedelta(milliseconds=10))
    sql(shop, "CREATE TABLE t (id INTEGER PRIMARY KEY, x VARCHAR(5), y INTEGER)")
    sql(shop, "INSERT INTO t VALUES (1, 'a', 0)")
    table = shop.table("t")
    with holding(shop, url):
        for step in (
            lambda: alter.widen(shop, table, "x", 500),
            lambda: alter.add_token(shop, table, "x__guard1"),
        ):
            with pytest.raises(BusyError, match="the table t: others keep it locked") as caught:
                step()
            assert re.search(r"(process|connection) \d+ of (shop|root)", str(caught.value))
    alter.widen(shop, table, "x", 500)
    assert shop.table("t").column("x").type != table.column("x").type
    shop.close()


def test_a_lock_that_is_given_up_in_time_is_had(empty_pg: Shop, postgres_url: str, sql) -> None:
    empty_pg.patience = Patience(timedelta(milliseconds=200), 50, timedelta(milliseconds=20))
    sql(empty_pg, "CREATE TABLE t (id integer PRIMARY KEY, x varchar(5))")
    other = psycopg.connect(postgres_url)
    other.execute("SELECT * FROM t")
    timer = threading.Timer(0.7, other.close)
    timer.start()
    alter.widen(empty_pg, empty_pg.table("t"), "x", 500)
    timer.join()
    assert empty_pg.table("t").column("x").type == "text"


def test_sessions_that_ran_the_triggers_before_go_on_after_the_type_changed(
    empty_pg: Shop, postgres_url: str, sql
) -> None:
    """A session keeps compiled what it ran; without care it would refuse the new type of the column."""
    sql(empty_pg, "CREATE TABLE t (id integer PRIMARY KEY, x integer, y integer)")
    sql(empty_pg, "INSERT INTO t VALUES (1, 5, 0)")
    table = empty_pg.table("t")
    alter.add_token(empty_pg, table, "x__guard1")
    alter.follow(empty_pg, table, "x", ["x__guard1"])
    original = alter.original(empty_pg, table, "x")
    with psycopg.connect(postgres_url, autocommit=True) as session:
        session.execute("UPDATE t SET x = 6")
        alter.widen(empty_pg, table, "x", 500)
        session.execute("UPDATE t SET x = '7', x__guard1 = 'a'")
        session.execute("UPDATE t SET x = 'g1.AAAA', x__guard1 = x__guard1")
        assert session.execute("SELECT x, x__guard1 FROM t").fetchone() == ("g1.AAAA", b"a")
        session.execute("UPDATE t SET x = '8'")
        assert session.execute("SELECT x, x__guard1 FROM t").fetchone() == ("8", None)
        assert alter.narrow(empty_pg, empty_pg.table("t"), "x", original) is None
        session.execute("UPDATE t SET x = 9")
        assert session.execute("SELECT x FROM t").fetchone() == (9,)


def test_an_index_that_was_left_invalid_is_made_again(empty_pg: Shop, sql) -> None:
    sql(empty_pg, "CREATE TABLE t (id integer PRIMARY KEY, x text)")
    table = empty_pg.table("t")
    alter.add_token(empty_pg, table, "x__guard1")
    sql(empty_pg, "INSERT INTO t VALUES (1, 'a', 'a'), (2, 'b', 'a')")
    with pytest.raises(GuardError), empty_pg.bare() as connection:
        connection.exec_driver_sql("CREATE UNIQUE INDEX CONCURRENTLY guard__t_x_1 ON t (x__guard1)")
    state = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'guard__t_x_1'::regclass"
    assert sql(empty_pg, state) == [(False,)]
    sql(empty_pg, "DELETE FROM t WHERE id = 2")
    alter.index_token(empty_pg, table, "x__guard1", unique=True)
    assert sql(empty_pg, state) == [(True,)]


def test_a_kill_while_a_type_changes_leaves_the_old_or_the_new(empty: Shop, sql, fault_points) -> None:
    shop = empty
    sql(shop, "CREATE TABLE t (id INTEGER PRIMARY KEY, x VARCHAR(5) DEFAULT 'a')")
    table = shop.table("t")
    original = alter.original(shop, table, "x")
    if original is None:
        assert shop.dialect == "sqlite"
        return
    for work, wanted in (
        (lambda: alter.widen(shop, table, "x", 500), None),
        (lambda: alter.narrow(shop, shop.table("t"), "x", original), original),
    ):
        shop.close()
        assert fault_points.killed(work, 1)
        shop.tables(fresh=True)
        work()
        left = alter.original(shop, table, "x")
        assert (left == original) == (wanted is not None)


def test_blanks_that_do_not_fit_keep_a_postgresql_column_wide(empty_pg: Shop, sql) -> None:
    sql(empty_pg, "CREATE TABLE t (id integer PRIMARY KEY, x varchar(5))")
    original = alter.original(empty_pg, empty_pg.table("t"), "x")
    alter.widen(empty_pg, empty_pg.table("t"), "x", 500)
    sql(empty_pg, "INSERT INTO t VALUES (1, 'abc    ')")
    assert (
        alter.narrow(empty_pg, empty_pg.table("t"), "x", original) == "it holds texts longer than character varying(5)"
    )
    assert sql(empty_pg, "SELECT x FROM t") == [("abc    ",)]
    sql(empty_pg, "UPDATE t SET x = 'abc  '")
    assert alter.narrow(empty_pg, empty_pg.table("t"), "x", original) is None
    assert sql(empty_pg, "SELECT x FROM t") == [("abc  ",)]


def test_the_time_a_statement_may_take_does_not_end_a_change(empty_mariadb: Shop, sql) -> None:
    sql(empty_mariadb, "CREATE TABLE t (id INTEGER PRIMARY KEY, x INTEGER) AS SELECT seq AS id FROM seq_1_to_60000")
    table = empty_mariadb.table("t")

    def hurry(raw, record) -> None:
        raw.cursor().execute("SET SESSION max_statement_time = 0.02")

    event.listen(empty_mariadb.engine, "connect", hurry)
    empty_mariadb.close()
    with pytest.raises(GuardError, match="1969"):
        sql(empty_mariadb, "ALTER TABLE t MODIFY COLUMN x VARCHAR(9)")
    alter.widen(empty_mariadb, table, "x", 500)
    event.remove(empty_mariadb.engine, "connect", hurry)
    empty_mariadb.close()
    assert empty_mariadb.table("t").column("x").length == 500


def test_a_type_may_be_called_anything(empty_pg: Shop, sql) -> None:
    sql(empty_pg, """CREATE TYPE "My ""DEFAULT DEFAULT kind" AS ENUM ('a DEFAULT b', 'b')""")
    sql(empty_pg, """CREATE TABLE t (id integer PRIMARY KEY, x "My ""DEFAULT DEFAULT kind" DEFAULT 'a DEFAULT b')""")
    original = alter.original(empty_pg, empty_pg.table("t"), "x")
    alter.widen(empty_pg, empty_pg.table("t"), "x", 90)
    assert alter.narrow(empty_pg, empty_pg.table("t"), "x", original) is None
    assert alter.original(empty_pg, empty_pg.table("t"), "x") == original


@contextmanager
def busy_table(shop: Shop) -> Iterator[list[int]]:
    """Let four sessions change, add and delete rows of `t`; gives the numbers of errors that no shop should see."""
    url = make_url(shop.engine.url)
    where = {"host": url.host, "port": url.port or 3306, "user": url.username, "database": url.database}
    done, failed = threading.Event(), list[int]()

    def once(cursor: pymysql.cursors.Cursor, seed: int, number: int) -> None:
        key = (number * 7919 + seed) % 8000 + 1
        statements = (
            f"UPDATE t SET x = '{seed}-{number}' WHERE id = {key}",
            f"INSERT IGNORE INTO t VALUES ({key}, '{seed}+{number}')",
            f"DELETE FROM t WHERE id = {key}",
        )
        cursor.execute(statements[number % 4 % 3])
        if number % 2:
            cursor.connection.commit()

    def write(seed: int) -> None:
        with pymysql.connect(**where) as connection, connection.cursor() as cursor:
            for number in itertools.takewhile(lambda _: not done.is_set(), itertools.count()):
                try:
                    once(cursor, seed, number)
                except pymysql.err.MySQLError as error:
                    connection.rollback()
                    failed.extend({error.args[0]} - {1205, 1213})

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for writer in writers:
        writer.start()
    try:
        yield failed
    finally:
        done.set()
        for writer in writers:
            writer.join()


def test_indexes_of_mariadb_hold_what_is_written_while_a_type_changes(empty_mariadb: Shop, sql) -> None:
    """Changed while others write, an index on the column is found to be corrupted once old rows are cleared."""
    shop = empty_mariadb
    shop.patience = Patience(timedelta(seconds=5), 5, timedelta(milliseconds=50))
    binary = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    sql(shop, f"CREATE TABLE t (id INT PRIMARY KEY, x VARCHAR(160) {binary}, KEY at_x (x))")
    sql(shop, "INSERT INTO t SELECT seq * 2, CONCAT('m', seq) FROM seq_1_to_4000")
    with busy_table(shop) as failed:
        for _ in range(3):
            original = alter.original(shop, shop.table("t"), "x")
            alter.widen(shop, shop.table("t"), "x", 700)
            time.sleep(0.5)  # they write on, and what they replace is cleared
            assert sql(shop, "CHECK TABLE t EXTENDED")[-1][3] == "OK"
            assert alter.narrow(shop, shop.table("t"), "x", str(original)) is None
    assert failed == []
    assert sql(shop, "CHECK TABLE t EXTENDED")[-1][3] == "OK"
