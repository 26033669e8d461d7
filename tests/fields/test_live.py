"""Four writers change the table while guard seals, re-keys and opens it: no update is lost, every value is right.

Each update writes the same text into a second column that guard does not touch, and counts up a third: at the end, both
columns say the same in every row, and the counts add up to all updates that were made.
"""

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from guard.shop import Shop

WRITERS = 4
ROWS = 400
SLOW, FULL = 5_000, 25_000
"""Updates of each writer; the full count makes 100,000 in all."""

WRITER = """
import random, sys
url, kind, updates, seed, rows = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
choose = random.Random(seed)

def connect():
    if kind == "sqlite":
        import sqlite3
        made = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=120, isolation_level=None)
        made.execute("PRAGMA synchronous = OFF")  # faster writers are worse neighbours
        return made, "?", ()
    from sqlalchemy.engine import make_url
    parsed = make_url(url)
    if kind == "postgres":
        import psycopg
        return psycopg.connect(url, autocommit=True), "%s", ()
    import pymysql
    made = pymysql.connect(host=parsed.host, port=parsed.port or 3306, user=parsed.username, database=parsed.database,
                           autocommit=True, charset="utf8mb4")
    return made, "%s", (1205, 1213)  # lock wait, deadlock: a shop tries again

connection, mark, again = connect()
cursor = connection.cursor()
sql = f"UPDATE customer SET mail = {mark}, twin = {mark}, hits = hits + 1 WHERE id = {mark}"
print("ready", flush=True)
sys.stdin.readline()
for number in range(updates):
    row = choose.randrange(1, rows + 1)
    text = choose.choice(("", "g1", "A ", "a", "\\U0001f642")) + f"{seed}-{number}"
    while True:
        try:
            cursor.execute(sql, (text, text, row))
            break
        except Exception as error:
            if not error.args or error.args[0] not in again:
                raise
"""


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A shop with 400 customers on each database."""
    if request.param == "sqlite":
        connection = sqlite3.connect(tmp_path / "shop.db")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
        url = f"sqlite:///{tmp_path}/shop.db"
    else:
        url = request.getfixturevalue(f"{request.param}_url")
    exact = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" if request.param == "mariadb" else ""
    shop = Shop.connect(url)
    with shop.begin() as connection_:
        connection_.exec_driver_sql(
            f"CREATE TABLE customer (id integer PRIMARY KEY, mail varchar(60){exact}, twin varchar(60){exact},"
            " hits integer NOT NULL)"
        )
        values = ", ".join(f"({number}, 'm{number}', 'm{number}', 0)" for number in range(1, ROWS + 1))
        connection_.exec_driver_sql(f"INSERT INTO customer VALUES {values}")
    shop.close()
    return url


@contextmanager
def writers(url: str, updates: int, folder: Path) -> Iterator[Callable[[], bool]]:
    """Let four processes write; gives the function that tells whether one still does."""
    script = folder / "writer.py"
    script.write_text(WRITER)
    kind = {"sqlite": "sqlite", "postgresql": "postgres"}.get(url.partition(":")[0], "mariadb")
    running = [
        subprocess.Popen(
            [sys.executable, script, url, kind, str(updates), str(seed), str(ROWS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for seed in range(WRITERS)
    ]  # fmt: skip
    try:
        for writer in running:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        for writer in running:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        yield lambda: any(writer.poll() is None for writer in running)
        assert [writer.wait() for writer in running] == [0] * WRITERS
    finally:
        for writer in running:
            writer.kill()
            writer.communicate()


def sweep_while_they_write(bench: Any, rotate: Callable[[str], int], updates: int, folder: Path, workers: int) -> int:
    """Seal, re-key and open in turns until the writers are done; return how many values guard changed meanwhile."""
    fields, changed, number = bench.fields, 0, 0
    with writers(bench.url, updates, folder) as writing:
        while writing():
            number += 1
            run = f"{number:032x}"
            turn = number % 4
            if turn == 3 and any(record.stage.seals for record in fields.records()):
                rotate("column/1")
                swept = (fields.rekey("customer.mail", run, workers=workers),)
            elif turn == 0:
                swept = fields.decrypt(["customer.mail"], run, workers=workers)
            else:
                swept = fields.encrypt(fields.plan(), run, workers=workers)
            fields.state.write(fields.remember(swept))
            changed += sum(each.rows for each in swept)
    return changed


def check(bench: Any, updates: int) -> None:
    """Seal what is left, look at each value, open all, and compare."""
    if {record.stage.value for record in bench.fields.records()} == {"opening"}:
        bench.unseal()
    [swept] = bench.seal()
    assert swept.left == 0
    [found] = bench.fields.verify()
    assert (found.rows, found.opened, found.plain) == (ROWS, ROWS, 0)
    bench.unseal()
    rows = bench.rows()["customer"]
    assert [row for row in rows if row[1] != row[2]] == []
    assert sum(row[3] for row in rows) == WRITERS * updates


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("workers", [1, 2])
def test_no_update_is_lost(make, url: str, rotate, tmp_path: Path, workers: int) -> None:
    bench = make(url, "customer.mail", size=50)
    changed = sweep_while_they_write(bench, rotate, SLOW, tmp_path, workers)
    assert changed >= ROWS
    check(bench, SLOW)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_no_update_of_a_hundred_thousand_is_lost(make, url: str, rotate, tmp_path: Path) -> None:
    bench = make(url, "customer.mail", size=50)
    changed = sweep_while_they_write(bench, rotate, FULL, tmp_path, 1)
    assert changed >= 2 * ROWS  # each value at least sealed and opened meanwhile; a fast machine writes faster too
    check(bench, FULL)
