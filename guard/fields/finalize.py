"""Finish sealed columns: refuse plaintext from now on, and clear what the database file still holds of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine import Connection

from guard.errors import BusyError, UnavailableError
from guard.shop import Shop

_STATISTICS = ("sqlite_stat4", "sqlite_stat3")
"""Where ANALYZE keeps samples of indexed values."""
_KEPT = re.compile(r"(\d+) ")


def scrub(shop: Shop, tables: Sequence[str]) -> tuple[str, ...]:
    """Rewrite the database so that no free page, log or statistic holds old values; return what may remain elsewhere.

    Raises BusyError while another process keeps the old pages in use, UnavailableError where guard's account may not.
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
        said: list[str] = []
        raw: Any = connection.connection.driver_connection

        def hear(diagnostic: Any) -> None:
            said.append(diagnostic.message_detail or "")

        raw.add_notice_handler(hear)
        try:
            for table in tables:
                said.clear()
                where = f"{quote(shop.schema or 'public')}.{quote(table)}"
                connection.exec_driver_sql(f"VACUUM (FULL, VERBOSE, ANALYZE) {where}")
                _require_rewritten(table, said)
        finally:
            raw.remove_notice_handler(hear)
            connection.exec_driver_sql("RESET lock_timeout")


def _require_rewritten(table: str, details: Sequence[str]) -> None:
    """Raise unless VACUUM FULL said that it rewrote the table and left no old row: it ends well all the same.

    Its detail begins with the number of dead rows it had to keep. Without the right to a table it only warns.
    """
    kept = [int(found[1]) for detail in details if (found := _KEPT.match(detail))]
    if not kept:
        raise UnavailableError(
            f"PostgreSQL did not rewrite {table}: guard's account may not", hint="docs/GRANTS.md lists the grants"
        )
    if any(kept):
        raise BusyError(
            f"a transaction from before the sealing is still open, so {sum(kept)} old rows of {table} were kept",
            hint="end it (pg_stat_activity, pg_prepared_xacts, pg_replication_slots), then run the same command again",
        )
