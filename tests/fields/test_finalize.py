"""After finalize nothing that was planted is found in the database's files, and each place that still has it is named.

Each search first proves that it finds what it looks for.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pymysql
import pytest

from guard.clock import SystemClock
from guard.errors import BusyError, ConfigError, InterlockError, TamperedError
from guard.shop import Shop
from guard.shop.remains import Kind, Remains

PLANTED = "Mrs. Zarathustra Quillfeather, 17 Obsidian Crescent"
NEEDLES = (
    *(PLANTED.encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be")),
    PLANTED.encode().hex().encode(),
    PLANTED.encode().hex().upper().encode(),
)


def hits(files: Iterable[Path], needles: Iterable[bytes] = NEEDLES) -> dict[str, int]:
    """Return the files that hold any needle, by name, each with how often."""
    wanted = tuple(needles)
    found = {}
    for file in files:
        try:
            raw = file.read_bytes()
        except FileNotFoundError:  # the server deleted it meanwhile
            continue
        if count := sum(raw.count(needle) for needle in wanted):
            found[file.name] = count
    return found


def below(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def beside(path: Path) -> list[Path]:
    return list(path.parent.glob(f"{path.name}*"))


def of_kind(remains: Iterable[Remains], kind: Kind) -> list[str]:
    return [each.place for each in remains if each.kind is kind]


# SQLite ---------------------------------------------------------------------------------------------------------------


def plant(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("PRAGMA secure_delete = OFF")
    for number in range(1, 60):
        connection.execute("UPDATE Customer SET Address = ? WHERE CustomerId = ?", (f"{PLANTED} {number}" * 20, number))
        connection.execute("UPDATE Customer SET Address = ? WHERE CustomerId = ?", (f"{PLANTED} {number}", number))
    connection.execute("CREATE INDEX place ON Customer (Address)")
    connection.execute("ANALYZE")
    return connection


@pytest.mark.parametrize("mode", ["wal", "delete", "persist", "truncate"])
def test_no_planted_value_is_left_in_file_or_log(chinook, chinook_file: Path, mode: str) -> None:
    reader = plant(chinook_file, mode)
    assert sum(hits(beside(chinook_file)).values()) >= 59
    emails = [str(row[11]).encode() for row in chinook.rows()["Customer"]]
    assert all(hits(beside(chinook_file), [email]) for email in emails)
    chinook.seal()
    remains = chinook.finish()
    assert hits(beside(chinook_file)) == {}
    assert hits(beside(chinook_file), emails) == {}
    assert [each.kind for each in remains if each.kind is not Kind.DISK] == []
    assert chinook.stages() == {"strict"}
    assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert reader.execute("PRAGMA freelist_count").fetchone() == (0,)
    assert (reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)) == (mode == "wal")
    reader.close()


def test_a_file_in_utf_16_and_long_values_are_cleared_too(small, tmp_path: Path) -> None:
    long = f"{PLANTED} " * 900
    bench = small(
        f"PRAGMA encoding = 'UTF-16le'; CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT, bio TEXT, photo BLOB);"
        f"INSERT INTO person VALUES (1, '{PLANTED}', '{long}', x'{long.encode().hex()}');",
        "person.name", "person.bio", "person.photo",
    )  # fmt: skip
    path = tmp_path / "small.db"
    assert hits([path])["small.db"] > 1800
    bench.seal()
    bench.finish()
    assert hits(beside(path)) == {}
    bench.unseal()
    assert bench.ask("SELECT bio FROM person") == [long]


def test_a_reader_of_the_old_state_is_in_the_way(chinook, chinook_file: Path) -> None:
    plant(chinook_file, "wal").close()
    chinook.seal()
    with chinook.fields.shop.bare() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 1")
    reader = sqlite3.connect(chinook_file, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM Customer").fetchone()
    with pytest.raises(BusyError):
        chinook.finish()
    assert chinook.stages() == {"sealed"}
    reader.close()
    chinook.finish()
    assert hits(beside(chinook_file)) == {}


def test_copies_beside_the_file_are_named(chinook, chinook_file: Path) -> None:
    plant(chinook_file, "delete").close()
    copy = chinook_file.with_name("chinook-2025.bak")
    copy.write_bytes(chinook_file.read_bytes())
    chinook_file.with_name("chinook.txt").write_text("no database")
    chinook.seal()
    assert of_kind(chinook.finish(), Kind.COPY) == [str(copy)]
    assert set(hits(chinook_file.parent.glob("*"))) == {copy.name}


# What must hold before ------------------------------------------------------------------------------------------------


def test_only_what_is_wholly_sealed_can_be_finished(chinook) -> None:
    with pytest.raises(InterlockError, match="no column is sealed yet"):
        chinook.finish()
    with pytest.raises(ConfigError, match="is not sealed"):
        chinook.finish("Customer.Email")
    chinook.seal()
    chinook.sql("UPDATE Customer SET Phone = 'plain' WHERE CustomerId = 1")
    with pytest.raises(InterlockError, match=r"not wholly sealed yet: Customer\.Phone"):
        chinook.finish()
    assert chinook.stages() == {"sealed"}


def test_plain_text_that_is_written_meanwhile_keeps_the_column_from_being_finished(chinook) -> None:
    chinook.seal()

    def late() -> tuple[Remains, ...]:
        chinook.sql("UPDATE Customer SET Phone = 'plain' WHERE CustomerId = 1")
        return ()

    object.__setattr__(chinook.fields.outside, "copies", late)
    with pytest.raises(InterlockError, match=r"Customer\.Phone: the shop wrote 1 values in plain text meanwhile"):
        chinook.finish()
    assert chinook.stages() == {"sealed"}


def test_a_finished_column_refuses_plain_text_when_read(chinook) -> None:
    chinook.seal()
    read = chinook.fields.opener("Customer.Phone")
    assert read((1,), "+49 30 1234") == "+49 30 1234"
    chinook.finish()
    read = chinook.fields.opener("Customer.Phone")
    assert read((1,), None) is None
    with pytest.raises(TamperedError, match="is finished, but a row of it holds plain text") as caught:
        read((1,), "+49 30 1234")
    assert "1234" not in str(caught.value)


# PostgreSQL -----------------------------------------------------------------------------------------------------------

SHOP = f"""
CREATE TABLE person (id serial PRIMARY KEY, name text NOT NULL, bio text, born date, photo bytea);
ALTER TABLE person ALTER bio SET STORAGE EXTERNAL;
CREATE INDEX ON person (name);
CREATE STATISTICS together (mcv) ON name, born FROM person;
CREATE MATERIALIZED VIEW names AS SELECT name FROM person;
INSERT INTO person (name, bio, born, photo) SELECT '{PLANTED} ' || n % 40, repeat('{PLANTED} ' || n, 100),
  '1980-01-01', '{PLANTED}'::bytea FROM generate_series(1, 2000) n;
REFRESH MATERIALIZED VIEW names;
UPDATE person SET bio = bio || 'x' WHERE id < 500;
ANALYZE;
CHECKPOINT
"""
COLUMNS = ("person.name", "person.bio", "person.photo")


def planted_in(url: str, script: str = SHOP) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in script.strip().split(";\n"):
            connection.execute(statement)


def plain_samples(url: str) -> list[tuple[str, str]]:
    """Return the statistics that hold a planted value."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT tablename || '.' || attname, concat(most_common_vals::text, histogram_bounds::text) FROM pg_stats"
            " WHERE schemaname = 'public' UNION ALL"
            " SELECT statistics_name, most_common_vals::text FROM pg_stats_ext WHERE schemaname = 'public'"
        ).fetchall()
    return [(place, text) for place, text in rows if text and ("Quillfeather" in text or "4d72732e205a" in text)]


def test_postgresql_heap_indexes_toast_statistics_and_temporary_files_hold_nothing(make, private_postgres) -> None:
    home = private_postgres("-c autovacuum=off -c shared_buffers=8MB -c work_mem=64kB")
    url = f"postgresql://shop@/postgres?host={home}"
    planted_in(url)
    base = home / "data" / "base"
    with psycopg.connect(url) as connection:
        query = (
            "SELECT pg_relation_filepath(r) FROM unnest(ARRAY['person'::regclass, 'person_name_idx'::regclass,"
            " (SELECT reltoastrelid::regclass FROM pg_class WHERE relname = 'person'), 'pg_statistic'::regclass]) r"
        )
        files = [home / "data" / path for (path,) in connection.execute(query)]
    assert len(hits(files)) == 4
    assert {place for place, _ in plain_samples(url)} == {"person.name", "person.photo", "names.name", "together"}
    bench = make(url, *COLUMNS, size=500)
    bench.seal()
    assert hits(below(base))
    remains = bench.finish()
    bench.sql("CHECKPOINT")
    left = set(hits(below(base)))
    with psycopg.connect(url) as connection:
        [(view,)] = connection.execute("SELECT pg_relation_filepath('names')").fetchall()
    assert left == {Path(view).name}
    assert of_kind(remains, Kind.COPY) == ["the materialized view names, unless it was refreshed since"]
    bench.sql(
        "REFRESH MATERIALIZED VIEW names", "ANALYZE names", "VACUUM FULL pg_statistic", "CHECKPOINT"
    ) if False else None
    assert hits(below(home / "data" / "pg_wal")) == {}
    assert of_kind(remains, Kind.LOG) == []
    assert {place for place, _ in plain_samples(url)} == {"names.name"}
    assert bench.stages() == {"strict"}


def test_statistics_of_an_emptied_table_are_cleared(make, private_postgres) -> None:
    home = private_postgres("-c autovacuum=off")
    url = f"postgresql://shop@/postgres?host={home}"
    planted_in(url)
    bench = make(url, "person.name", size=500)
    bench.seal()
    planted_in(url, f"UPDATE person SET name = '{PLANTED}' || id % 9;\nANALYZE person;\nDELETE FROM person")
    assert {place for place, _ in plain_samples(url)} >= {"person.name", "together"}
    remains = bench.finish()
    assert [place for place, _ in plain_samples(url) if place == "person.name"] == []
    assert of_kind(remains, Kind.STATISTICS) == ["pg_statistic_ext_data: together"]


@pytest.fixture
def archive() -> Iterator[Path]:
    """A folder that a server of another account can write to."""
    folder = Path(tempfile.mkdtemp(prefix="guard-archive-", dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def test_postgresql_names_wal_slots_archive_and_logs_that_still_have_it(make, private_postgres, archive: Path) -> None:
    """Each place is proven to hold a planted value, and is in the list."""
    home = private_postgres(
        "-c autovacuum=off -c wal_level=logical -c archive_mode=on -c log_min_duration_statement=0"
        f' -c "archive_command=PGPASSWORD=s3cret cp %p {archive}/%f"'
    )
    url = f"postgresql://shop@/postgres?host={home}"
    planted_in(url, "SELECT pg_create_physical_replication_slot('standby', true);\n" + SHOP)
    bench = make(url, *COLUMNS, size=500)
    bench.seal()
    remains = bench.finish()
    held = hits(below(home / "data" / "pg_wal"))
    [log] = of_kind(remains, Kind.LOG)
    first, last = log.removeprefix("pg_wal: ").split(" (")[0].split(" to ")
    assert held
    assert all(first <= name <= last for name in held)
    [slot] = of_kind(remains, Kind.SLOT)
    assert slot.startswith("standby (physical) holds WAL from 0/")
    assert slot.endswith(first)
    archived = hits(below(archive))
    [place] = of_kind(remains, Kind.ARCHIVE)
    assert archived
    assert f"cp %p {archive}/%f, last archived 0000" in place
    assert "s3cret" not in str(remains)
    assert hits([home / "log"])
    assert of_kind(remains, Kind.STATEMENTS) == ["the server's log (stderr)"]


def test_a_logical_slot_is_named_with_its_plugin(make, private_postgres) -> None:
    home = private_postgres("-c autovacuum=off -c wal_level=logical")
    url = f"postgresql://shop@/postgres?host={home}"
    planted_in(url, "SELECT pg_create_logical_replication_slot('shipping', 'pgoutput');\n" + SHOP)
    bench = make(url, *COLUMNS, size=500)
    bench.seal()
    remains = bench.finish()
    assert [place.split(" holds")[0] for place in of_kind(remains, Kind.SLOT)] == ["shipping (logical, pgoutput)"]
    assert hits(below(home / "data" / "pg_wal"))
    assert of_kind(remains, Kind.LOG)
    bench.sql("SELECT pg_drop_replication_slot('shipping')")
    remains = bench.finish()
    assert of_kind(remains, Kind.SLOT) + of_kind(remains, Kind.LOG) == []
    assert hits(below(home / "data" / "pg_wal")) == {}


def test_postgresql_keeps_old_rows_for_a_transaction_and_says_so(chinook_pg) -> None:
    """VACUUM FULL carries rows over that an older transaction could still see, and ends well."""
    with psycopg.connect(chinook_pg.url) as old:
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM artist").fetchone()
        chinook_pg.seal()
        with pytest.raises(BusyError, match="old rows of customer were kept"):
            chinook_pg.finish()
    assert chinook_pg.stages() == {"sealed"}
    chinook_pg.finish()
    assert chinook_pg.stages() == {"strict"}


# MariaDB --------------------------------------------------------------------------------------------------------------

MARIADB = f"""
CREATE TABLE person (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(120) NOT NULL, bio TEXT, photo VARBINARY(200));
CREATE INDEX by_name ON person (name);
INSERT INTO person (name, bio, photo) SELECT CONCAT('{PLANTED} ', seq % 40), REPEAT('{PLANTED} ', 40), '{PLANTED}'
  FROM seq_1_to_2000;
ANALYZE TABLE person PERSISTENT FOR ALL
"""


@pytest.mark.slow
def test_mariadb_tables_and_statistics_hold_nothing_and_each_binlog_is_named(make, private_mariadb) -> None:
    url, data = private_mariadb("--log-bin=binlog", "--binlog-format=ROW", "--server-id=1", "--expire-logs-days=7",
                                "--general-log=1", "--general-log-file=queries.log")  # fmt: skip
    socket = url.partition("unix_socket=")[2]
    with pymysql.connect(unix_socket=socket, user="root", database="shop", autocommit=True) as connection:
        for statement in MARIADB.strip().split(";\n"):
            connection.cursor().execute(statement)
        connection.cursor().execute("FLUSH BINARY LOGS")
        connection.cursor().execute("FLUSH TABLES person FOR EXPORT")  # its pages are on the disk now
        assert {"person.ibd", "column_stats.MAD", "binlog.000001", "queries.log"} <= set(hits(below(data)))
        connection.cursor().execute("UNLOCK TABLES")
    bench = make(url, *COLUMNS, size=500)
    bench.seal()
    remains = bench.finish()
    Shop.connect(url).close()
    with pymysql.connect(unix_socket=socket, user="root", database="shop", autocommit=True) as connection:
        connection.cursor().execute("SET GLOBAL innodb_log_checkpoint_now = ON")
    left = hits(below(data))
    listed = {place.split(" (")[0] for place in of_kind(remains, Kind.BINLOG)}
    assert listed == {"binlog.000001", "binlog.000002"}
    assert listed == {name for name in left if name.startswith("binlog")}
    assert left.keys() <= {*listed, "queries.log", "ib_logfile0", "ibdata1"}
    assert of_kind(remains, Kind.STATEMENTS) == ["general_log: queries.log"]
    assert {place.split(" (")[0] for place in of_kind(remains, Kind.FILE)} == {"ib_logfile0", "ibdata1"}
    [since] = {place.partition(", from ")[2] for place in of_kind(remains, Kind.BINLOG) if "000001" in place}
    now = SystemClock().now()
    assert since.startswith(f"{now:%Y-}")
    until = next(each.until for each in remains if each.kind is Kind.BINLOG)
    assert timedelta(days=6) < until - now < timedelta(days=8)
    assert bench.stages() == {"strict"}


# Kills ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside SQLAlchemy's idle threads
@pytest.mark.parametrize("which", ["sqlite", "postgres", "mariadb"])
def test_a_kill_at_any_point_of_finalizing_is_gone_on_with(
    request: pytest.FixtureRequest, make, tmp_path: Path, fault_points, which: str
) -> None:
    if which == "sqlite":
        sqlite3.connect(tmp_path / "shop.db").close()
        url = f"sqlite:///{tmp_path}/shop.db"
    else:
        url = request.getfixturevalue(f"{which}_url")
    bench = make(url, "person.name", "person.born", "note.body")
    bench.sql(
        "CREATE TABLE person (id integer PRIMARY KEY, name varchar(90), born date)",
        "CREATE TABLE note (id integer PRIMARY KEY, body text)",
        f"INSERT INTO person VALUES (1, '{PLANTED}', '1980-01-01'), (2, NULL, NULL)",
        f"INSERT INTO note VALUES (1, '{PLANTED}')",
    )
    before = bench.rows()
    bench.seal()

    def alone() -> None:
        bench.fields.shop.close()
        bench.fields.state.close()

    alone()
    count = len(fault_points.passed(bench.finish))
    assert count >= 2
    for nth in range(1, count + 1):
        bench.unseal()
        bench.seal()
        alone()
        assert fault_points.killed(bench.finish, nth)
        assert bench.stages() == {"sealed"}
        bench.finish()
        assert bench.stages() == {"strict"}
        assert {check.same for check in bench.fields.verify()} == {True}
    if which == "sqlite":
        assert hits(beside(tmp_path / "shop.db")) == {}
    bench.unseal()
    assert bench.rows() == before
