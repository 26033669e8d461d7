"""What surrounds a database is found and named; where guard may not look, it says so and names the grant."""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from guard.shop import Shop
from guard.shop._around_postgres import logged, masked
from guard.shop.remains import Kind, Remains
from guard.shop.surroundings import surroundings


def places(found: tuple[Remains, ...], kind: Kind) -> list[str]:
    return [each.place for each in found if each.kind is kind]


def until(true: Callable[[], object]) -> None:
    """Wait until another process has done something; at most 10 s."""
    for _ in range(200):
        if true():
            return
        time.sleep(0.05)
    raise TimeoutError


@contextmanager
def running(*words: object, **options: object) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        [str(word) for word in words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


# PostgreSQL -----------------------------------------------------------------------------------------------------------


def test_a_quiet_server_has_its_log_and_the_disk(empty_pg: Shop) -> None:
    found = surroundings(empty_pg)
    assert {each.kind for each in found} == {Kind.LOG, Kind.STATEMENTS, Kind.DISK}
    assert places(found, Kind.STATEMENTS) == ["the server's log (stderr)"]
    [statements] = [each for each in found if each.kind is Kind.STATEMENTS]
    assert statements.how.startswith("log_min_error_statement = error, parameters included")


@pytest.fixture
def busy(private_postgres) -> tuple[Path, Shop]:
    """A server with everything around it that keeps old values."""
    home = private_postgres(
        "-c wal_level=logical -c archive_mode=on -c archive_command=/bin/true -c max_prepared_transactions=5"
        " -c log_statement=all -c log_parameter_max_length=0"
    )
    return home, Shop.connect(f"postgresql://shop@/postgres?host={home}")


def test_everything_around_a_busy_server_is_named(busy, postgres_programs: Path, sql) -> None:
    home, shop = busy
    sql(shop, "SELECT pg_create_physical_replication_slot('standby', true)")
    sql(shop, "SELECT pg_create_logical_replication_slot('shipping', 'pgoutput')")
    with psycopg.connect(f"postgresql://shop@/postgres?host={home}", autocommit=True) as other:
        other.execute("BEGIN")
        other.execute("CREATE TABLE t (x int)")
        other.execute("PREPARE TRANSACTION 'left over'")
    left = home / "data/base/pgsql_tmp/pgsql_tmp99999.0"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"sorted")
    for path in (left.parent, left):
        os.chown(path, (home / "data").stat().st_uid, -1)
    reader = running(postgres_programs / "pg_receivewal", "-h", home, "-U", "shop", "-D", home, "-S", "standby")
    with reader:
        query = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        until(lambda: sql(shop, query) == [(1,)])
        found = surroundings(shop)
        sql(shop, "CREATE ROLE clerk LOGIN")
        clerk = Shop.connect(f"postgresql://clerk@/postgres?host={home}")
        unseen = places(surroundings(clerk), Kind.UNSEEN)
        clerk.close()
    assert [place.split(" holds")[0] for place in places(found, Kind.SLOT)] == [
        "shipping (logical, pgoutput)",
        "standby (physical)",
    ]
    assert places(found, Kind.REPLICA)[0].startswith("pg_receivewal at this host, replayed up to")
    assert places(found, Kind.ARCHIVE)[0].startswith("/bin/true, ")
    assert places(found, Kind.FILE) == ["temporary file pgsql_tmp99999.0 (6 bytes), which no process uses"]
    assert [place.split(", since")[0] for place in places(found, Kind.SESSION)] == ["prepared transaction left over"]
    [statements] = [each for each in found if each.kind is Kind.STATEMENTS]
    assert statements.how == "log_statement = all, log_min_error_statement = error: delete what was written before now"
    assert [place.partition(" of process")[0] for place in unseen] == [
        "pg_wal",
        "replica",
        "temporary files of the server",
    ]
    shop.close()


def test_what_an_account_lacks_is_named_with_the_grant(empty_pg: Shop, postgres_url: str, sql) -> None:
    sql(empty_pg, "CREATE ROLE clerk LOGIN")
    clerk = Shop.connect(postgres_url.replace("shop@", "clerk@"))
    try:
        unseen = [each for each in surroundings(clerk) if each.unseen]
        assert {each.how for each in unseen} == {"guard's account may not look: GRANT pg_monitor TO guard's account"}
        sql(empty_pg, "GRANT pg_monitor TO clerk")
        assert not [each for each in surroundings(clerk) if each.unseen]
    finally:
        clerk.close()
        sql(empty_pg, "DROP ROLE clerk")


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("cp %p /backup/%f", "cp %p /backup/%f"),
        ("PGPASSWORD=s3cret wal-g wal-push %p", "PGPASSWORD=*** wal-g wal-push %p"),
        ("aws --secret-key s3cret s3 cp %p s3://b/%f", "aws --secret-key *** s3 cp %p s3://b/%f"),
        ("curl -T %p https://bob:s3cret@host/%f", "curl -T %p https://bob:***@host/%f"),
        ("push --token=s3cret %p", "push --token=*** %p"),
    ],
)
def test_commands_are_shown_without_secrets(command: str, shown: str) -> None:
    assert masked(command) == shown


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"log_statement": "ddl", "log_min_error_statement": "panic"}, []),
        ({"log_min_duration_statement": "250"}, ["log_min_duration_statement = 250"]),
        ({"shared_preload_libraries": "pg_stat_statements, auto_explain"}, ["auto_explain"]),
        ({"pgaudit.log": "write"}, ["pgaudit.log = write"]),
    ],
)
def test_each_setting_that_logs_statements_is_named(settings: dict[str, str], why: list[str]) -> None:
    assert logged(settings) == why


# MariaDB --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_everything_around_a_mariadb_is_named(private_mariadb, sql, tmp_path: Path) -> None:
    url, _ = private_mariadb("--log-bin=binlog", "--server-id=1", "--slow-query-log=1", "--log-output=FILE,TABLE")
    shop = Shop.connect(url)
    sql(shop, "CREATE USER clerk@localhost")
    sql(shop, "GRANT SELECT ON shop.* TO clerk@localhost")
    sql(shop, "CREATE USER copy@localhost")
    sql(shop, "GRANT REPLICATION SLAVE ON *.* TO copy@localhost")
    socket = url.partition("unix_socket=")[2]
    words = ("mariadb-binlog", "--no-defaults", f"--socket={socket}", "--user=copy", "--read-from-remote-server",
             "--stop-never", "--raw", f"--result-file={tmp_path}/", "binlog.000001")  # fmt: skip
    with running(*words):
        query = "SELECT COUNT(*) FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"
        until(lambda: sql(shop, query) == [(1,)])
        found = surroundings(shop)
        clerk = Shop.connect(url.replace("root@", "clerk@"))
        unseen = {each.place: each.how for each in surroundings(clerk) if each.unseen}
        clerk.close()
    assert [place.split(" (")[0] for place in places(found, Kind.BINLOG)] == ["binlog.000001"]
    assert ", from 20" in places(found, Kind.BINLOG)[0]
    assert places(found, Kind.REPLICA) == ["copy at localhost"]
    assert [place.split(": ")[0] for place in places(found, Kind.STATEMENTS)] == ["slow_query_log"] * 2
    assert "slow_query_log: mysql.slow_log" in places(found, Kind.STATEMENTS)
    assert [place.split(" (")[0] for place in places(found, Kind.FILE)] == ["ib_logfile0", "ibdata1"]
    assert not places(found, Kind.UNSEEN)
    assert unseen == {
        "binlogs": "guard's account may not look: GRANT BINLOG MONITOR ON *.*",
        "relay logs": "guard's account may not look: GRANT REPLICA MONITOR ON *.*",
        "replicas": "guard's account may not look: GRANT PROCESS ON *.*",
        "open transactions": "guard's account may not look: GRANT PROCESS ON *.*",
    }
    sql(shop, "GRANT BINLOG MONITOR, REPLICA MONITOR, PROCESS ON *.* TO clerk@localhost")
    clerk = Shop.connect(url.replace("root@", "clerk@"))
    assert not places(surroundings(clerk), Kind.UNSEEN)
    clerk.close()
    shop.close()


# SQLite ---------------------------------------------------------------------------------------------------------------


def test_logs_copies_and_processes_around_a_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "shop [1].db"
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE t (x)")
    (tmp_path / "shop [1].2025.db").write_bytes(path.read_bytes() or b"SQLite format 3\0")
    (tmp_path / "shop [1].notes").write_text("no database")
    (tmp_path / "other.db").write_bytes(path.read_bytes())
    shop = Shop.connect(f"sqlite:///{path}")
    hold = "import sys, time; held = open(sys.argv[1]); print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold, path], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        found = surroundings(shop)
        holder.kill()
    assert places(found, Kind.LOG)[0].startswith(f"{path}-wal (")
    assert places(found, Kind.COPY) == [str(tmp_path / "shop [1].2025.db")]
    assert f"process {holder.pid} has the file open" in places(found, Kind.SESSION)
    assert len(places(found, Kind.DISK)) == 1
    shop.close()
    writer.close()
    assert places(surroundings(Shop.connect(f"sqlite:///{path}")), Kind.LOG) == []


def test_a_line_names_kind_place_time_and_what_to_do(empty_pg: Shop) -> None:
    [log] = [each for each in surroundings(empty_pg) if each.kind is Kind.LOG][:1]
    assert log.line.startswith("write-ahead log: pg_wal: 0000")
    assert log.how in log.line
