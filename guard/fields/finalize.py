"""Finish sealed columns: refuse plaintext from now on, and clear what the database file still holds of it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from guard.errors import BusyError
from guard.shop import Shop

_STATISTICS = ("sqlite_stat4", "sqlite_stat3")
"""Where ANALYZE keeps samples of indexed values."""


def scrub(shop: Shop, tables: Sequence[str]) -> tuple[str, ...]:
    """Rewrite the database so that no free page, log or statistic holds old values; return what may remain elsewhere.

    Raises BusyError while another process keeps the old pages in use.
    """
    if shop.dialect == "sqlite":
        _scrub_sqlite(shop, tables)
        return (
            "backups and copies made before sealing",
            "blocks of the disk that the file system freed: only an encrypted disk or its destruction clears them",
        )
    _scrub_postgres(shop, tables)
    return (
        "backups and copies made before sealing",
        "the write-ahead log until its segments are recycled, and archived segments until they are deleted",
        "replicas until they have replayed, and the server's log where it logs parameters",
        "blocks of the disk that the file system freed: only an encrypted disk or its destruction clears them",
    )


def _scrub_sqlite(shop: Shop, tables: Sequence[str]) -> None:
    with shop.begin() as connection:
        _forget_samples(connection, tables)
    with shop.bare() as connection:
        connection.exec_driver_sql("PRAGMA secure_delete = ON")
        connection.exec_driver_sql("VACUUM")
        busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]
    if busy:
        raise BusyError(
            f"{shop.place}: another process reads an old state of the shop, so the log still holds plaintext",
            hint="end it, then run the same command again",
        )


def _forget_samples(connection: Connection, tables: Sequence[str]) -> None:
    quote = connection.dialect.identifier_preparer.quote
    there = set(connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE name LIKE 'sqlite_stat%'").scalars())
    for statistics in there.intersection(_STATISTICS):
        for table in tables:
            connection.exec_driver_sql(f"DELETE FROM {statistics} WHERE tbl = ?", (table,))  # noqa: S608  # our own words
    if there:
        for table in tables:
            connection.exec_driver_sql(f"ANALYZE {quote(table)}")


def _scrub_postgres(shop: Shop, tables: Sequence[str]) -> None:
    with shop.bare() as connection:
        quote = connection.dialect.identifier_preparer.quote
        connection.exec_driver_sql("SET lock_timeout = '10s'")
        try:
            for table in tables:
                connection.exec_driver_sql(f"VACUUM (FULL, ANALYZE) {quote(shop.schema or 'public')}.{quote(table)}")
        finally:
            connection.exec_driver_sql("RESET lock_timeout")
