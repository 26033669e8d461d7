"""Rewrite tables of PostgreSQL so that heap, indexes, TOAST and statistics hold no old value."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guard import faults
from guard.errors import BusyError, GuardError
from guard.shop._explain import GrantError
from guard.shop._postgres_change import holders, standing
from guard.shop._postgres_wal import turn_over
from guard.shop._sql import patiently, quoted, run
from guard.shop.connect import Shop
from guard.shop.remains import Kind, Remains, Scrubbed

_KEPT = re.compile(r"(\d+) ")
_CATALOGS = ("pg_statistic", "pg_statistic_ext_data")
_LISTED = "docs/GRANTS.md lists the grants of each command"
_SAMPLES = """
SELECT attname, most_common_vals::text::text[], histogram_bounds::text::text[], most_common_elems::text::text[]
FROM pg_stats WHERE schemaname = :schema AND tablename = :table AND attname = ANY(:columns)
"""
_EXTENDED = """
SELECT statistics_name, attnames::text[], most_common_vals FROM pg_stats_ext
WHERE schemaname = :schema AND tablename = :table AND most_common_vals IS NOT NULL
"""
_EXPRESSIONS = """
SELECT 'index' AS kind, s.tablename AS name, s.attname AS part FROM pg_stats s
JOIN pg_class x ON x.relname = s.tablename JOIN pg_index i ON i.indexrelid = x.oid AND i.indexprs IS NOT NULL
JOIN pg_namespace n ON n.oid = x.relnamespace AND n.nspname = s.schemaname
WHERE i.indrelid = (SELECT c.oid FROM pg_class c WHERE c.relname = :table AND c.relnamespace = n.oid)
  AND s.schemaname = :schema
UNION ALL SELECT DISTINCT 'statistics', statistics_name, '' FROM pg_stats_ext_exprs
WHERE schemaname = :schema AND tablename = :table ORDER BY 1, 2, 3
"""
_SEALED = ("g1.", "\\x6731")


def scrub(shop: Shop, columns: Mapping[str, Sequence[str]]) -> Scrubbed:
    """See `guard.shop.scrub.scrub`."""
    for table in columns:
        _rewrite(shop, table)
        faults.point("shop.scrub.rewritten")
    statistics = [each for table, names in columns.items() for each in _samples(shop, table, names)]
    statistics += [each for table in columns for each in _expressions(shop, table)]
    catalogs = tuple(_catalogs(shop))
    faults.point("shop.scrub.statistics")
    since, log = turn_over(shop)
    return Scrubbed((*statistics, *catalogs, *log, *_stored_views(shop, columns)), since)


def _rewrite(shop: Shop, name: str) -> None:
    """Write one table anew, and its statistics. Raises BusyError where old rows had to be kept for somebody."""
    table = shop.table(name)
    place = f"{quoted(shop.schema or 'public')}.{quoted(name)}"

    def step() -> list[str]:
        with _hearing(shop) as (connection, said):
            run(connection, f"VACUUM (FULL, VERBOSE, ANALYZE) {place}")
            return said

    said = patiently(shop, f"the table {name}", step, lambda: holders(shop, table))
    kept = _kept(said)
    if kept is None:
        raise GrantError(shop.place, f"PostgreSQL did not rewrite {name}", f"GRANT MAINTAIN ON {place}; {_LISTED}")
    if kept:
        raise BusyError(
            f"a transaction from before the sealing is still open, so {kept} old rows of {name} were kept",
            hint="end it (pg_stat_activity, pg_prepared_xacts, pg_replication_slots), then run the same command again",
        )


@contextmanager
def _hearing(shop: Shop) -> Iterator[tuple[Connection, list[str]]]:
    """Give a connection in autocommit, and the details of what the server says meanwhile."""
    said: list[str] = []

    def hear(diagnostic: Any) -> None:
        said.append(diagnostic.message_detail or "")

    with standing(shop) as connection:
        raw: Any = connection.connection.dbapi_connection
        raw.add_notice_handler(hear)
        yield connection, said


def _kept(details: Sequence[str]) -> int | None:
    """Return how many old rows VACUUM FULL had to keep; None when it did not rewrite: without the right it only warns.

    Its detail begins with that number. It ends well in every case.
    """
    found = [int(match[1]) for detail in details if (match := _KEPT.match(detail))]
    return sum(found) if found else None


def _samples(shop: Shop, table: str, columns: Sequence[str]) -> Iterator[Remains]:
    """Yield the statistics that still hold plain values: ANALYZE leaves those of an empty table as they were."""
    with shop.read() as connection:
        asked = {"schema": shop.schema, "table": table, "columns": list(columns)}
        rows = [tuple(row) for row in connection.execute(sa.text(_SAMPLES), asked)]
        extended = [tuple(row) for row in connection.execute(sa.text(_EXTENDED), asked)]
    for name, *lists in rows:
        if any(_is_plain(value) for values in lists for value in values or ()) and not _cleared(shop, table, name):
            yield Remains(
                Kind.STATISTICS, f"pg_statistic: {table}.{name}", None,
                "the table is empty, so ANALYZE kept it: INSERT a row, ANALYZE, and finalize again",
            )  # fmt: skip
    for statistics, names, values in extended:
        places = [place for place, name in enumerate(names or ()) if name in columns]
        if any(_is_plain(row[place]) for row in values for place in places):
            yield Remains(
                Kind.STATISTICS, f"pg_statistic_ext_data: {statistics}", None,
                f"DROP STATISTICS {quoted(statistics)}, create it again, and finalize again",
            )  # fmt: skip


def _expressions(shop: Shop, name: str) -> Iterator[Remains]:
    """Yield the statistics of expressions of an empty table: ANALYZE leaves them; what is in them is not told apart."""
    table = shop.clause(shop.table(name))
    with shop.read() as connection:
        if connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None:
            return
        asked = {"schema": shop.schema, "table": name}
        found = [tuple(row) for row in connection.execute(sa.text(_EXPRESSIONS), asked)]
    for kind, thing, part in found:
        if kind == "index" and _cleared(shop, thing, part):
            continue
        yield Remains(
            Kind.STATISTICS, f"those of the expressions of {kind} {thing}", None,
            f"{name} is empty, so ANALYZE kept them: drop {quoted(thing)}, create it again, and finalize again",
        )  # fmt: skip


def _is_plain(value: str | None) -> bool:
    return bool(value) and not str(value).startswith(_SEALED)


def _cleared(shop: Shop, table: str, column: str) -> bool:
    """Clear the statistics of one column, which PostgreSQL 18 can; return whether it did."""
    clear = sa.text("SELECT pg_clear_attribute_stats(:schema, :table, :column, false)")
    try:
        with shop.begin() as connection:
            connection.execute(clear, {"schema": shop.schema, "table": table, "column": column})
    except GuardError:
        return False
    return True


def _catalogs(shop: Shop) -> Iterator[Remains]:
    """Rewrite the catalogs of statistics: what ANALYZE replaced lies there as dead rows."""
    for name in _CATALOGS:
        place = f"pg_catalog.{name}"
        try:
            with _hearing(shop) as (connection, said):
                run(connection, f"VACUUM (FULL, VERBOSE) {place}")
            kept = _kept(said)
        except BusyError:
            kept = 1
        if kept is None:
            how = f"GRANT MAINTAIN ON {place}, then finalize again; or as superuser VACUUM FULL {place}"
        elif kept:
            how = "an old transaction is still open; end it, then finalize again"
        else:
            continue
        yield Remains(Kind.STATISTICS, f"dead rows of {place}", None, how)


def _stored_views(shop: Shop, columns: Mapping[str, Sequence[str]]) -> Iterator[Remains]:
    """Yield the materialized views that copied a column."""
    tables = shop.tables(fresh=True)
    found = {
        view.name
        for table, names in columns.items()
        for view in tables[table].views
        if view.stored and set(view.columns).intersection(names)
    }
    for name in sorted(found):
        yield Remains(
            Kind.COPY, f"the materialized view {name}, unless it was refreshed since", None,
            f"REFRESH MATERIALIZED VIEW {quoted(name)}",
        )  # fmt: skip
