"""Views beside the shop's tables, and single rows: what is needed of the shop where somebody looks at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guard.errors import ConfigError, InterlockError
from guard.shop._sql import literal, needing, quoted, run, ticked, waiting
from guard.shop.bulk import Look, person_query
from guard.shop.catalog import Table
from guard.shop.connect import Shop
from guard.shop.graph import Step
from guard.shop.rows import Key, at_key

_READABLE = """
SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(:schemas) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND pg_catalog.has_schema_privilege(:role, n.oid, 'USAGE')
  AND (pg_catalog.has_any_column_privilege(:role, c.oid, 'SELECT')
       OR pg_catalog.has_any_column_privilege(:role, c.oid, 'INSERT, UPDATE, REFERENCES')
       OR pg_catalog.has_table_privilege(:role, c.oid, 'DELETE, TRUNCATE, TRIGGER'))
ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Apart:
    """The schema of a role's own views, and those in which it must hold no right."""

    own: str
    others: tuple[str, ...]


def name(dialect: str, *names: str) -> str:
    """Return a name as SQL takes it, its schema or database before it; whatever is in it."""
    return ".".join((ticked if dialect == "mysql" else quoted)(each) for each in names)


def text(value: str) -> str:
    """Return a text as SQL of PostgreSQL takes it."""
    return literal(value)


def one_row(shop: Shop, table: Table, key: Key) -> Mapping[str, Any]:
    """Return the row `key` of `table`, by its columns' names. Raises ConfigError when there is none."""
    clause = shop.clause(table)
    names = [column.name for column in table.columns]
    query = sa.select(*(clause.c[each] for each in names))
    query = query.where(*at_key([clause.c[each] for each in table.key], key))
    with shop.read() as connection:
        found = connection.execute(query).first()
    if found is None:
        raise ConfigError(f"{table.name} has no row with this key", hint=f"its key is ({', '.join(table.key)})")
    return dict(zip(names, found, strict=True))


def person_at(shop: Shop, table: Table, key: Key, path: Sequence[Step], person: str) -> object:
    """Return the key of the person that the row `key` leads to by `path`; None when it leads to nobody."""
    look = Look(table, table.key[0], table.key, path=tuple(path), person=(person,))
    with shop.read() as connection:
        row = connection.execute(person_query(shop, look, key)).first()
    return None if row is None else row[0]


def build(shop: Shop, statements: Sequence[str], apart: Mapping[str, Apart]) -> None:
    """Run the statements that make views and grants; on PostgreSQL all of them or none.

    `apart`: for each role what it may read and what not. Raises InterlockError when a role holds rights beside its
    views (on MariaDB the views are made then all the same), GrantError when guard's account may not do this.
    """
    with needing("guard's account needs the group `views`"), shop.begin() as connection:
        waiting(shop, connection)
        held = _held(connection) if shop.dialect == "mysql" else ()
        there = {f"CREATE ROLE IF NOT EXISTS {ticked(role)}" for role in held}  # it would take CREATE USER all the same
        for statement in statements:
            if statement not in there:
                run(connection, statement)
        look = _held_in_postgres if shop.dialect == "postgresql" else _held_in_mysql
        for role, where in apart.items():
            _require_none(role, look(connection, role, where))


def _held(connection: Connection) -> frozenset[str]:
    """Return the roles that guard's account holds itself."""
    return frozenset(map(str, run(connection, "SELECT role_name FROM information_schema.applicable_roles").scalars()))


def _held_in_postgres(connection: Connection, role: str, where: Apart) -> Sequence[str]:
    found = connection.execute(sa.text(_READABLE), {"role": role, "schemas": list(where.others)})
    return list(found.scalars())


def _held_in_mysql(connection: Connection, role: str, where: Apart) -> Sequence[str]:
    """Return the grants of a role that are not on its own views. Those of PUBLIC guard's account is not shown."""
    if role in _held(connection):  # what one holds oneself is shown to those who see no grants of others
        run(connection, f"SET ROLE {ticked(role)}")
        found = run(connection, "SHOW GRANTS FOR CURRENT_ROLE").scalars().all()
        run(connection, "SET ROLE NONE")
    else:
        found = run(connection, f"SHOW GRANTS FOR {ticked(role)}").scalars().all()
    grants = list(map(str, found))
    mine = f"GRANT SELECT ON {ticked(where.own)}."
    return [each.partition(" TO ")[0] for each in grants if not each.startswith((mine, "GRANT USAGE ON *.* TO "))]


def _require_none(role: str, found: Sequence[str]) -> None:
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise InterlockError(
            f"{role} holds rights beside its views: {', '.join(found[:3])}{more}",
            hint="REVOKE them, from PUBLIC too; ALTER DEFAULT PRIVILEGES may have given them",
        )
