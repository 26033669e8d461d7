"""What else in the shop's database uses a column: what hangs on its type, and routines whose text names it."""

import sqlalchemy as sa

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
_ROUTINES = {
    "postgresql": """
SELECT CASE p.prokind WHEN 'p' THEN 'procedure ' ELSE 'function ' END || p.proname AS what, p.proname AS name,
  COALESCE(p.prosrc, '') AS body
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND l.lanname NOT IN ('c', 'internal')
  AND p.prorettype <> 'trigger'::regtype ORDER BY 1
""",
    "mysql": """
SELECT CONCAT(LOWER(routine_type), ' ', routine_name) AS what, routine_name AS name,
  COALESCE(routine_definition, '') AS body
FROM information_schema.routines WHERE routine_schema = DATABASE()
UNION ALL SELECT CONCAT('event ', event_name), event_name, COALESCE(event_definition, '')
FROM information_schema.events WHERE event_schema = DATABASE() ORDER BY 1
""",
}


def dependents(shop: Shop, table: Table, column: str) -> tuple[str, ...]:
    """Return what keeps PostgreSQL from changing the column's type, but for views: "policy own_rows on table t"."""
    if shop.dialect != "postgresql":
        return ()
    wanted = {"schema": shop.schema, "table": table.name, "column": column}
    with shop.read() as connection:
        rows = connection.execute(sa.text(_DEPENDENTS), wanted).all()
    return tuple(row.what for row in rows if not is_guards(row.trigger))


def routines(shop: Shop, table: Table, column: str) -> tuple[str, ...]:
    """Return the routines that name table and column in their text, e.g. "function monthly_report".

    Triggers are told with their tables. What guard's account may not read is not among them.
    """
    if (query := _ROUTINES.get(shop.dialect)) is None:
        return ()
    with shop.read() as connection:
        rows = connection.execute(sa.text(query)).all()
    return tuple(
        row.what
        for row in rows
        if not is_guards(row.name) and mentions(row.body, table.name) and mentions(row.body, column)
    )
