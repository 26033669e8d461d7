"""Read a schema from PostgreSQL's catalogs: one query for each kind of thing, whole schema at once."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from guard.shop.catalog import Check, ForeignKey, Index, ShopColumn, Sort, Table, Trigger, View
from guard.shop.names import is_guards, is_token

T = TypeVar("T")

_SORTS = {
    "S": Sort.TEXT,
    "D": Sort.TIME,
    "T": Sort.TIME,
    "B": Sort.BOOLEAN,
}
_INTEGERS = {"int2", "int4", "int8"}
_ON_UPDATE = 16
"""The bit of pg_trigger.tgtype that says UPDATE."""
_RULES = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}

_TABLES = """
SELECT c.oid, c.relname, c.relkind = 'p' AS parted, c.relispartition OR EXISTS (
    SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid OR i.inhparent = c.oid) AS inherits,
  row_security_active(c.oid) AS filtered
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND c.relkind IN ('r', 'p')
"""
_COLUMNS = """
SELECT a.attrelid AS oid, a.attnum AS number, a.attname AS name,
  format_type(a.atttypid, a.atttypmod) AS type, t.typcategory AS category,
  t.typname, t.typtype, NOT a.attnotnull AS nullable, a.attgenerated <> '' AS generated,
  CASE WHEN t.typname IN ('varchar', 'bpchar') AND a.atttypmod > 4 THEN a.atttypmod - 4 END AS length,
  pg_get_expr(d.adbin, d.adrelid) AS expression,
  CASE WHEN a.attcollation <> t.typcollation THEN quote_ident(cn.nspname) || '.' || quote_ident(l.collname) END
    AS collation,
  COALESCE(NOT l.collisdeterministic, false) AS folded, a.attidentity <> '' AS identity
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_collation l ON l.oid = a.attcollation
LEFT JOIN pg_namespace cn ON cn.oid = l.collnamespace
WHERE n.nspname = :schema AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""
_INDEXES = """
SELECT i.indrelid AS oid, x.relname AS name, i.indisunique AS uniq, i.indisprimary AS main,
  pg_get_indexdef(i.indexrelid) AS definition, i.indkey::int2[] AS columns, i.indnkeyatts AS width,
  pg_get_expr(i.indpred, i.indrelid) AS condition, i.indexprs IS NOT NULL AS derived
FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :schema ORDER BY i.indrelid, x.relname
"""
_CONSTRAINTS = """
SELECT o.conrelid AS oid, o.conname AS name, o.contype AS kind, pg_get_constraintdef(o.oid) AS definition,
  o.confrelid AS target, r.relname AS target_name, o.conkey AS columns, o.confkey AS target_columns,
  o.confdeltype AS on_delete, o.confupdtype AS on_update,
  n.nspname || '.' || c.relname AS outside
FROM pg_constraint o
JOIN pg_class c ON c.oid = o.conrelid
JOIN pg_namespace n ON n.oid = o.connamespace
LEFT JOIN pg_class r ON r.oid = o.confrelid
LEFT JOIN pg_namespace t ON t.oid = r.relnamespace
WHERE :schema IN (n.nspname, t.nspname) AND o.contype IN ('f', 'c', 'x') AND o.conrelid <> 0
ORDER BY o.conrelid, o.conname
"""
_TRIGGERS = """
SELECT t.tgrelid AS oid, t.tgname AS name, t.tgtype AS kind,
  pg_get_triggerdef(t.oid) || E'\\n' || p.prosrc AS definition
FROM pg_trigger t
JOIN pg_proc p ON p.oid = t.tgfoid
JOIN pg_class c ON c.oid = t.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND NOT t.tgisinternal AND t.tgenabled <> 'D' ORDER BY t.tgrelid, t.tgname
"""
_VIEWS = """
SELECT d.refobjid AS oid, v.oid AS view, v.relname AS name, pg_get_viewdef(v.oid) AS definition,
  v.relkind = 'm' AS stored,
  array_agg(DISTINCT a.attname::text) FILTER (WHERE a.attname IS NOT NULL) AS columns
FROM pg_depend d
JOIN pg_rewrite w ON w.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
JOIN pg_class v ON v.oid = w.ev_class AND v.relkind IN ('v', 'm')
JOIN pg_class c ON c.oid = d.refobjid AND d.refclassid = 'pg_class'::regclass AND c.oid <> v.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid AND d.refobjsubid > 0
WHERE n.nspname = :schema AND c.relkind IN ('r', 'p') GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 3
"""


def read_tables(connection: Connection, schema: str | None) -> dict[str, Table]:
    """Return every table of `schema` by name; partitions are left out, their parents stand for them."""

    def ask(query: str) -> list[Row[Any]]:
        return list(connection.execute(sa.text(query), {"schema": schema}).all())

    attributes = ask(_COLUMNS)
    named = {(row.oid, row.number): row.name for row in attributes}
    tables = {row.oid: row for row in ask(_TABLES)}
    indexes = ask(_INDEXES)
    constraints = ask(_CONSTRAINTS)

    def names(oid: int, numbers: Sequence[int]) -> tuple[str, ...]:
        return tuple(named.get((oid, number), "") for number in numbers if number)  # 0 stands for an expression

    foreign = [
        (
            row,
            ForeignKey(
                names(row.oid, row.columns),
                row.target_name,
                names(row.target, row.target_columns),
                _RULES[row.on_delete],
                _RULES[row.on_update],
            ),
        )
        for row in constraints
        if row.kind == "f" and row.target in tables
    ]
    of = _Parts(
        _grouped((row.oid, _column(row)) for row in attributes if not is_token(row.name)),
        {row.oid: names(row.oid, row.columns[: row.width]) for row in indexes if row.main},
        _grouped((row.oid, key) for row, key in foreign),
        _grouped(
            (row.target, (tables[row.oid].relname if row.oid in tables else row.outside, key)) for row, key in foreign
        ),
        _grouped(
            (row.oid, _index(row, names(row.oid, row.columns[: row.width])))
            for row in indexes
            if not row.main and not is_guards(row.name)
        ),
        _grouped((row.oid, Check(row.name, row.definition)) for row in constraints if row.kind in {"c", "x"}),
        _grouped(
            (row.oid, Trigger(row.name, row.definition, bool(row.kind & _ON_UPDATE)))
            for row in ask(_TRIGGERS)
            if not is_guards(row.name)
        ),
        _grouped(
            (row.oid, View(row.name, row.definition, tuple(row.columns or ()), row.stored)) for row in ask(_VIEWS)
        ),
        _grouped((row.oid, row.name) for row in attributes if is_token(row.name)),
    )
    return {row.relname: of.table(row) for row in tables.values()}


@dataclass(frozen=True, slots=True)
class _Parts:
    """What tables are made of, each by the table's oid."""

    columns: dict[int, tuple[ShopColumn, ...]]
    keys: dict[int, tuple[str, ...]]
    foreign: dict[int, tuple[ForeignKey, ...]]
    referred: dict[int, tuple[tuple[str, ForeignKey], ...]]
    indexes: dict[int, tuple[Index, ...]]
    checks: dict[int, tuple[Check, ...]]
    triggers: dict[int, tuple[Trigger, ...]]
    views: dict[int, tuple[View, ...]]
    tokens: dict[int, tuple[str, ...]]

    def table(self, row: Row[Any]) -> Table:
        oid = row.oid
        return Table(
            row.relname,
            self.columns.get(oid, ()),
            self.keys.get(oid, ()),
            self.foreign.get(oid, ()),
            self.referred.get(oid, ()),
            self.indexes.get(oid, ()),
            self.checks.get(oid, ()),
            self.triggers.get(oid, ()),
            self.views.get(oid, ()),
            _trouble(row),
            self.tokens.get(oid, ()),
        )


def _grouped(pairs: Iterable[tuple[int, T]]) -> dict[int, tuple[T, ...]]:
    found: dict[int, list[T]] = defaultdict(list)
    for oid, item in pairs:
        found[oid].append(item)
    return {oid: tuple(items) for oid, items in found.items()}


def _index(row: Row[Any], columns: tuple[str, ...]) -> Index:
    return Index(row.name, columns, row.uniq, row.definition, row.condition, derived=row.derived)


def _column(row: Row[Any]) -> ShopColumn:
    return ShopColumn(
        row.name,
        row.type,
        _sort(row),
        nullable=row.nullable,
        length=row.length,
        default=None if row.generated else row.expression,
        generated=row.expression or "unknown" if row.generated else None,
        collation=row.collation,
        folded=row.folded or row.typname == "citext",
        identity=row.identity,
    )


def _sort(row: Row[Any]) -> Sort:
    if row.typtype == "d":  # a domain brings its own checks
        return Sort.OTHER
    if row.category == "N":
        return Sort.INTEGER if row.typname in _INTEGERS else Sort.NUMBER
    if row.typname == "bytea":
        return Sort.BINARY
    return _SORTS.get(row.category, Sort.OTHER)


def _trouble(row: Row[Any]) -> str | None:
    if row.parted or row.inherits:
        return "it is partitioned or inherits"
    if row.filtered:
        return "row security hides some of its rows from guard"
    return None
