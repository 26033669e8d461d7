"""Read a schema from MariaDB or MySQL. Triggers and views are read too; sealing there is not built yet."""

import warnings
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Connection

from guard.shop.catalog import Check, ForeignKey, Index, ShopColumn, Sort, Table, Trigger, View, mentions

_SORTS: tuple[tuple[Sort, tuple[type, ...]], ...] = (
    (Sort.OTHER, (sa.Enum, mysql.SET)),
    (Sort.BOOLEAN, (sa.Boolean,)),
    (Sort.INTEGER, (sa.Integer,)),
    (Sort.NUMBER, (sa.Numeric,)),
    (Sort.BINARY, (sa.LargeBinary, sa.BINARY, sa.VARBINARY, mysql.TINYBLOB, mysql.MEDIUMBLOB, mysql.LONGBLOB)),
    (Sort.TIME, (sa.Date, sa.DateTime, sa.Time)),
    (Sort.TEXT, (sa.String,)),
)
_SPATIAL = ("point", "linestring", "polygon", "multi", "geom")
"""Types that cannot be read as texts."""


def read_tables(connection: Connection, schema: str | None) -> dict[str, Table]:
    """Return every table of the database by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exc.SAWarning)  # types it does not know; their names are asked for here
        return _read(connection, schema)


def _read(connection: Connection, schema: str | None) -> dict[str, Table]:
    inspector = sa.inspect(connection)
    names = inspector.get_table_names(schema=schema)
    foreign = {name: _foreign_keys(inspector, name, schema) for name in names}
    triggers = _triggers(connection, schema)
    types = _types(connection, schema)
    views = [
        View(name, str(inspector.get_view_definition(name, schema=schema)))
        for name in inspector.get_view_names(schema=schema)
    ]
    return {
        name: Table(
            name,
            tuple(
                _column(column, types.get((name, column["name"]), ""))
                for column in inspector.get_columns(name, schema=schema)
            ),
            tuple(inspector.get_pk_constraint(name, schema=schema)["constrained_columns"]),
            foreign[name],
            tuple((source, key) for source, keys in foreign.items() for key in keys if key.to_table == name),
            tuple(
                Index(
                    str(index["name"]),
                    tuple(column for column in index["column_names"] if column),
                    bool(index["unique"]),
                    str(index["name"]),
                )
                for index in inspector.get_indexes(name, schema=schema)
            ),
            tuple(
                Check(str(check["name"]), check["sqltext"])
                for check in inspector.get_check_constraints(name, schema=schema)
            ),
            triggers.get(name, ()),
            tuple(view for view in views if mentions(view.sql, name)),
        )
        for name in names
    }


def _foreign_keys(inspector: sa.Inspector, name: str, schema: str | None) -> tuple[ForeignKey, ...]:
    return tuple(
        ForeignKey(tuple(key["constrained_columns"]), key["referred_table"], tuple(key["referred_columns"]))
        for key in inspector.get_foreign_keys(name, schema=schema)
        if key["referred_schema"] in {None, schema}
    )


def _column(column: Mapping[str, Any], declared: str) -> ShopColumn:
    kind = column["type"]
    collation = getattr(kind, "collation", None)
    computed = column.get("computed")
    unknown = Sort.BINARY if declared.startswith(_SPATIAL) else Sort.OTHER
    sort = next((sort for sort, kinds in _SORTS if isinstance(kind, kinds)), unknown)
    return ShopColumn(
        column["name"],
        declared if isinstance(kind, sa.types.NullType) else str(kind),
        sort,
        nullable=bool(column["nullable"]),
        length=getattr(kind, "length", None) if sort in {Sort.TEXT, Sort.BINARY} else None,
        default=column.get("default"),
        generated=computed["sqltext"] if computed else None,
        collation=collation,
        folded=sort is Sort.TEXT and not str(collation or "").endswith("_bin"),  # the server's default folds case
    )


def _types(connection: Connection, schema: str | None) -> dict[tuple[str, str], str]:
    rows = connection.exec_driver_sql(
        "SELECT table_name, column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = COALESCE(%s, DATABASE())",
        (schema,),
    )
    return {(table, name): kind for table, name, kind in rows}


def _triggers(connection: Connection, schema: str | None) -> dict[str, tuple[Trigger, ...]]:
    rows = connection.exec_driver_sql(
        "SELECT event_object_table, trigger_name, event_manipulation, action_statement"
        " FROM information_schema.triggers WHERE trigger_schema = COALESCE(%s, DATABASE())",
        (schema,),
    )
    found: dict[str, tuple[Trigger, ...]] = {}
    for table, name, kind, body in rows:
        found[table] = (*found.get(table, ()), Trigger(name, body, kind == "UPDATE"))
    return found
