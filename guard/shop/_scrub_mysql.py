"""Rewrite tables of MariaDB so that rows, indexes and statistics hold no old value, as far as a client can."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guard import faults
from guard.clock import SystemClock
from guard.shop._alter_mysql import changing, holders
from guard.shop._explain import GrantError
from guard.shop._sql import needing, patiently, run, ticked
from guard.shop.connect import Shop
from guard.shop.remains import Kind, Remains, Scrubbed, unseen

_STATISTICS = """
SELECT column_name FROM mysql.column_stats
WHERE db_name = DATABASE() AND table_name = :table AND column_name IN :columns
"""
_FORGET = """
DELETE FROM mysql.column_stats WHERE db_name = DATABASE() AND table_name = :table AND column_name IN :columns
"""
_PURGE_LOOKS = 60
_PURGE_REST = timedelta(milliseconds=500)


def scrub(shop: Shop, columns: Mapping[str, Sequence[str]]) -> Scrubbed:
    """See `guard.shop.scrub.scrub`."""
    for table in columns:
        _rewrite(shop, table)
        faults.point("shop.scrub.rewritten")
    statistics = tuple(_statistics(shop, columns))
    faults.point("shop.scrub.statistics")
    undo = tuple(_undo(shop))
    since, log = _turn_over(shop)
    faults.point("shop.scrub.log")
    return Scrubbed((*statistics, *undo, *log, *_system_tablespace(shop)), since)


def _rewrite(shop: Shop, table: str) -> None:
    """Write one table and its indexes into a new file; the server deletes the old one."""

    def step() -> None:
        with changing(shop) as connection:
            run(connection, f"ALTER TABLE {ticked(table)} FORCE")

    with needing(f"GRANT ALTER, INSERT ON {ticked(table)}"):
        patiently(shop, f"the table {table}", step, lambda: holders(shop))


def _statistics(shop: Shop, columns: Mapping[str, Sequence[str]]) -> Iterator[Remains]:
    """Forget the least, the greatest and the most common values the server keeps of the columns."""
    forgot = False
    try:
        for table, names in columns.items():
            with shop.begin() as connection:
                found = _ask(connection, _STATISTICS, table, names).all()
                if found:
                    _ask(connection, _FORGET, table, names)
                    forgot = True
        if forgot:
            with shop.bare() as connection:
                run(connection, "OPTIMIZE TABLE mysql.column_stats")  # what was deleted stays in the file's free space
                run(connection, "FLUSH TABLES mysql.column_stats")
    except GrantError:
        yield unseen("mysql.column_stats", "SELECT, INSERT, DELETE ON mysql.column_stats; and RELOAD ON *.*")


def _ask(connection: Connection, query: str, table: str, names: Sequence[str]) -> sa.CursorResult[tuple[object, ...]]:
    statement = sa.text(query).bindparams(sa.bindparam("columns", expanding=True))
    return connection.execute(statement, {"table": table, "columns": list(names)})


def _undo(shop: Shop) -> Iterator[Remains]:
    """Wait until the server has purged what deleted and changed rows were, and say so where it does not get there."""
    left = 1
    for _ in range(_PURGE_LOOKS):
        with shop.read() as connection:
            row = connection.exec_driver_sql("SHOW GLOBAL STATUS LIKE 'Innodb_history_list_length'").first()
        left = int(tuple(row)[1]) if row is not None else 0
        if not left:
            return
        SystemClock().sleep(_PURGE_REST)
    yield Remains(
        Kind.FILE, f"{left} transactions in the undo log that are not purged yet", None,
        "end the oldest transaction (information_schema.innodb_trx); the server goes on purging then",
    )  # fmt: skip


def _turn_over(shop: Shop) -> tuple[str | None, tuple[Remains, ...]]:
    """Close the binlog that is written now; return the name of the next, which holds nothing old."""
    try:
        with shop.bare() as connection:
            run(connection, "FLUSH BINARY LOGS")
            name = run(connection, "SHOW MASTER STATUS").scalar()
    except GrantError:
        how = "it may hold old and new values: GRANT RELOAD, BINLOG MONITOR ON *.*, or FLUSH BINARY LOGS yourself"
        return None, (Remains(Kind.BINLOG, "the binlog that is written now", None, how),)
    return str(name) if name else None, ()


def _system_tablespace(shop: Shop) -> Iterator[Remains]:
    with shop.read() as connection:
        apart = connection.exec_driver_sql("SELECT @@innodb_file_per_table").scalar_one()
    if not apart:
        yield Remains(
            Kind.FILE, "ibdata1 (the tables themselves)", None,
            "old pages stay in it until they are used again; SET GLOBAL innodb_file_per_table = ON, finalize again,"
            " and build the server anew from a dump",
        )  # fmt: skip
