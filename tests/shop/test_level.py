"""On MariaDB guard locks the rows it writes and no others, as far as the server's binlog lets it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.engine import Connection

from guard.errors import BusyError
from guard.shop import Shop
from guard.shop.bulk import Found, Fresh, Rewrite, Rewriter
from guard.shop.due import Due


def table(shop: Shop) -> None:
    with shop.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(60) COLLATE utf8mb4_bin)")
        connection.exec_driver_sql("INSERT INTO t SELECT seq, CONCAT('v', seq) FROM seq_1_to_100")


def batch(shop: Shop) -> tuple[Rewriter, Found]:
    """Read forty rows; then the shop deletes one of them and changes another."""
    rewriter = Rewriter(shop, Rewrite(shop.table("t"), "v", ("v",), ("id",), Due()))
    with shop.read() as connection:
        found = rewriter.read(connection, None, 40)
    assert found is not None
    with shop.begin() as connection:
        connection.exec_driver_sql("DELETE FROM t WHERE id = 20")
        connection.exec_driver_sql("UPDATE t SET v = 'mine' WHERE id = 30")
    return rewriter, found


def write(rewriter: Rewriter, connection: Connection, found: Found) -> None:
    changed = rewriter.write(connection, found, Fresh.of([(f"g1.{row[0]}",) for row in found.rows]))
    assert {found.keys[place] for place in changed.missed} == {(20,), (30,)}


def shops(other: Shop, statement: str) -> str:
    """Let the shop write while guard's batch is not committed; say what became of it."""
    try:
        with other.begin() as connection:
            connection.exec_driver_sql("SET innodb_lock_wait_timeout = 1")
            connection.exec_driver_sql(statement)
    except BusyError:
        return "waits"
    return "done"


def around(shop: Shop, other: Shop) -> list[str]:
    """Return what the shop can do around a batch of guard's: to a row of it, and to what guard found changed."""
    rewriter, found = batch(shop)
    with shop.begin() as connection:
        write(rewriter, connection, found)
        did = [
            shops(other, "UPDATE t SET v = 'x' WHERE id = 10"),
            shops(other, "UPDATE t SET v = 'still mine' WHERE id = 30"),
            shops(other, "INSERT INTO t VALUES (20, 'back')"),
        ]
    with shop.read() as connection:
        rows = dict(connection.exec_driver_sql("SELECT id, v FROM t").all())
    assert rows[10] == "g1.v10"
    assert rows[30] == ("still mine" if did[1] == "done" else "mine")
    assert rows.get(20) == ("back" if did[2] == "done" else None)
    return did


@pytest.fixture
def pair() -> Callable[[str], tuple[Shop, Shop]]:
    """Open a database twice: for guard, and for the shop."""

    def opened(url: str) -> tuple[Shop, Shop]:
        found = Shop.connect(url), Shop.connect(url)
        table(found[0])
        return found

    return opened


def test_what_guard_leaves_alone_is_free_for_the_shop(mariadb_url: str, pair) -> None:
    shop, other = pair(mariadb_url)
    assert not shop.locks_gaps()
    assert around(shop, other) == ["waits", "done", "done"]
    shop.close()
    other.close()


@pytest.mark.parametrize(("form", "does"), [("STATEMENT", "waits"), ("MIXED", "done"), ("ROW", "done")])
def test_a_binlog_of_statements_keeps_the_servers_level(
    private_mariadb: Callable[..., tuple[str, Path]], pair, form: str, does: str
) -> None:
    """InnoDB refuses to write at READ COMMITTED there."""
    url, _ = private_mariadb("--log-bin=binlog", f"--binlog-format={form}")
    shop, other = pair(url)
    assert shop.locks_gaps() == (form == "STATEMENT")
    assert around(shop, other) == ["waits", does, does]
    shop.close()
    other.close()


def test_what_is_read_at_length_is_one_moment(mariadb_url: str, pair) -> None:
    """Reading stays as it was: a transaction of several statements sees one state."""
    shop, other = pair(mariadb_url)
    query = "SELECT COUNT(*), SUM(CRC32(v)) FROM t"
    with shop.read() as connection:
        before = connection.exec_driver_sql(query).one()
        with other.begin() as writing:
            writing.exec_driver_sql("DELETE FROM t WHERE id < 50")
        assert connection.exec_driver_sql(query).one() == before
    with shop.read() as connection:
        assert connection.exec_driver_sql(query).one()[0] == 51
    shop.close()
    other.close()
