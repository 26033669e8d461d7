"""Find the rows that hold a value in a sealed column, by its tokens. What is found is their keys, never a value.

Candidates are opened and compared in their normal form: shortened tokens are shared by several values. Values that have
no token, as those written before an index was built, are looked through as well, unless the column is finished.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from guard.config import Column
from guard.crypto.blind import Tokenizer, normal
from guard.errors import ConfigError, InterlockError
from guard.fields.cells import Keys
from guard.fields.read import Open
from guard.fields.store import IndexRecord, Record, Stage
from guard.shop import Shop
from guard.shop.rows import Key, typed_key, within

_BATCH = 2000


@dataclass(frozen=True, slots=True)
class Found:
    """The rows that hold a value, by their keys."""

    at: str
    key: tuple[str, ...]
    """The columns of the key, in the order of its parts."""
    rows: tuple[Key, ...]
    passed: int
    """Rows that share a token with the value and hold another one."""


@dataclass(frozen=True, slots=True)
class Searched:
    """A column that can be searched. `read` opens a stored value in its row."""

    shop: Shop
    column: Column
    record: Record
    indexes: Sequence[IndexRecord]
    keys: Keys
    read: Open


def search(where: Searched, text: str) -> Found:
    """Return the rows whose value is `text` as the column's index reads it, in the order of their keys.

    Raises ConfigError for a text that has nothing to search by, TamperedError when a candidate does not open.
    """
    normaliser = where.indexes[0].normaliser
    values = _readings(where, text)
    wanted = {form for value in values if (form := _form(normaliser, value)) is not None}
    if not wanted:
        raise ConfigError(f'the value has nothing in it that index = "{normaliser}" reads')
    rows: list[Key] = []
    passed = 0
    for key, stored in _candidates(where, values):
        if _form(normaliser, where.read(key, stored)) in wanted:
            rows.append(key)
        else:
            passed += 1
    return Found(where.column.at, where.record.key_columns, tuple(rows), passed)


def searchable(column: Column, record: Record | None, indexes: Sequence[IndexRecord]) -> Record:
    """Return the record of a column that can be searched. Raises ConfigError or InterlockError that says why not."""
    if record is None:
        raise ConfigError(f"{column.at} is not sealed", hint="the shop's database itself finds plain values")
    if column.index is None and not indexes:
        raise ConfigError(
            f"{column.at} is not searchable: the catalog gives it no index",
            hint='write index = "email" (or exact, phone, name, last4, prefix:N) beside it in policies/catalog.toml, '
            "guard data accept --from it, then guard fields encrypt",
        )
    if not indexes:
        raise InterlockError(
            f"{column.at} is not searchable yet: its index was never built", hint="guard fields encrypt"
        )
    return record


def _readings(where: Searched, text: str) -> list[Any]:
    """Return what `text` may stand for: as the column's own type reads it; in SQLite a text or a number."""
    cell = where.keys.cell(where.record)
    values: list[Any] = list(cell.typed((text,)))
    if cell.spec.spelling.kind == "any" and where.indexes[0].normaliser == "exact":
        values += [number for of in (int, float) if (number := _number(of, text)) is not None]
    return values


def _number(of: type[int] | type[float], text: str) -> int | float | None:
    try:
        return of(text)
    except ValueError:
        return None


def _form(normaliser: str, value: object) -> bytes | None:
    """Return the normal form of a value; None where it has none, as a type that the normaliser does not read."""
    try:
        return normal(normaliser, value)
    except TypeError:
        return None


def _candidates(where: Searched, values: Sequence[Any]) -> Iterator[tuple[Key, object]]:
    """Yield each row that may hold one of `values`: those with its tokens, and those without any."""
    store_id, column = where.keys.store_id, where.column
    clause = where.shop.clause(where.shop.table(column.table))
    tokens = []
    for each in where.indexes:
        key = where.keys.keyring.by_id(each.key_id)
        of = Tokenizer(store_id, column.id, each.normaliser, key, each.size)
        made = [token for value in values if (token := of.token(value)) is not None]
        tokens.append((clause.c[each.name], made))
    alike = sa.or_(*(column_.in_(made) for column_, made in tokens))
    without = sa.and_(*(column_.is_(None) for column_, _ in tokens))
    finished = where.record.stage is Stage.STRICT
    after: Key | None = None
    while batch := _batch(where, alike if finished else sa.or_(alike, without), after):
        yield from batch
        after = batch[-1][0]


def _batch(where: Searched, condition: sa.ColumnElement[bool], after: Key | None) -> list[tuple[Key, object]]:
    table = where.shop.table(where.column.table)
    clause = where.shop.clause(table)
    keys = [clause.c[name] for name in where.record.key_columns]
    value = clause.c[where.column.name]
    query = sa.select(*keys, value).where(*within(keys, after, None), value.is_not(None), condition)
    with where.shop.read() as connection:
        found = connection.execute(query.order_by(*keys).limit(_BATCH)).all()
    return [(typed_key(table, row[:-1]), row[-1]) for row in found]
