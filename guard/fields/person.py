"""Whose data a column holds, and which rows are about one person: so `bind = "subject"` finds the key to seal with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guard.canon import KeyPart, key_bytes
from guard.config import Catalog, Column, Subject
from guard.crypto.subjects import Person, SubjectKeys
from guard.errors import ConfigError
from guard.fields.store import Record, Stage
from guard.shop import Shop, Table
from guard.shop.catalog import Sort
from guard.shop.graph import Link, Step, subject_path
from guard.shop.rows import Key, Scan, batches, typed_key

_BATCH = 5000


@dataclass(frozen=True, slots=True)
class Owner:
    """The kind of person a column's rows are about, and the references that lead to them from a row."""

    kind: str
    subject: Subject
    path: tuple[Step, ...]


def owner(tables: Mapping[str, Table], catalog: Catalog, column: Column) -> Owner:
    """Return whose data `column` holds: of the catalog's subjects the nearest; of equally near ones the first.

    Raises ConfigError when nothing leads from its table to a subject.
    """
    ways = (_way(tables, catalog, column.table, kind) for kind in catalog.subject)
    found = [way for way in ways if way is not None]
    if not found:
        raise ConfigError(
            f"{column.at}: nothing leads from {column.table} to a person",
            hint="declare a [subject] or a [[link]] in policies/catalog.toml",
        )
    return min(found, key=lambda each: len(each.path))


def ways(tables: Mapping[str, Table], catalog: Catalog, records: Iterable[Record]) -> dict[int, Owner]:
    """Return the way to the person for each column that is sealed under persons' keys, by its id.

    Raises ConfigError for one that nothing leads from to its kind of person any more.
    """
    out = {}
    for record in records:
        if record.subject is None or record.stage is Stage.PLAIN:
            continue
        table = record.at.partition(".")[0]
        way = _way(tables, catalog, table, record.subject)
        if way is None:
            raise ConfigError(
                f"{record.at} is sealed under keys of {record.subject}, and nothing leads from {table} there any more",
                hint="give the reference back: a foreign key in the shop, or a [[link]] in policies/catalog.toml",
            )
        out[record.column_id] = way
    return out


def _way(tables: Mapping[str, Table], catalog: Catalog, table: str, kind: str) -> Owner | None:
    subject = catalog.subject.get(kind)
    links = tuple(Link(*link.from_.split(".", 1), *link.to.split(".", 1)) for link in catalog.link)
    path = None if subject is None else subject_path(tables, table, subject.table, links)
    return None if subject is None or path is None else Owner(kind, subject, path)


def parsed(table: Table, name: str, text: str) -> KeyPart:
    """Return what an operator typed as the value of a key column. Raises ConfigError when it cannot be one."""
    column = table.column(name)
    read = _TYPES.get(column.type.lower()) or _SORTS.get(column.sort)
    try:
        if read is not None:
            return read(text)
    except (ValueError, ArithmeticError):
        pass
    raise ConfigError(f"what was given is no {column.type}, which {table.name}.{name} holds")


def _whole(text: str) -> int:
    """Return a whole number of 64 bits: a larger one no column of a database can hold."""
    number = int(text)
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError("more than 64 bits")
    return number


_SORTS: Mapping[Sort, Callable[[str], KeyPart]] = {
    Sort.INTEGER: _whole,
    Sort.TEXT: str,
    Sort.NUMBER: Decimal,
    Sort.BINARY: bytes.fromhex,
}
_TYPES: Mapping[str, Callable[[str], KeyPart]] = {"uuid": UUID}


def make_keys(shop: Shop, catalog: Catalog, subjects: SubjectKeys, columns: Iterable[Column]) -> int:
    """Make the keys of all persons for `columns` that have none yet; return how many persons and classes there are.

    Before anything is sealed, so that a backup of state can hold them first.
    """
    tables, count = shop.tables(), 0
    owners = {(found.kind, column.class_): found for column in columns for found in [owner(tables, catalog, column)]}
    for (kind, class_), found in owners.items():
        with shop.read() as connection:
            for keys in persons(shop, connection, found.subject):
                subjects.all_for_writing([Person(kind, key) for key in keys], class_)
                count += len(keys)
    return count


def persons(shop: Shop, connection: Connection, subject: Subject) -> Iterator[list[bytes]]:
    """Yield the canonical keys of all persons of a kind, in batches."""
    table = shop.table(subject.table)
    for batch in batches(shop, connection, Scan(table, (subject.key,), _BATCH)):
        yield [key_bytes(typed_key(table, row.values)) for row in batch if row.values[0] is not None]


def rows_of(shop: Shop, connection: Connection, table: Table, way: Owner, person: KeyPart) -> list[Key]:
    """Return the keys of the rows of `table` that are about one person, in their order."""
    clause = shop.clause(table)
    keys = [clause.c[name] for name in table.key]
    query = sa.select(*keys).where(_about(shop, clause, way, person)).order_by(*keys)
    return [typed_key(table, row) for row in connection.execute(query)]


def _about(shop: Shop, source: sa.FromClause, way: Owner, person: KeyPart) -> sa.ColumnElement[bool]:
    """Return the condition that a row of `source` is about one person."""
    if not way.path:
        return source.c[way.subject.key] == person
    step, rest = way.path[0], replace(way, path=way.path[1:])
    there = shop.clause(shop.table(step.to_table)).alias(f"w{len(way.path)}")
    ends = sa.select(*(there.c[name] for name in step.to_columns)).where(_about(shop, there, rest, person))
    mine = [source.c[name] for name in step.columns]
    return mine[0].in_(ends) if len(mine) == 1 else sa.tuple_(*mine).in_(ends)
