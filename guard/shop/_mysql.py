"""Read a schema from MariaDB's or MySQL's information_schema: one query for each kind of thing."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guard.shop._mysql_rights import Rights, rights
from guard.shop.catalog import Check, ForeignKey, Index, ShopColumn, Sort, Table, Trigger, View, mentions
from guard.shop.names import is_guards, is_token

Rows = list[Sequence[Any]]
"""Positional: MySQL gives these columns upper-case names, MariaDB lower-case ones."""

SORTS = {
    **dict.fromkeys(("char", "varchar", "tinytext", "text", "mediumtext", "longtext"), Sort.TEXT),
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint", "year"), Sort.INTEGER),
    **dict.fromkeys(("decimal", "float", "double"), Sort.NUMBER),
    **dict.fromkeys(("date", "datetime", "timestamp", "time"), Sort.TIME),
    **dict.fromkeys(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"), Sort.BINARY),
    **dict.fromkeys(  # cannot be read as texts
        ("point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geometry",
         "geometrycollection", "geomcollection"), Sort.BINARY
    ),
}  # fmt: skip
"""What a column holds, by the first word of its type."""
_LIMITED = {"char", "varchar", "binary", "varbinary"}

_TABLES = """
SELECT t.table_name, t.table_type, t.engine, e.transactions FROM information_schema.tables t
LEFT JOIN information_schema.engines e ON e.engine = t.engine
WHERE t.table_schema = :schema AND t.table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')
"""
_COLUMNS = """
SELECT table_name, column_name, column_type, data_type, is_nullable, character_maximum_length, column_default, extra,
  generation_expression, collation_name
FROM information_schema.columns WHERE table_schema = :schema ORDER BY table_name, ordinal_position
"""
_PRIMARY = """
SELECT table_name, column_name FROM information_schema.key_column_usage
WHERE table_schema = :schema AND constraint_name = 'PRIMARY' ORDER BY table_name, ordinal_position
"""
_FOREIGN = """
SELECT k.table_schema, k.table_name, k.constraint_name, k.column_name, k.referenced_table_schema,
  k.referenced_table_name, k.referenced_column_name, r.delete_rule, r.update_rule
FROM information_schema.key_column_usage k
JOIN information_schema.referential_constraints r ON r.constraint_schema = k.constraint_schema
  AND r.constraint_name = k.constraint_name AND r.table_name = k.table_name
WHERE :schema IN (k.table_schema, k.referenced_table_schema) AND k.referenced_table_name IS NOT NULL
ORDER BY k.table_schema, k.table_name, k.constraint_name, k.ordinal_position
"""
_INDEXES = """
SELECT table_name, index_name, non_unique, column_name, sub_part, index_type FROM information_schema.statistics
WHERE table_schema = :schema AND index_name <> 'PRIMARY' ORDER BY table_name, index_name, seq_in_index
"""
_CHECKS = """
SELECT table_name, constraint_name, check_clause FROM information_schema.check_constraints
WHERE constraint_schema = :schema ORDER BY table_name, constraint_name
"""
_CHECKS_OF_MYSQL = """
SELECT t.table_name, c.constraint_name, c.check_clause FROM information_schema.check_constraints c
JOIN information_schema.table_constraints t ON t.constraint_schema = c.constraint_schema
  AND t.constraint_name = c.constraint_name
WHERE c.constraint_schema = :schema ORDER BY t.table_name, c.constraint_name
"""
_TRIGGERS = """
SELECT event_object_table, trigger_name, event_manipulation, action_statement FROM information_schema.triggers
WHERE trigger_schema = :schema ORDER BY event_object_table, trigger_name
"""
_VIEWS = "SELECT table_name, view_definition FROM information_schema.views WHERE table_schema = :schema ORDER BY 1"


def read_tables(connection: Connection, schema: str | None) -> dict[str, Table]:
    """Return every table of the database by name."""
    name = str(schema or connection.exec_driver_sql("SELECT DATABASE()").scalar_one())

    def ask(query: str) -> Rows:
        return [tuple(row) for row in connection.execute(sa.text(query), {"schema": name})]

    checks = ask(_CHECKS if getattr(connection.dialect, "is_mariadb", False) else _CHECKS_OF_MYSQL)
    json = {(table, _json_of(sql)) for table, _, sql in checks}
    columns = ask(_COLUMNS)
    primary = _grouped((table, column) for table, column in ask(_PRIMARY))
    foreign, referred = _foreign_keys(ask(_FOREIGN), name)
    indexes = _indexes(ask(_INDEXES))
    triggers = _grouped((row[0], Trigger(row[1], row[3], row[2] == "UPDATE")) for row in ask(_TRIGGERS))
    views = ask(_VIEWS)
    allowed = rights(connection)
    return {
        table: Table(
            table,
            tuple(_column(row, json) for row in columns if row[0] == table and not is_token(row[1])),
            primary.get(table, ()),
            foreign.get(table, ()),
            referred.get(table, ()),
            indexes.get(table, ()),
            tuple(Check(row[1], row[2]) for row in checks if row[0] == table and not _json_of(row[2])),
            tuple(trigger for trigger in triggers.get(table, ()) if not is_guards(trigger.name)),
            tuple(_view(view, sql, name, table) for view, sql in views if not sql or mentions(sql, table)),
            _trouble(kind, engine, transactions),
            tuple(row[1] for row in columns if row[0] == table and is_token(row[1])),
            unseen=_unseen(allowed, name, table),
        )
        for table, kind, engine, transactions in ask(_TABLES)
    }


def _grouped(pairs: Iterable[tuple[str, Any]]) -> dict[str, tuple[Any, ...]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for name, item in pairs:
        found[name].append(item)
    return {name: tuple(items) for name, items in found.items()}


def _column(row: Sequence[Any], json: set[tuple[str, str | None]]) -> ShopColumn:
    table, name, declared, kind, nullable, length, default, extra, expression, collation = row
    sort = SORTS.get(kind.lower(), Sort.OTHER)
    return ShopColumn(
        name,
        "json" if (table, name) in json else declared,
        sort,
        nullable=nullable == "YES",
        length=int(length) if kind.lower() in _LIMITED else None,
        default=default,
        generated=expression or None,
        collation=collation,
        folded=sort is Sort.TEXT and not str(collation).endswith("_bin"),
        identity="auto_increment" in extra,
    )


def _json_of(check: str) -> str | None:
    """Return the column of a CHECK that is nothing but json_valid(column): MariaDB's way to say that a text is JSON."""
    found = re.fullmatch(r"json_valid\(`((?:[^`]|``)+)`\)", check)
    return found[1].replace("``", "`") if found else None


def _foreign_keys(
    rows: Rows, schema: str
) -> tuple[dict[str, tuple[ForeignKey, ...]], dict[str, tuple[tuple[str, ForeignKey], ...]]]:
    """Return the keys each table holds, and those that refer to each, of other databases too."""
    members: dict[tuple[str, str, str], Rows] = defaultdict(list)
    for row in rows:
        members[row[0], row[1], row[2]].append(row)
    keys = [
        (
            place,
            table,
            parts[0][4],
            ForeignKey(
                tuple(part[3] for part in parts),
                parts[0][5],
                tuple(part[6] for part in parts),
                parts[0][7],
                parts[0][8],
            ),
        )
        for (place, table, _), parts in members.items()
    ]
    inside = _grouped((table, key) for place, table, target, key in keys if place == schema == target)
    referred = _grouped(
        (key.to_table, (table if place == schema else f"{place}.{table}", key))
        for place, table, target, key in keys
        if target == schema
    )
    return inside, referred


def _indexes(rows: Rows) -> dict[str, tuple[Index, ...]]:
    members: dict[tuple[str, str], Rows] = defaultdict(list)
    for row in rows:
        if not is_guards(row[1]):
            members[row[0], row[1]].append(row)
    return _grouped((table, _index(name, parts)) for (table, name), parts in members.items())


def _index(name: str, parts: Rows) -> Index:
    columns = tuple(part[3] for part in parts if part[3])
    listed = ", ".join(f"`{part[3]}`" + (f"({part[4]})" if part[4] else "") for part in parts)
    derived = any(part[4] or not part[3] for part in parts)
    return Index(name, columns, not parts[0][2], f"{parts[0][5]} ({listed})", derived=derived)


_PLACE = r"`{schema}`\.`{table}`(?: (?:`((?:[^`]|``)+)`))?"


def _view(view: str, sql: str | None, schema: str, table: str) -> View:
    """Return a view; which columns it reads is told by the server's own text of it, which qualifies every name."""
    if not sql:
        return View(view, "")
    quoted = {"schema": re.escape(schema.replace("`", "``")), "table": re.escape(table.replace("`", "``"))}
    names = {found[1] for found in re.finditer(_PLACE.format(**quoted), sql) if found[1]} | {table.replace("`", "``")}
    words = "|".join(map(re.escape, names))
    columns = {found[1] for found in re.finditer(rf"`(?:{words})`\.`((?:[^`]|``)+)`", sql)}
    return View(view, sql, tuple(sorted(column.replace("``", "`") for column in columns)))


def _trouble(kind: str, engine: str | None, transactions: str | None) -> str | None:
    if kind == "SYSTEM VERSIONED":
        return "it keeps all old versions of its rows (system versioning)"
    if engine is None:
        return "the server cannot open it"
    if transactions != "YES":
        return f"its engine {engine} has no transactions"
    return None


def _unseen(allowed: Rights, schema: str, table: str) -> tuple[str, ...]:
    return () if allowed.may("TRIGGER", schema, table) else ("triggers (grant TRIGGER)",)
