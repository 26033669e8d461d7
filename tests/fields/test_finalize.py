"""After finalize nothing that was planted is found in the shop's files. The search first proves that it finds it."""

import sqlite3
from pathlib import Path

import psycopg
import pytest

from guard.errors import BusyError, ConfigError, InterlockError, TamperedError

PLANTED = "Mrs. Zarathustra Quillfeather, 17 Obsidian Crescent"


def hits(path: Path, text: str) -> int:
    """Return how often `text` occurs in the database's files, in UTF-8 and UTF-16."""
    found = 0
    for file in path.parent.glob(f"{path.name}*"):
        raw = file.read_bytes()
        found += sum(raw.count(text.encode(code)) for code in ("utf-8", "utf-16-le", "utf-16-be"))
    return found


def plant(path: Path, mode: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("PRAGMA secure_delete = OFF")
    for number in range(1, 60):
        connection.execute("UPDATE Customer SET Address = ? WHERE CustomerId = ?", (f"{PLANTED} {number}" * 20, number))
        connection.execute("UPDATE Customer SET Address = ? WHERE CustomerId = ?", (f"{PLANTED} {number}", number))
    connection.execute("CREATE INDEX place ON Customer (Address)")
    connection.execute("ANALYZE")
    connection.close()


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_no_planted_value_is_left_in_file_or_log(chinook, chinook_file: Path, mode: str) -> None:
    plant(chinook_file, mode)
    reader = sqlite3.connect(chinook_file)
    assert reader.execute("PRAGMA journal_mode").fetchone() == (mode,)
    assert hits(chinook_file, PLANTED) >= 59
    originals = [str(row[11]) for row in chinook.rows()["Customer"]]
    assert all(hits(chinook_file, email) for email in originals)
    chinook.seal()
    remains = chinook.finish()
    assert hits(chinook_file, PLANTED) == 0
    assert not any(hits(chinook_file, email) for email in originals)
    assert "backups and copies made before sealing" in remains
    assert chinook.stages() == {"strict"}
    assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert reader.execute("PRAGMA journal_mode").fetchone() == (mode,)
    reader.close()


def test_a_reader_of_the_old_state_is_in_the_way(chinook, chinook_file: Path) -> None:
    plant(chinook_file, "wal")
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
    assert hits(chinook_file, PLANTED) == 0


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


def test_postgresql_is_rewritten_and_says_what_remains(chinook_pg) -> None:
    chinook_pg.seal()
    before = chinook_pg.ask("SELECT pg_relation_filenode('customer')")
    remains = chinook_pg.finish()
    assert chinook_pg.ask("SELECT pg_relation_filenode('customer')") != before
    assert any("write-ahead log" in place for place in remains)
    samples = chinook_pg.ask(
        "SELECT most_common_vals::text FROM pg_stats WHERE tablename = 'customer' AND attname = 'email'"
    )
    assert not any("@" in str(sample) for sample in samples)


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
