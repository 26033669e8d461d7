"""Look up what a plan is made from: schema, counts, a sample sealed in memory, what lies around. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from guard.clock import Clock
from guard.config import Catalog, Column
from guard.crypto.blind import normal
from guard.crypto.budget import LIMIT, Budget
from guard.crypto.envelope import Binding, Place, Sealer, looks_sealed
from guard.crypto.keyring import Keyring
from guard.crypto.random import token
from guard.crypto.wrap import Key
from guard.errors import ConfigError
from guard.fields.choice import chosen
from guard.fields.collisions import Source, spread
from guard.fields.count import count
from guard.fields.facts import Around, Change, Counts, Facts, Outside, Person
from guard.fields.lack import Lack
from guard.fields.measure import sealed_size
from guard.fields.person import owner
from guard.fields.plan import SealPlan, plan_of
from guard.fields.spread import Spread
from guard.fields.store import Record, Stage
from guard.fields.value import Cell, purpose
from guard.shop import Shop, Size, Table, alter, uses
from guard.shop.catalog import Sort
from guard.shop.disk import disk, file_size
from guard.shop.graph import Step
from guard.shop.remains import Kind
from guard.shop.rows import key_trouble
from guard.shop.surroundings import surroundings
from guard.state import State

_SAMPLE = 2000


@dataclass(frozen=True, slots=True)
class Sight:
    """What there is to look with. `budget` gives what the key of a tight column, by its id, may still seal."""

    shop: Shop
    catalog: Catalog
    records: Mapping[int, Record]
    clock: Clock
    outside: Outside = field(default_factory=Outside)
    budget: Callable[[int], int | None] = lambda _: None
    searched: Mapping[int, str] = field(default_factory=dict)
    """The normaliser of the tokens a column has now, by its id."""
    filled: frozenset[int] = frozenset()
    """The columns, by id, whose values all have tokens under the key of now."""
    cell: Callable[[Record], Cell] | None = None
    """Opens what is sealed already, to count what an index would hold."""


def seal_plan(sight: Sight, names: Sequence[str], lacks: Sequence[Lack]) -> SealPlan:
    """Return the plan for the columns named ("Table.Column"; all that the catalog wants sealed when empty)."""
    sight.shop.tables(fresh=True)
    found = [look(sight, column) for column in chosen(sight.catalog, names)]
    return plan_of(found, _around(sight), sight.clock.now(), lacks)


def budgets(keyring: Keyring, state: State) -> Callable[[int], int | None]:
    """Return what gives how many values the key of a tight column may still seal; None before it has one."""

    def left(column_id: int) -> int | None:
        keys = [key for key in keyring.list() if key.purpose == purpose(column_id, tight=True)]
        return LIMIT - Budget(state).reserved(keys[-1].id) if keys else None

    return left


def look(sight: Sight, column: Column) -> Facts:
    """Return everything a plan for `column` is made from. Raises ConfigError when the shop has no such column."""
    shop, table = sight.shop, sight.shop.table(column.table)
    table.column(column.name)
    with shop.read() as connection:
        counts = count(shop, connection, table, column.name)
    sample = _sample(sight, table, column)
    record = sight.records.get(column.id)
    change, unsealable = (None, None) if _is_widened(record) else _change(shop, table, column, counts)
    return Facts(
        column,
        table,
        shop.dialect,
        counts,
        record,
        change,
        _size(shop, table),
        unsealable=unsealable,
        searched=sight.searched.get(column.id),
        filled=column.id in sight.filled,
        spread=_spread(sight, table, column),
        folds=column.index is None or normal(column.index, "AB12") == normal(column.index, "ab12"),
        person=_person(sight, table, column) if column.bind == "subject" else None,
        vault=sight.outside.vault() if column.bind == "subject" else (),
        links=tuple(_links(sight.catalog, column)),
        dependents=uses.dependents(shop, table, column.name),
        programs=uses.programs(shop),
        locks_gaps=shop.locks_gaps(),
        budget=sight.budget(column.id) if column.tight else None,
        seals=_sealing(sight.clock, column, sample),
    )


def _around(sight: Sight) -> Around:
    """Return what lies around the database; what guard itself changes on its disk, and who has it open, is left out."""
    shop = sight.shop
    found = tuple(each for each in surroundings(shop) if each.kind not in {Kind.DISK, Kind.SESSION})
    return Around(found, file_size(shop), disk(shop), *sight.outside.backup())


def _size(shop: Shop, table: Table) -> Size | None:
    """Return the size of a table; None in SQLite, where the file counts."""
    return None if shop.path is not None else shop.sizes([table.name]).get(table.name)


def _is_widened(record: Record | None) -> bool:
    """Say whether the column has its type for sealed values by now."""
    return record is not None and record.stage not in {Stage.PLAIN, Stage.INDEXING}


def _change(shop: Shop, table: Table, column: Column, counts: Counts) -> tuple[Change | None, str | None]:
    """Return what becomes of the type, or what stands against changing it."""
    name = column.name
    if alter.why_not(shop.dialect, table, name):
        return None, None  # a refusal of its own
    try:
        original = alter.original(shop, table, name)
    except ConfigError as error:
        return None, f"{error}; {error.hint}"
    if original is None:
        return None, None
    if shop.dialect == "postgresql":
        return Change(original, "text", copies=not original.startswith(("character varying", "text"))), None
    found = table.column(name)
    binary = found.sort is Sort.BINARY
    longest = max(counts.longest, (found.length or 0) * (1 if binary else 4))  # bytes of a character in UTF-8
    size = sealed_size(longest, tight=column.tight, binary=binary)
    what = f"one for sealed values of up to {size} {'bytes' if binary else 'characters'}, compared byte by byte"
    return Change(original, what, copies=True, room=size), None


def _links(catalog: Catalog, column: Column) -> Iterator[str]:
    """Yield where the catalog finds people by this column."""
    for name, subject in catalog.subject.items():
        if column.at == f"{subject.table}.{subject.key}":
            yield f"subject.{name}.key"
    for number, link in enumerate(catalog.link, 1):
        if column.at in {link.from_, link.to}:
            yield f"link[{number}]"


def _spread(sight: Sight, table: Table, column: Column) -> Spread | None:
    """Count how the values spread under the column's normaliser; None without one, or where rows have no key."""
    record = sight.records.get(column.id)
    if column.index is None or column.id in sight.searched or table.trouble or key_trouble(table):
        return None
    if record is not None and any(table.find(name) is None for name in record.key_columns):
        return None
    sealed = record is not None and record.stage is not Stage.PLAIN and record.subject is None
    cell = sight.cell(record) if record and sealed and sight.cell else None
    return spread(Source(sight.shop, table, column, record.key_columns if record and cell else (), cell))


def _person(sight: Sight, table: Table, column: Column) -> Person | None:
    """Return whose the values are; None when nothing leads to a person of the catalog."""
    try:
        found = owner(sight.shop.tables(), sight.catalog, column)
    except ConfigError:
        return None
    several = (
        f"{step.to_table} by {', '.join(step.to_columns)}" for step in found.path if not _single(sight.shop, step)
    )
    return Person(found.kind, found.path, _missing(sight.shop, table, found.path), next(several, None))


def _single(shop: Shop, step: Step) -> bool:
    """Say whether a join leads to one row at most."""
    table = shop.table(step.to_table)
    whole = (index for index in table.indexes if index.unique and not index.condition and not index.derived)
    return any(
        columns and set(columns) <= set(step.to_columns) for columns in (table.key, *(each.columns for each in whole))
    )


def _missing(shop: Shop, table: Table, path: Sequence[Step]) -> int:
    """Count the rows from which `path` leads to nobody."""
    here = sa.alias(shop.clause(table), "t0")
    joined: sa.FromClause = here
    for number, step in enumerate(path, 1):
        there = sa.alias(shop.clause(shop.table(step.to_table)), f"t{number}")
        on = (here.c[one] == there.c[other] for one, other in zip(step.columns, step.to_columns, strict=True))
        joined, here = sa.outerjoin(joined, there, sa.and_(*on)), there
    if not path:
        return 0
    gone = here.c[path[-1].to_columns[0]].is_(None)
    with shop.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(joined).where(gone)).scalar_one())


def _sample(sight: Sight, table: Table, column: Column) -> list[Any]:
    """Return some values of the column as the database gives them."""
    if table.column(column.name).sort is Sort.OTHER:
        return []
    clause = sight.shop.clause(table).c[column.name]
    with sight.shop.read() as connection:
        found = connection.execute(sa.select(clause).where(clause.is_not(None)).limit(_SAMPLE)).scalars()
        return [value for value in found if not looks_sealed(value)]


def _sealing(clock: Clock, column: Column, sample: Sequence[Any]) -> timedelta | None:
    """Seal a sample in memory, under a key that is thrown away, and return what one value took."""
    texts = [value if isinstance(value, str | bytes) else str(value) for value in sample]
    if not texts:
        return None
    sealer = Sealer(Place(UUID(int=0), column.id, Binding.ROW), Key(0, "sample", 1, token(32)))
    began = clock.now()
    sealer.seal_all(texts, [b"\x01i\x00\x00\x00\x04\x00\x00\x00\x00"] * len(texts))
    return (clock.now() - began) / len(texts) or None
