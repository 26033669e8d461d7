"""Rewrite an SQLite file so that no page, free page, log or statistic holds an old value."""

from collections.abc import Mapping, Sequence

from sqlalchemy.engine import Connection

from guard import faults
from guard.errors import BusyError
from guard.shop._sql import quoted, run
from guard.shop.connect import Shop
from guard.shop.remains import Scrubbed

_STATISTICS = ("sqlite_stat4", "sqlite_stat3")
"""Where ANALYZE keeps samples of indexed values."""


def scrub(shop: Shop, columns: Mapping[str, Sequence[str]]) -> Scrubbed:
    """See `guard.shop.scrub.scrub`."""
    with shop.begin() as connection:
        _forget_samples(connection, columns)
    faults.point("shop.scrub.statistics")
    with shop.bare() as connection:
        run(connection, "PRAGMA secure_delete = ON")
        run(connection, "VACUUM")
        faults.point("shop.scrub.rewritten")
        busy = run(connection, "PRAGMA wal_checkpoint(TRUNCATE)").one()[0]
        free = run(connection, "PRAGMA freelist_count").scalar_one()
        _forget_journal(connection)
    if busy or free:
        raise BusyError(
            f"{shop.place}: another process reads an old state of the shop, so the log still holds plaintext",
            hint="end it, then run the same command again",
        )
    return Scrubbed()


def _forget_samples(connection: Connection, tables: Mapping[str, Sequence[str]]) -> None:
    there = set(connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE name LIKE 'sqlite_stat%'").scalars())
    for statistics in there.intersection(_STATISTICS):
        for table in tables:
            connection.exec_driver_sql(f"DELETE FROM {statistics} WHERE tbl = ?", (table,))  # noqa: S608  # our own words
    if there:
        for table in tables:
            run(connection, f"ANALYZE {quoted(table)}")


def _forget_journal(connection: Connection) -> None:
    """Delete a rollback journal that journal_mode = PERSIST left: its header is zeroed, its pages are not.

    A connection that never used that mode deletes the file when it comes from it. The mode is each connection's own.
    """
    if run(connection, "PRAGMA journal_mode").scalar_one() != "wal":
        run(connection, "PRAGMA journal_mode = PERSIST")
        run(connection, "PRAGMA journal_mode = DELETE")
