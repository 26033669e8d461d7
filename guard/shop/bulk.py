"""Rewrite the texts of one column, batch by batch, the fastest way each database has, without losing an update.

SQLite: a function of ours inside one UPDATE under the write lock. PostgreSQL: one UPDATE from arrays that changes a row
only while it still holds, byte for byte, what was read. Which texts need work is told by a prefix.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Connection
from sqlalchemy.types import UserDefinedType

from guard.errors import ConfigError, GuardError, InterlockError
from guard.shop.catalog import Table
from guard.shop.connect import Shop
from guard.shop.rows import Key, Row, at_key, typed_key, within


class Change(Protocol):
    """Gives the text that is to replace `old` in the row `key`."""

    def __call__(self, key: Key, old: str) -> str:
        """Return the new text; called once for each row of a batch."""
        ...


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Replace by `change` each text of `table.column` that begins with `prefix` (`begins`), or each that does not."""

    table: Table
    column: str
    key: tuple[str, ...]
    prefix: str
    begins: bool
    change: Change


@dataclass(frozen=True, slots=True)
class Changed:
    """What one batch did. `keys` in key order; `missed` are those another writer was faster at, left as they are."""

    keys: tuple[Key, ...]
    missed: frozenset[Key] = frozenset()

    @property
    def rows(self) -> int:
        """How many rows were rewritten."""
        return len(self.keys) - len(self.missed)


def rewrite_batch(shop: Shop, connection: Connection, job: Rewrite, after: Key | None, size: int) -> Changed | None:
    """Rewrite the next `size` texts that need it behind `after`, inside the caller's transaction.

    None when none is left. Raises what `change` raises, InterlockError when a trigger of the shop changed a new text.
    """
    if not any(trigger.on_update for trigger in job.table.triggers):
        return _BATCHES[shop.dialect](shop, connection, job, after, size)
    written: dict[Key, str] = {}

    def change(key: Key, old: str) -> str:
        written[key] = job.change(key, old)
        return written[key]

    changed = _BATCHES[shop.dialect](shop, connection, replace(job, change=change), after, size)
    if changed:
        _read_back(shop, connection, job, {key: written[key] for key in changed.keys if key not in changed.missed})
    return changed


def needs_work(shop: Shop, job: Rewrite) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that pick the texts still to rewrite."""
    column = shop.clause(job.table).c[job.column]
    if shop.dialect == "sqlite":
        head = sa.func.substr(column, 1, len(job.prefix))
        return [sa.func.typeof(column) == "text", head == job.prefix if job.begins else head != job.prefix]
    begins = sa.func.starts_with(column, job.prefix)
    return [column.is_not(None), begins if job.begins else sa.not_(begins)]


def _due(shop: Shop, job: Rewrite, after: Key | None, size: int) -> sa.Select[Any]:
    clause = shop.clause(job.table)
    keys = [clause.c[name] for name in job.key]
    return sa.select(*keys).where(*within(keys, after, None), *needs_work(shop, job)).order_by(*keys).limit(size)


def _sqlite(shop: Shop, connection: Connection, job: Rewrite, after: Key | None, size: int) -> Changed | None:
    keys = tuple(typed_key(job.table, row) for row in connection.execute(_due(shop, job, after, size)))
    if not keys:
        return None
    raised: list[BaseException] = []

    def change(*values: Any) -> str:
        try:
            return job.change(values[:-1], values[-1])
        except BaseException as error:
            raised.append(error)  # SQLite forgets which error stopped it
            raise

    clause = shop.clause(job.table)
    columns = [clause.c[name] for name in job.key]
    raw: Any = connection.connection.driver_connection
    raw.create_function("guard_change", len(columns) + 1, change)
    statement = (
        sa.update(clause)
        .values({job.column: sa.func.guard_change(*columns, clause.c[job.column])})
        .where(*within(columns, after, keys[-1]), *needs_work(shop, job))
    )
    try:
        done = connection.execute(statement).rowcount
    except exc.OperationalError as error:
        if raised:
            raise raised[0] from None
        if "user-defined function" in str(error.orig):
            raise GuardError(
                f"{job.table.name}.{job.column} holds a text that is not UTF-8",
                hint="correct it in the shop, then run the same command again",
            ) from None
        raise
    finally:
        raw.create_function("guard_change", len(columns) + 1, None)
    if done != len(keys):
        raise InterlockError(f"{job.table.name}.{job.column}: {len(keys)} texts to rewrite, but {done} were")
    return Changed(keys)


class _Named(UserDefinedType[Any]):
    """A column's type by its name, for the cast of an array of keys."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name


def _postgres(shop: Shop, connection: Connection, job: Rewrite, after: Key | None, size: int) -> Changed | None:
    clause = shop.clause(job.table)
    target = clause.c[job.column]
    connection.exec_driver_sql("SET LOCAL lock_timeout = '5s'")  # a row somebody keeps locked must not stop the shop
    found = connection.execute(_due(shop, job, after, size).add_columns(target)).all()
    rows = [Row(typed_key(job.table, row[:-1]), (row[-1],)) for row in found]
    if not rows:
        return None
    old = [row.values[0] for row in rows]
    new = [job.change(row.key, row.values[0]) for row in rows]
    arrays = [
        _array([row.key[place] for row in rows], job.table.column(name).type) for place, name in enumerate(job.key)
    ]
    parts = [*(f"k{place}" for place in range(len(job.key))), "old", "new", "place"]
    given = (
        sa.func.unnest(*arrays, _array(old, "text"), _array(new, "text"), _array(list(range(len(rows))), "integer"))
        .table_valued(*parts, name="given")
        .render_derived()
    )
    statement = (
        sa.update(clause)
        .values({job.column: given.c.new})
        .where(*(clause.c[name] == given.c[f"k{place}"] for place, name in enumerate(job.key)))
        .where(sa.collate(target, "C") == given.c.old)
        .returning(given.c.place)
    )
    hit = set(connection.execute(statement).scalars())
    return Changed(
        tuple(row.key for row in rows), frozenset(row.key for place, row in enumerate(rows) if place not in hit)
    )


def _array(values: list[Any], kind: str) -> sa.ColumnElement[Any]:
    return sa.cast(sa.bindparam(None, values, type_=sa.types.NullType(), unique=True), ARRAY(_Named(kind)))


def _read_back(shop: Shop, connection: Connection, job: Rewrite, written: Mapping[Key, str]) -> None:
    """Look whether the shop's own triggers left the new texts alone: a sealed text put into lower case is lost."""
    clause = shop.clause(job.table)
    columns = [clause.c[name] for name in job.key]
    for key, text in written.items():
        if connection.execute(sa.select(clause.c[job.column]).where(*at_key(columns, key))).scalar() != text:
            raise InterlockError(
                f"a trigger of the shop changes what guard writes into {job.table.name}.{job.column}",
                hint="nothing of this batch was kept; change or drop the trigger, then run the same command again",
            )


def _mysql(shop: Shop, *_: object) -> Changed | None:
    raise ConfigError(f"guard cannot rewrite columns of {shop.dialect} yet")


_Batch = Callable[[Shop, Connection, Rewrite, Key | None, int], Changed | None]
_BATCHES: dict[str, _Batch] = {"sqlite": _sqlite, "postgresql": _postgres, "mysql": _mysql}
