"""What else in the shop's database uses a column or a table: what hangs on its type, and programs whose text names it.

A program is a function, a procedure, a trigger, an event. Texts are searched, not understood: comments count.
"""

import re
from dataclasses import dataclass

import sqlalchemy as sa

from guard.shop._mysql_rights import rights
from guard.shop.catalog import Table, mentions
from guard.shop.connect import Shop
from guard.shop.names import is_guards

_DEPENDENTS = """
SELECT DISTINCT d.classid::regclass::text AS class, pg_describe_object(d.classid, d.objid, 0) AS what,
  COALESCE(t.tgname, '') AS trigger
FROM pg_depend d
JOIN pg_class c ON c.oid = d.refobjid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
LEFT JOIN pg_rewrite w ON w.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
LEFT JOIN pg_trigger t ON t.oid = d.objid AND d.classid = 'pg_trigger'::regclass
WHERE d.refclassid = 'pg_class'::regclass AND n.nspname = :schema AND c.relname = :table AND a.attname = :column
  AND d.classid IN ('pg_policy'::regclass, 'pg_trigger'::regclass, 'pg_proc'::regclass, 'pg_rewrite'::regclass)
  AND COALESCE(w.rulename, '') <> '_RETURN'
ORDER BY 2
"""
_PROGRAMS = {
    "sqlite": "SELECT 'trigger', name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY 2",
    "postgresql": """
SELECT CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END, p.proname, NULL, COALESCE(p.prosrc, '')
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND l.lanname NOT IN ('c', 'internal')
  AND p.prorettype <> 'trigger'::regtype
UNION ALL SELECT 'trigger', t.tgname, c.relname, COALESCE(p.prosrc, '')
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_class c ON c.oid = t.tgrelid
WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' ORDER BY 1, 2
""",
    "mysql": """
SELECT LOWER(routine_type), routine_name, NULL, routine_definition
FROM information_schema.routines WHERE routine_schema = DATABASE()
UNION ALL SELECT 'event', event_name, NULL, event_definition
FROM information_schema.events WHERE event_schema = DATABASE()
UNION ALL SELECT 'trigger', trigger_name, event_object_table, action_statement
FROM information_schema.triggers WHERE trigger_schema = DATABASE() ORDER BY 1, 2
""",
}


@dataclass(frozen=True, slots=True)
class Program:
    """A function, procedure, event or trigger of the shop. `body` is None where guard's account may not see it."""

    kind: str
    name: str
    table: str | None
    """The table, or view, a trigger is on."""
    body: str | None

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f" on {self.table}" if self.table else "")


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs of the shop's database that guard's account is shown."""

    all: tuple[Program, ...] = ()
    unseen: tuple[str, ...] = ()
    """What it is not shown, each with the grant."""

    def naming(self, table: Table, column: str) -> tuple[str, ...]:
        """Return those that name table and column, the table's own triggers left out: "function monthly_report"."""
        return tuple(
            str(each)
            for each in self.all
            if each.table != table.name and mentions(each.body or "", table.name) and mentions(each.body or "", column)
        )

    def positional(self, table: Table) -> tuple[str, ...]:
        """Return those that insert into `table` without naming columns."""
        return tuple(str(each) for each in self.all if _inserts_blindly(each.body or "", table.name))

    def copying(self, table: Table) -> tuple[str, ...]:
        """Return those that insert all columns of `table` elsewhere, by `*`."""
        return tuple(
            str(each)
            for each in self.all
            if _copies(each.body or "", table.name) or (each.table == table.name and _ROW.search(each.body or ""))
        )


def programs(shop: Shop) -> Programs:
    """Return the programs of the shop's database; guard's own left out."""
    with shop.read() as connection:
        rows = connection.execute(sa.text(_PROGRAMS[shop.dialect])).all()
        found = tuple(Program(*row) for row in map(tuple, rows) if not is_guards(row[1]))
        unseen = tuple(_unseen(connection, found)) if shop.dialect == "mysql" else ()
    return Programs(found, unseen)


def dependents(shop: Shop, table: Table, column: str) -> tuple[str, ...]:
    """Return what keeps PostgreSQL from changing the column's type, but for views: "policy own_rows on table t"."""
    if shop.dialect != "postgresql":
        return ()
    wanted = {"schema": shop.schema, "table": table.name, "column": column}
    with shop.read() as connection:
        rows = connection.execute(sa.text(_DEPENDENTS), wanted).all()
    return tuple(row.what for row in rows if not is_guards(row.trigger))


_ROW = re.compile(r"\bINSERT\b[^;]*\b(?:NEW|OLD)\s*\.\s*\*", re.IGNORECASE)


def _inserts_blindly(sql: str, table: str) -> bool:
    into = r"\b(?:INSERT(?:\s+(?:OR\s+\w+|IGNORE))?|REPLACE)\s+INTO\s+"
    behind = r"\s*(?:AS\s+\w+\s*)?(?:VALUES|SELECT|WITH)\b"
    return re.search(into + _name(table) + behind, sql, re.IGNORECASE) is not None


def _copies(sql: str, table: str) -> bool:
    star = r"\bINSERT\s(?:[^;]*?\s)?INTO\b[^;]*(?:\bSELECT|,)\s*(?:[\w\"`]+\s*\.\s*)?\*\s*(?:,|\bFROM\b)[^;]*"
    return re.search(rf"{star}(?<!\w){re.escape(table)}(?!\w)", sql, re.IGNORECASE) is not None


def _name(table: str) -> str:
    """Return the pattern of a table's name, its schema before it or not, quoted or not."""
    return rf"(?:[\w\"`\[\]]+\s*\.\s*)?[\"`\[]?(?<!\w){re.escape(table)}(?!\w)[\"`\]]?"


def _unseen(connection: sa.Connection, found: tuple[Program, ...]) -> list[str]:
    """Return what MariaDB hides from an account that lacks a grant: texts of routines, or that there are any."""
    schema = str(connection.exec_driver_sql("SELECT DATABASE()").scalar_one())
    allowed, out = rights(connection), []
    ways = (("SELECT", "mysql", "proc"), ("SHOW CREATE ROUTINE", schema), ("SHOW_ROUTINE",))  # 10, 11.3 and MySQL 8
    if not any(allowed.may(*way) for way in ways):
        bare = sum(each.body is None for each in found)
        known = f"{bare} functions and procedures, and those it is not told of" if bare else "functions and procedures"
        out.append(f"{known} (GRANT SELECT ON mysql.proc)")
    if not allowed.may("EVENT", schema):
        out.append(f"events (GRANT EVENT ON {schema}.*)")
    return out
