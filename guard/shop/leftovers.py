"""Everything of guard in the shop's database, found by name in the schema itself, and how each of it is dropped."""

from dataclasses import dataclass
from types import MappingProxyType

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guard import faults
from guard.shop import progress
from guard.shop._explain import GrantError
from guard.shop._sql import quoted, run, ticked, waiting
from guard.shop.connect import Shop
from guard.shop.names import is_guards, is_token

_QUERIES = MappingProxyType(
    {
        "sqlite": (
            "SELECT type, name, tbl_name FROM sqlite_master WHERE type IN ('table', 'index', 'trigger')",
            "SELECT 'column', x.name, m.name FROM sqlite_master m, pragma_table_xinfo(m.name) x WHERE m.type = 'table'",
        ),
        "postgresql": (
            "SELECT 'table', c.relname, c.relname FROM pg_class c WHERE c.relnamespace = to_regnamespace(:schema)"
            " AND c.relkind IN ('r', 'p')",
            "SELECT 'index', i.relname, c.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid"
            " JOIN pg_class c ON c.oid = x.indrelid WHERE c.relnamespace = to_regnamespace(:schema)",
            "SELECT 'trigger', t.tgname, c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
            " WHERE c.relnamespace = to_regnamespace(:schema) AND NOT t.tgisinternal",
            "SELECT 'function', p.proname, '' FROM pg_proc p WHERE p.pronamespace = to_regnamespace(:schema)",
            "SELECT 'column', a.attname, c.relname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
            " WHERE c.relnamespace = to_regnamespace(:schema) AND c.relkind IN ('r', 'p') AND a.attnum > 0"
            " AND NOT a.attisdropped",
        ),
        "mysql": (
            "SELECT 'table', table_name, table_name FROM information_schema.tables WHERE table_schema = DATABASE()",
            "SELECT DISTINCT 'index', index_name, table_name FROM information_schema.statistics"
            " WHERE table_schema = DATABASE()",
            "SELECT 'trigger', trigger_name, event_object_table FROM information_schema.triggers"
            " WHERE trigger_schema = DATABASE()",
            "SELECT 'column', column_name, table_name FROM information_schema.columns WHERE table_schema = DATABASE()",
        ),
    }
)
_ORDER = ("trigger", "function", "index", "column", "table")
"""What hangs on another goes before it."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing of guard's: a trigger, function, index, column or table."""

    kind: str
    name: str
    table: str
    """Where it lies; empty for a function."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f" on {self.table}" if self.table not in {"", self.name} else "")


def leftovers(shop: Shop) -> tuple[Leftover, ...]:
    """Return everything in the schema that carries a name of guard's, in the order in which it can be dropped."""
    with shop.read() as connection:
        rows = [row for query in _QUERIES[shop.dialect] for row in connection.execute(_ask(shop, query)).all()]
    found = [Leftover(*map(str, row)) for row in rows if _ours(str(row[0]), str(row[1]))]
    return tuple(sorted(found, key=lambda each: (_ORDER.index(each.kind), each.table, each.name)))


def drop(shop: Shop, found: Leftover) -> bool:
    """Drop one thing of guard's, and say whether guard's account may; no error when it is gone.

    What hangs on it must be dropped first. Raises BusyError while others keep its table locked.
    """
    try:
        with shop.begin() as connection:
            waiting(shop, connection)
            if found.kind != "column" or _has_column(shop, connection, found):
                run(connection, statement(shop, found))
    except GrantError:
        return False
    faults.point("shop.leftover.dropped")
    shop.forget()
    return True


def _ask(shop: Shop, query: str) -> sa.TextClause:
    return sa.text(query).bindparams(schema=shop.schema) if ":schema" in query else sa.text(query)


def _ours(kind: str, name: str) -> bool:
    if kind == "table":
        return name == progress.NAME or is_guards(name)
    return is_token(name) if kind == "column" else is_guards(name)


def _name(shop: Shop, name: str) -> str:
    if shop.dialect == "postgresql":
        return f"{quoted(shop.schema or 'public')}.{quoted(name)}"
    return ticked(name) if shop.dialect == "mysql" else quoted(name)


def statement(shop: Shop, found: Leftover) -> str:
    """Return the SQL that drops one thing, for whoever may."""
    name = _name(shop, found.name)
    if found.kind == "column":
        bare = ticked(found.name) if shop.dialect == "mysql" else quoted(found.name)
        return f"ALTER TABLE {_name(shop, found.table)} DROP COLUMN {bare}"
    if found.kind == "trigger" and shop.dialect == "postgresql":
        return f"DROP TRIGGER IF EXISTS {quoted(found.name)} ON {_name(shop, found.table)}"
    if found.kind == "index" and shop.dialect == "mysql":
        return f"DROP INDEX IF EXISTS {name} ON {ticked(found.table)}"
    return f"DROP {found.kind.upper()} IF EXISTS {name}"


def _has_column(shop: Shop, connection: Connection, found: Leftover) -> bool:
    columns = sa.inspect(connection).get_columns(found.table, schema=shop.schema)
    return any(column["name"] == found.name for column in columns)
