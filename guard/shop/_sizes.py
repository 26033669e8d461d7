"""How large tables are, by what the database says of them; nothing is counted that it knows already."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes a table takes on disk: its rows (long values kept elsewhere included), and its indexes.

    `rows` is the database's estimate of how many there are; None where it has none yet. SQLite counts them.
    """

    table: int
    indexes: int
    rows: int | None

    @property
    def total(self) -> int:
        """Bytes of rows and indexes."""
        return self.table + self.indexes


_POSTGRES = """
SELECT c.relname, pg_table_size(c.oid), pg_indexes_size(c.oid),
  CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND c.relname = ANY(:names) AND c.relkind IN ('r', 'p')
"""
_MYSQL = """
SELECT table_name, data_length, index_length, table_rows FROM information_schema.tables
WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name IN :names
"""
_SQLITE = """
SELECT m.tbl_name, SUM(CASE m.type WHEN 'table' THEN s.pgsize ELSE 0 END),
  SUM(CASE m.type WHEN 'index' THEN s.pgsize ELSE 0 END)
FROM sqlite_master m JOIN dbstat('main', 1) s ON s.name = m.name GROUP BY m.tbl_name
"""


def sizes(connection: Connection, schema: str | None, names: Iterable[str]) -> dict[str, Size]:
    """Return the size of each of the tables `names` that is there."""
    wanted = list(names)
    if connection.dialect.name == "sqlite":
        return _sqlite(connection, wanted)
    query = sa.text(_POSTGRES)
    if connection.dialect.name != "postgresql":
        query = sa.text(_MYSQL).bindparams(sa.bindparam("names", expanding=True))
    rows = connection.execute(query, {"schema": schema, "names": wanted})
    return {name: Size(int(table), int(indexes), count) for name, table, indexes, count in rows}


def _sqlite(connection: Connection, wanted: list[str]) -> dict[str, Size]:
    """Ask dbstat, which not every SQLite has; without it a table counts as the whole file."""
    try:
        rows: list[Any] = list(connection.exec_driver_sql(_SQLITE))
    except exc.OperationalError:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        whole = int(pages) * int(connection.exec_driver_sql("PRAGMA page_size").scalar_one())
        rows = [(name, whole, 0) for name in wanted]
    return {
        name: Size(int(table), int(indexes), connection.execute(_count(name)).scalar_one())
        for name, table, indexes in rows
        if name in wanted
    }


def _count(name: str) -> sa.Select[int]:
    return sa.select(sa.func.count()).select_from(sa.table(name))
