"""Rewriting may be ended anywhere and is done again; what guard's account may not do is told, never passed over."""

from datetime import timedelta

import psycopg
import pymysql
import pytest
from sqlalchemy.engine import make_url

from guard.errors import BusyError
from guard.shop import Shop
from guard.shop.connect import Patience
from guard.shop.remains import Kind
from guard.shop.scrub import costs, scrub

COLUMNS = {"person": ["name", "bio"], 'Odd "one': ["name"]}


@pytest.fixture
def filled(empty: Shop, sql) -> Shop:
    for table in ("person", '`Odd "one`' if empty.dialect == "mysql" else '"Odd ""one"'):
        sql(empty, f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, name VARCHAR(60), bio VARCHAR(200))")
        sql(empty, f"INSERT INTO {table} VALUES (1, 'g1.AAAA', 'g1.BBBB'), (2, 'g1.CCCC', NULL)")
    empty.forget()
    return empty


def test_a_kill_at_any_point_is_gone_on_with(filled: Shop, sql, fault_points) -> None:
    before = sql(filled, "SELECT * FROM person ORDER BY id")
    filled.close()
    points = fault_points.passed(lambda: scrub(filled, COLUMNS))
    assert {"shop.scrub.rewritten", "shop.scrub.statistics"} <= set(points)
    for nth in range(1, len(points) + 1):
        filled.close()
        assert fault_points.killed(lambda: scrub(filled, COLUMNS), nth)
        assert sql(filled, "SELECT * FROM person ORDER BY id") == before
    scrub(filled, COLUMNS)
    assert sql(filled, "SELECT * FROM person ORDER BY id") == before


@pytest.mark.parametrize("which", ["postgres", "mariadb"])
def test_a_table_that_others_hold_is_named(request: pytest.FixtureRequest, sql, which: str) -> None:
    url = request.getfixturevalue(f"{which}_url")
    shop = Shop.connect(url)
    shop.patience = Patience(timedelta(seconds=1), 2, timedelta(milliseconds=10))
    sql(shop, "CREATE TABLE person (id INTEGER PRIMARY KEY, name VARCHAR(60))")
    sql(shop, "INSERT INTO person VALUES (1, 'g1.AAAA')")
    if which == "postgres":
        other = psycopg.connect(url)
        other.execute("SELECT * FROM person")
    else:
        at = make_url(url)
        other = pymysql.connect(host=at.host, port=at.port or 3306, user=at.username, database=at.database)
        other.cursor().execute("UPDATE person SET name = 'x'")
    with pytest.raises(BusyError, match="the table person: others keep it locked"):
        scrub(shop, {"person": ["name"]})
    other.close()
    scrub(shop, {"person": ["name"]})
    shop.close()


def test_what_an_account_may_not_turn_over_is_told(empty_pg: Shop, postgres_url: str, sql) -> None:
    sql(empty_pg, "CREATE ROLE clerk LOGIN")
    try:
        sql(empty_pg, "GRANT CREATE, USAGE ON SCHEMA public TO clerk")
        clerk = Shop.connect(postgres_url.replace("shop@", "clerk@"))
        sql(clerk, "CREATE TABLE person (id integer PRIMARY KEY, name text)")
        sql(clerk, "INSERT INTO person VALUES (1, 'g1.AAAA')")
        found = {each.place: each for each in scrub(clerk, {"person": ["name"]})}
        assert found["WAL, which could not be turned over"].how.startswith("GRANT EXECUTE ON FUNCTION pg_switch_wal()")
        assert found["dead rows of pg_catalog.pg_statistic"].kind is Kind.STATISTICS
        assert "GRANT MAINTAIN ON pg_catalog.pg_statistic" in found["dead rows of pg_catalog.pg_statistic"].how
        assert found["pg_wal"].unseen
        for grant in ("pg_checkpoint", "pg_monitor"):
            sql(empty_pg, f"GRANT {grant} TO clerk")
        sql(empty_pg, "GRANT EXECUTE ON FUNCTION pg_switch_wal() TO clerk")
        sql(empty_pg, "GRANT MAINTAIN ON pg_catalog.pg_statistic, pg_catalog.pg_statistic_ext_data TO clerk")
        assert {each.kind for each in scrub(clerk, {"person": ["name"]})} == {Kind.STATEMENTS, Kind.DISK}
        clerk.close()
    finally:
        sql(empty_pg, "REVOKE EXECUTE ON FUNCTION pg_switch_wal() FROM clerk")
        sql(empty_pg, "DROP OWNED BY clerk")
        sql(empty_pg, "DROP ROLE clerk")


def test_statistics_of_expressions_of_an_emptied_table_are_cleared_or_told(empty_pg: Shop, sql) -> None:
    sql(empty_pg, "CREATE TABLE person (id integer PRIMARY KEY, name text); CREATE INDEX low ON person (lower(name))")
    sql(empty_pg, "CREATE STATISTICS loud ON upper(name) FROM person")
    sql(empty_pg, "INSERT INTO person SELECT n, 'Planted ' || n % 5 FROM generate_series(1, 500) n")
    sql(empty_pg, "ANALYZE person")
    sql(empty_pg, "DELETE FROM person")
    kept = "SELECT count(*) FROM pg_stats WHERE tablename = 'low' AND most_common_vals::text LIKE '%planted%'"
    assert sql(empty_pg, kept) == [(1,)]
    told = [each.place for each in scrub(empty_pg, {"person": ["name"]}) if each.kind is Kind.STATISTICS]
    assert sql(empty_pg, kept) == [(0,)]
    assert told == ["those of the expressions of statistics loud"]
    sql(empty_pg, "INSERT INTO person VALUES (1, 'g1.AAAA')")
    assert [each for each in scrub(empty_pg, {"person": ["name"]}) if each.kind is Kind.STATISTICS] == []


def test_what_it_asks_of_the_shop_is_told_before(empty: Shop, sql) -> None:
    told = costs(empty)
    assert told == costs(empty)
    if empty.dialect == "postgresql":
        [(size,)] = sql(empty, "SELECT setting::bigint >> 20 FROM pg_settings WHERE name = 'wal_segment_size'")
        assert f"up to {1024 // size} old files of WAL: at most 1024 MiB" in told[1]
        assert "nobody reads or writes it" in told[0]
    else:
        assert ("VACUUM" if empty.dialect == "sqlite" else "FORCE") in told[0]
